"""Where records come from: a Protocol, and one file per source."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Sequence

    from headrace.records import Polled, Position, Shard


class ShardReader(Protocol):
    """Reads one shard in order, holding its place across throttles and expired iterators."""

    async def read(self) -> Polled:
        """The next records; raises SourceError (Throttled among them), after which the next read goes on from the same place."""
        ...


class Source(Protocol):
    """A stream."""

    async def shards(self) -> Sequence[Shard]:
        """Every shard the stream still knows, closed ones included; raises SourceError."""
        ...

    async def now(self) -> float:
        """The time of the source's own clock in epoch seconds; raises SourceError."""
        ...

    def reader(self, shard_id: str, position: Position) -> ShardReader:
        """A reader of one shard from `position` on; makes no call yet."""
        ...

    async def aclose(self) -> None:
        """Frees the connections."""
        ...
