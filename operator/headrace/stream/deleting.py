"""Deleting messages that are done with, ten at a time whichever batches they were in (contract F.1). Shell.

Before this: `queue.py`. What cannot be deleted is tried again while it is held; what has lapsed comes again.
"""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

from headrace.ending import LAST_CHECKPOINT
from headrace.errors import SourceError
from headrace.stream.asking import Asking
from headrace.stream.events import MessagesDeleted, ReceiptsExpired
from headrace.stream.poller import backoff
from headrace.stream.queues.visibility import lapsed
from headrace.stream.sources.sqs import AT_ONCE
from headrace.stream.waiting import first, within

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from headrace.stream.events import Observer
    from headrace.stream.queues.messages import Message
    from headrace.stream.sources.sqs import SqsQueue

LINGER = 0.01
"""Seconds for which fewer than ten wait for others."""
MOST_WAITING = 2_000
"""Messages that wait to be deleted, beyond which batches wait with their next ones."""
SIDE_BY_SIDE = 16
"""Requests at a time."""
LONGEST_PAUSE = 10.0


class Deleter:
    """Deletes what it is given, in the background; `run` is to be running. From `stop` on nothing is tried for long."""

    def __init__(self, queue: SqsQueue, observer: Observer, stop: asyncio.Event) -> None:
        self._queue = queue
        self._observer = observer
        self._stop = stop
        self._asking = Asking("deleting", observer)
        self._waiting: dict[str, Message] = {}
        self._deleting: dict[str, Message] = {}
        self._some = asyncio.Event()
        self._room = asyncio.Event()
        self._room.set()
        self._empty = asyncio.Event()
        self._empty.set()
        self._free = asyncio.Semaphore(SIDE_BY_SIDE)

    @property
    def held(self) -> Iterable[Message]:
        """What is not deleted yet and must stay invisible."""
        return (*self._waiting.values(), *self._deleting.values())

    @property
    def idle(self) -> bool:
        """Whether nothing is left to delete."""
        return self._empty.is_set()

    def renew(self, message: Message, expires: float) -> None:
        """More time was given to a message."""
        for held in (self._waiting, self._deleting):
            if message.message_id in held:
                held[message.message_id] = held[message.message_id]._replace(expires=expires)

    def received_again(self, message: Message) -> bool:
        """Whether a message that was just received is about to be deleted: then that is done with its new receipt."""
        for held in (self._waiting, self._deleting):
            if message.message_id in held:
                held[message.message_id] = message
                return True
        return False

    async def put(self, messages: Iterable[Message]) -> None:
        """Has messages deleted; waits where too many wait already, once it has taken these, until the stop."""
        self._waiting |= {one.message_id: one for one in messages}
        if self._waiting:
            self._empty.clear()
            self._some.set()
        if len(self._waiting) >= MOST_WAITING:
            self._room.clear()
        await first(None, self._room, self._stop)

    async def run(self) -> None:
        """For ever."""
        async with asyncio.TaskGroup() as requests:
            while True:
                await self._some.wait()
                if len(self._waiting) < AT_ONCE:
                    await asyncio.sleep(LINGER)
                await self._free.acquire()
                batch = [self._waiting.pop(one) for one in tuple(self._waiting)[:AT_ONCE]]
                if not self._waiting:
                    self._some.clear()
                if len(self._waiting) < MOST_WAITING:
                    self._room.set()
                self._deleting |= {one.message_id: one for one in batch}  # until the request has begun, too
                requests.create_task(self._one_request(batch))

    async def _one_request(self, batch: Sequence[Message]) -> None:
        try:
            await self.delete(batch)
        finally:
            self._free.release()
            self._tell_empty()

    def _tell_empty(self) -> None:
        if not self._waiting and not self._deleting:
            self._empty.set()

    async def delete(self, messages: Sequence[Message]) -> Sequence[Message]:
        """Deletes messages, at once and until it is done; gives those that come again.

        It was too late for them, or the stop was LAST_CHECKPOINT seconds ago.
        """
        done: set[str] = set()
        self._deleting |= {one.message_id: one for one in messages}
        try:
            async with within(LAST_CHECKPOINT, self._stop):
                for start in range(0, len(messages), AT_ONCE):
                    await self._until_done(messages[start : start + AT_ONCE], done)
        except TimeoutError:
            pass  # the stop waits no longer: what is left comes again in its time
        finally:
            for message in messages:
                self._deleting.pop(message.message_id, None)
            self._tell_empty()
        late = [one for one in messages if one.message_id not in done]
        if late:
            self._observer(ReceiptsExpired(self._queue.name, len(late), late[0].message_id))
        return late

    async def _until_done(self, batch: Sequence[Message], done: set[str]) -> None:
        """Until each is done, or it is too late for it."""
        failures = 0
        while batch:
            batch = [self._deleting.get(one.message_id, one) for one in batch]
            try:
                confirmed = await self._queue.delete(batch)
            except SourceError as error:
                self._asking.failed(error)
            else:
                self._asking.succeeded()
                anew = [one for one in confirmed.late if self._deleting.get(one.message_id, one).receipt != one.receipt]
                done.update(one.message_id for one in confirmed.done)
                if confirmed.done:
                    self._observer(MessagesDeleted(self._queue.name, len(confirmed.done)))
                batch = [*confirmed.again, *anew]
            now = time.monotonic()
            batch = [one for one in batch if not lapsed(self._deleting.get(one.message_id, one), now)]
            if batch:
                failures += 1
                await asyncio.sleep(backoff(failures, LONGEST_PAUSE))

    async def emptied(self) -> None:
        """Waits until all that was put is deleted, or has lapsed."""
        await self._empty.wait()
