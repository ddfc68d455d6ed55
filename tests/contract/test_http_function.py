"""Calling functions over real sockets: what each way of not answering is taken for (contract J.4)."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import replace

import pytest
from aiohttp import web

from headrace.stream.functions import Call, Fault, NoResponse, Response
from headrace.stream.functions.http import RESPONSE_LIMIT, FunctionSettings, HttpFunction
from tests.support.function import RecordedCall, RecordingFunction, success
from tests.support.servers import free_port

CALL = Call(b'{"Records":[]}', "request-1", 2, "shardId-000000000000")
Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@asynccontextmanager
async def calling(url: str, timeout: float = 5.0, headers: dict[str, str] | None = None) -> AsyncIterator[HttpFunction]:
    function = HttpFunction(FunctionSettings(url, timeout, "shop/orders", "uid-1", headers or {}))
    try:
        yield function
    finally:
        await function.aclose()


@asynccontextmanager
async def raw_server(handler: Handler) -> AsyncIterator[str]:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await handler(reader, writer)
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/"


async def fault(url: str, timeout: float = 5.0) -> Fault:
    async with calling(url, timeout) as function:
        answer = await function.invoke(CALL)
        assert isinstance(answer, NoResponse), answer
        return answer.fault


async def test_a_call_carries_the_event_the_headers_and_nothing_of_a_retry(function: RecordingFunction) -> None:
    async with calling(function.url + "some/path?x=1", headers={"Authorization": "Bearer t"}) as caller:
        answer = await caller.invoke(CALL)
    assert isinstance(answer, Response)
    assert (answer.status, answer.body) == (200, b"null")
    (call,) = function.calls
    assert call.path == "/some/path"
    assert {name: call.headers[name] for name in call.headers if name.startswith("Headrace-")} | {} == {
        "Headrace-Request-Id": "request-1",
        "Headrace-Attempt": "2",
        "Headrace-Mapping": "shop/orders",
        "Headrace-Mapping-Uid": "uid-1",
        "Headrace-Shard": "shardId-000000000000",
        "Headrace-Deadline-Ms": call.headers["Headrace-Deadline-Ms"],
    }
    assert call.headers["Authorization"] == "Bearer t"


async def test_nobody_listening_is_not_connected() -> None:
    assert await fault(f"http://127.0.0.1:{free_port()}/") is Fault.NOT_CONNECTED


async def test_an_unknown_name_is_not_connected() -> None:
    assert await fault("http://no-such-host.invalid/") is Fault.NOT_CONNECTED


async def test_a_function_that_takes_too_long_has_timed_out() -> None:
    async def never(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()

    async with raw_server(never) as url:
        began = time.monotonic()
        assert await fault(url, timeout=0.2) is Fault.TIMED_OUT
        assert 0.2 <= time.monotonic() - began < 5


async def test_an_endless_answer_has_timed_out() -> None:
    async def endless(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        while True:
            writer.write(b"1\r\nx\r\n")
            await writer.drain()
            await asyncio.sleep(0.05)

    async with raw_server(endless) as url:
        assert await fault(url, timeout=0.2) is Fault.TIMED_OUT


async def test_a_huge_answer_is_cut_off_and_told() -> None:
    async def huge(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000000\r\n\r\n")
        for _ in range(RESPONSE_LIMIT // 65536 + 64):
            writer.write(b"x" * 65536)
            await writer.drain()

    async with raw_server(huge) as url:
        assert await fault(url) is Fault.TOO_LARGE


@pytest.mark.parametrize(
    "said",
    [b"", b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf", b"not HTTP at all\r\n\r\n"],
    ids=["nothing", "half an answer", "garbage"],
)
async def test_a_new_connection_that_breaks_means_the_function_broke(said: bytes) -> None:
    async def breaks(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(100)
        writer.write(said)
        await writer.drain()

    async with raw_server(breaks) as url:
        assert await fault(url) is Fault.DROPPED


async def test_a_kept_connection_that_has_gone_stale_means_nothing() -> None:
    """A server may close an idle connection just when a call is sent over it; the function never saw that call."""

    async def once(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(65536)
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}")
        await writer.drain()
        await reader.read(100)

    async with raw_server(once) as url, calling(url) as function:
        assert isinstance(await function.invoke(CALL), Response)
        answer = await function.invoke(CALL)
        assert isinstance(answer, NoResponse)
        assert answer.fault is Fault.NOT_CONNECTED
        assert isinstance(await function.invoke(CALL), Response)


async def test_a_request_that_breaks_kept_connections_does_so_once_before_it_counts() -> None:
    """However many are kept: the next try has a new one, and what breaks that is the request's own doing."""
    together = asyncio.Barrier(3)

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while head := await reader.readuntil(b"\r\n\r\n"):
            if b"poison" in head:
                return
            await reader.readexactly(len(CALL.event))
            await together.wait()
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}")
            await writer.drain()

    async with raw_server(serve) as url, calling(url) as function:
        answers = await asyncio.gather(*(function.invoke(CALL) for _ in range(3)))
        assert all(isinstance(answer, Response) for answer in answers)
        poison = replace(CALL, request_id="poison")
        faults = [answer.fault for _ in range(2) if isinstance(answer := await function.invoke(poison), NoResponse)]
    assert faults == [Fault.NOT_CONNECTED, Fault.DROPPED]


async def test_redirects_are_not_followed(function: RecordingFunction) -> None:
    def redirect(_: RecordedCall) -> web.Response:
        return web.Response(status=307, headers={"Location": function.url + "elsewhere"})

    function.answer = redirect
    async with calling(function.url) as caller:
        answer = await caller.invoke(CALL)
    assert isinstance(answer, Response)
    assert answer.status == 307
    assert len(function.calls) == 1


async def test_a_refused_certificate_is_not_connected_and_tells_no_secret(function: RecordingFunction) -> None:
    function.answer = success
    async with calling(function.url.replace("http://", "https://user:secret@")) as caller:
        answer = await caller.invoke(CALL)
    assert isinstance(answer, NoResponse)
    assert answer.fault is Fault.NOT_CONNECTED
    assert "secret" not in answer.detail


async def test_the_url_is_used_exactly_as_given() -> None:
    asked: list[bytes] = []

    async def note(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked.append((await reader.readline()).split()[1])
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
        await writer.drain()

    async with raw_server(note) as url, calling(url + "fn/a%2fb/%7Ex/../y;z?q=%20+&p=%41") as function:
        assert isinstance(await function.invoke(CALL), Response)
    assert asked == [b"/fn/a%2fb/%7Ex/../y;z?q=%20+&p=%41"]


async def test_a_host_that_is_none_is_not_connected() -> None:
    assert await fault("http://a..b/") is Fault.NOT_CONNECTED
