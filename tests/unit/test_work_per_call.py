"""What one read of a stream and one call of a function cost in calls of Python and C, libraries among them.

Each bound is the count and 2 to 6 %; `python -m pytest tests/unit/test_work_per_call.py -rP` counts anew, which a newer
library may ask for. Nothing is sent: what stands in for the network answers at once.
"""

from __future__ import annotations

import asyncio
import sys
from types import FrameType, SimpleNamespace
from typing import Any, Self

import aiohttp
import orjson
import pytest
from aiobotocore.awsrequest import AioAWSResponse
from aiohttp.client_proto import ResponseHandler
from botocore.compat import HTTPHeaders

from headrace.records import Start
from headrace.stream import aws
from headrace.stream.aws import AwsAccess, AwsSettings
from headrace.stream.functions import Call, Response
from headrace.stream.functions.http import FunctionSettings, HttpFunction
from headrace.stream.sources.kinesis import Kinesis, RecordFacts
from tests.support.work import entries

ARN = "arn:aws:kinesis:eu-west-1:123456789012:stream/s"
FACTS = RecordFacts(ARN, "eu-west-1", "arn:aws:iam::123456789012:role/r")
EVENT = b'{"Records":[]}'
CALLS = 20


class Counter:
    """Counts the calls of functions while it is entered."""

    calls = 0

    def _count(self, _frame: FrameType, event: str, _argument: object) -> None:
        self.calls += event in ("call", "c_call")

    def __enter__(self) -> Self:
        sys.setprofile(self._count)
        return self

    def __exit__(self, *_: object) -> None:
        sys.setprofile(None)


class Answering(asyncio.Transport):
    """A connection whose other end answers every whole request."""

    def __init__(self, protocol: ResponseHandler) -> None:
        super().__init__()
        self._protocol = protocol
        self._closing = False

    def write(self, data: Any) -> None:
        if bytes(data).endswith(EVENT):
            answer = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}"
            asyncio.get_running_loop().call_soon(self._protocol.data_received, answer)

    def writelines(self, pieces: Any) -> None:
        self.write(b"".join(pieces))

    def is_closing(self) -> bool:
        return self._closing

    def close(self) -> None:
        if not self._closing:
            self._closing = True
            self._protocol.connection_lost(None)

    abort = close


async def connected(*_: Any) -> ResponseHandler:
    protocol = ResponseHandler(asyncio.get_running_loop())
    protocol.connection_made(Answering(protocol))
    return protocol


async def test_a_call_of_a_function_costs_no_more_calls_than_this(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(aiohttp.TCPConnector, "_create_connection", connected)
    function = HttpFunction(FunctionSettings("http://f.test/", 5.0, "shop/orders", "uid-1", {}))
    call = Call(EVENT, "11111111-2222-3333-4444-555555555555", 1, "shardId-000000000000")
    assert isinstance(await function.invoke(call), Response)
    with Counter() as counter:
        for _ in range(CALLS):
            await function.invoke(call)
    await function.aclose()
    print(f"{counter.calls / CALLS:.1f} calls for each of a function")
    assert counter.calls / CALLS <= 423


async def answered(_session: object, request: Any) -> Any:
    """What stands in for AWS: an iterator, then reads."""
    target = request.headers["X-Amz-Target"]
    target = target.decode() if isinstance(target, bytes) else target
    opening = target.endswith("GetShardIterator")
    answer = {"ShardIterator": "i"} if opening else {"Records": entries(0, 1), "NextShardIterator": "i"}
    response: Any = AioAWSResponse(request.url, 200, HTTPHeaders(), SimpleNamespace())
    response._content = orjson.dumps(answer)
    return response


async def test_a_read_of_a_stream_costs_no_more_calls_than_this(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(aws._Bounded, "send", answered)
    kinesis = Kinesis(FACTS, AwsAccess(AwsSettings()), read_limit=100)
    reader = kinesis.reader("shardId-000000000000", Start())
    assert len((await reader.read()).records) == 1
    with Counter() as counter:
        for _ in range(CALLS):
            await reader.read()
    await kinesis.aclose()
    print(f"{counter.calls / CALLS:.1f} calls for each read")
    assert counter.calls / CALLS <= 1_425
