"""The least HTTP/1.1 server that aiohttp, botocore and hyper talk to: what it costs is not to be what is measured.

Bodies have a Content-Length; requests on one connection come one after the other. Nothing but the standard library.
"""

from __future__ import annotations

import asyncio
import socket

RECEIVE = 1024 * 1024
"""Bytes taken from a socket at a time."""
SEND = 4 * 1024 * 1024


class Connection(asyncio.BufferedProtocol):
    """One connection; `respond` is told of each request, `received` of each piece of a body."""

    transport: asyncio.Transport

    def __init__(self) -> None:
        self._buffer = bytearray(64 * 1024)
        self._heading = bytearray()
        self._missing = 0
        self.request = ""
        self.headers: dict[str, str] = {}

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        opened: socket.socket = transport.get_extra_info("socket")
        opened.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        opened.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND)

    def get_buffer(self, sizehint: int) -> bytearray:
        return self._buffer

    def buffer_updated(self, nbytes: int) -> None:
        start = 0
        if not self._missing:
            start = self._begin(nbytes)
            if start < 0:
                return
        end = min(nbytes, start + self._missing)
        self._missing -= end - start
        self.received(self._buffer, start, end)
        if not self._missing:
            self._heading.clear()
            self.respond()

    def _begin(self, nbytes: int) -> int:
        """Where the body begins in the buffer; -1 while the head is not complete."""
        known = len(self._heading)
        self._heading += memoryview(self._buffer)[:nbytes]
        end = self._heading.find(b"\r\n\r\n", max(0, known - 3))
        if end < 0:
            return -1
        self.request, *lines = self._heading[:end].decode("latin-1").split("\r\n")
        pairs = (line.partition(":") for line in lines)
        self.headers = {name.lower(): value.strip() for name, _, value in pairs}
        self._missing = int(self.headers.get("content-length", 0))
        if self._missing > len(self._buffer):
            self._buffer_larger()
        if self.headers.get("expect", "").lower() == "100-continue":
            self.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        return end + 4 - known

    def _buffer_larger(self) -> None:
        if len(self._buffer) < RECEIVE:
            self._buffer = self._buffer + bytes(RECEIVE - len(self._buffer))

    def received(self, buffer: bytearray, start: int, end: int) -> None:
        """A piece of the body: the bytes from `start` to `end` of `buffer`, which is used again afterwards."""

    def respond(self) -> None:
        """The request is complete."""

    def answer(self, body: bytes = b"", status: str = "200 OK", kind: str = "application/json", more: str = "") -> None:
        head = f"HTTP/1.1 {status}\r\nContent-Type: {kind}\r\n{more}Content-Length: {len(body)}\r\n\r\n"
        self.transport.write(head.encode("latin-1") + body)


def listen(connection: type[Connection]) -> None:
    """Serves for ever on a free port of 127.0.0.1, which is the first line printed."""

    async def serve() -> None:
        server = await asyncio.get_running_loop().create_server(connection, "127.0.0.1", 0, backlog=1024)
        print(server.sockets[0].getsockname()[1], flush=True)
        await server.serve_forever()

    asyncio.run(serve())
