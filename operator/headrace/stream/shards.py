"""Which shards may be read (contract B.8). Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from headrace.records import After, Checkpoint, Position, Shard, Start

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


def startable(shards: Sequence[Shard], checkpoints: Mapping[str, Checkpoint]) -> tuple[Shard, ...]:
    """The unfinished shards whose parents are all finished, or gone from the listing and from the checkpoints."""
    listed = {shard.shard_id for shard in shards}

    def finished(shard_id: str) -> bool:
        checkpoint = checkpoints.get(shard_id)
        return checkpoint is not None and checkpoint.finished

    def over(shard_id: str) -> bool:
        return finished(shard_id) or not (shard_id in listed or shard_id in checkpoints)

    return tuple(shard for shard in shards if not finished(shard.shard_id) and all(over(one) for one in shard.parents))


def expired(shards: Sequence[Shard], checkpoints: Mapping[str, Checkpoint]) -> tuple[str, ...]:
    """Parents that a checkpoint says to be unfinished, though the source has forgotten them with all their records."""
    listed = {shard.shard_id for shard in shards}
    parents = dict.fromkeys(parent for shard in shards for parent in shard.parents)
    return tuple(one for one in parents if one not in listed and one in checkpoints and not checkpoints[one].finished)


def position(checkpoint: Checkpoint | None, start: Start) -> Position:
    """Where a shard is read from: behind its checkpoint, else from where the mapping starts.

    That holds for children of a split too: everything in them is younger than their parents' last record, so the
    mapping's start, a time, never cuts off a record that was written after it.
    """
    if checkpoint is not None and checkpoint.sequence_number is not None:
        return After(checkpoint.sequence_number)
    return start
