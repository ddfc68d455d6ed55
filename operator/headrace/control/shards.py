"""Who reads which shard, and which are stuck, as a mapping's status tells it. Pure. Before this: `scaling.py`.

The ShardLeases tell it; where there are none, as with a table, what the pollers report.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from headrace.control.scaling import current_leases, is_held, is_open, ready_leases, ready_shards
from headrace.errors import Reason
from headrace.stuck import stuck_shard

if TYPE_CHECKING:
    from headrace.cluster import Body
    from headrace.control.observe import Observed

_NAMED = 3
"""Shards that a sentence names; the others it counts."""


@dataclass(frozen=True, slots=True)
class Unowned:
    """Shards that could be read and that nobody alive holds: how many, and the names as far as they are known."""

    count: int
    names: tuple[str, ...]


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
    ready = len(ready_leases(observed)) if current_leases(observed) else ready_shards(observed)
    if ready is None:
        return "Unknown", Reason.PENDING, "no poller has listed the shards yet"
    free = unowned(observed)
    if not free.count:
        return "True", Reason.SHARDS_ASSIGNED, f"each of the {ready} shards that can be read has a poller"
    which = f": {named(free)}" if free.names else ""
    text = f"{free.count} of {ready} shards are read by nobody{which}; live pollers take them within seconds"
    return "False", Reason.SHARDS_UNASSIGNED, f"{text}; if it lasts, see the condition Ready and the pollers' logs"


def unowned(observed: Observed) -> Unowned:
    """The shards that could be read and that no poller holds in the life that it is in.

    From reports: what a poller sees that reads the leases, and what is missing of the shards that pollers hold.
    """
    leases, beats = current_leases(observed), observed.heartbeats
    if leases:
        free = sorted(_shard(lease) for lease in ready_leases(observed) if not is_held(lease, beats))
        return Unowned(len(free), tuple(free))
    missing = (ready_shards(observed) or 0) - sum(beat.shards_held for beat in beats)
    names = sorted({shard_id for beat in beats for shard_id in beat.unowned})
    return Unowned(max(0, missing, len(names), *(beat.shards_unowned for beat in beats)), tuple(names))


def stuck(observed: Observed) -> str:
    """Which shards do not get ahead, since when, on which record, why; empty: none."""
    leases, beats = current_leases(observed), observed.heartbeats
    told = [stuck_shard(_shard(lease), lease.get("status") or {}) for lease in leases] or [beat.stuck for beat in beats]
    found = sorted((one for one in told if one is not None), key=lambda one: one.badness)
    count = len(found) if leases else sum(beat.shards_stuck for beat in beats)
    rest = count - len(found[:_NAMED])
    return "; ".join(map(str, found[:_NAMED])) + (f"; and {rest} more" if rest > 0 else "")


def named(shards: Unowned) -> str:
    """Some of the names, and how many there are beside them."""
    rest = shards.count - len(shards.names[:_NAMED])
    return ", ".join(shards.names[:_NAMED]) + (f" and {rest} more" if rest > 0 else "")


def _shard(lease: Body) -> str:
    return str((lease.get("spec") or {}).get("shardId") or lease.get("metadata", {}).get("name"))
