"""How far a shard is read ahead: the less, the more shards a process reads, so that together they hold so much. Pure.

Beside that each lane holds the batch that is with the function, and its event.
"""

from __future__ import annotations

from headrace.stream.settings import MOST_READ

IN_ALL = 128 * 1024 * 1024
"""Bytes of records that wait, over all shards of a mapping in one process, ..."""
MOST, LEAST = 8 * 1024 * 1024, 256 * 1024
"""... and of one shard: more than an event, and enough for reads that are worth their call."""
UNKNOWN = 4096.0
"""Bytes that a record of many shards is taken for before any was seen: their first reads come all at once."""


def share(shards: int) -> int:
    """Bytes that one of so many shards may have waiting."""
    return min(MOST, max(LEAST, IN_ALL // max(1, shards)))


def records(waiting: int, average: float | None) -> int:
    """How many records of so many bytes each (None: not known yet) one read may bring, at least one.

    Where shards are few the first read is no smaller than the source's own: so many records may be one batch.
    """
    if average is None and waiting >= MOST:
        return MOST_READ
    return max(1, int(waiting / max(1.0, average or UNKNOWN)))
