"""Where checkpoints lie: a Protocol, and one file per home."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from headrace.records import Checkpoint, Shard, Start


class CheckpointStore(Protocol):
    """The checkpoints of one mapping. Every method raises StoreError when the store does not answer."""

    write_interval: float
    """Least seconds between two writes of one shard while records flow; 0 writes every checkpoint at once."""

    async def pin(self, start: Start) -> Start:
        """Stores where the mapping starts unless that is stored already, and gives what is stored."""
        ...

    async def start(self) -> Start | None:
        """Where the mapping starts, None until it is pinned."""
        ...

    async def adopt(self, created: float, restart: Start) -> bool:
        """Says when the stream that is read from now on was made (epoch seconds); call it before anything else.

        What is stored without such a time belongs to this stream. What is stored for another one is not there any
        more: the mapping then starts at `restart`, or where it follows from the mapping itself, and the answer is True.
        """
        ...

    async def load(self, shards: Sequence[Shard], /) -> Mapping[str, Checkpoint]:
        """The checkpoint of every shard that has one, whether or not it is among `shards`.

        `shards` is what the source lists now; a store that keeps an object per shard makes the missing ones here.
        """
        ...

    async def save(self, shard_id: str, checkpoint: Checkpoint) -> None:
        """Stores a checkpoint; raises LeaseLost when the shard has another holder, which must then be obeyed."""
        ...

    async def aclose(self) -> None:
        """Frees what the store holds."""
        ...
