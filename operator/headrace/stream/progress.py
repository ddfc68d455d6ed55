"""How each shard is doing, as its ShardLease tells it: a fold over events. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from headrace.stream.classify import Failed, NotInvoked, PartiallyFailed, Refused, Succeeded
from headrace.stream.events import (
    CallEnded,
    DeliveryFailed,
    DiscardDelivered,
    Event,
    RecordsDropped,
    ShardFinished,
    ShardStarted,
    ShardStopped,
    Waiting,
)

HELD, RETRYING, BLOCKED = "Held", "Retrying", "Blocked"


@dataclass(frozen=True, slots=True)
class ShardFacts:
    """What `kubectl get shl` tells of a shard beside its checkpoint; the age in seconds."""

    state: str = HELD
    attempts: int = 0
    last_error: str | None = None
    iterator_age_seconds: float | None = None


@dataclass(slots=True)
class Progress:
    """The fold; call it with every event of one mapping. `facts` holds the shards that are being read."""

    facts: dict[str, ShardFacts] = field(default_factory=dict)

    def __call__(self, event: Event) -> None:
        """Takes one event in."""
        match event:
            case ShardStarted(shard_id) | DiscardDelivered(shard_id) | RecordsDropped(shard_id):
                self.facts[shard_id] = ShardFacts()
            case ShardFinished(shard_id) | ShardStopped(shard_id):
                self.facts.pop(shard_id, None)
            case CallEnded(shard_id):
                self.facts[shard_id] = _after_call(self._of(shard_id), event)
            case DeliveryFailed(shard_id, _, reason, message):
                self.facts[shard_id] = replace(self._of(shard_id), state=BLOCKED, last_error=f"{reason}: {message}")
            case Waiting(shard_id):
                self.facts[shard_id] = replace(self._of(shard_id), attempts=event.attempts)

    def _of(self, shard_id: str) -> ShardFacts:
        return self.facts.get(shard_id, ShardFacts())


def _after_call(facts: ShardFacts, event: CallEnded) -> ShardFacts:
    """A function that fails is retried; one that cannot be called holds the shard up, whatever the number of tries."""
    match event.outcome:
        case Succeeded():
            return ShardFacts()
        case NotInvoked(_, detail):
            return replace(facts, state=BLOCKED, last_error=detail)
        case Failed(kind):
            return replace(facts, state=RETRYING, last_error=event.outcome.detail or kind.value)
        case PartiallyFailed():
            return replace(facts, state=RETRYING, last_error="a part of the batch failed")
        case Refused():
            return replace(facts, state=RETRYING, last_error="the batch is too large for the function")
