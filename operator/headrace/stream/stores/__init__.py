"""Where checkpoints and leases lie: a Protocol, and one file per home."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from headrace.cluster import Body
    from headrace.records import Checkpoint, Lease, Shard, Start
    from headrace.resources import Kind


class Objects(Protocol):
    """Where ShardLeases and WindowStates may lie: an API server, or what does its part. Everything raises ClusterError.

    `headrace.cluster.Cluster` says what each does.
    """

    async def find(self, kind: Kind, namespace: str, name: str, /) -> Body | None:
        """One object, None when it is not there."""
        ...

    async def select(self, kind: Kind, namespace: str | None, selector: str = "", /) -> list[Body]:
        """The objects that a selector finds."""
        ...

    async def create(self, kind: Kind, body: Body) -> Body:
        """Makes an object; raises Conflict when the name is taken."""
        ...

    async def replace(self, kind: Kind, body: Body) -> Body:
        """Replaces an object; raises Conflict when it is not the version any more that the body was read at."""
        ...

    async def delete(self, kind: Kind, body: Body) -> None:
        """Deletes an object."""
        ...


class CheckpointStore(Protocol):
    """The leases and checkpoints of one mapping, as one of its pollers sees them.

    Every method raises StoreError when the store does not answer.
    """

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

    async def load(self, shards: Sequence[Shard], /) -> Mapping[str, Lease]:
        """The lease of every shard of `shards` and of every other one that is stored; makes those that are missing.

        A window is not read; `take` does. A lease of a stream made later than the one adopted is left out.
        """
        ...

    async def take(self, shard_id: str) -> Checkpoint | None:
        """Holds a shard of the last `load` from now on, and gives its checkpoint.

        None: the lease has changed since, so that whether it may be taken is to be decided anew.
        """
        ...

    async def save(self, shard_id: str, checkpoint: Checkpoint) -> None:
        """Stores a held shard's checkpoint; raises LeaseLost when it has another holder, which must then be obeyed."""
        ...

    async def release(self, shard_id: str) -> None:
        """Gives a shard back; it is not held any more even when that cannot be stored, nor when it was lost."""
        ...

    async def aclose(self) -> None:
        """Gives back what is held, and frees what the store holds."""
        ...
