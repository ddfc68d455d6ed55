"""The lanes of a shard and what they have decided together (contract B.3, B.8; design, "Leases and checkpoints"). Pure.

A record's lane follows from its key, so order per key is order within a lane. Lanes go on independently; the checkpoint
is the watermark below which all of them are done, plus how far each got above it.

When `parallelizationFactor` has changed, the records that the old lanes had begun with stay theirs: nothing is admitted
before these lanes have drained, except past one that is stuck; its keys follow it until it drains, the others move on.

Before this: `filtering.py`. After this: `batching.py`; `poller.py` keeps a task for each lane.
"""

from __future__ import annotations

import zlib
from collections import deque
from dataclasses import dataclass, field, replace
from itertools import chain
from typing import TYPE_CHECKING

from headrace.records import Checkpoint, LaneProgress, head_of
from headrace.stream import ahead
from headrace.stream.batching import BatchLimits, Buffer
from headrace.stream.windows import Tumbling, final_head

if TYPE_CHECKING:
    from collections.abc import Sequence

    from headrace.records import Batch, Head, Record, Window

BUFFERED_BATCHES = 2
"""Reading pauses while a lane holds so many batches, or all of them together so many bytes as `ahead.py` says."""


def lane_of(key: str, factor: int) -> int:
    """The lane of a key: CRC-32 of its UTF-8 bytes, modulo the factor. Stable over versions and machines."""
    return zlib.crc32(key.encode()) % factor if factor > 1 else 0


@dataclass(slots=True, eq=False)
class Lane:
    """One lane: what is buffered for it, what it has begun, how far it is."""

    factor: int
    index: int
    buffer: Buffer
    decided: str | None = None
    head: Head | None = None
    stuck: bool = False
    skip_through: int | None = None
    """The last record decided before the last stop; None once reading is past it."""
    open: bool = False
    """For a lane of a former factor: whether its keys are still its own."""
    undecided: deque[tuple[int, str]] = field(default_factory=deque)
    """The records read for it that are not done: how many the shard had read before each, and its sequence number."""

    @property
    def drained(self) -> bool:
        """Nothing is left to do, as far as was read."""
        return not self.undecided

    def has(self, key: str) -> bool:
        """Whether a key belongs here."""
        return lane_of(key, self.factor) == self.index

    def begun_with(self, batch: Batch, window: Window | None = None) -> Head | None:
        """What exactly this batch, or the window's final call, has been through before the last stop."""
        head = self.head
        if head is None:
            return None
        spent = (head.attempts, head.given_up)
        same = head_of(batch, *spent) if batch else window and final_head(window, *spent)
        return head if head == same else None

    def had_decided(self, sequence_number: str) -> bool:
        """Whether a record of this lane was decided before the last stop."""
        if self.skip_through is None:
            return False
        if int(sequence_number) <= self.skip_through:
            return True
        self.skip_through = None
        return False


class Lanes:
    """All lanes of one shard."""

    def __init__(self, factor: int, limits: BatchLimits, checkpoint: Checkpoint, now: float) -> None:
        self._limits = limits
        self._factor = factor
        self._watermark = checkpoint.sequence_number
        self._numbers: deque[str] = deque()
        """The sequence numbers above the watermark, of every record read."""
        self._passed = 0
        """How many records that were read are at or below the watermark."""
        self._held: deque[tuple[Record, bool]] = deque()
        if limits.tumbling:
            checkpoint = replace(checkpoint, lanes=tuple(_without_claim(one, factor) for one in checkpoint.lanes))
        former, current = _split_by_age(checkpoint.lanes, factor)
        self.windows = Tumbling(limits.tumbling, checkpoint.window)
        """All of the first lane: a shard has windows only while it has one lane."""
        self._old = [self._restored(progress, now) for progress in former]
        self._new = [Lane(factor, index, Buffer(limits, now)) for index in range(factor)]
        for progress in current:
            self._new[progress.index] = self._restored(progress, now)
        self._new[0].buffer.windows = self.windows
        self.all: Sequence[Lane] = (*self._old, *self._new)
        """Every lane, old ones first."""
        for lane in self._old:
            lane.open = lane.open or lane.head is not None
        self._boundary = max((_last(progress) for progress in checkpoint.lanes), default=0)
        self._draining = any(lane.open for lane in self._old)
        self._ended = False
        self.share = ahead.MOST
        """Bytes that may wait here, as far as that makes a batch."""
        self._average: float | None = None
        """Bytes of a record, as those of the last read had."""

    def _restored(self, progress: LaneProgress, now: float) -> Lane:
        buffer = Buffer(self._limits, now)
        if progress.head is not None:
            buffer.resume(progress.head)
        skip = int(progress.decided) if progress.decided is not None else None
        return Lane(
            progress.factor,
            progress.index,
            buffer,
            progress.decided,
            progress.head,
            skip_through=skip,
            open=progress.open,
        )

    @property
    def watermark(self) -> str | None:
        """The sequence number up to which every record is decided."""
        return self._watermark

    @property
    def has_room(self) -> bool:
        """Whether reading may go on: no lane is full, and nothing waits for old lanes to drain."""
        if self._held or any(map(self._full, self.all)):
            return False
        waiting = self._buffered_bytes
        return waiting < self.share // 2 or (waiting < ahead.MOST and not any(map(self._ready, self.all)))

    @property
    def room(self) -> int:
        """Records that the next read may bring."""
        return ahead.records(self.share, self._average)

    def _ready(self, lane: Lane) -> bool:
        """Whether a lane has a whole batch, so that it need not wait for more."""
        return len(lane.buffer) >= self._limits.size or lane.buffer.record_bytes >= self._limits.event_limit

    def _full(self, lane: Lane) -> bool:
        return len(lane.buffer) >= BUFFERED_BATCHES * self._limits.size

    @property
    def _buffered_bytes(self) -> int:
        return sum([lane.buffer.record_bytes for lane in self.all])

    def _forgo(self) -> None:
        """Lanes that wait for the rest of their head go on without it when reading may not reach it soon, or ever."""
        if self.has_room:
            return
        for_long = self._buffered_bytes >= ahead.MOST or any(lane.stuck for lane in self.all)
        for lane in self.all:
            if lane.buffer.first is not None and (for_long or self._full(lane)):
                lane.buffer.forgo_resumed()

    @property
    def finished(self) -> bool:
        """The shard has ended, every record is decided and no window is open."""
        return self._ended and not self._held and not self._numbers and self.windows.open is None

    @property
    def undecided(self) -> tuple[str, ...]:
        """The sequence numbers of the records that were read and are not decided, in order."""
        held = (record.sequence_number for record, kept in self._held if kept)
        return (*(number for _, number in sorted(chain(*(lane.undecided for lane in self.all)))), *held)

    @property
    def oldest(self) -> float | None:
        """Arrival of the oldest record that waits in a buffer."""
        waiting = [record.arrival for lane in self.all if (record := lane.buffer.first) is not None]
        if self._held:
            waiting.append(self._held[0][0].arrival)
        return min(waiting, default=None)

    def add(self, records: Sequence[tuple[Record, bool]], now: float) -> None:
        """Takes records in the order they were read, each with whether it is to be delivered or was filtered out."""
        arriving: list[list[Record]] = [[] for _ in self.all]
        if self._old or self._held or any(lane.skip_through is not None for lane in self.all):
            for record, kept in records:
                self._admit(record, kept, arriving)
        else:
            self._admit_all(records, arriving)
        before, count = self._buffered_bytes, sum(map(len, arriving))
        for lane, batch in zip(self.all, arriving, strict=True):
            lane.buffer.add(batch, now)
        if count:
            self._average = (self._buffered_bytes - before) / count
        self._advance()
        self._forgo()

    def _admit(self, record: Record, kept: bool, arriving: list[list[Record]]) -> None:
        beyond = self._draining and int(record.sequence_number) > self._boundary
        if self._held or (beyond and not self._drain_over()):
            self._held.append((record, kept))
            return
        position = self._route(record)
        self._numbers.append(record.sequence_number)
        if position is not None and kept:
            self.all[position].undecided.append((self._read - 1, record.sequence_number))
            arriving[position].append(record)

    def _admit_all(self, records: Sequence[tuple[Record, bool]], arriving: list[list[Record]]) -> None:
        """As `_admit` where nothing of before a stop is left and each key decides: the way of nearly every record."""
        numbers = [record.sequence_number for record, _ in records]
        places = zip(range(self._read, self._read + len(records)), numbers, strict=True)
        self._numbers.extend(numbers)
        if self._factor == 1 and all(kept for _, kept in records):
            self.all[0].undecided.extend(places)
            arriving[0].extend([record for record, _ in records])
            return
        for (record, kept), place in zip(records, places, strict=True):
            if kept:
                index = lane_of(record.key, self._factor)
                self.all[index].undecided.append(place)
                arriving[index].append(record)

    @property
    def _read(self) -> int:
        return self._passed + len(self._numbers)

    def _route(self, record: Record) -> int | None:
        """The place of the record's lane: the oldest that still has its key. None when one had decided it before."""
        for position, lane in enumerate(self._old):
            if lane.has(record.key):
                if lane.had_decided(record.sequence_number):
                    return None
                if lane.open:
                    return position
        index = lane_of(record.key, self._factor)
        return None if self._new[index].had_decided(record.sequence_number) else len(self._old) + index

    def _drain_over(self) -> bool:
        """Ends the draining once every old lane is through, or stuck; asked only when all they had begun was read."""
        self._close_drained()
        if all(lane.stuck or not lane.open for lane in self._old):
            self._draining = False
        return not self._draining

    def _close_drained(self) -> None:
        for lane in self._old:
            if lane.drained:
                lane.open = False

    def end(self, now: float) -> None:
        """The shard has ended: nothing more will be added, and no window need be waited for."""
        self._ended = True
        self.release(now)
        if not self._held:
            self._draining = False
            self._close_drained()
            for lane in self.all:
                lane.buffer.end()

    def read_to_tip(self, began: float) -> None:
        """Everything there was when a read began was read."""
        self.windows.read_to_tip(began)
        for lane in self.all:
            lane.buffer.forgo_resumed()

    def decide(self, lane: Lane, sequence_number: str) -> None:
        """A lane is done up to this record of its own."""
        lane.decided, lane.head, lane.stuck = sequence_number, None, False
        while lane.undecided and lane.undecided.popleft()[1] != sequence_number:
            pass
        if not self._draining:
            self._close_drained()
        self._advance()

    def begin(self, lane: Lane, head: Head | None, *, stuck: bool) -> None:
        """What a lane has at its head once a call of it has counted; `stuck` when it does not get on."""
        lane.head, lane.stuck = head, stuck
        self._forgo()

    def release(self, now: float) -> None:
        """Admits what was held, where the old lanes let it."""
        if self._held and self._drain_over():
            held, self._held = self._held, deque()
            self.add(tuple(held), now)
            if self._ended:
                self.end(now)

    def _advance(self) -> None:
        firsts = [lane.undecided[0][0] for lane in self.all if lane.undecided]
        done = min(firsts, default=self._read) - self._passed
        for _ in range(done):
            self._watermark = self._numbers.popleft()
        self._passed += done

    def checkpoint(self) -> Checkpoint:
        """The watermark, and each lane that is further or has begun something."""
        above = int(self._watermark) if self._watermark is not None else -1
        lanes = tuple(
            LaneProgress(lane.factor, lane.index, lane.decided, lane.head, lane.open)
            for lane in self.all
            if lane.open
            or lane.head is not None
            or (lane.decided not in (None, self._watermark) and int(lane.decided or 0) > above)
        )
        return Checkpoint(self._watermark, lanes=lanes, window=self.windows.open)


def _split_by_age(lanes: Sequence[LaneProgress], factor: int) -> tuple[Sequence[LaneProgress], Sequence[LaneProgress]]:
    """Lanes of former factors, and those still current: they stand last, and only if the factor is the same."""
    current = len(lanes)
    while current and lanes[current - 1].factor == factor and not lanes[current - 1].open:
        current -= 1
    return lanes[:current], lanes[current:]


def _without_claim(progress: LaneProgress, factor: int) -> LaneProgress:
    """A lane of before there were windows: what it decided stays decided, the rest goes through the one lane."""
    return progress if progress.factor == factor else replace(progress, head=None, open=False)


def _last(progress: LaneProgress) -> int:
    """The last record that a lane had decided or begun."""
    numbers = (progress.decided, progress.head.last if progress.head is not None else None)
    return max((int(number) for number in numbers if number is not None), default=0)
