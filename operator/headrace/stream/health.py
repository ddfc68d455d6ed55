"""What a mapping's work looks like from outside: conditions, last result, iterator age. Pure: a fold over events.

What was met with a shard is told while the shard is read here: from then on whoever has it tells how it is.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from headrace.errors import Reason, StoreError
from headrace.stream.classify import Failed, FailureKind, NotInvoked, PartiallyFailed, Refused, Succeeded
from headrace.stream.events import (
    CallEnded,
    Checkpointed,
    ConditionObserved,
    ConditionType,
    DeliveryFailed,
    DiscardDelivered,
    Event,
    Faulted,
    Pending,
    QueueSeen,
    RecordsDropped,
    RecordsPolled,
    ShardFinished,
    ShardsListed,
    ShardStarted,
    ShardStopped,
    Waiting,
    unreachable,
)

if TYPE_CHECKING:
    from headrace.stream.classify import Outcome

NO_RECORDS = "No records processed"
OK = "OK"
CALL_FAILED = "PROBLEM: Function call failed"
INVALID_SEQUENCE = "PROBLEM: Sequence number in function response is invalid. Please check function implementation."
BLOCKED_AFTER = 3
"""Pauses in a row on one batch after which its shard counts as blocked."""
ALWAYS_TRIED = frozenset({ConditionType.SOURCE_REACHABLE, ConditionType.CHECKPOINTS_REACHABLE})
"""Conditions that are tried with every shard until they hold: what fails with one is told, whatever else goes well.

The others are learned from records alone, and what was met last is told.
"""

OF_QUEUES = frozenset({ConditionType.DEAD_LETTER_QUEUE, ConditionType.VISIBILITY_TIMEOUT})
"""Conditions that only queues have."""


@dataclass(frozen=True, slots=True)
class ConditionReport:
    """One condition; `status` is True, False or Unknown."""

    type: ConditionType
    status: str
    reason: str
    message: str


_ANSWERS = ConditionReport(ConditionType.FUNCTION_REACHABLE, "True", Reason.REACHABLE, "the function answers")
_TOOK = ConditionReport(ConditionType.DESTINATION_REACHABLE, "True", Reason.REACHABLE, "took a failure record")
_WRITTEN = ConditionReport(ConditionType.CHECKPOINTS_REACHABLE, "True", Reason.REACHABLE, "checkpoints are written")


@dataclass(frozen=True, slots=True)
class Report:
    """A mapping's state at one moment."""

    conditions: tuple[ConditionReport, ...]
    last_processing_result: str | None
    """None for a queue, of which Lambda tells none (contract F.1); neither has it any shards."""
    iterator_age_seconds: float | None
    shards_total: int | None
    shards_ready: int | None
    """Of the total those that wait for no parent."""
    shards_blocked: int
    unowned: tuple[str, ...] = ()
    """Shards that could be read and that nobody alive held when the leases were read last."""


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
    _told: dict[tuple[ConditionType, str | None], ConditionReport] = field(default_factory=dict)
    """What was met last with each shard, and (None) with all of them; the newest at the end."""
    _results: dict[str, str] = field(default_factory=dict)
    """The last result of each shard, the newest at the end."""
    _listed: ShardsListed | None = None
    _listing_due: bool = True
    _queue: bool = False

    def __call__(self, event: Event) -> None:
        """Takes one event in."""
        match event:
            case ShardsListed():
                self._listed = event
                self._listing_due = False
            case ShardStarted(shard_id):
                self._shards[shard_id] = _ShardView()
            case ShardFinished(shard_id) | ShardStopped(shard_id):
                self._forget(shard_id)
                self._listing_due = True  # a finished shard may have children that nobody has seen yet
            case ConditionObserved():
                self._observe(event)
            case QueueSeen():
                self._queue = True
            case _:
                self._follow_shard(event)
                self._learn(event)

    def _follow_shard(self, event: Event) -> None:
        match event:
            case RecordsPolled(shard_id, _, behind):
                self._view(shard_id).behind = behind
            case Pending(shard_id, oldest, at_tip, window_open):
                view = self._view(shard_id)
                view.oldest, view.at_tip, view.window_open = oldest, at_tip, window_open
            case Waiting(shard_id):
                self._view(shard_id).set_back(event.lane)
            case RecordsDropped(shard_id) | DiscardDelivered(shard_id):
                self._view(shard_id).setbacks.pop(event.lane, None)
            case CallEnded(shard_id, outcome=Succeeded() | PartiallyFailed()):
                self._view(shard_id).setbacks.pop(event.lane, None)

    def _learn(self, event: Event) -> None:
        """What an event says of what lies around a shard."""
        match event:
            case DiscardDelivered(shard_id):
                self._tell(_TOOK, shard_id)
            case DeliveryFailed(shard_id, _, reason, message):
                self._observe(ConditionObserved(ConditionType.DESTINATION_REACHABLE, False, reason, message, shard_id))
            case CallEnded():
                self._learn_from_call(event)
            case Checkpointed(shard_id):
                self._tell(_WRITTEN, shard_id)
            case Faulted(_, StoreError(broken=False) as error, _, str(shard_id)):
                self._observe(unreachable(ConditionType.CHECKPOINTS_REACHABLE, error, shard_id))

    def _learn_from_call(self, event: CallEnded) -> None:
        shard_id, outcome, reachable = event.shard_id, event.outcome, ConditionType.FUNCTION_REACHABLE
        self._results.pop(shard_id, None)
        self._results[shard_id] = _result(outcome)
        if isinstance(outcome, NotInvoked):
            reason = Reason.THROTTLED if outcome.throttled else Reason.UNREACHABLE
            text = f"{outcome.detail}: {_advice(outcome)}"
            self._observe(ConditionObserved(reachable, outcome.throttled, reason, text, shard_id))
        elif event.sent:
            self._tell(_ANSWERS, shard_id)

    def _observe(self, event: ConditionObserved) -> None:
        status = "True" if event.holds else "False"
        self._tell(ConditionReport(event.type, status, event.reason, event.message), event.shard_id)

    def _tell(self, report: ConditionReport, shard_id: str | None) -> None:
        key = (report.type, shard_id)
        self._told.pop(key, None)
        self._told[key] = report

    def _forget(self, shard_id: str) -> None:
        self._shards.pop(shard_id, None)
        self._results.pop(shard_id, None)
        for kind in ConditionType:
            self._told.pop((kind, shard_id), None)

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
        return self._condition(ConditionType.SOURCE_REACHABLE).status == "True"

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

    @property
    def last_processing_result(self) -> str:
        """That of the last call for a shard that is read here."""
        return next(reversed(self._results.values()), NO_RECORDS)

    def conditions(self) -> tuple[ConditionReport, ...]:
        """Each condition as it shows from here; those of queues only where there is one."""
        every = map(self._condition, ConditionType)
        return tuple(one for one in every if one.type not in OF_QUEUES or one.status != "Unknown")

    def _condition(self, kind: ConditionType) -> ConditionReport:
        told = [one for one in reversed(self._told.values()) if one.type == kind]
        failing = [one for one in told if one.status == "False"] if kind in ALWAYS_TRIED else []
        return next(iter(failing or told), ConditionReport(kind, "Unknown", Reason.PENDING, "not tried yet"))

    def report(self, now: float) -> Report:
        """Everything at once; the age is the worst shard's, or the oldest message's; None while nothing is read."""
        ages = [self.iterator_age(shard_id, now) for shard_id in self._shards]
        age, listed = max(ages) if ages else None, self._listed
        if self._queue:
            return Report(self.conditions(), None, age, shards_total=None, shards_ready=None, shards_blocked=0)
        return Report(
            conditions=self.conditions(),
            last_processing_result=self.last_processing_result,
            iterator_age_seconds=age,
            shards_total=listed.total if listed else None,
            shards_ready=listed.total - listed.waiting if listed else None,
            shards_blocked=sum(map(self.blocked, self._shards)),
            unowned=listed.unowned if listed else (),
        )


def _advice(outcome: NotInvoked) -> str:
    """What to do about a function that did not run, by what answered in its place (contract J.1)."""
    status = outcome.status
    if outcome.throttled:
        return "it answers that it is busy"
    if status is not None and status >= 500:  # noqa: PLR2004
        return "what serves the function, or stands before it, answers and fails; its own log says why"
    if status in {401, 403}:
        return "the call is refused; check who may call the function, and the headers that spec.function sends"
    return "check the address and that it is running"


def _result(outcome: Outcome) -> str:
    """In Lambda's words (contract A.4)."""
    match outcome:
        case NotInvoked(_, detail):
            return f"PROBLEM: {detail}"
        case Failed(kind=FailureKind.INVALID_RESPONSE):
            return INVALID_SEQUENCE
        case Failed(kind=FailureKind.FUNCTION_ERROR | FailureKind.MISSING_STATE) | Refused():
            return CALL_FAILED
        case _:
            return OK  # an answer that names the first record is a valid one, though no progress
