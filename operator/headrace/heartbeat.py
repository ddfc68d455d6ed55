"""A poller's heartbeat Lease and the small report on it: the channel to the operator, and among pollers. Pure."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Annotated, Any

import orjson
from pydantic import Field, TypeAdapter

from headrace.resources import ANNOTATION_REPORT, LEASE
from headrace.stuck import StuckShard  # noqa: TC001 - the reports are read by it

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
LARGEST = 2**53
"""What a number in a report may be at most: it goes on into metrics, and sums of it into a status."""

Count = Annotated[int, Field(ge=0, le=LARGEST)]
Word = Annotated[str, Field(max_length=1024)]


@dataclass(frozen=True, slots=True)
class ReportedCondition:
    """What a poller says of one condition; `status` is True, False or Unknown."""

    type: Word
    status: Word
    reason: Word
    message: str


@dataclass(frozen=True, slots=True)
class Heartbeat:
    """A poller's report; `generation` is that of the spec it runs, ages in seconds, None what it does not know.

    `incarnation` is the life of the poller that its ShardLeases name; `draining` says that it takes no shard any more;
    `asks` is the shard that it asks its holder for; `changes` counts what it did that others should read about:
    shards made, finished, given back.
    """

    identity: str
    generation: Count
    conditions: tuple[ReportedCondition, ...] = ()
    last_processing_result: str | None = None
    iterator_age_seconds: Count | None = None
    shards_total: Count | None = None
    """Shards that are not finished."""
    shards_blocked: Count = 0
    shards_ready: Count | None = None
    """Of the total those that can be read now: their parents are finished."""
    shards_held: Count = 0
    """Shards that this poller holds."""
    incarnation: str = ""
    draining: bool = False
    asks: str | None = None
    changes: Count = 0
    shards_unowned: Count = 0
    """Shards that can be read and that nobody alive holds, as this poller sees the leases."""
    unowned: tuple[Word, ...] = ()
    """Some of them."""
    shards_stuck: Count = 0
    """Of the shards held those that do not get ahead."""
    stuck: StuckShard | None = None
    """The worst of them."""
    claims: Count | None = None
    """Of a queue: calls that this poller may have in flight; None while it has not asked for any."""
    backlog: Count | None = None
    """Of a queue: the most messages that could be received, as seen in the last minutes."""

    def encode(self) -> str:
        """As JSON, its sentences cut to a bounded length, of the shards that nobody holds only some."""
        report = asdict(self)
        report["unowned"] = report["unowned"][:MOST_NAMED]
        for condition in report["conditions"]:
            condition["message"] = condition["message"][:LONGEST_MESSAGE]
        return orjson.dumps(report, option=orjson.OPT_SORT_KEYS).decode()


_REPORT = TypeAdapter(Heartbeat)


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
    """The report on a Lease; one that cannot be read says that its poller is there, in whichever of its lives."""
    return report_of(body) or Heartbeat(_identity(body), 0)


def report_of(body: Mapping[str, Any]) -> Heartbeat | None:
    """The report on a Lease as its poller wrote it; None where it is missing, edited by hand, or another version's.

    What a later version tells beside is left out.
    """
    annotations = body["metadata"].get("annotations") or {}
    try:
        report = _REPORT.validate_json(annotations.get(ANNOTATION_REPORT) or "", strict=True)
    except ValueError:
        return None
    return replace(report, identity=_identity(body))


def _identity(body: Mapping[str, Any]) -> str:
    return str((body.get("spec") or {}).get("holderIdentity") or body["metadata"]["name"])


def renewal_of(body: Mapping[str, Any]) -> tuple[str, float]:
    """What changes with each renewal, and for how many seconds one holds."""
    spec = body.get("spec") or {}
    return str(spec.get("renewTime")), float(spec.get("leaseDurationSeconds") or TERM)
