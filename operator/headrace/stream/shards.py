"""Which shards may be read (contract B.8). Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from headrace.records import After, Checkpoint, Position, Shard, Start

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


def startable(shards: Sequence[Shard], checkpoints: Mapping[str, Checkpoint]) -> tuple[Shard, ...]:
    """The unfinished shards whose parents are all finished, or so old that the source has forgotten them."""
    listed = {shard.shard_id for shard in shards}

    def finished(shard_id: str) -> bool:
        checkpoint = checkpoints.get(shard_id)
        return checkpoint is not None and checkpoint.finished

    return tuple(
        shard
        for shard in shards
        if not finished(shard.shard_id) and all(finished(parent) or parent not in listed for parent in shard.parents)
    )


def position(checkpoint: Checkpoint | None, start: Start) -> Position:
    """Where a shard is read from: behind its checkpoint, else from where the mapping starts.

    That holds for children of a split too: everything in them is younger than their parents' last record, so the
    mapping's start, a time, never cuts off a record that was written after it.
    """
    if checkpoint is not None and checkpoint.sequence_number is not None:
        return After(checkpoint.sequence_number)
    return start
