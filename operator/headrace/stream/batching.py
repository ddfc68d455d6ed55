"""Gathering records into batches (contract B.2). Pure: time comes in as epoch seconds.

Before this: `lanes.py`. After this: `delivering.py` hands the batch to `retry.py`.
"""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING

from headrace.stream.encodings import LAMBDA_EVENT, Encoding
from headrace.stream.windows import Tumbling

if TYPE_CHECKING:
    from collections.abc import Sequence

    from headrace.records import Batch, Head, Record, Window

EVENT_LIMIT = 6 * 1024 * 1024
"""The largest event a function is sent, in bytes (contract B.2)."""

EXPIRY_MARGIN = 1.0
"""Seconds before its maximum age at which a record leaves an open batching window, so that it can still be handled."""


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
    tumbling: int = 0
    """Seconds of a tumbling window, 0 for none (contract B.7)."""


class Buffer:
    """The records of one lane that are read and not yet in a batch, in order."""

    def __init__(self, limits: BatchLimits, now: float, windows: Tumbling | None = None) -> None:
        self._limits = limits
        self.windows = windows or Tumbling(0)
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
        """Bytes of the records held, as the elements of an event."""
        return self._bytes

    @property
    def first(self) -> Record | None:
        """The record that comes next."""
        return self._records[0] if self._records else None

    def add(self, records: Sequence[Record], now: float) -> None:
        """Appends what was read; an empty window that has run out begins anew with its first record (contract L.14)."""
        if not records:
            return
        if not self._records and now >= self._window_start + self._limits.window:
            self._window_start = now
        sizes = [len(element) for element in map(self._limits.encoding.element, records)]
        self._records.extend(records)
        self._sizes.extend(sizes)
        self._bytes += sum(sizes)

    def end(self) -> None:
        """Says that nothing more will be added: what is held may leave at once."""
        self.ended = True

    def resume(self, head: Head) -> None:
        """The next batch is to be this one again, as it was before a stop."""
        self._resumed = head

    def forgo_resumed(self) -> None:
        """What is missing of a resumed batch will not come any more, or not soon: it need not be waited for."""
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
        return min(due, self.windows.end_of(self._records[0]))

    def take_for_call(self, now: float) -> tuple[Batch, Window | None]:
        """The next batch and its tumbling window; no records with a window are the final call of that."""
        closing = self.windows.closing(self.first, ended=self.ended)
        if closing is not None:
            return (), closing
        batch = self.take(now)
        return batch, self.windows.of(batch[0]) if batch else None

    def take(self, now: float) -> Batch:
        """The next batch, or an empty one while the batching window is open and there is room in it."""
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
        batch = tuple([self._records.popleft() for _ in range(count)])
        self._bytes -= sum([self._sizes.popleft() for _ in batch])
        return batch

    def _awaits_resumed(self) -> bool:
        """Whether the rest of the resumed batch has still to be read."""
        return self._resumed is not None and len(self._records) < self._resumed.count and not self.ended

    def _resume(self) -> int:
        """How many records the resumed batch has, 0 when there is none, or it cannot be had again as it was."""
        head, self._resumed = self._resumed, None
        if head is None or not head.count or len(self._records) < head.count:
            return 0
        if self._records[head.count - 1].arrival >= self.windows.end_of(self._records[0]):
            return 0  # it was formed before there were windows
        same = (self._records[0].sequence_number, self._records[head.count - 1].sequence_number) == (
            head.first,
            head.last,
        )
        return head.count if same else 0

    def _fitting(self) -> int:
        """How many records the next batch may hold; a record too large for any event makes a batch of its own."""
        most, limit = self._limits.size, self._limits.event_limit
        end = self.windows.end_of(self._records[0])
        all_of_them = self._limits.encoding.size(len(self._records), self._bytes + self.windows.open_bytes)
        if all_of_them <= limit and end == math.inf:
            return min(most, len(self._records))
        held = self._limits.encoding.size(0, self.windows.open_bytes) - 1
        for count, (record, element_bytes) in enumerate(zip(self._records, self._sizes, strict=True)):
            held += element_bytes + 1  # with the comma before it
            if count == most or (count and (held > limit or record.arrival >= end)):
                return count
        return len(self._records)
