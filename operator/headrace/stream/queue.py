"""Running one mapping on a queue: what is received goes into batches, batches to the function, what is done is deleted.

Before this: `headrace run` or `headrace poller`. One message's way: `sources/sqs.py` → `filtering.Filter` →
`queues/gathering.py` → the function → `queues/settling.py` → `deleting.py`; meanwhile `holding.py` keeps it invisible.
A shell: what happens is decided in `queues/`.
"""

from __future__ import annotations

import asyncio
import math
import random
import time
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING

from headrace.arns import SourceKind
from headrace.ending import GIVING_BACK, LAST_CHECKPOINT
from headrace.errors import SourceError
from headrace.stream.asking import Asking
from headrace.stream.calling import Request, call
from headrace.stream.deleting import Deleter
from headrace.stream.events import (
    CallsAllowed,
    Faulted,
    Observer,
    Pending,
    QueueSeen,
    RecordsFiltered,
    RecordsPolled,
    ShardsListed,
    ShardStarted,
    ShardStopped,
    Waiting,
)
from headrace.stream.functions import request_id_of
from headrace.stream.holding import give_back, hold
from headrace.stream.membership import Permit
from headrace.stream.poller import backoff
from headrace.stream.queues import visibility
from headrace.stream.queues.advice import advice
from headrace.stream.queues.concurrency import Concurrency, begin
from headrace.stream.queues.gathering import Gathering
from headrace.stream.queues.put_off import PutOff
from headrace.stream.queues.receiving import AHEAD_BYTES, ahead
from headrace.stream.queues.settling import Again, counted, settle
from headrace.stream.retry import backoff as retry_pause
from headrace.stream.sources.sqs import AT_ONCE
from headrace.stream.waiting import first

if TYPE_CHECKING:
    from collections.abc import Coroutine, Sequence

    from headrace.spec import EventSourceMapping
    from headrace.stream.classify import Outcome
    from headrace.stream.functions import Function
    from headrace.stream.membership import Membership
    from headrace.stream.queues.messages import Message, QueueFacts
    from headrace.stream.settings import Delivery
    from headrace.stream.sources.sqs import SqsQueue

LOOK_INTERVAL = 60.0
"""Seconds between two looks at the queue's attributes, with a backlog and with none."""
BUSY_LOOK_INTERVAL = 10.0
TELL_INTERVAL = 1.0
"""Seconds between two reports on how old the oldest message held is."""
LONG_POLL, FIRST_POLL, BUSY_POLL = 20, 1, 3
"""Seconds that a receive waits for messages; the first is short, so that an empty queue shows soon, and so are those
beside messages that are held: at a stop they are waited for, lest what is given back goes to one of ours."""
MOST_RECEIVES = 32
"""Receives at a time at most."""
LONGEST_PAUSE = 10.0


@dataclass(slots=True)
class QueueRun:
    """One mapping's data plane on a queue in this process."""

    mapping: EventSourceMapping
    delivery: Delivery
    queue: SqsQueue
    function: Function
    membership: Membership
    observer: Observer
    stop: asyncio.Event
    fifo: bool = field(init=False)
    gathering: Gathering = field(init=False)
    deleter: Deleter = field(init=False)
    receives: Asking = field(init=False)
    hides: Asking = field(init=False)
    permit: Permit = field(init=False)
    concurrency: Concurrency = field(init=False)
    facts: QueueFacts | None = None
    calls: asyncio.TaskGroup | None = None
    in_flight: int = 0
    """Batches with the function, or waiting for it."""
    put_off: PutOff = field(default_factory=PutOff)
    """Of these the ones that the function did not take yet."""
    sooner: dict[str, asyncio.Event] = field(default_factory=dict)
    """Set for those of them that are to be tried at once."""
    received: asyncio.Event = field(default_factory=asyncio.Event)
    """Set once nothing is received any more: what is given back before that might come here again."""
    calling: int = 0
    """Of these the ones that are with the function."""
    allowed: int = -1
    """How many batches may be with it, as told last."""
    receiving: int = 0
    at_once: int = AT_ONCE
    """Messages that one receive asks for at most."""
    asked: int = 0
    """Receives under way, and the messages they may bring."""
    side_by_side: int = 1
    """Receives that the backlog is worth."""
    polled: bool = False
    full: bool = False
    """Whether the last receive brought all it had room for."""
    failures: int = 0
    room: asyncio.Event = field(default_factory=asyncio.Event)
    timer: asyncio.TimerHandle | None = None
    told: Pending | None = None

    def __post_init__(self) -> None:
        spec = self.mapping.spec
        self.fifo = self.mapping.source_kind is SourceKind.SQS_FIFO
        # Of a group no more than goes into one call: what waits behind a failed message lapses, a receive spent.
        self.at_once = min(AT_ONCE, self.delivery.limits.size) if self.fifo else AT_ONCE
        self.gathering = Gathering(self.delivery.limits, fifo=self.fifo)
        self.deleter = Deleter(self.queue, self.observer, self.stop)
        self.receives, self.hides = Asking("receiving", self.observer), Asking("hiding", self.observer)
        self.permit = Permit(self.membership.fence, self.stop)
        maximum = spec.scaling_config.maximum_concurrency if spec.scaling_config is not None else None
        self.concurrency = begin(maximum, spec.provisioned_pollers)

    async def run(self) -> None:
        """Until the stop; then calls in flight end, what they settled is deleted, and the rest is given back."""
        async with asyncio.TaskGroup() as tasks:
            looking = tasks.create_task(self._look())
            await self._seen()
            loops = [looking, tasks.create_task(self._tell_age())]
            loops.append(tasks.create_task(self.deleter.run()))
            keeping = hold(self.queue, self._held, self._renew, self._visibility, self.hides)
            loops.append(tasks.create_task(keeping))
            if not self.stop.is_set():
                self.observer(ShardStarted(self.queue.name, None))
                await self._work()
                await self._leave()
                self.observer(ShardStopped(self.queue.name))
            for loop in loops:
                loop.cancel()

    async def _work(self) -> None:
        async with asyncio.TaskGroup() as self.calls:
            receiving = self.calls.create_task(self._receive())
            await self.stop.wait()
            held = self.in_flight or len(self.gathering)
            await asyncio.wait({receiving}, timeout=BUSY_POLL + 1 if held else 0)
            receiving.cancel()
            self.received.set()
            if self.timer is not None:
                self.timer.cancel()
            # at once, so that others can take it: the calls in flight may take long
            await give_back(self.queue, self.gathering.give_back(), GIVING_BACK, self.hides)
        self.calls = None

    async def _leave(self) -> None:
        """What was acknowledged is deleted, as far as that can be had; what waits is given back."""
        await give_back(self.queue, self.gathering.give_back(), GIVING_BACK, self.hides)
        try:
            async with asyncio.timeout(LAST_CHECKPOINT):
                await self.deleter.emptied()
        except TimeoutError as error:
            self.observer(Faulted("deleting the last messages", error, 0.0))

    # ---- what the queue says of itself

    async def _seen(self) -> None:
        while self.facts is None and not self.stop.is_set():
            await first(None, self.room, self.stop)
            self.room.clear()

    async def _look(self) -> None:
        """Looks at the queue from time to time."""
        failures, asking = 0, Asking("looking", self.observer)
        while True:
            try:
                facts = await self.queue.facts()
            except SourceError as error:
                failures += 1
                asking.failed(error)
                await asyncio.sleep(backoff(failures, LONGEST_PAUSE))
                continue
            failures = 0
            asking.failing = True  # what failed once need not be asked again, so that each look clears it
            asking.succeeded()
            self._learn(facts)
            await asyncio.sleep(BUSY_LOOK_INTERVAL if facts.backlog else LOOK_INTERVAL)

    def _learn(self, facts: QueueFacts) -> None:
        before, self.facts = self.facts, facts
        self.observer(QueueSeen(self.queue.name, facts.backlog))
        self.membership.report_backlog(facts.backlog)
        if before is None:
            self.observer(ShardsListed(1, 0))
            self.room.set()
        if before is None or (before.visibility, before.dead_letters) != (facts.visibility, facts.dead_letters):
            for condition in advice(facts, float(self.mapping.spec.function.timeout_seconds)):
                self.observer(condition)

    def _visibility(self) -> float:
        spec, facts = self.mapping.spec, self.facts
        queue = facts.visibility if facts is not None else 0.0
        return visibility.asked_for(queue, spec.resolved_batching_window, float(spec.function.timeout_seconds))

    # ---- queue → gathering

    async def _receive(self) -> None:
        """Receives while there is room, as many at a time as the backlog is worth."""
        async with asyncio.TaskGroup() as receives:
            while not self.stop.is_set():
                self.room.clear()
                if not self._may_receive():
                    await first(TELL_INTERVAL, self.room, self.stop)
                    continue
                most = min(self._wanted(), self.at_once)
                self.receiving += 1
                self.asked += most
                receives.create_task(self._one_receive(most))

    def _may_receive(self) -> bool:
        """Whether there is room for a whole receive, or for anything at all while none is under way."""
        wanted = self._wanted()
        return self.receiving < self.side_by_side and (wanted >= self.at_once or (wanted > 0 and not self.asked))

    def _wanted(self) -> int:
        """Messages there is room for."""
        if self.permit.closed or self.gathering.waiting_bytes >= AHEAD_BYTES:
            return 0
        size, allowed = self.delivery.limits.size, self._allowed()
        now = time.monotonic()
        room = ahead(self.put_off, self.in_flight, now, allowed=allowed, size=size, at_once=self.at_once)
        return room - self.gathering.ready - self.asked

    def _free(self) -> int:
        """Batches that may be called beside those that are."""
        return self.put_off.free(self._allowed(), self.in_flight, time.monotonic())

    async def _one_receive(self, most: int) -> None:
        busy = self.in_flight or len(self.gathering)
        wait = BUSY_POLL if busy else LONG_POLL if self.polled else FIRST_POLL
        try:
            messages = await self.queue.receive(most, wait, self._visibility())
        except SourceError as error:
            self.failures += 1
            self.side_by_side = 1
            self.receives.failed(error)
            await first(backoff(self.failures, LONGEST_PAUSE), self.stop)
        except Exception as error:  # noqa: BLE001 - whatever receiving meets, the calls in flight have no part in it
            self.failures += 1
            pause = backoff(self.failures, LONGEST_PAUSE)
            self.observer(Faulted(f"receiving from {self.queue.name}", error, pause))
            await first(pause, self.stop)
        else:
            self._take(messages, full=len(messages) == most)
        finally:
            self.receiving -= 1
            self.asked -= most
            self.room.set()

    def _take(self, messages: Sequence[Message], *, full: bool) -> None:
        """Gathers what came; what no filter matches is deleted (contract E.3)."""
        self.failures = 0
        self.receives.succeeded()
        self.polled, self.full = True, full
        self.side_by_side = min(MOST_RECEIVES, self.side_by_side + 1) if full else max(1, self.side_by_side // 2)
        left = self.gathering.oldest_left
        oldest = min([math.inf if left is None else left, *(one.record.arrival for one in messages)])
        self.observer(RecordsPolled(self.queue.name, len(messages), max(0.0, time.time() - oldest)))
        chosen = self.delivery.filter
        messages = [one for one in messages if not self.deleter.received_again(one)]
        kept = [one for one in messages if chosen is None or chosen.keeps(one.record.event)]
        self.gathering.add(kept, time.monotonic())
        if chosen is not None and len(kept) < len(messages):
            left_out = [one for one in messages if one not in kept]
            unread = tuple(one.message_id for one in left_out if chosen.asks_in_vain(one.record.event))
            self.observer(RecordsFiltered(self.queue.name, len(left_out), unread))
            self._start(self.deleter.put(left_out))
        self._advance()

    # ---- gathering → function → deleted

    def _allowed(self) -> int:
        """Batches that may be with the function at a time, here and now."""
        self.concurrency = self.concurrency.within(self.membership.limit(self.concurrency.most))
        if self.concurrency.allowed != self.allowed:
            self.allowed = self.concurrency.allowed
            self.observer(CallsAllowed(self.queue.name, self.allowed))
        return self.allowed

    def _advance(self) -> None:
        """Starts the calls that may start, and sees to it that a window that ends is noticed."""
        now = time.monotonic()
        if not self.stop.is_set():
            while self._free() > 0 and (batch := self.gathering.take(now)):
                if not self._start(self._deliver(batch)):
                    return
                self.in_flight += 1
                self._report_calls()
            self._wake_at(self.gathering.due() if self._free() > 0 else None, now)
        if self._may_receive():
            self.room.set()
        self._tell_pending(changes_only=True)

    def _report_calls(self) -> None:
        """What of the calls is needed here; what is put off for its own sake needs some only while it is called."""
        self.membership.report_calls(max(self.calling, self.in_flight - self.put_off.apart(time.monotonic())))

    def _start(self, work: Coroutine[None, None, None]) -> bool:
        """False where the run is cut short: nothing begins any more, and what is held comes again in its time."""
        try:
            if self.calls is not None:
                self.calls.create_task(work)
                return True
        except RuntimeError:  # a group that ends takes no task, and has no other way to say so
            pass
        work.close()
        return False

    def _wake_at(self, due: float | None, now: float) -> None:
        if self.timer is not None:
            self.timer.cancel()
        self.timer = asyncio.get_running_loop().call_later(max(0.0, due - now), self._advance) if due else None

    async def _deliver(self, batch: Sequence[Message]) -> None:
        """One batch until it is settled: deleted, left in the queue, or given back at the stop."""
        failed: Sequence[Message] = ()
        name = batch[0].message_id
        try:
            failed = await self._until_settled(batch, name)
        except Exception as error:  # noqa: BLE001 - told; the batch comes again when its time is over
            self.observer(Faulted(f"a batch of {self.queue.name}", error, 0.0))
            failed = batch
        finally:
            self.put_off.ended(name)
            self.sooner.pop(name, None)
            self.in_flight -= 1
            self._report_calls()
            self.gathering.settle(batch, time.monotonic(), failed=failed)
            self._advance()

    async def _until_settled(self, batch: Sequence[Message], name: str) -> Sequence[Message]:
        """The messages that are not done with."""
        setbacks = 0
        while live := self._live(batch):
            if not await self.permit.opened(lambda: self.calling < self.membership.limit(self.concurrency.most)):
                return await self._give_back(batch)
            outcome = await self._invoke(live)
            match settle(live, outcome):
                case Again() as again:
                    setbacks += 1
                    if await self._put_off(name, live, setbacks, again):
                        return await self._give_back(batch)
                case settled:
                    self.concurrency = self.concurrency.answered(backlog=self.full or bool(len(self.gathering)))
                    for other in self.put_off.answered() & self.sooner.keys():
                        self.sooner[other].set()
                    late = await self._delete(settled.delete)
                    return [*settled.leave, *late, *(one for one in batch if one not in live)]
        return batch

    def _live(self, batch: Sequence[Message]) -> Sequence[Message]:
        """Those of a batch that are still this poller's, each with its newest receipt."""
        return visibility.still_held([self.gathering.newest(one) for one in batch], time.monotonic())

    async def _give_back(self, batch: Sequence[Message]) -> Sequence[Message]:
        """Makes a batch visible at the stop, once none of our own receives can take it."""
        await self.received.wait()
        await give_back(self.queue, self._live(batch), GIVING_BACK, self.hides)
        return batch

    async def _delete(self, messages: Sequence[Message]) -> Sequence[Message]:
        """Of a FIFO queue a group goes on only once that is done; gives those that it is too late for."""
        newest = [self.gathering.newest(one) for one in messages]
        if self.fifo:
            return await self.deleter.delete(newest)
        await self.deleter.put(newest)
        return ()

    async def _put_off(self, name: str, batch: Sequence[Message], setbacks: int, again: Again) -> bool:
        """Waits before the next try; True when the stop comes first."""
        policy = self.delivery.policy
        pause = retry_pause(setbacks, policy.initial_backoff, policy.maximum_backoff, random.uniform(0.5, 1.0))  # noqa: S311
        pause = max(pause, min(again.retry_after or 0.0, policy.maximum_backoff))
        now = time.monotonic()
        if self.put_off.failed(name, now, throttled=again.throttled, connected=again.connected):
            self.concurrency = self.concurrency.throttled(now, pause)
        self._report_calls()
        self.observer(Waiting(self.queue.name, tuple(one.record for one in batch), pause, 0))
        sooner = self.sooner[name] = asyncio.Event()
        await first(pause, self.stop, sooner)
        self.put_off.tried(name)
        return self.stop.is_set()

    async def _invoke(self, batch: Sequence[Message]) -> Outcome:
        delivery, records = self.delivery, tuple(one.record for one in batch)
        event = delivery.limits.encoding.encode(records)
        request_id = request_id_of(delivery.mapping_uid, " ".join(one.sequence_number for one in records))
        attempt = max(one.receives for one in batch)
        request = Request(self.queue.name, records, event, request_id, attempt, records[-1].arrival)
        self.calling += 1
        self._report_calls()
        try:
            return await call(request, self.function, delivery, self.observer, partial(counted, len(records)))
        finally:
            self.calling -= 1
            self._report_calls()

    # ---- what is told

    def _held(self) -> Sequence[Message]:
        return tuple({one.message_id: one for one in (*self.gathering.held, *self.deleter.held)}.values())

    def _renew(self, message: Message, expires: float) -> None:
        self.gathering.renew(message, expires)
        self.deleter.renew(message, expires)

    async def _tell_age(self) -> None:
        while True:
            await asyncio.sleep(TELL_INTERVAL)
            self.gathering.drop_lapsed(time.monotonic())
            self._tell_pending()
            if self.calls is not None:
                self._advance()  # the share of the calls may have grown, or the fence opened

    def _tell_pending(self, *, changes_only: bool = False) -> None:
        """How old what is held is; idle is a queue that was asked and of which nothing is held."""
        idle = self.polled and not self.in_flight and not len(self.gathering) and self.deleter.idle
        if changes_only and self.told is not None and self.told.at_tip == idle:
            return
        pending = Pending(self.queue.name, self.gathering.oldest, idle)
        if pending != self.told:
            self.told = pending
            self.observer(pending)
