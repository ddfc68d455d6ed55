"""Reading one shard and keeping its lanes at work: the shell of the data plane. It has no rule in it.

One record's way: a source's reader → `filtering.Filter` → `lanes.Lanes` → a lane's `batching.Buffer` →
`delivering.py` → `checkpoints.py`.
"""

from __future__ import annotations

import asyncio
import random
import time
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from headrace.errors import Reason, SourceError
from headrace.stream import retry
from headrace.stream.delivering import BatchDelivery, Step
from headrace.stream.events import (
    ConditionObserved,
    ConditionType,
    Faulted,
    Observer,
    Pending,
    RecordsFiltered,
    RecordsPolled,
    unreachable,
)
from headrace.stream.lanes import Lane, Lanes
from headrace.stream.waiting import first

if TYPE_CHECKING:
    from headrace.records import Batch, Checkpoint, Polled, Window
    from headrace.stream.checkpoints import CheckpointWriter
    from headrace.stream.destinations import Destination
    from headrace.stream.functions import Function
    from headrace.stream.membership import Permit
    from headrace.stream.settings import Delivery
    from headrace.stream.sources import ShardReader

FILTERED_AT_A_TIME = 100
"""Records that are filtered before others get their turn."""
SOURCE_BACKOFF = 10.0
"""Longest pause in seconds after a read that failed."""


@dataclass(slots=True, eq=False)
class _LaneAtWork:
    """A lane, the batch it works on, and what wakes it."""

    lane: Lane
    head: Batch = ()
    changed: asyncio.Event = field(default_factory=asyncio.Event)


class ShardPoller:
    """One shard from its checkpoint on: `run` returns once the shard has ended or the stop is asked for and safe."""

    def __init__(
        self,
        shard_id: str,
        delivery: Delivery,
        reader: ShardReader,
        function: Function,
        destination: Destination | None,
        checkpoints: CheckpointWriter,
        observer: Observer,
        permit: Permit,
    ) -> None:
        self._shard_id = shard_id
        self._share = permit.share
        delivery = replace(delivery, origin=replace(delivery.origin, shard_id=shard_id))
        self._filter = delivery.filter
        self._poll_interval = delivery.poll_interval
        self._deliver = BatchDelivery(shard_id, delivery, function, destination, observer, permit)
        self._reader = reader
        self._checkpoints = checkpoints
        self._observer = observer
        self._leave = permit.leave
        self._lanes = Lanes(delivery.factor, delivery.limits, checkpoints.newest, time.time())
        self._at_work = [_LaneAtWork(lane) for lane in self._lanes.all]
        self._room = asyncio.Event()
        self._room.set()
        self._at_tip = False
        self._told: Pending | None = None

    @property
    def newest(self) -> Checkpoint:
        """How far the shard is decided, whether or not that is stored."""
        return self._checkpoints.newest

    @property
    def undecided(self) -> tuple[str, ...]:
        """The sequence numbers of the records that were read and are not decided, in order."""
        return self._lanes.undecided

    async def run(self) -> bool:
        """True when the shard is finished and stored as such, False when it was left at a stop; raises LeaseLost."""
        async with asyncio.TaskGroup() as tasks:
            background = [tasks.create_task(self._read()), tasks.create_task(self._checkpoints.run())]
            await self._work()
            for task in background:
                task.cancel()
        finished = self._lanes.finished
        await self._checkpoints.close(replace(self._lanes.checkpoint(), finished=True) if finished else None)
        return finished and self._checkpoints.stored

    async def _work(self) -> None:
        async with asyncio.TaskGroup() as lanes:
            for each in self._at_work:
                lanes.create_task(self._work_lane(each))

    # ---- source → lanes

    async def _read(self) -> None:
        failures = 0
        while True:
            await self._room.wait()
            began, started = time.monotonic(), time.time()
            try:
                self._lanes.share = self._share()
                polled = await self._reader.read(self._lanes.room)
            except Exception as error:  # noqa: BLE001 - whatever reading meets, the calls in flight have no part in it
                failures += 1
                pause = backoff(failures, SOURCE_BACKOFF)
                self._tell_unread(error, pause)
                await asyncio.sleep(pause)
                continue
            failures = 0
            self._source_reachable(None)
            self._observer(RecordsPolled(self._shard_id, len(polled.records), polled.behind))
            await self._add(polled)
            at_tip = not polled.records and not polled.behind
            if at_tip:
                self._lanes.read_to_tip(started)
            self._lanes_changed()
            self._tell_pending(at_tip=at_tip)
            if polled.ended:
                return
            if not polled.behind:
                await asyncio.sleep(max(0.0, self._poll_interval - (time.monotonic() - began)))

    async def _add(self, polled: Polled) -> None:
        """Filters what was read and shares it out among the lanes; what no filter matches is decided by that."""
        kept = await self._sort_out(polled.records)
        self._lanes.add(tuple(zip(polled.records, kept, strict=True)), time.time())
        if polled.ended:
            self._lanes.end(time.time())
        if dropped := kept.count(False):
            self._observer(RecordsFiltered(self._shard_id, dropped))
            await self._checkpoints.advance(self._lanes.checkpoint())

    async def _sort_out(self, records: Batch) -> list[bool]:
        """Which records are to be delivered; other shards get their turn meanwhile."""
        if self._filter is None:
            return [True] * len(records)
        kept: list[bool] = []
        for index, record in enumerate(records):
            if index % FILTERED_AT_A_TIME == FILTERED_AT_A_TIME - 1:
                await asyncio.sleep(0)
            kept.append(self._filter.keeps(record.event))
        return kept

    def _tell_unread(self, error: Exception, pause: float) -> None:
        if isinstance(error, SourceError):
            self._source_reachable(error)
        else:
            self._observer(Faulted(f"reading {self._shard_id}", error, pause))
        self._tell_pending(at_tip=False)

    def _source_reachable(self, error: SourceError | None) -> None:
        kind, shard_id = ConditionType.SOURCE_REACHABLE, self._shard_id
        if error is None:
            self._observer(ConditionObserved(kind, True, Reason.REACHABLE, "the source answers", shard_id))
        else:
            self._observer(unreachable(kind, error, shard_id))

    def _lanes_changed(self) -> None:
        """Wakes the lanes, and the reader when there is room again."""
        if self._lanes.has_room:
            self._room.set()
        else:
            self._room.clear()
        for each in self._at_work:
            each.changed.set()

    def _tell_pending(self, *, at_tip: bool | None = None) -> None:
        self._at_tip = self._at_tip if at_tip is None else at_tip
        arrivals = [each.head[0].arrival for each in self._at_work if each.head]
        waiting = self._lanes.oldest
        if waiting is not None:
            arrivals.append(waiting)
        window_open = self._lanes.windows.open is not None
        pending = Pending(self._shard_id, min(arrivals, default=None), self._at_tip, window_open)
        if pending != self._told:
            self._told = pending
            self._observer(pending)

    # ---- a lane's buffer → its batches, one after the other

    async def _work_lane(self, each: _LaneAtWork) -> None:
        """Until the shard has ended or the stop is asked for."""
        buffer = each.lane.buffer
        while not self._leave.is_set():
            each.changed.clear()
            each.head, window = buffer.take_for_call(time.time())
            if each.head or window is not None:
                self._lanes_changed()
                await self._settle(each, window)
                buffer.restart_window(time.time())
            elif buffer.ended:
                return
            else:
                due = buffer.due()
                await first(None if due is None else due - time.time(), self._leave, each.changed)

    async def _settle(self, each: _LaneAtWork, window: Window | None) -> None:
        """One batch, or a window's final call: every step of it is noted with the lanes, and stored."""

        async def note(step: Step) -> None:
            if step.decided is not None:
                self._lanes.decide(each.lane, step.decided)
            self._lanes.begin(each.lane, step.head, stuck=step.stuck)
            each.lane.buffer.windows.open = step.window
            self._lanes.release(time.time())
            each.head = step.pending
            self._lanes_changed()
            self._tell_pending()
            await self._checkpoints.advance(self._lanes.checkpoint(), at_once=step.binding)

        begun = each.lane.begun_with(each.head, window)
        await self._deliver.settle(each.head, window, each.lane.index, begun, note)


def backoff(failures: int, maximum: float) -> float:
    """The shells' own pauses after failures in a row: at least half of the bound, so that nothing spins."""
    return retry.backoff(failures, 0.5, maximum, random.uniform(0.5, 1.0))  # noqa: S311
