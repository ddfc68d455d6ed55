"""Where checkpoints and leases lie: a Protocol, and one file per home."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from headrace.cluster import ClusterError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from headrace.cluster import Body
    from headrace.records import Checkpoint, Lease, Shard, Start
    from headrace.resources import Kind


MENDING = "mend it, or delete it, with which its shard starts anew from spec.startingPosition"
"""What to do about a lease that is broken."""


class BrokenObject(ClusterError):
    """An object is there and cannot be read, as after an edit by hand; `name` is its own."""

    def __init__(self, name: str, message: str) -> None:
        super().__init__(message, 422)
        self.name = name


class Objects(Protocol):
    """Where ShardLeases and WindowStates may lie: an API server, or what does its part. Everything raises ClusterError.

    `headrace.cluster.Cluster` says what each does.
    """

    async def find(self, kind: Kind, namespace: str, name: str, /) -> Body | None:
        """One object, None when it is not there; raises BrokenObject."""
        ...

    async def select(self, kind: Kind, namespace: str | None, selector: str = "", /) -> Sequence[Body | BrokenObject]:
        """The objects that a selector finds, one that is broken as what is wrong with it."""
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

    async def load(self, shards: Sequence[Shard], makes: Callable[[str], bool] | None = None, /) -> Mapping[str, Lease]:
        """The lease of every shard of `shards` and of every other one that is stored, by shard.

        Of those that are missing it makes the ones whose id `makes` takes, all without it. A window is not read; `take`
        does. A lease of a stream made later than the one adopted is left out. One that is broken has a fault, and
        cannot be taken; where its shard is not among `shards` its own name stands for the shard's.
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
