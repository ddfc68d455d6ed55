"""What a mapping's work looks like from outside: conditions, last result, iterator age. Pure: a fold over events."""

from __future__ import annotations

from dataclasses import dataclass, field

from headrace.errors import Reason
from headrace.stream.classify import Failed, FailureKind, NotInvoked, Refused
from headrace.stream.events import (
    CallEnded,
    ConditionObserved,
    ConditionType,
    DeliveryFailed,
    DiscardDelivered,
    Event,
    Pending,
    RecordsDropped,
    RecordsPolled,
    ShardFinished,
    ShardsListed,
    ShardStarted,
    ShardStopped,
    Waiting,
)

NO_RECORDS = "No records processed"
OK = "OK"
CALL_FAILED = "PROBLEM: Function call failed"
INVALID_SEQUENCE = "PROBLEM: Sequence number in function response is invalid. Please check function implementation."
BLOCKED_AFTER = 3
"""Pauses in a row on one batch after which its shard counts as blocked."""


@dataclass(frozen=True, slots=True)
class ConditionReport:
    """One condition; `status` is True, False or Unknown."""

    type: str
    status: str
    reason: str
    message: str


@dataclass(frozen=True, slots=True)
class Report:
    """A mapping's state at one moment."""

    conditions: tuple[ConditionReport, ...]
    last_processing_result: str
    iterator_age_seconds: float | None
    shards_total: int | None
    shards_ready: int | None
    """Of the total those that wait for no parent."""
    shards_blocked: int


@dataclass(slots=True)
class _ShardView:
    oldest: float | None = None
    at_tip: bool = False
    window_open: bool = False
    behind: float = 0.0
    setbacks: dict[int, int] = field(default_factory=dict)
    """Pauses in a row, by lane."""

    def set_back(self, lane: int) -> None:
        self.setbacks[lane] = self.setbacks.get(lane, 0) + 1


@dataclass(slots=True)
class Health:
    """The fold; call it with every event of one mapping."""

    _shards: dict[str, _ShardView] = field(default_factory=dict)
    _conditions: dict[ConditionType, ConditionReport] = field(default_factory=dict)
    _listed: ShardsListed | None = None
    _listing_due: bool = True
    last_processing_result: str = NO_RECORDS

    def __call__(self, event: Event) -> None:
        """Takes one event in."""
        match event:
            case ShardsListed():
                self._listed = event
                self._listing_due = False
            case ShardStarted(shard_id):
                self._shards[shard_id] = _ShardView()
            case ShardFinished(shard_id) | ShardStopped(shard_id):
                self._shards.pop(shard_id, None)
                self._listing_due = True  # a finished shard may have children that nobody has seen yet
            case ConditionObserved():
                self._observe(event)
            case _:
                self._follow_shard(event)

    def _follow_shard(self, event: Event) -> None:
        match event:
            case RecordsPolled(shard_id, _, behind):
                self._view(shard_id).behind = behind
            case Pending(shard_id, oldest, at_tip, window_open):
                view = self._view(shard_id)
                view.oldest, view.at_tip, view.window_open = oldest, at_tip, window_open
            case Waiting(shard_id):
                self._view(shard_id).set_back(event.lane)
            case RecordsDropped(shard_id):
                self._view(shard_id).setbacks.pop(event.lane, None)
            case DiscardDelivered(shard_id):
                self._view(shard_id).setbacks.pop(event.lane, None)
                self._observe(
                    _condition(ConditionType.DESTINATION_REACHABLE, Reason.REACHABLE, "took a failure record")
                )
            case DeliveryFailed(_, _, reason, message):
                self._observe(ConditionObserved(ConditionType.DESTINATION_REACHABLE, False, reason, message))
            case CallEnded():
                self._follow_call(event)

    def _follow_call(self, event: CallEnded) -> None:
        outcome = event.outcome
        reachable = ConditionType.FUNCTION_REACHABLE
        match outcome:
            case NotInvoked(throttled, detail):
                self.last_processing_result = f"PROBLEM: {detail}"
                reason = Reason.THROTTLED if throttled else Reason.UNREACHABLE
                advice = "it answers that it is busy" if throttled else "check the address and that it is running"
                self._observe(ConditionObserved(reachable, throttled, reason, f"{detail}: {advice}"))
                return
            case Failed(kind=FailureKind.INVALID_RESPONSE):
                self.last_processing_result = INVALID_SEQUENCE
            case Failed(kind=FailureKind.FUNCTION_ERROR | FailureKind.MISSING_STATE) | Refused():
                self.last_processing_result = CALL_FAILED
            case Failed():
                self.last_processing_result = OK  # a valid answer (contract A.4), though no progress
            case _:
                self.last_processing_result = OK
                self._view(event.shard_id).setbacks.pop(event.lane, None)
        if event.sent:
            self._observe(_condition(reachable, Reason.REACHABLE, "the function answers"))

    def _observe(self, event: ConditionObserved) -> None:
        status = "True" if event.holds else "False"
        self._conditions[event.type] = ConditionReport(event.type, status, event.reason, event.message)

    def _view(self, shard_id: str) -> _ShardView:
        return self._shards.setdefault(shard_id, _ShardView())

    @property
    def idle(self) -> bool:
        """Every shard was read to its tip and nothing is pending; False while the source was never listed."""
        if self._listing_due or self._listed is None or self._listed.waiting or not self._reachable:
            return False
        return all(view.at_tip and view.oldest is None and not view.window_open for view in self._shards.values())

    @property
    def _reachable(self) -> bool:
        source = self._conditions.get(ConditionType.SOURCE_REACHABLE)
        return source is not None and source.status == "True"

    @property
    def ready(self) -> bool:
        """The source was listed at least once."""
        return self._listed is not None

    def iterator_age(self, shard_id: str, now: float) -> float:
        """Age of the oldest undecided record of a shard in seconds; how far reading is behind when none is held."""
        view = self._shards.get(shard_id)
        if view is None:
            return 0.0
        return view.behind if view.oldest is None else max(0.0, now - view.oldest)

    def blocked(self, shard_id: str) -> bool:
        """Whether a batch of a shard was put off again and again."""
        view = self._shards.get(shard_id)
        return view is not None and max(view.setbacks.values(), default=0) >= BLOCKED_AFTER

    def report(self, now: float) -> Report:
        """Everything at once; the iterator age is the worst shard's, None while no shard is read."""
        ages = [self.iterator_age(shard_id, now) for shard_id in self._shards]
        unknown = [
            ConditionReport(kind, "Unknown", Reason.PENDING, "not tried yet")
            for kind in ConditionType
            if kind not in self._conditions
        ]
        return Report(
            conditions=(*self._conditions.values(), *unknown),
            last_processing_result=self.last_processing_result,
            iterator_age_seconds=max(ages) if ages else None,
            shards_total=self._listed.total if self._listed else None,
            shards_ready=self._listed.total - self._listed.waiting if self._listed else None,
            shards_blocked=sum(map(self.blocked, self._shards)),
        )


def _condition(kind: ConditionType, reason: Reason, message: str) -> ConditionObserved:
    return ConditionObserved(kind, holds=True, reason=reason, message=message)
