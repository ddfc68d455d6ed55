"""Gathering records into batches (contract B.2). Pure: time comes in as epoch seconds.

Before this: `lanes.py`. After this: `delivering.py` hands the batch to `retry.py`.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from headrace.records import Batch, Head, Record

EVENT_LIMIT = 6 * 1024 * 1024
"""The largest event a function is sent, in bytes (contract B.2)."""

EXPIRY_MARGIN = 1.0
"""Seconds before its maximum age at which a record leaves an open batching window, so that it can still be handled."""


@dataclass(frozen=True, slots=True)
class Encoding:
    """The body of a call: `opening`, what `element` makes of each record with commas between, `closing`."""

    opening: bytes
    closing: bytes
    element: Callable[[Record], bytes]

    def encode(self, batch: Batch) -> bytes:
        """The body that carries a batch."""
        return self.opening + b",".join(map(self.element, batch)) + self.closing

    def size(self, records: int, element_bytes: int) -> int:
        """Bytes of the body that `encode` makes of that many records whose elements have so many bytes together."""
        return len(self.opening) + element_bytes + max(0, records - 1) + len(self.closing)


LAMBDA_EVENT = Encoding(b'{"Records":[', b"]}", lambda record: record.event)
"""Lambda's own event (contract D.1)."""


@dataclass(frozen=True, slots=True)
class BatchLimits:
    """When a batch closes: `size` records, `window` seconds, or the event limit; `maximum_age` in seconds or None.

    The event limit is that of the body that is sent, which `encoding` makes.
    """

    size: int
    window: float = 0.0
    maximum_age: float | None = None
    event_limit: int = EVENT_LIMIT
    encoding: Encoding = LAMBDA_EVENT


def encode(batch: Batch) -> bytes:
    """The Lambda event of a batch, whatever protocol its function speaks."""
    return LAMBDA_EVENT.encode(batch)


class Buffer:
    """The records of one lane that are read and not yet in a batch, in order."""

    def __init__(self, limits: BatchLimits, now: float) -> None:
        self._limits = limits
        self._records: deque[Record] = deque()
        self._sizes: deque[int] = deque()
        """Bytes of each record's element: an encoding may have to work for it."""
        self._bytes = 0
        self._window_start = now
        self._resumed: Head | None = None
        self.ended = False

    def __len__(self) -> int:
        return len(self._records)

    @property
    def record_bytes(self) -> int:
        """Bytes of the records held."""
        return self._bytes

    @property
    def oldest(self) -> float | None:
        """Arrival of the first record held."""
        return self._records[0].arrival if self._records else None

    def add(self, records: Batch, now: float) -> None:
        """Appends what was read; an empty window that has run out begins anew with its first record (contract L.14)."""
        if not records:
            return
        if not self._records and now >= self._window_start + self._limits.window:
            self._window_start = now
        self._records.extend(records)
        self._sizes.extend(len(self._limits.encoding.element(record)) for record in records)
        self._bytes += sum(len(record.event) for record in records)

    def end(self) -> None:
        """Says that nothing more will be added: what is held may leave at once."""
        self.ended = True

    def resume(self, head: Head) -> None:
        """The next batch is to be this one again, as it was before a stop."""
        self._resumed = head

    def read_to_tip(self) -> None:
        """Everything there is was read: what is missing of a resumed batch will not come any more."""
        if self._awaits_resumed():
            self._resumed = None

    def restart_window(self, now: float) -> None:
        """The next window starts when the previous invocation completes (contract B.2)."""
        self._window_start = now

    def due(self) -> float | None:
        """When the records held become a batch if nothing more is added; None while nothing is held."""
        if not self._records or self._awaits_resumed():
            return None
        due = self._window_start + self._limits.window
        if self._limits.maximum_age is not None:
            due = min(due, self._records[0].arrival + self._limits.maximum_age - EXPIRY_MARGIN)
        return due

    def take(self, now: float) -> Batch:
        """The next batch, or an empty one while the window is open and there is room in it."""
        due = self.due()
        if due is None:
            return ()
        if again := self._resume():
            return self._leave(again)
        count = self._fitting()
        full = count == self._limits.size or count < len(self._records)
        if not (full or self.ended or now >= due):
            return ()
        return self._leave(count)

    def _leave(self, count: int) -> Batch:
        batch = tuple(self._records.popleft() for _ in range(count))
        for _ in batch:
            self._sizes.popleft()
        self._bytes -= sum(len(record.event) for record in batch)
        return batch

    def _awaits_resumed(self) -> bool:
        """Whether the rest of the resumed batch has still to be read."""
        return self._resumed is not None and len(self._records) < self._resumed.count and not self.ended

    def _resume(self) -> int:
        """How many records the resumed batch has, 0 when there is none, or it cannot be had again as it was."""
        head, self._resumed = self._resumed, None
        if head is None or len(self._records) < head.count:
            return 0
        same = (self._records[0].sequence_number, self._records[head.count - 1].sequence_number) == (
            head.first,
            head.last,
        )
        return head.count if same else 0

    def _fitting(self) -> int:
        """How many records the next batch may hold; a record too large for any event makes a batch of its own."""
        held = 0
        size = self._limits.encoding.size
        for count, element_bytes in enumerate(self._sizes):
            held += element_bytes
            if count == self._limits.size or (count and size(count + 1, held) > self._limits.event_limit):
                return count
        return len(self._records)
