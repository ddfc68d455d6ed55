"""Which changes of a mapping's conditions are worth an Event. Pure. Before this: `status.py`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from headrace.errors import Reason
from headrace.notice import NORMAL, WARNING, Notice

if TYPE_CHECKING:
    from collections.abc import Mapping

    from headrace.cluster import Body

ANNOUNCED = (
    "SourceReachable",
    "FunctionReachable",
    "DestinationReachable",
    "CheckpointsReachable",
    "VisibilityTimeout",
    "Ready",
    "Progressing",
)
"""In this order: what several conditions say for one reason is told once, by the first. Shards that are without a
poller for a moment are no news; those that are lost the pollers tell. A queue without dead letters is a choice."""
_EXPECTED = frozenset({Reason.PENDING, Reason.DISABLED, Reason.ROLLING_OUT, Reason.RECONCILED})
_KNOWN = frozenset(Reason)


def notices(previous: Body, status: Body) -> tuple[Notice, ...]:
    """A warning for each new reason why something does not hold, a note for each condition that holds again."""
    before = _conditions(previous)
    found: dict[str, Notice] = {}
    for kind, condition in _conditions(status).items():
        if condition["reason"] not in _KNOWN:
            continue  # of a poller of another version
        reason, was = Reason(condition["reason"]), before.get(kind, {})
        if condition["status"] == "False" and reason not in _EXPECTED and was.get("reason") != reason:
            found.setdefault(reason, Notice(reason, WARNING, f"{kind}: {condition['message']}", kind))
        elif condition["status"] == "True" and _failed(was):
            found.setdefault(reason, Notice(reason, NORMAL, f"{kind}: {condition['message']}", kind))
    return tuple(found.values())


def _failed(condition: Mapping[str, str]) -> bool:
    return condition.get("status") == "False" and condition.get("reason") not in _EXPECTED


def _conditions(status: Body) -> dict[str, Body]:
    by_type = {condition["type"]: condition for condition in status.get("conditions") or ()}
    return {kind: by_type[kind] for kind in ANNOUNCED if kind in by_type}
