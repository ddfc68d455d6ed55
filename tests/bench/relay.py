"""A line to Kinesis that counts what is read over it."""

from __future__ import annotations

import asyncio
import contextlib
import time
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

READ = b"Kinesis_20131202.GetRecords"


@dataclass
class Relay:
    """Passes everything on, and remembers when each GetRecords came, by CLOCK_MONOTONIC."""

    host: str
    port: int
    url: str = ""
    times: list[float] = field(default_factory=list)

    @property
    def reads(self) -> int:
        """The GetRecords so far."""
        return len(self.times)

    async def accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, back = await asyncio.open_connection(self.host, self.port)
        async with asyncio.TaskGroup() as ways:
            ways.create_task(self._pass(reader, back))
            ways.create_task(self._pass(there, writer))

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(256 * 1024):
                self.times += [time.monotonic()] * data.count(READ)  # a request's head comes in one piece
                writer.write(data)
                await writer.drain()
        writer.close()


@asynccontextmanager
async def relay(url: str) -> AsyncIterator[Relay]:
    """A line to the server at a URL, on a free port of this machine."""
    parts = urlsplit(url)
    line = Relay(parts.hostname or "", parts.port or 80)
    server = await asyncio.start_server(line.accept, "127.0.0.1", 0)
    line.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    try:
        yield line
    finally:
        server.close()
