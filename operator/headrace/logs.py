"""What a process says while it works: structured lines on standard error, as text or JSON."""

from __future__ import annotations

import logging
import sys
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import structlog

from headrace.errors import HeadraceError
from headrace.stream.classify import Failed, NotInvoked, PartiallyFailed, Refused
from headrace.stream.events import (
    CallEnded,
    ConditionObserved,
    DeliveryFailed,
    DiscardDelivered,
    Event,
    Faulted,
    FilterNeverMatches,
    LeaseBroken,
    Observer,
    ReceiptsExpired,
    RecordsAbandoned,
    RecordsDropped,
    RecordsFiltered,
    RecordsTrimmed,
    ShardFinished,
    ShardLost,
    ShardStarted,
    ShardStopped,
    StreamRecreated,
)
from headrace.stream.instants import instant

if TYPE_CHECKING:
    from headrace.records import Batch
    from headrace.stream.events import ConditionType


UNREAD_INTERVAL = 60.0
"""Seconds between two lines about messages that a filter could not read."""


def configure(log_format: str, *, debug: bool = False) -> None:
    """Sets up structlog and the standard library's loggers; `log_format` is text or json."""
    level = logging.DEBUG if debug else logging.INFO
    renderer: Any = structlog.processors.JSONRenderer()
    if log_format == "text":
        renderer = structlog.dev.ConsoleRenderer(
            colors=sys.stderr.isatty(), pad_event_to=0, exception_formatter=structlog.dev.plain_traceback
        )
    shared: list[Any] = [
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    if log_format == "json":
        shared.append(_tracebacks_as_values())
    structlog.configure(
        processors=[*shared, renderer],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.WriteLoggerFactory(file=sys.stderr),
        cache_logger_on_first_use=True,
    )
    logging.basicConfig(level=logging.WARNING, handlers=[_standard_library(shared, renderer)], force=True)


def _tracebacks_as_values() -> Any:
    """Without local variables: they may hold credentials, or records."""
    return structlog.processors.ExceptionRenderer(structlog.tracebacks.ExceptionDictTransformer(show_locals=False))


def _standard_library(shared: list[Any], renderer: Any) -> logging.Handler:
    """Lines of the libraries beneath, in the same form."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[structlog.stdlib.add_logger_name, *shared],
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, renderer],
        )
    )
    return handler


def observer(mapping: str) -> Observer:
    """Logs one mapping's events: what went wrong at once, what went well only where it changes something."""
    log = structlog.get_logger().bind(mapping=mapping)
    conditions, unread = _Conditions(log), _Unread(log)

    def observe(event: Event) -> None:
        match event:
            case RecordsFiltered():
                unread(event)
            case ConditionObserved():
                conditions(event)
            case CallEnded():
                _call(log, event)
            case DiscardDelivered() | DeliveryFailed() | RecordsDropped():
                _discard(log, event)
            case ShardStarted() | ShardFinished() | ShardStopped() | ShardLost() | LeaseBroken():
                _shard(log, event)
                conditions.forget(event)
            case Faulted():
                _fault(log, event)
            case _:
                _missed(log, event)

    return observe


@dataclass(slots=True)
class _Conditions:
    """A condition that fails is a warning each time it is tried; one that holds is told when that is news.

    That is where what failed goes well again, of this shard or kind of request; or where nothing was known of it yet.
    """

    log: Any
    last: dict[tuple[ConditionType, str | None], ConditionObserved] = field(default_factory=dict)

    def __call__(self, event: ConditionObserved) -> None:
        before = self.last.get((event.type, event.shard_id))
        known = before is not None or any(kind is event.type for kind, _ in self.last)
        self.last[event.type, event.shard_id] = event
        told = {"condition": event.type.value, "reason": event.reason.value, "message": event.message}
        if not event.holds:
            self.log.warning("condition does not hold", **told)
        elif not known or (before is not None and (not before.holds or before.reason is not event.reason)):
            self.log.info("condition holds", **told)

    def forget(self, event: ShardStarted | ShardFinished | ShardStopped | ShardLost | LeaseBroken) -> None:
        """Nothing more is heard of a shard that is not read any more."""
        if isinstance(event, ShardFinished | ShardStopped):
            for of in [one for one in self.last if one[1] == event.shard_id]:
                del self.last[of]


@dataclass(slots=True)
class _Unread:
    """Messages that a filter left out as their body is no JSON: a mistake of who sends them, told once a minute."""

    log: Any
    count: int = 0
    told: float = float("-inf")

    def __call__(self, event: RecordsFiltered) -> None:
        self.count += len(event.unread)
        if not self.count or time.monotonic() - self.told < UNREAD_INTERVAL:
            return
        self.log.warning(
            "messages were left out by the filter, and deleted: it asks for JSON, and their body is none",
            queue=event.shard_id,
            messages=self.count,
            last=event.unread[-1] if event.unread else None,
        )
        self.count, self.told = 0, time.monotonic()


def _shard(log: Any, event: ShardStarted | ShardFinished | ShardStopped | ShardLost | LeaseBroken) -> None:
    match event:
        case ShardStarted(shard_id, after):
            log.info("shard started", shard=shard_id, after=after)
        case ShardFinished(shard_id):
            log.info("shard finished", shard=shard_id)
        case ShardLost(shard_id, holder):
            log.warning("shard lost: another poller may read it now", shard=shard_id, holder=holder)
        case LeaseBroken(shard_id, detail):
            log.error("nobody can take the shard: its lease is broken", shard=shard_id, error=detail)


def _discard(log: Any, event: DiscardDelivered | DeliveryFailed | RecordsDropped) -> None:
    told = {"shard": event.shard_id, "condition": event.discard.condition.value, **_span(event.discard.records)}
    match event:
        case DiscardDelivered(request_id=request_id):
            log.warning("records discarded; their failure record was delivered", request_id=request_id, **told)
        case DeliveryFailed(reason=reason, message=message):
            log.warning("the failure record could not be delivered", reason=reason.value, error=message, **told)
        case RecordsDropped(delivery_failed=True):
            log.error("records lost: the destination did not take their failure record in time", **told)
        case RecordsDropped():
            log.error("records lost: no on-failure destination is set", **told)


def _missed(log: Any, event: Event) -> None:
    match event:
        case RecordsTrimmed(shard_id, gap):
            log.warning(
                "records may be lost: the source's retention took them before they were read",
                shard=shard_id,
                after=gap.after,
                first=gap.first,
                after_arrival=instant(gap.after_arrival) if gap.after_arrival is not None else None,
                first_arrival=instant(gap.first_arrival) if gap.first_arrival is not None else None,
            )
        case FilterNeverMatches(index, field, data_key):
            log.warning(
                "a filter matches nothing: no record has the field that it asks for",
                filter=f"spec.filterCriteria.filters[{index}].pattern",
                field=field,
                data_field=data_key,
            )
        case StreamRecreated(created):
            log.warning("the stream was made anew; it is read from its start", created=instant(created))
        case ReceiptsExpired(queue, count, first):
            log.warning("done with too late: the messages come again", queue=queue, messages=count, first=first)
        case RecordsAbandoned(shard_id, count, first, last):
            told = {"shard": shard_id, "records": count, "first": first, "last": last}
            log.error("records lost: their stream was deleted before they were decided", **told)
        case _:
            pass


def _fault(log: Any, event: Faulted) -> None:
    """What can be expected is told in a sentence, the rest once with its traceback."""
    expected = isinstance(event.error, HeadraceError | TimeoutError)
    log.error(
        "trouble; it is tried again",
        what=event.what,
        seconds=round(event.seconds, 1),
        error=str(event.error) or type(event.error).__name__,
        exc_info=None if expected else event.error,
    )


def _call(log: Any, event: CallEnded) -> None:
    told = {
        "shard": event.shard_id,
        "attempt": event.attempt,
        "request_id": event.request_id,
        "seconds": round(event.seconds, 3),
        **_span(event.batch),
    }
    match event.outcome:
        case Failed(kind, _, status, _, detail):
            log.warning("the function failed", kind=kind.value, status=status, error=detail, **told)
        case PartiallyFailed(first):
            log.warning("the function failed on a part of the batch", acknowledged=first, **told)
        case Refused():
            log.warning("the batch is too large for the function", **told)
        case NotInvoked(throttled, detail):
            log.warning("throttled" if throttled else "the function was not reached", error=detail, **told)
        case _:
            log.debug("batch acknowledged", **told)


def _span(batch: Batch) -> dict[str, object]:
    if not batch:
        return {"records": 0}
    return {"records": len(batch), "first": batch[0].sequence_number, "last": batch[-1].sequence_number}
