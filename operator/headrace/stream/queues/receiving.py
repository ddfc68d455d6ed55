"""How many messages of a queue wait for their call at most. Pure."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from headrace.stream.queues.put_off import PutOff

AHEAD = 1_000
"""Messages that may wait for their call at most, unless a single batch has more, ..."""
AHEAD_BYTES = 12 * 1024 * 1024
"""... and their bytes: two events."""


def ahead(put_off: PutOff, in_flight: int, now: float, *, allowed: int, size: int, at_once: int) -> int:
    """What may be called at once and half as much again, one receive at least; nothing for a function that takes none.

    Of `allowed` batches of `size` so many are `in_flight`, those put off among them; a receive brings `at_once`.
    """
    if not allowed or put_off.blocks(now):
        return 0
    callable_now = max(0, put_off.free(allowed, in_flight, now)) * size
    if put_off.probing(now):
        return callable_now
    return max(size, min(AHEAD, callable_now + max(at_once, math.ceil(allowed / 2) * size)))
