"""A function that remembers its calls and answers as the test says."""

from __future__ import annotations

import asyncio
import base64
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

import orjson
from aiohttp import web

from tests.support.items import sequence_number


@dataclass(frozen=True)
class RecordedCall:
    """One call as the function saw it."""

    event: dict[str, Any]
    headers: dict[str, str]
    path: str
    at: float

    @property
    def data(self) -> list[str]:
        """What the records hold, decoded."""
        return [_data_of(record) for record in self.event["Records"]]

    @property
    def sequence_numbers(self) -> list[str]:
        return [sequence_number(record) for record in self.event["Records"]]


def _data_of(record: dict[str, Any]) -> str:
    if "dynamodb" in record:
        return str(record["dynamodb"]["NewImage"]["data"]["S"])
    if "body" in record:
        return str(record["body"])
    return base64.b64decode(record["kinesis"]["data"]).decode()


Answer = Callable[[RecordedCall], web.StreamResponse | Awaitable[web.StreamResponse]]


def success(_: RecordedCall) -> web.Response:
    return web.json_response(None)


def function_error(_: RecordedCall | None = None) -> web.Response:
    body = {"errorMessage": "boom", "errorType": "RuntimeError"}
    return web.json_response(body, headers={"X-Amz-Function-Error": "Unhandled"})


def fails_on(*poison: str) -> Answer:
    """Fails if and only if one of the records holds a poison."""
    return lambda call: function_error() if set(poison) & set(call.data) else success(call)


def status(code: int, **headers: str) -> web.Response:
    return web.Response(status=code, headers=headers)


@dataclass
class RecordingFunction:
    """Serves every path; `answer` may be replaced while it runs."""

    answer: Answer = success
    calls: list[RecordedCall] = field(default_factory=list)
    in_flight: int = 0
    most_in_flight: int = 0
    url: str = ""

    @property
    def seen(self) -> list[list[str]]:
        """The data of every call, in order."""
        return [call.data for call in self.calls]

    async def handle(self, request: web.Request) -> web.StreamResponse:
        event = orjson.loads(await request.read())
        call = RecordedCall(event, dict(request.headers), request.path, time.time())
        self.calls.append(call)
        self.in_flight += 1
        self.most_in_flight = max(self.most_in_flight, self.in_flight)
        try:
            answer = self.answer(call)
            return answer if isinstance(answer, web.StreamResponse) else await answer
        finally:
            self.in_flight -= 1

    async def start(self, port: int = 0) -> web.AppRunner:
        application = web.Application(client_max_size=32 * 1024 * 1024)
        application.router.add_route("*", "/{path:.*}", self.handle)
        runner = web.AppRunner(application, shutdown_timeout=0.1)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", port)
        await site.start()
        address = runner.addresses[0]
        self.url = f"http://127.0.0.1:{address[1]}/"
        return runner

    async def until(self, condition: Callable[[], object], seconds: float = 60.0) -> None:
        """Waits until a condition holds; fails with what was seen."""
        try:
            async with asyncio.timeout(seconds):
                while not condition():
                    await asyncio.sleep(0.02)
        except TimeoutError:
            raise AssertionError(f"not reached after {seconds} s; calls so far: {self.seen}") from None
