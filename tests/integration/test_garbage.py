"""A function that answers garbage, under `headrace run`: its batch ends in the queue, the next batch goes on."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from tests.support.aws import make_queue, make_stream
from tests.support.function import RecordedCall, RecordingFunction, success
from tests.support.headrace import mapping, on_failure, run, write


def deep(_: RecordedCall) -> web.Response:
    return web.Response(body=b'{"batchItemFailures":' * 100_000)


def huge(_: RecordedCall) -> web.Response:
    return web.Response(body=b"x" * 10_000_000)


def not_a_version(_: RecordedCall) -> web.Response:
    headers = {"X-Amz-Function-Error": "Unhandled", "X-Amz-Executed-Version": "\udcff\udcfe"}
    return web.Response(body=b"\0\xff", headers=headers)


@pytest.mark.parametrize(
    ("garbage", "protocol"),
    [(deep, "http"), (huge, "cloudevents"), (not_a_version, "lambda")],
    ids=["nested deeply", "10 MB", "a version that is none"],
)
async def test_garbage_costs_its_batch_and_the_next_goes_on(
    garbage: Callable[[RecordedCall], web.Response],
    protocol: str,
    ministack: str,
    kinesis: Any,
    sqs: Any,
    function: RecordingFunction,
    tmp_path: Path,
) -> None:
    stream, queue = await make_stream(kinesis), await make_queue(sqs)
    await stream.put("1", "2", "3")
    seen = 0

    def answer(call: RecordedCall) -> web.Response:
        nonlocal seen
        seen += 1
        return garbage(call) if seen <= 2 else success(call)

    function.answer = answer
    spec = mapping(
        stream.arn,
        function.url,
        batchSize=1,
        maximumRetryAttempts=1,
        functionResponseTypes=["ReportBatchItemFailures"],
        destinationConfig=on_failure(queue.arn),
        function={"url": function.url, "timeoutSeconds": 5, "protocol": protocol},
    )
    async with run(write(tmp_path, spec), ministack, "--exit-when-idle", 1.5) as running:
        assert await running.end() == 0
    assert seen == 4  # the first record twice, then the second and the third
    (document,) = await queue.drain()
    assert document["KinesisBatchInfo"]["startSequenceNumber"] == stream.numbers[0]
    assert document["requestContext"]["approximateInvokeCount"] == 2
    assert document["responseContext"]["executedVersion"] == "$LATEST"
    assert not running.logged("Traceback")
