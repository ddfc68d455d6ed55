"""How each shard is doing, as its ShardLease tells it: a fold over events. Pure; the clock is an argument."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from headrace.stream.classify import Failed, NotInvoked, PartiallyFailed, Refused, Succeeded
from headrace.stream.events import (
    CallEnded,
    DeliveryFailed,
    DiscardDelivered,
    Event,
    Pending,
    RecordsDropped,
    ShardFinished,
    ShardStarted,
    ShardStopped,
    Waiting,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from headrace.records import Batch, Head

HELD, RETRYING, BLOCKED = "Held", "Retrying", "Blocked"


@dataclass(frozen=True, slots=True)
class ShardFacts:
    """What `kubectl get shl` tells of a shard beside its checkpoint; the age in seconds.

    `stuck_since` (epoch seconds) and `stuck_on` (a sequence number) are those of the lane that is stuck longest.
    `fresh` says that nothing has shown yet how the shard is, since its reading began.
    """

    state: str = HELD
    attempts: int = 0
    last_error: str | None = None
    iterator_age_seconds: float | None = None
    stuck_since: float | None = None
    stuck_on: str | None = None
    fresh: bool = False


@dataclass(slots=True)
class Progress:
    """The fold; call it with every event of one mapping. `facts` holds the shards that are being read.

    `clock` gives epoch seconds.
    """

    clock: Callable[[], float]
    facts: dict[str, ShardFacts] = field(default_factory=dict)
    _lanes: dict[str, dict[int, ShardFacts]] = field(default_factory=dict)
    """Of each shard the lanes whose head has failed."""

    def __call__(self, event: Event) -> None:
        """Takes one event in."""
        match event:
            case ShardStarted(shard_id, _, stuck):
                self._lanes[shard_id] = {each.index: self._former(each.head) for each in stuck if each.head is not None}
                self._fold(shard_id, ShardFacts(fresh=True))
            case ShardFinished(shard_id) | ShardStopped(shard_id):
                self._lanes.pop(shard_id, None)
                self.facts.pop(shard_id, None)
            case Pending(shard_id, None, at_tip=True, window_open=False):
                self._lanes[shard_id] = {}
                self._fold(shard_id)
            case DiscardDelivered(shard_id) | RecordsDropped(shard_id):
                self._settle(shard_id, event.lane)
            case CallEnded() | DeliveryFailed() | Waiting():
                self._follow(event)

    def _follow(self, event: CallEnded | DeliveryFailed | Waiting) -> None:
        shard_id, lane = event.shard_id, event.lane
        before = self._lanes.get(shard_id, {}).get(lane, ShardFacts())
        match event:
            case CallEnded(outcome=Succeeded()):
                self._settle(shard_id, lane)
            case CallEnded():
                self._stick(event, _failed(before, event), _rest(event))
            case DeliveryFailed(_, discard, reason, message):
                self._stick(event, replace(before, state=BLOCKED, last_error=f"{reason}: {message}"), discard.records)
            case Waiting(_, batch):
                state = before.state if before.state != HELD else RETRYING
                self._stick(event, replace(before, state=state, attempts=event.attempts), batch)

    def _stick(self, event: CallEnded | DeliveryFailed | Waiting, facts: ShardFacts, batch: Batch) -> None:
        """A lane is held up on the first record of a batch; since when, that is told of the same record only once."""
        record = batch[0].sequence_number if batch else None
        same = facts.stuck_since is not None and facts.stuck_on == record
        since = facts.stuck_since if same else self.clock()
        lanes = self._lanes.setdefault(event.shard_id, {})
        lanes[event.lane] = replace(facts, stuck_since=since, stuck_on=record)
        self._fold(event.shard_id)

    def _former(self, head: Head) -> ShardFacts:
        """A lane whose head failed before it was begun with here; with which error, that only the lease may tell."""
        return ShardFacts(
            RETRYING, head.attempts, stuck_since=self.clock(), stuck_on=head.first if head.count else None
        )

    def _settle(self, shard_id: str, lane: int) -> None:
        self._lanes.setdefault(shard_id, {}).pop(lane, None)
        self._fold(shard_id)

    def _fold(self, shard_id: str, unstuck: ShardFacts = ShardFacts()) -> None:
        """A shard is as its worst lane: blocked before retrying, the longest first."""
        self.facts[shard_id] = max(self._lanes[shard_id].values(), key=_badness, default=unstuck)


def _badness(facts: ShardFacts) -> tuple[bool, float]:
    return facts.state == BLOCKED, -(facts.stuck_since or 0.0)


def _rest(event: CallEnded) -> Batch:
    """What of the batch is still undecided."""
    return event.batch[event.outcome.first :] if isinstance(event.outcome, PartiallyFailed) else event.batch


def _failed(facts: ShardFacts, event: CallEnded) -> ShardFacts:
    """A function that fails is retried; one that cannot be called holds the shard up, whatever the number of tries."""
    match event.outcome:
        case NotInvoked(_, detail):
            return replace(facts, state=BLOCKED, last_error=detail)
        case Failed(kind):
            return replace(facts, state=RETRYING, last_error=event.outcome.detail or kind.value)
        case PartiallyFailed():
            return replace(facts, state=RETRYING, last_error="a part of the batch failed")
        case Refused():
            return replace(facts, state=RETRYING, last_error="the batch is too large for the function")
        case Succeeded():
            return facts
