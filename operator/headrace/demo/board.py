"""What of the data plane's events is worth telling, and where each shard stands. Pure: a fold over events.

Before this: `stream/poller.py` and `delivering.py`, which tell what happens. After this: `screen.py`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Protocol

from headrace.demo.orders import shard_name
from headrace.stream.classify import Failed, NotInvoked, PartiallyFailed, Refused, Succeeded
from headrace.stream.events import (
    CallEnded,
    CallStarted,
    ConditionObserved,
    ConditionType,
    DeliveryFailed,
    DiscardDelivered,
    Event,
    Faulted,
    RecordsDropped,
    RecordsPolled,
    ShardStarted,
    Waiting,
)

if TYPE_CHECKING:
    from headrace.records import Batch
    from headrace.stream.retry import Discard


class Tone(StrEnum):
    """How a line is meant."""

    PLAIN = "plain"
    GOOD = "good"
    WARNING = "warning"
    BAD = "bad"


@dataclass(frozen=True, slots=True)
class Line:
    """One line of the story: who, and what."""

    who: str
    text: str
    tone: Tone = Tone.PLAIN


class Tell(Protocol):
    """Takes a line of the story; returns at once and never raises."""

    def __call__(self, who: str, text: str, tone: Tone = Tone.PLAIN) -> None: ...


@dataclass(slots=True)
class ShardRow:
    """Where one shard stands, in records and calls."""

    name: str
    state: str = "starting"
    tone: Tone = Tone.PLAIN
    read: int = 0
    acknowledged: int = 0
    discarded: int = 0
    calls: int = 0
    throttled: int = 0
    """Calls of the batch at hand that were answered with a throttle."""
    elsewhere: int = 0
    """What the other shards had acknowledged when this one's batch first failed."""
    news: str = "its first batch"
    """What the next acknowledged batch is, if that is worth a line."""

    def stand(self, state: str, tone: Tone = Tone.PLAIN) -> None:
        """Changes the state shown."""
        self.state, self.tone = state, tone


@dataclass(slots=True)
class Board:
    """The fold; `attempts` is how often a batch may be called, `queue` the on-failure queue's name."""

    attempts: int
    queue: str
    rows: dict[str, ShardRow] = field(default_factory=dict)
    _conditions: dict[ConditionType, bool] = field(default_factory=dict)

    @property
    def decided(self) -> int:
        """Records that Headrace says are acknowledged or handed over."""
        return sum(row.acknowledged + row.discarded for row in self.rows.values())

    @property
    def ordered(self) -> list[tuple[str, ShardRow]]:
        """The shards by their ids."""
        return sorted(self.rows.items())

    def take(self, event: Event) -> list[Line]:
        """Takes one event in; gives the lines it is worth."""
        match event:
            case ShardStarted(shard_id):
                row = self._row(shard_id)
                row.stand("reading")
                return [Line("headrace", f"reads {row.name} from its oldest record on")]
            case RecordsPolled(shard_id, count, _):
                self._row(shard_id).read += count
                return []
            case CallStarted(shard_id):
                return self._started(event, self._row(shard_id))
            case CallEnded(shard_id):
                return self._ended(event, self._row(shard_id))
            case Waiting(shard_id):
                return self._waits(event, self._row(shard_id))
            case _:
                return self._exceptional(event)

    def _started(self, event: CallStarted, row: ShardRow) -> list[Line]:
        row.calls += 1
        if event.attempt == 1:
            row.stand(f"sends {_records(event.batch)}")
        else:
            row.stand(f"attempt {event.attempt} of {self.attempts}", Tone.WARNING)
        return []

    def _ended(self, event: CallEnded, row: ShardRow) -> list[Line]:
        match event.outcome:
            case Succeeded():
                return self._acknowledged(row, event.batch, event.seconds)
            case PartiallyFailed(first):
                return self._acknowledged(row, event.batch[:first], event.seconds)
            case Failed(detail=detail):
                return self._failed(row, event, detail)
            case Refused():
                return self._failed(row, event, "too large for the function")
            case NotInvoked(throttled, detail):
                return self._not_invoked(row, event.batch, detail, throttled=throttled)

    def _acknowledged(self, row: ShardRow, batch: Batch, seconds: float) -> list[Line]:
        row.acknowledged += len(batch)
        row.stand("reading")
        news, row.news = row.news, ""
        if row.throttled:
            news = f"the batch that was throttled {_times(row.throttled)}; no retry was spent"
            row.throttled = 0
        if not news:
            return []
        text = f"{row.name}: acknowledged {news} ({_records(batch)}, {seconds * 1000:.0f} ms)"
        return [Line("function", text, Tone.GOOD)]

    def _failed(self, row: ShardRow, event: CallEnded, detail: str) -> list[Line]:
        if event.attempt == 1:
            row.elsewhere = self._acknowledged_elsewhere(row)
        row.stand(f"failed {event.attempt} of {self.attempts}", Tone.BAD)
        attempt = f"attempt {event.attempt} of {self.attempts}"
        return [Line("function", f"{row.name}: fails on {_records(event.batch)}, {attempt}: {detail}", Tone.BAD)]

    def _not_invoked(self, row: ShardRow, batch: Batch, detail: str, *, throttled: bool) -> list[Line]:
        row.throttled += 1
        row.stand("throttled" if throttled else "function away", Tone.WARNING)
        if row.throttled > 1:
            return []
        what = "throttled" if throttled else "not reached"
        return [Line("function", f"{row.name}: {what} ({detail}); {_records(batch)} wait", Tone.WARNING)]

    def _waits(self, event: Waiting, row: ShardRow) -> list[Line]:
        if row.throttled or not event.attempts:
            return []
        row.stand(f"retry {event.attempts} of {self.attempts - 1} next", Tone.WARNING)
        text = f"{row.name}: retry {event.attempts} of {self.attempts - 1} in {event.seconds:.1f} s"
        why = "; what is behind waits, to keep the order" if event.attempts == 1 else ""
        return [Line("headrace", text + why, Tone.WARNING)]

    def _exceptional(self, event: Event) -> list[Line]:
        match event:
            case DiscardDelivered(shard_id, discard):
                return self._discarded(self._row(shard_id), discard)
            case RecordsDropped(shard_id, discard):
                row = self._row(shard_id)
                row.stand("dropped records", Tone.BAD)
                return [Line("headrace", f"{row.name}: lost {_records(discard.records)}", Tone.BAD)]
            case DeliveryFailed(shard_id, _, reason, _):
                row = self._row(shard_id)
                row.stand("queue away", Tone.BAD)
                return [Line("headrace", f"{row.name}: {self.queue} took no failure record: {reason}", Tone.BAD)]
            case ConditionObserved():
                return self._condition(event)
            case Faulted(what, error, _):
                return [Line("headrace", f"{what}: {type(error).__name__}; it is tried again", Tone.BAD)]
            case _:
                return []

    def _discarded(self, row: ShardRow, discard: Discard) -> list[Line]:
        row.discarded += len(discard.records)
        row.stand("reading")
        row.news = "the batch behind it and goes on"
        gave_up = f"{row.name}: gives up after attempt {discard.invocations}: the failure record of "
        lines = [Line("headrace", f"{gave_up}{_records(discard.records)} is in {self.queue}", Tone.WARNING)]
        meanwhile = self._acknowledged_elsewhere(row) - row.elsewhere
        if meanwhile:
            lines.append(Line("headrace", f"meanwhile the other shard acknowledged {meanwhile} records", Tone.GOOD))
        return lines

    def _condition(self, event: ConditionObserved) -> list[Line]:
        """A condition is told when it ceases to hold, and when it holds again."""
        before = self._conditions.get(event.type, True)
        self._conditions[event.type] = event.holds
        if before == event.holds:
            return []
        tone = Tone.GOOD if event.holds else Tone.BAD
        return [Line("headrace", f"{event.type}: {event.holds}, {event.message}", tone)]

    def _acknowledged_elsewhere(self, row: ShardRow) -> int:
        return sum(other.acknowledged for other in self.rows.values() if other is not row)

    def _row(self, shard_id: str) -> ShardRow:
        return self.rows.setdefault(shard_id, ShardRow(shard_name(shard_id)))


def _records(batch: Batch) -> str:
    return f"{len(batch)} record{'s' * (len(batch) != 1)}"


def _times(count: int) -> str:
    return "once" if count == 1 else f"{count} times"
