"""Who reads which shard, and which are stuck, as a mapping's status tells it. Pure. Before this: `scaling.py`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from headrace.control.scaling import current_leases, is_held, is_open, is_ready, ready_shards
from headrace.errors import Reason

if TYPE_CHECKING:
    from headrace.cluster import Body
    from headrace.control.observe import Observed

_NAMED = 3
"""Shards that a sentence names; the others it counts."""
_LONGEST = 300
"""Characters of a shard's error in a sentence."""


def counts(observed: Observed) -> Body:
    """How many shards are open, are held by somebody alive, and do not get ahead."""
    leases = [lease for lease in current_leases(observed) if is_open(lease)]
    beats = observed.heartbeats
    totals = [beat.shards_total for beat in beats if beat.shards_total is not None]
    stuck = sum((lease.get("status") or {}).get("state") == "Blocked" for lease in leases)
    held = sum(is_held(lease, beats) for lease in leases) if leases else sum(beat.shards_held for beat in beats)
    return {
        "total": max(totals) if totals else len(leases),
        "assigned": held,
        "blocked": sum(beat.shards_blocked for beat in beats) if beats else stuck,
    }


def assignment(observed: Observed) -> tuple[str, Reason, str]:
    """Whether every shard that can be read is held by a poller that lives: status, reason, sentence."""
    leases = current_leases(observed)
    if leases:
        free = [_shard(lease) for lease in leases if is_ready(lease) and not is_held(lease, observed.heartbeats)]
        return _judged(len(free), sum(map(is_ready, leases)), f": {named(free)}" if free else "")
    ready = ready_shards(observed)
    if ready is None:
        return "Unknown", Reason.PENDING, "no poller has listed the shards yet"
    return _judged(max(0, ready - sum(beat.shards_held for beat in observed.heartbeats)), ready, "")


def _judged(free: int, ready: int, which: str) -> tuple[str, Reason, str]:
    if not free:
        return "True", Reason.SHARDS_ASSIGNED, f"each of the {ready} shards that can be read has a poller"
    text = f"{free} of {ready} shards are read by nobody{which}; live pollers take them within seconds"
    return "False", Reason.SHARDS_UNASSIGNED, f"{text}; if it lasts, see the condition Ready and the pollers' logs"


def stuck(observed: Observed) -> str:
    """Which shards do not get ahead, since when, on which record, why; empty: none."""
    found = [
        _sentence(lease)
        for lease in current_leases(observed)
        if is_open(lease) and (lease.get("status") or {}).get("state") in {"Blocked", "Retrying"}
    ]
    more = f"; and {len(found) - _NAMED} more" if len(found) > _NAMED else ""
    return "; ".join(sorted(found)[:_NAMED]) + more


def named(shards: list[str]) -> str:
    """Some of the names, and how many there are beside them."""
    more = f" and {len(shards) - _NAMED} more" if len(shards) > _NAMED else ""
    return ", ".join(sorted(shards)[:_NAMED]) + more


def _shard(lease: Body) -> str:
    return str((lease.get("spec") or {}).get("shardId") or lease.get("metadata", {}).get("name"))


def _sentence(lease: Body) -> str:
    status = lease.get("status") or {}
    since = f" since {status['stuckSince']}" if status.get("stuckSince") else ""
    record = f" on record {status['stuckOn']}" if status.get("stuckOn") else ""
    attempts = f" after {status.get('attempts') or 0} failed calls"
    error = str(status.get("lastError") or "no error is told")[:_LONGEST]
    return f"{_shard(lease)} is {str(status['state']).lower()}{since}{record}{attempts}: {error}"
