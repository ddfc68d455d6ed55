"""What a ShardLease's status says, and how it changes. Pure; `kubernetes.py` writes it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from headrace.records import Checkpoint, Holder, Window
from headrace.stream.instants import instant
from headrace.stream.progress import HELD
from headrace.stream.stores.encoding import decode_lanes, decode_window, encode_lanes, encode_window

if TYPE_CHECKING:
    from collections.abc import Sequence

    from headrace.stream.progress import ShardFacts

Body = dict[str, Any]

WAITING, AVAILABLE, FINISHED = "Waiting", "Available", "Finished"
_LONGEST_ERROR = 1024


def checkpoint_of(lease: Body) -> Checkpoint:
    """The checkpoint a ShardLease holds."""
    status = status_of(lease)
    lanes = decode_lanes(status.get("lanes") or ())
    return Checkpoint(status.get("sequenceNumber"), bool(status.get("finished")), lanes)


def fault_of(lease: Body) -> str | None:
    """What is wrong with a checkpoint that its schema allows, None mostly."""
    lanes = status_of(lease).get("lanes") or ()
    beyond = any(lane["index"] >= lane["factor"] for lane in lanes)
    return "status.lanes: index must be below factor" if beyond else None


def holder_of(lease: Body) -> Holder | None:
    """Who holds it; an incarnation that is missing, as after an edit by hand, is one that nobody has."""
    status = status_of(lease)
    identity = status.get("holder")
    return Holder(identity, status.get("incarnation") or "?") if identity else None


def state_names(lease: Body) -> list[str]:
    """The WindowStates that hold the state of the window that is open."""
    return list((status_of(lease).get("window") or {}).get("state") or ())


def window_of(lease: Body, state: bytes) -> Window | None:
    """The window that is open, with the state that its WindowStates hold."""
    window = status_of(lease).get("window")
    return decode_window(window, state) if window else None


def status_of(lease: Body) -> Body:
    """The status as it is, empty on a lease that nobody has written yet."""
    return lease.get("status") or {}


def with_facts(status: Body, facts: ShardFacts) -> Body:
    """The status with what is known of the shard, its error cut to a bounded length.

    What a former holder told of a shard that is stuck stays until this one has tried; a record that both are stuck on
    is stuck since the former one's time, on its error until there is another.
    """
    age = facts.iterator_age_seconds
    rounded = {"state": facts.state, "iteratorAgeSeconds": round(age) if age is not None else None}
    if facts.fresh:
        return {key: value for key, value in (status | rounded).items() if value is not None}
    since = instant(facts.stuck_since) if facts.stuck_since is not None else None
    error = facts.last_error[:_LONGEST_ERROR] if facts.last_error is not None else None
    if facts.stuck_on is not None and facts.stuck_on == status.get("stuckOn"):
        since, error = status.get("stuckSince") or since, error or status.get("lastError")
    told = rounded | {
        "attempts": facts.attempts,
        "lastError": error,
        "stuckSince": since,
        "stuckOn": facts.stuck_on,
    }
    return {key: value for key, value in (status | told).items() if value is not None}


def without_age(status: Body) -> Body:
    """The status without what changes all the time."""
    return {key: value for key, value in status.items() if key != "iteratorAgeSeconds"}


def advanced(status: Body, checkpoint: Checkpoint, state: Sequence[str] = ()) -> Body:
    """The status with a checkpoint in it that never goes back; `state` names the WindowStates of its window."""
    stored, new = status.get("sequenceNumber"), checkpoint.sequence_number
    if new is not None and (stored is None or _number(new) > _number(stored)):
        status = status | {"sequenceNumber": new}
    status = {key: value for key, value in status.items() if key not in {"lanes", "window"}}
    if checkpoint.window is not None:
        status |= {"window": encode_window(checkpoint.window) | {"state": list(state)}}
    if checkpoint.lanes:
        status |= {"lanes": encode_lanes(checkpoint.lanes)}
    if checkpoint.finished or status.get("finished"):
        return without_age(status) | {"finished": True, "state": FINISHED}
    return status | {"finished": False} | ({"state": HELD} if status.get("state") in {WAITING, AVAILABLE} else {})


def _number(sequence_number: str) -> int:
    """Sequence numbers are compared as numbers; what somebody wrote by hand and is none counts as nothing."""
    return int(sequence_number) if sequence_number.isascii() and sequence_number.isdecimal() else -1


def released(status: Body) -> Body:
    """The status of a lease that is given back."""
    if status.get("finished"):
        return status
    return {key: value for key, value in status.items() if key != "holder"} | {"state": AVAILABLE}
