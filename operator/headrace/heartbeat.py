"""A poller's heartbeat Lease and the small report on it: the channel to the operator, and among pollers. Pure."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import orjson

from headrace.resources import ANNOTATION_REPORT, LEASE
from headrace.stuck import StuckShard

if TYPE_CHECKING:
    from collections.abc import Mapping

    from headrace.resources import MappingRef

RENEW_INTERVAL = 2.0
"""Seconds between two renewals."""
TERM = 6
"""Seconds a renewal is worth."""
LONGEST_MESSAGE = 1024
MOST_NAMED = 10
"""Shards that a heartbeat names of those that nobody holds."""


@dataclass(frozen=True, slots=True)
class ReportedCondition:
    """What a poller says of one condition; `status` is True, False or Unknown."""

    type: str
    status: str
    reason: str
    message: str


@dataclass(frozen=True, slots=True)
class Heartbeat:
    """A poller's report; `generation` is that of the spec it runs, ages in seconds, None what it does not know.

    `incarnation` is the life of the poller that its ShardLeases name; `draining` says that it takes no shard any more;
    `asks` is the shard that it asks its holder for; `changes` counts what it did that others should read about:
    shards made, finished, given back.
    """

    identity: str
    generation: int
    conditions: tuple[ReportedCondition, ...] = ()
    last_processing_result: str | None = None
    iterator_age_seconds: int | None = None
    shards_total: int | None = None
    """Shards that are not finished."""
    shards_blocked: int = 0
    shards_ready: int | None = None
    """Of the total those that can be read now: their parents are finished."""
    shards_held: int = 0
    """Shards that this poller holds."""
    incarnation: str = ""
    draining: bool = False
    asks: str | None = None
    changes: int = 0
    shards_unowned: int = 0
    """Shards that can be read and that nobody alive holds, as this poller sees the leases."""
    unowned: tuple[str, ...] = ()
    """Some of them."""
    shards_stuck: int = 0
    """Of the shards held those that do not get ahead."""
    stuck: StuckShard | None = None
    """The worst of them."""

    def encode(self) -> str:
        """As JSON, its sentences cut to a bounded length, of the shards that nobody holds only some."""
        report = asdict(self)
        report["unowned"] = report["unowned"][:MOST_NAMED]
        for condition in report["conditions"]:
            condition["message"] = condition["message"][:LONGEST_MESSAGE]
        return orjson.dumps(report, option=orjson.OPT_SORT_KEYS).decode()


def lease_name(mapping: MappingRef, identity: str) -> str:
    """The name of a poller's Lease."""
    return mapping.child_name_for(f"poller {identity}")


def lease(mapping: MappingRef, heartbeat: Heartbeat, renewed: str) -> dict[str, Any]:
    """The Lease as renewed at a moment (RFC 3339 with microseconds)."""
    metadata = mapping.metadata(lease_name(mapping, heartbeat.identity))
    return {
        "apiVersion": LEASE.api_version,
        "kind": LEASE.kind,
        "metadata": metadata | {"annotations": {ANNOTATION_REPORT: heartbeat.encode()}},
        "spec": {"holderIdentity": heartbeat.identity, "leaseDurationSeconds": TERM, "renewTime": renewed},
    }


def heartbeat_of(body: Mapping[str, Any]) -> Heartbeat:
    """The report on a Lease; one that cannot be read (another version's) says that somebody is alive."""
    identity = str((body.get("spec") or {}).get("holderIdentity") or body["metadata"]["name"])
    try:
        report = orjson.loads((body["metadata"].get("annotations") or {})[ANNOTATION_REPORT])
        return Heartbeat(
            identity=identity,
            generation=int(report["generation"]),
            conditions=tuple(ReportedCondition(**condition) for condition in report["conditions"]),
            last_processing_result=report["last_processing_result"],
            iterator_age_seconds=report["iterator_age_seconds"],
            shards_total=report["shards_total"],
            shards_blocked=int(report["shards_blocked"]),
            shards_ready=report.get("shards_ready"),
            shards_held=int(report.get("shards_held", 0)),
            incarnation=str(report.get("incarnation", "")),
            draining=bool(report.get("draining", False)),
            asks=report.get("asks"),
            changes=int(report.get("changes", 0)),
            shards_unowned=int(report.get("shards_unowned", 0)),
            unowned=tuple(report.get("unowned") or ()),
            shards_stuck=int(report.get("shards_stuck", 0)),
            stuck=StuckShard(**report["stuck"]) if report.get("stuck") else None,
        )
    except (KeyError, TypeError, ValueError):
        return Heartbeat(identity, 0)


def renewal_of(body: Mapping[str, Any]) -> tuple[str, float]:
    """What changes with each renewal, and for how many seconds one holds."""
    spec = body.get("spec") or {}
    return str(spec.get("renewTime")), float(spec.get("leaseDurationSeconds") or TERM)
