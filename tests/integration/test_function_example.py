"""The sample HTTP function as a process."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import aiohttp
import pytest

from tests.support import servers
from tests.support.examples import EXAMPLES

if TYPE_CHECKING:
    from collections.abc import Iterator

EVENT = {"Records": [{"eventID": "s:1", "kinesis": {"sequenceNumber": "1", "data": "e30="}}]}


@pytest.fixture
def started() -> Iterator[tuple[subprocess.Popen[bytes], str]]:
    port = servers.free_port()
    command = [sys.executable, str(EXAMPLES / "function-http" / "function.py")]
    function = subprocess.Popen(command, env=servers.clean_environment(PORT=str(port), WORK_SECONDS="0.5"))
    try:
        servers.wait_for_port(port, function)
        yield function, f"http://127.0.0.1:{port}"
    finally:
        function.kill()
        function.wait()


async def post(session: aiohttp.ClientSession, url: str, request_id: str) -> Any:
    async with session.post(url, json=EVENT, headers={"Headrace-Request-Id": request_id}) as answer:
        assert answer.status == 200
        return await answer.json()


async def received(session: aiohttp.ClientSession, url: str) -> list[Any]:
    async with session.get(f"{url}/received") as answer:
        calls: list[Any] = await answer.json()
        return calls


async def test_a_request_that_was_answered_is_answered_again_without_working_again(
    started: tuple[subprocess.Popen[bytes], str],
) -> None:
    _, url = started
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=0.4)) as impatient:
        async with aiohttp.ClientSession() as session:
            first = await post(session, url, "one")
        again = await post(impatient, url, "one")
        calls = await received(impatient, url)

    assert first == again == {"batchItemFailures": []}
    assert [call["requestId"] for call in calls] == ["one", "one"]


async def test_sigterm_lets_the_call_under_way_finish(started: tuple[subprocess.Popen[bytes], str]) -> None:
    function, url = started
    async with aiohttp.ClientSession() as session:
        under_way = asyncio.create_task(post(session, url, "one"))
        while not await received(session, url):
            await asyncio.sleep(0.02)
        function.send_signal(signal.SIGTERM)
        assert not under_way.done()
        assert await under_way == {"batchItemFailures": []}

    assert function.wait(5) == 0
