"""Reading and handling one shard: the shell of the data plane. It has no rule in it, it does what the rules say.

One record's way: a source's reader → `batching.Buffer` → `retry.decide` says Invoke → a function → `classify` →
`retry.step` → `checkpoints`, or `report` → a destination → `retry.step` → `checkpoints`.
"""

from __future__ import annotations

import asyncio
import random
import time
import uuid
from dataclasses import replace
from typing import TYPE_CHECKING

from headrace.errors import DestinationError, Reason, SourceError
from headrace.records import Checkpoint
from headrace.stream import retry
from headrace.stream.batching import Buffer
from headrace.stream.classify import Refused, classify
from headrace.stream.events import (
    CallEnded,
    CallStarted,
    ConditionObserved,
    ConditionType,
    DeliveryFailed,
    DiscardDelivered,
    Observer,
    Pending,
    RecordsDropped,
    RecordsPolled,
    Waiting,
)
from headrace.stream.functions import Call
from headrace.stream.report import failure_record
from headrace.stream.waiting import first

if TYPE_CHECKING:
    from headrace.records import Batch
    from headrace.stream.checkpoints import CheckpointWriter
    from headrace.stream.classify import Outcome
    from headrace.stream.destinations import Destination
    from headrace.stream.functions import Function
    from headrace.stream.retry import Discard, State
    from headrace.stream.settings import Delivery
    from headrace.stream.sources import ShardReader

POLL_INTERVAL = 1.0
"""Seconds from one read to the next at the tip (contract B.1)."""
SOURCE_BACKOFF = 10.0
"""Longest pause in seconds after a read that failed."""
BUFFERED_BATCHES = 2
"""Reading pauses while so many batches lie ready, ..."""
BUFFERED_BYTES = 16 * 1024 * 1024
"""... or so many bytes."""


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
        stop: asyncio.Event,
    ) -> None:
        self._shard_id = shard_id
        self._delivery = replace(delivery, origin=replace(delivery.origin, shard_id=shard_id))
        self._reader = reader
        self._function = function
        self._destination = destination
        self._checkpoints = checkpoints
        self._observer = observer
        self._stop = stop
        self._buffer = Buffer(delivery.limits, time.time())
        self._changed = asyncio.Event()
        self._room = asyncio.Event()
        self._room.set()
        self._at_tip = False
        self._head: Batch = ()

    async def run(self) -> bool:
        """True when the shard is finished, False when it was left at a stop; raises LeaseLost."""
        async with asyncio.TaskGroup() as tasks:
            background = [tasks.create_task(self._read()), tasks.create_task(self._checkpoints.run())]
            finished = await self._handle()
            for task in background:
                task.cancel()
        if finished:
            await self._checkpoints.advance(replace(self._checkpoints.newest, finished=True), at_once=True)
        else:
            await self._checkpoints.close()
        return finished

    # ---- source → buffer

    async def _read(self) -> None:
        failures = 0
        while True:
            await self._room.wait()
            began = time.monotonic()
            try:
                polled = await self._reader.read()
            except SourceError as error:
                failures += 1
                self._source_reachable(error)
                self._tell_pending(at_tip=False)
                await asyncio.sleep(backoff(failures, SOURCE_BACKOFF))
                continue
            failures = 0
            self._source_reachable(None)
            self._observer(RecordsPolled(self._shard_id, len(polled.records), polled.behind))
            self._buffer.add(polled.records, time.time())
            if polled.ended:
                self._buffer.end()
            self._buffer_changed()
            self._tell_pending(at_tip=not polled.records and not polled.behind)
            if polled.ended:
                return
            if not polled.behind:
                await asyncio.sleep(max(0.0, POLL_INTERVAL - (time.monotonic() - began)))

    def _source_reachable(self, error: SourceError | None) -> None:
        kind = ConditionType.SOURCE_REACHABLE
        if error is None:
            self._observer(ConditionObserved(kind, holds=True, reason=Reason.REACHABLE, message="the source answers"))
        else:
            self._observer(ConditionObserved(kind, error.reason is Reason.THROTTLED, error.reason, error.message))

    def _buffer_changed(self) -> None:
        full = len(self._buffer) >= BUFFERED_BATCHES * self._delivery.limits.size
        if full or self._buffer.record_bytes >= BUFFERED_BYTES:
            self._room.clear()
        else:
            self._room.set()
        self._changed.set()

    def _tell_pending(self, *, at_tip: bool | None = None) -> None:
        self._at_tip = self._at_tip if at_tip is None else at_tip
        oldest = self._head[0].arrival if self._head else self._buffer.oldest
        self._observer(Pending(self._shard_id, oldest, self._at_tip))

    # ---- buffer → batches, one after the other

    async def _handle(self) -> bool:
        """Until the shard has ended (True) or the stop is asked for (False)."""
        while not self._stop.is_set():
            batch = self._buffer.take(time.time())
            if batch:
                self._head = batch
                self._buffer_changed()
                self._tell_pending()
                await self._settle(batch)
                self._head = ()
                self._buffer.restart_window(time.time())
                self._tell_pending()
            elif self._buffer.ended:
                return True
            else:
                await self._more()
        return False

    async def _more(self) -> None:
        """Waits until the buffer has changed or its window has run out, or the stop is asked for."""
        due = self._buffer.due()
        self._changed.clear()
        await first(None if due is None else due - time.time(), self._stop, self._changed)

    # ---- one batch, until all of it is decided or the stop finds it waiting

    async def _settle(self, batch: Batch) -> None:
        state = retry.start(batch)
        policy = self._delivery.policy
        while True:
            before = state.decided
            state, action = retry.decide(state, time.time(), policy)
            if isinstance(action, retry.Done) or self._stop.is_set():
                return
            if isinstance(action, retry.Wait):
                await first(action.until - time.time(), self._stop)
                continue
            event = await self._do(action)
            state = retry.step(state, event, time.time(), policy, random.random())  # noqa: S311 - jitter
            self._head = state.head
            self._tell_pending()
            self._tell_wait(state)
            if state.decided is not None and state.decided != before:
                discarded = not isinstance(event, retry.Called)
                await self._checkpoints.advance(Checkpoint(state.decided), at_once=discarded)

    async def _do(self, action: retry.Invoke | retry.Publish | retry.Drop) -> retry.Event:
        match action:
            case retry.Invoke(batch, attempt):
                return retry.Called(await self._invoke(batch, attempt))
            case retry.Publish(discard):
                return await self._publish(discard)
            case retry.Drop(discard):
                self._observer(RecordsDropped(self._shard_id, discard, self._destination is not None))
                return retry.Dropped()

    async def _invoke(self, batch: Batch, attempt: int) -> Outcome:
        event = self._delivery.limits.encoding.encode(batch)
        request_id = self._request_id(batch)
        began = time.monotonic()
        if len(event) > self._delivery.limits.event_limit:
            refused = Refused()
            self._observer(CallEnded(self._shard_id, batch, attempt, request_id, refused, 0.0, sent=False))
            return refused
        age = time.time() - batch[-1].arrival
        self._observer(CallStarted(self._shard_id, batch, attempt, request_id, age))
        answer = await self._function.invoke(Call(event, request_id, attempt, self._shard_id))
        outcome = classify(
            answer,
            [record.sequence_number for record in batch],
            lambda_protocol=self._delivery.lambda_protocol,
            report_failures=self._delivery.report_failures,
        )
        took = time.monotonic() - began
        self._observer(CallEnded(self._shard_id, batch, attempt, request_id, outcome, took))
        return outcome

    async def _publish(self, discard: Discard) -> retry.Published | retry.NotPublished:
        if self._destination is None:
            return retry.NotPublished()
        request_id = self._request_id(discard.called)
        record = failure_record(self._delivery.origin, discard, request_id, self._request_id(discard.records))
        try:
            await self._destination.publish(record)
        except DestinationError as error:
            self._observer(DeliveryFailed(self._shard_id, discard, error.reason, error.message))
            return retry.NotPublished()
        self._observer(DiscardDelivered(self._shard_id, discard, request_id))
        return retry.Published()

    def _tell_wait(self, state: State) -> None:
        seconds = state.not_before - time.time()
        if seconds > 0:
            self._observer(Waiting(self._shard_id, state.head, seconds, state.attempts))

    def _request_id(self, batch: Batch) -> str:
        """The same for identical batches, also after a restart; another one for every other batch (contract B.4)."""
        first, last = batch[0].sequence_number, batch[-1].sequence_number
        name = f"{self._shard_id}:{first}:{last}:{len(batch)}"
        return str(uuid.uuid5(uuid.UUID(self._delivery.mapping_uid), name))


def backoff(failures: int, maximum: float) -> float:
    """The shells' own pauses after failures in a row: at least half of the bound, so that nothing spins."""
    return retry.backoff(failures, 0.5, maximum, random.uniform(0.5, 1.0))  # noqa: S311
