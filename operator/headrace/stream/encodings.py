"""The body of a call: what is around the records and between them. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from operator import attrgetter
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from headrace.records import Batch, Record


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


LAMBDA_EVENT = Encoding(b'{"Records":[', b"]}", attrgetter("event"))
"""Lambda's own event (contract D.1)."""
