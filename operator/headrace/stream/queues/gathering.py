"""Gathering messages into one batch after the other (contract F.1, F.3). Pure: time comes in as a monotonic clock's.

A batch closes when it is full, by number or by the 6 MB of an event, or when its window has passed. A window starts
with the batch before it, or at its end if nothing waits then, and anew with a message that comes after it (contract
B.2). Of a FIFO queue a message group is in one batch at a time; what comes of a group meanwhile waits for it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from headrace.stream.queues.visibility import still_held

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from headrace.stream.batching import BatchLimits
    from headrace.stream.queues.messages import Message


COMES_AGAIN = 60.0
"""Seconds after its visibility within which a message that failed is received again, if it is not dead or another's."""


class Gathering:
    """The messages that were received and are in no batch yet, in order, and the groups that are in one."""

    def __init__(self, limits: BatchLimits, *, fifo: bool) -> None:
        self._limits = limits
        self._fifo = fifo
        self._waiting: dict[str, Message] = {}
        self._window_start = float("-inf")
        self._calling: dict[str, Message] = {}
        """Messages of batches that are with the function, or wait for it."""
        self._sizes: dict[str, int] = {}
        """Bytes of each of the waiting ones as an element of an event."""
        self._bytes = 0
        self._busy: dict[str, int] = {}
        """Of FIFO: groups in a batch, with the number of their messages in it."""
        self._left: dict[str, Message] = {}
        """Messages that failed and are still in the queue, as far as is known: they come again."""

    def __len__(self) -> int:
        return len(self._waiting)

    @property
    def ready(self) -> int:
        """Messages that may be called now: their groups are in no batch."""
        return sum(1 for _ in self._callable()) if self._fifo else len(self._waiting)

    @property
    def waiting_bytes(self) -> int:
        """Bytes of the messages that are in no batch yet, as elements of an event."""
        return self._bytes

    @property
    def held(self) -> Iterable[Message]:
        """Every message that is held here, in no batch or in one."""
        return (*self._waiting.values(), *self._calling.values())

    @property
    def calling(self) -> int:
        """Messages in batches."""
        return len(self._calling)

    @property
    def oldest(self) -> float | None:
        """When the oldest message held was sent, in epoch seconds."""
        return min((one.record.arrival for one in self.held), default=None)

    @property
    def oldest_left(self) -> float | None:
        """When the oldest of those was sent that failed and are to come again."""
        return min((one.record.arrival for one in self._left.values()), default=None)

    def add(self, messages: Iterable[Message], now: float) -> None:
        """Takes what was received; of a message that is held already only its newer receipt counts."""
        if not self._waiting and now >= self._window_start + self._limits.window:
            self._window_start = now
        for message in messages:
            self._left.pop(message.message_id, None)
            if message.message_id in self._calling:
                self._calling[message.message_id] = message
                continue
            size = len(self._limits.encoding.element(message.record))
            self._bytes += size - self._sizes.get(message.message_id, 0)
            self._sizes[message.message_id] = size
            self._waiting[message.message_id] = message

    def renew(self, message: Message, expires: float) -> None:
        """More time was given to a message, unless it has left or was received anew meanwhile."""
        for held in (self._waiting, self._calling):
            found = held.get(message.message_id)
            if found is not None and found.receipt == message.receipt:
                held[message.message_id] = found._replace(expires=expires)

    def newest(self, message: Message) -> Message:
        """A message of a batch with its newest receipt."""
        return self._calling.get(message.message_id, message)

    def drop_lapsed(self, now: float) -> None:
        """Forgets waiting messages that are visible again, and what is behind them in their groups: they come again."""
        waiting = tuple(self._waiting.values())
        kept = {one.message_id for one in still_held(waiting, now)}
        for message in waiting:
            if message.message_id not in kept:
                self._leave(message)
        self._left = {name: one for name, one in self._left.items() if now < one.expires + COMES_AGAIN}

    def due(self) -> float | None:
        """When the first batch is ready if nothing more comes; None while nothing that may be called waits."""
        first = next(iter(self._callable()), None)
        return self._window_start + self._limits.window if first is not None else None

    def take(self, now: float) -> Sequence[Message]:
        """The next batch; empty while its window is open and there is room in it, or nothing may be called."""
        due = self.due()
        if due is None:
            return ()
        if now < due and not self._may_be_full():
            return ()
        batch, full = self._fitting()
        if not full and now < due:
            return ()
        for message in batch:
            self._leave(message)
            self._calling[message.message_id] = message
            if self._fifo:
                self._busy[message.group] = self._busy.get(message.group, 0) + 1
        self._window_start = now
        return batch

    def settle(self, batch: Iterable[Message], now: float, *, failed: Iterable[Message] = ()) -> None:
        """A batch is done with. What waits of the groups of `failed` messages is let lapse: those come first (F.3)."""
        if not self._waiting:
            self._window_start = now
        self._left |= {one.message_id: self.newest(one) for one in failed}
        for message in batch:
            self._calling.pop(message.message_id, None)
            if self._fifo:
                self._busy[message.group] -= 1
                if not self._busy[message.group]:
                    del self._busy[message.group]
        if self._fifo:
            groups = {message.group for message in failed}
            for message in [one for one in self._waiting.values() if one.group in groups]:
                self._leave(message)

    def give_back(self) -> Sequence[Message]:
        """Everything that waits, which is forgotten here."""
        waiting = tuple(self._waiting.values())
        self._waiting.clear()
        self._sizes.clear()
        self._bytes = 0
        return waiting

    def _leave(self, message: Message) -> None:
        del self._waiting[message.message_id]
        self._bytes -= self._sizes.pop(message.message_id)

    def _may_be_full(self) -> bool:
        """Whether all that waits, callable or not, would fill a batch: looked at before each of its messages is."""
        count = len(self._waiting)
        return count >= self._limits.size or self._limits.encoding.size(count, self._bytes) > self._limits.event_limit

    def _callable(self) -> Iterable[Message]:
        return (one for one in self._waiting.values() if one.group not in self._busy)

    def _fitting(self) -> tuple[Sequence[Message], bool]:
        """The messages of the next batch, and whether there is no room for another; one at least."""
        encoding = self._limits.encoding
        batch: list[Message] = []
        held = encoding.size(0, 0) - 1
        for message in self._callable():
            held += self._sizes[message.message_id] + 1
            if batch and held > self._limits.event_limit:
                return batch, True
            batch.append(message)
            if len(batch) == self._limits.size:
                return batch, True
        return batch, False
