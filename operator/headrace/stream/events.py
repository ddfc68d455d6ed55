"""What the data plane tells whoever watches it: metrics, logs, health, the demo. Pure values.

An observer is a plain callable that takes one event, returns at once and never raises.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

from headrace.errors import Reason

if TYPE_CHECKING:
    from headrace.errors import DestinationError, SourceError, StoreError
    from headrace.records import Batch, Gap, LaneProgress
    from headrace.stream.classify import Outcome
    from headrace.stream.retry import Discard


class ConditionType(StrEnum):
    """The conditions that only the data plane can know."""

    SOURCE_REACHABLE = "SourceReachable"
    FUNCTION_REACHABLE = "FunctionReachable"
    DESTINATION_REACHABLE = "DestinationReachable"
    CHECKPOINTS_REACHABLE = "CheckpointsReachable"
    DEAD_LETTER_QUEUE = "DeadLetterQueue"
    """Of queues: whether what fails again and again ends in a queue of its own. Advice, no fault."""
    VISIBILITY_TIMEOUT = "VisibilityTimeout"
    """Of queues: whether theirs is long enough for the function. Advice, no fault."""


@dataclass(frozen=True, slots=True)
class ShardsListed:
    """The source was listed: `total` shards not finished yet, of which `waiting` wait for their parents.

    `unowned` are those of the others that neither this poller nor another one that is alive holds.
    """

    total: int
    waiting: int
    unowned: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class ShardStarted:
    """A shard is being read from now on; `after` is its checkpoint, None at the mapping's start.

    `stuck` tells of the lanes whose head has failed before, under whoever read it then.
    """

    shard_id: str
    after: str | None
    stuck: tuple[LaneProgress, ...] = ()


@dataclass(frozen=True, slots=True)
class ShardFinished:
    """A closed shard's last record is decided."""

    shard_id: str


@dataclass(frozen=True, slots=True)
class ShardStopped:
    """A shard is not read any more, though it has not ended: a stop, or a fault that is logged."""

    shard_id: str


@dataclass(frozen=True, slots=True)
class ShardLost:
    """A shard was taken from this poller: `holder` has it now, None: nobody that is known. It must not checkpoint."""

    shard_id: str
    holder: str | None


@dataclass(frozen=True, slots=True)
class LeaseBroken:
    """A shard's lease cannot be read, so that nobody can take the shard until it is mended; the detail says how.

    `shard_id` is the lease's own name where its shard is not known.
    """

    shard_id: str
    detail: str


@dataclass(frozen=True, slots=True)
class RecordsPolled:
    """A read of a shard; `behind` in seconds: of a queue the age of the oldest message received, 0 for none."""

    shard_id: str
    count: int
    behind: float


@dataclass(frozen=True, slots=True)
class RecordsFiltered:
    """Records of a read that match no filter: they count as processed.

    `unread` names messages of a queue of which the body is no JSON, though the filter asks for some: they are deleted.
    """

    shard_id: str
    count: int
    unread: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Pending:
    """What of a shard is undecided: the oldest record's arrival (epoch seconds), None when there is nothing.

    `at_tip` says that the last read found nothing more, `window_open` that a tumbling window waits for its final call.
    """

    shard_id: str
    oldest: float | None
    at_tip: bool
    window_open: bool = False


@dataclass(frozen=True, slots=True)
class CallStarted:
    """A batch is being sent; `attempt` counts from 1; `age` is that of its last record in seconds.

    A batch without records is the final call of a tumbling window; its age is that of the window's start.
    """

    shard_id: str
    batch: Batch
    attempt: int
    request_id: str
    age: float
    lane: int = 0


@dataclass(frozen=True, slots=True)
class CallEnded:
    """The call's outcome, after so many seconds; `sent` is False for an event too large to be sent."""

    shard_id: str
    batch: Batch
    attempt: int
    request_id: str
    outcome: Outcome
    seconds: float
    sent: bool = True
    lane: int = 0


@dataclass(frozen=True, slots=True)
class Waiting:
    """A batch, or its failure record, is tried again in so many seconds; `attempts` are those that count so far."""

    shard_id: str
    batch: Batch
    seconds: float
    attempts: int
    lane: int = 0


@dataclass(frozen=True, slots=True)
class DiscardDelivered:
    """The destination has the failure record."""

    shard_id: str
    discard: Discard
    request_id: str
    lane: int = 0


@dataclass(frozen=True, slots=True)
class DeliveryFailed:
    """A try to hand over a failure record did not succeed."""

    shard_id: str
    discard: Discard
    reason: Reason
    message: str
    lane: int = 0


@dataclass(frozen=True, slots=True)
class RecordsDropped:
    """Records are gone for good: no destination is configured, or it did not take them in time."""

    shard_id: str
    discard: Discard
    delivery_failed: bool
    lane: int = 0


@dataclass(frozen=True, slots=True)
class Checkpointed:
    """A shard's checkpoint was stored."""

    shard_id: str
    sequence_number: str | None


@dataclass(frozen=True, slots=True)
class ConditionObserved:
    """A condition as it shows now, of one shard or (None) of all; the same may be observed again and again."""

    type: ConditionType
    holds: bool
    reason: Reason
    message: str
    shard_id: str | None = None


def reachable(kind: ConditionType, shard_id: str | None = None) -> ConditionObserved:
    """What a success says of a condition."""
    return ConditionObserved(kind, holds=True, reason=Reason.REACHABLE, message="it answers", shard_id=shard_id)


def unreachable(
    kind: ConditionType, error: SourceError | DestinationError | StoreError, shard_id: str | None = None
) -> ConditionObserved:
    """What a failure says of a condition: who asks for patience is there."""
    return ConditionObserved(kind, error.reason is Reason.THROTTLED, error.reason, error.message, shard_id)


@dataclass(frozen=True, slots=True)
class Faulted:
    """Something unexpected stopped a part of the work, which is tried again in so many seconds.

    `shard_id` is there where it is a held shard's and lasts until it succeeds.
    """

    what: str
    error: BaseException
    seconds: float
    shard_id: str | None = None


@dataclass(frozen=True, slots=True)
class RecordsTrimmed:
    """Records may be lost: the source's retention took them before they were read."""

    shard_id: str
    gap: Gap


@dataclass(frozen=True, slots=True)
class StreamRecreated:
    """The stream was deleted and made anew under its name, at `created` (epoch seconds); it is read from its start."""

    created: float


@dataclass(frozen=True, slots=True)
class FilterNeverMatches:
    """The pattern at `index` of filterCriteria asks for `field`, which no record has; data stand under `data_key`."""

    index: int
    field: str
    data_key: str


@dataclass(frozen=True, slots=True)
class RetentionSeen:
    """The stream keeps a record for so many seconds."""

    seconds: float


@dataclass(frozen=True, slots=True)
class RecordsAbandoned:
    """So many records of a stream that is no more had been read and are not decided: they are lost."""

    shard_id: str
    count: int
    first: str
    last: str


@dataclass(frozen=True, slots=True)
class QueueSeen:
    """The queue told of itself: about so many messages could be received."""

    queue: str
    backlog: int


@dataclass(frozen=True, slots=True)
class MessagesDeleted:
    """So many messages were deleted from the queue: acknowledged, or filtered out."""

    queue: str
    count: int


@dataclass(frozen=True, slots=True)
class ReceiptsExpired:
    """Messages that are done with, and come again: their receipt was of no more use, or a stop waited no longer."""

    queue: str
    count: int
    first: str


@dataclass(frozen=True, slots=True)
class CallsAllowed:
    """So many batches of a queue may be with the function at a time."""

    queue: str
    limit: int


Event = (
    ShardsListed
    | ShardStarted
    | ShardFinished
    | ShardStopped
    | ShardLost
    | LeaseBroken
    | RecordsPolled
    | RecordsFiltered
    | Pending
    | CallStarted
    | CallEnded
    | Waiting
    | DiscardDelivered
    | DeliveryFailed
    | RecordsDropped
    | Checkpointed
    | ConditionObserved
    | Faulted
    | RecordsTrimmed
    | StreamRecreated
    | FilterNeverMatches
    | RetentionSeen
    | RecordsAbandoned
    | QueueSeen
    | MessagesDeleted
    | ReceiptsExpired
    | CallsAllowed
)
Observer = Callable[[Event], None]


def all_of(*observers: Observer) -> Observer:
    """One observer that tells each of them, in order."""

    def observe(event: Event) -> None:
        for observer in observers:
            observer(event)

    return observe
