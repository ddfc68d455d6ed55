"""A Kubernetes Event to be, and what it looks like. Pure; pollers and the operator post them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from headrace.resources import API_VERSION, EVENT, EVENT_SOURCE_MAPPING

if TYPE_CHECKING:
    from headrace.errors import Reason
    from headrace.resources import MappingRef

NORMAL, WARNING = "Normal", "Warning"
INTERVAL = 60.0
"""Least seconds between two Events of one reason about one thing."""
_LONGEST = 1024
"""Characters that Kubernetes takes of a message."""


@dataclass(frozen=True, slots=True)
class Notice:
    """An Event to be: its reason, its type, its message, and the shard it is about ("" for all of them)."""

    reason: Reason
    type: str
    message: str
    shard_id: str = ""


@dataclass(frozen=True, slots=True)
class Source:
    """Who posts: `poller` or `operator`, and which of them."""

    component: str
    instance: str


def event_of(notice: Notice, mapping: MappingRef, source: Source, name: str, moment: str, unposted: int = 0) -> Any:
    """The Event about a mapping, at `moment` (RFC 3339); `unposted` more like it were not posted before it."""
    since = f" ({unposted} more like this since the last Event)" if unposted else ""
    return {
        "apiVersion": EVENT.api_version,
        "kind": EVENT.kind,
        "metadata": {"name": f"{mapping.child_name}-{name}", "namespace": mapping.namespace},
        "involvedObject": {
            "apiVersion": API_VERSION,
            "kind": EVENT_SOURCE_MAPPING.kind,
            "namespace": mapping.namespace,
            "name": mapping.name,
            "uid": mapping.uid,
        },
        "reason": str(notice.reason),
        "type": notice.type,
        "message": f"{notice.message[: _LONGEST - len(since)]}{since}",
        "source": {"component": f"headrace-{source.component}", "host": source.instance},
        "reportingComponent": f"headrace.dev/{source.component}",
        "reportingInstance": source.instance,
        "firstTimestamp": moment,
        "lastTimestamp": moment,
        "count": 1,
    }
