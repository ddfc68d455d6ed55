"""The values that travel through the data plane: shards, positions, records, checkpoints. Frozen."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple


@dataclass(frozen=True, slots=True)
class Shard:
    """One shard of a stream as the source lists it; `parents` are the ids it was split or merged from."""

    shard_id: str
    parents: tuple[str, ...] = ()


class StartingPosition(StrEnum):
    """Where reading begins (contract A.1)."""

    TRIM_HORIZON = "TRIM_HORIZON"
    LATEST = "LATEST"
    AT_TIMESTAMP = "AT_TIMESTAMP"


@dataclass(frozen=True, slots=True)
class Start:
    """Where a mapping starts, pinned before its first read: the oldest record, or the first one at `timestamp`.

    `timestamp` is in epoch seconds; None stands for TRIM_HORIZON. LATEST never gets this far: it is pinned to a time.
    """

    timestamp: float | None = None


@dataclass(frozen=True, slots=True)
class After:
    """Behind the record with this sequence number."""

    sequence_number: str


Position = Start | After


class Record(NamedTuple):
    """One record of a shard, ready to be delivered: a tuple, as no other value is made so often.

    `event` is the record's JSON as it stands in the Lambda event (contract D), `arrival` the approximate arrival time
    in epoch seconds, `key` what decides the lane (the partition key).
    """

    sequence_number: str
    arrival: float
    key: str
    event: bytes


Batch = tuple[Record, ...]


@dataclass(frozen=True, slots=True)
class Gap:
    """Records that the source's retention may have taken before they were read (contract B.8): none of them is known.

    They lie between `after`, the last one decided or read (None: none was), and `first`, the oldest there still is
    (None: the whole rest of the shard is gone). The arrivals of these two are in epoch seconds, None if not known.
    """

    after: str | None
    first: str | None
    after_arrival: float | None = None
    first_arrival: float | None = None


@dataclass(frozen=True, slots=True)
class Polled:
    """What one read of a shard gave.

    `behind` is how far the read stopped short of the shard's tip, in seconds (0 at the tip); `ended` says that the
    shard is closed and was read to its end. `children` are the shards that go on from it, as far as the read names
    them; `gap` is what the source had let go before it was read.
    """

    records: Batch = ()
    behind: float = 0.0
    ended: bool = False
    children: tuple[Shard, ...] = ()
    gap: Gap | None = None


@dataclass(frozen=True, slots=True)
class GivenUp:
    """The last answer to a batch whose attempts are spent, as its failure record wants it; `at` is in epoch seconds.

    `status` is None where there was no answer: the batch was too large to be sent, or taken.
    """

    at: float
    status: int | None = None
    function_error: str | None = None
    executed_version: str = "$LATEST"


@dataclass(frozen=True, slots=True)
class Head:
    """The batch at the head of a lane, and how often its calls have failed in a way that counts.

    The final call of a tumbling window has no records: `count` is 0, `first` and `last` are the window's first record.
    `given_up` is there once its attempts are spent and only its failure record is left to be handed over.
    """

    first: str
    last: str
    count: int
    attempts: int
    given_up: GivenUp | None = None


def head_of(batch: Batch, attempts: int, given_up: GivenUp | None = None) -> Head:
    """A batch as a checkpoint names it."""
    return Head(batch[0].sequence_number, batch[-1].sequence_number, len(batch), attempts, given_up)


@dataclass(frozen=True, slots=True)
class LaneProgress:
    """How far one of `factor` lanes is beyond the shard's watermark: decided through a record, begun with a batch.

    `open` says that what its keys have behind that is still its own, though the factor has changed since.
    """

    factor: int
    index: int
    decided: str | None = None
    head: Head | None = None
    open: bool = False


@dataclass(frozen=True, slots=True)
class Window:
    """A tumbling window and what the function has made of its records (contract B.7).

    `start` and `end` are epoch seconds, half-open; `first` is the sequence number of the record that opened it, which
    tells it from another one with the same bounds. `state` is the JSON object that the last call gave back, None before
    there was one. `final` is the call that closes it; `early` says that its state grew too large to wait for its end.
    """

    start: int
    end: int
    first: str
    state: bytes | None = None
    final: bool = False
    early: bool = False


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """How far a shard is decided: every record up to `sequence_number` was acknowledged or handed over (contract B.8).

    `lanes` tells of those that are further, or whose head has failed before; `window` is the tumbling window that is
    open. `finished` says that the shard has ended and its last record is decided, so that its children may start.
    """

    sequence_number: str | None = None
    finished: bool = False
    lanes: tuple[LaneProgress, ...] = ()
    window: Window | None = None


@dataclass(frozen=True, slots=True)
class Holder:
    """Who holds a shard: a poller in one of its lives. One that was out of touch comes back as another life."""

    identity: str
    incarnation: str


@dataclass(frozen=True, slots=True)
class Lease:
    """A shard as its lease shows it to every poller; `holder` is None when it was given back, or never taken.

    `fault` says what is wrong with a lease that cannot be read, so that nobody may take it: its checkpoint and holder
    are then those that were last known here.
    """

    shard: Shard
    checkpoint: Checkpoint = Checkpoint()
    holder: Holder | None = None
    fault: str | None = None
