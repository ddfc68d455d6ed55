"""Tumbling windows through `headrace run` (contract B.7, K.6): real time, so windows of a few seconds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from aiohttp import web

from tests.support.aws import make_queue, make_stream
from tests.support.function import RecordedCall, RecordingFunction, function_error
from tests.support.headrace import long_window, mapping, on_failure, run, write

IDLE = ("--exit-when-idle", 1)


def counting(call: RecordedCall) -> web.Response:
    """What a function that aggregates does: adds the batch to the state it is given."""
    return web.json_response({"state": {"n": call.event["state"].get("n", 0) + len(call.event["Records"])}})


def told(call: RecordedCall) -> tuple[list[str], dict[str, Any], bool, bool]:
    event = call.event
    return call.data, event["state"], event["isFinalInvokeForWindow"], event["isWindowTerminatedEarly"]


async def test_a_window_hands_its_state_on_and_closes_by_a_call_of_its_own(
    ministack: str, kinesis: Any, function: RecordingFunction, tmp_path: Path
) -> None:
    stream = await make_stream(kinesis)
    function.answer = counting
    file = write(tmp_path, mapping(stream.arn, function.url, tumblingWindowInSeconds=3, batchSize=1))
    await stream.put("a", "b")
    async with run(file, ministack, *IDLE) as running:
        assert await running.end() == 0
    first = function.calls[0].event
    assert set(first) == {
        "Records", "window", "state", "shardId", "eventSourceARN", "isFinalInvokeForWindow", "isWindowTerminatedEarly",
    }  # fmt: skip
    assert (first["shardId"], first["eventSourceARN"]) == ("shardId-000000000000", stream.arn)
    calls = [told(call) for call in function.calls]
    apart = [
        (["a"], {}, False, False),
        ([], {"n": 1}, True, False),
        (["b"], {}, False, False),
        ([], {"n": 1}, True, False),
    ]
    together = [(["a"], {}, False, False), (["b"], {"n": 1}, False, False), ([], {"n": 2}, True, False)]
    assert calls in (apart, together)  # the two records may fall on both sides of a window's end


async def test_a_restart_continues_the_window_with_its_state(
    ministack: str, kinesis: Any, function: RecordingFunction, tmp_path: Path, state: Path
) -> None:
    stream = await make_stream(kinesis)
    function.answer = counting
    file = write(tmp_path, mapping(stream.arn, function.url, tumblingWindowInSeconds=long_window()))
    await stream.put("a")
    async with run(file, ministack, "--state", state) as running:
        await function.until(lambda: len(function.calls) == 1)
        await running.stop()
    await stream.put("b")
    async with run(file, ministack, "--state", state) as running:
        await function.until(lambda: len(function.calls) == 2)
        await running.kill()
    assert [told(call) for call in function.calls] == [(["a"], {}, False, False), (["b"], {"n": 1}, False, False)]
    assert function.calls[0].event["window"] == function.calls[1].event["window"]


async def test_windows_turned_off_close_the_one_that_is_open_first(
    ministack: str, kinesis: Any, function: RecordingFunction, tmp_path: Path, state: Path
) -> None:
    stream = await make_stream(kinesis)
    function.answer = counting
    await stream.put("a")
    file = write(tmp_path, mapping(stream.arn, function.url, tumblingWindowInSeconds=long_window()))
    async with run(file, ministack, "--state", state) as running:
        await function.until(lambda: len(function.calls) == 1)
        await running.stop()
    await stream.put("b")
    function.answer = lambda _: web.json_response(None)
    async with run(write(tmp_path, mapping(stream.arn, function.url)), ministack, "--state", state, *IDLE) as running:
        assert await running.end() == 0
    assert told(function.calls[1]) == ([], {"n": 1}, True, False)
    assert list(function.calls[2].event) == ["Records"]


async def test_a_final_call_that_fails_for_good_is_discarded_without_records_and_the_shard_goes_on(
    ministack: str, kinesis: Any, sqs: Any, function: RecordingFunction, tmp_path: Path
) -> None:
    stream, queue = await make_stream(kinesis), await make_queue(sqs)
    function.answer = lambda call: counting(call) if call.event["Records"] else function_error()
    more: dict[str, Any] = {"maximumRetryAttempts": 1, "destinationConfig": on_failure(queue.arn)}
    file = write(tmp_path, mapping(stream.arn, function.url, tumblingWindowInSeconds=1, **more))
    await stream.put("a")
    async with run(file, ministack) as running:
        await function.until(lambda: len(function.calls) == 3)
        await stream.put("b")
        await function.until(lambda: len(function.calls) == 4)
        await running.stop()
    assert [call.data for call in function.calls] == [["a"], [], [], ["b"]]
    assert function.calls[1].headers["Headrace-Request-Id"] == function.calls[2].headers["Headrace-Request-Id"]
    (document,) = await queue.drain()
    assert document["KinesisBatchInfo"] == {"shardId": "shardId-000000000000", "streamArn": stream.arn}
    assert document["requestContext"]["approximateInvokeCount"] == 2
    window = function.calls[1].event["window"]
    assert document["timeWindowInfo"] == {
        "window": window, "isFinalInvokeForWindow": True, "isWindowTerminatedEarly": False,
    }  # fmt: skip
