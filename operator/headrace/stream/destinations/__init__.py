"""Where failure records go: a Protocol, and one file per kind of destination."""

from __future__ import annotations

from typing import Protocol


class Destination(Protocol):
    """An on-failure destination (contract C)."""

    async def check(self) -> None:
        """Whether the destination is there and may be used, as far as that shows without writing; raises DestinationError."""
        ...

    async def publish(self, document: bytes) -> None:
        """Hands over one failure record (JSON); returns once the destination has it; raises DestinationError."""
        ...

    async def aclose(self) -> None:
        """Frees the connections."""
        ...
