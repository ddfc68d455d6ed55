"""`headrace run` as a process against ministack: what a function sees, and what lies in the queue afterwards."""

from __future__ import annotations

import asyncio
import base64
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from tests.support.aws import Stream, make_queue, make_stream
from tests.support.function import RecordedCall, RecordingFunction, fails_on, function_error, status, success
from tests.support.headrace import mapping, on_failure, run, write

IDLE = ("--exit-when-idle", 1.5)


async def test_batches_arrive_whole_and_in_order(
    ministack: str, kinesis: Any, function: RecordingFunction, tmp_path: Path
) -> None:
    stream = await make_stream(kinesis)
    await stream.put("1", "2", "3", "4", "5", "6")
    file = write(tmp_path, mapping(stream.arn, function.url, batchSize=3))
    async with run(file, ministack, *IDLE) as running:
        assert await running.end() == 0
    assert function.seen == [["1", "2", "3"], ["4", "5", "6"]]
    summary = running.summary
    assert {name: summary[name] for name in ("polled", "filteredOut", "invoked", "failedInvoke", "delivered", "dropped")} == {
        "polled": 6, "filteredOut": 0, "invoked": 6, "failedInvoke": 0, "delivered": 0, "dropped": 0,
    }  # fmt: skip


async def test_an_event_is_what_lambda_sends(
    ministack: str, kinesis: Any, function: RecordingFunction, tmp_path: Path
) -> None:
    stream = await make_stream(kinesis)
    raw = bytes(range(256))
    await stream.put_bytes([raw], key="the key")
    file = write(tmp_path, mapping(stream.arn, function.url, aws={"roleArn": "arn:aws:iam::000000000000:role/r"}))
    async with run(file, ministack, *IDLE) as running:
        assert await running.end() == 0
    (record,) = function.calls[0].event["Records"]
    arrival = record["kinesis"].pop("approximateArrivalTimestamp")
    assert isinstance(arrival, float)
    assert abs(arrival - time.time()) < 60
    assert record == {
        "kinesis": {
            "kinesisSchemaVersion": "1.0",
            "partitionKey": "the key",
            "sequenceNumber": stream.numbers[0],
            "data": base64.b64encode(raw).decode(),
        },
        "eventSource": "aws:kinesis",
        "eventVersion": "1.0",
        "eventID": f"shardId-000000000000:{stream.numbers[0]}",
        "eventName": "aws:kinesis:record",
        "invokeIdentityArn": "arn:aws:iam::000000000000:role/r",
        "awsRegion": "us-east-1",
        "eventSourceARN": stream.arn,
    }
    headers = function.calls[0].headers
    assert headers["Headrace-Mapping"] == "shop/orders"
    assert headers["Headrace-Shard"] == "shardId-000000000000"
    assert headers["Headrace-Attempt"] == "1"
    assert headers["Content-Type"] == "application/json"
    assert len(headers["Headrace-Mapping-Uid"]) == len(headers["Headrace-Request-Id"]) == 36
    deadline = int(headers["Headrace-Deadline-Ms"]) / 1000
    assert 5 <= deadline - function.calls[0].at < 8


async def test_a_poison_record_costs_its_batch_and_not_its_shard(
    ministack: str, kinesis: Any, sqs: Any, function: RecordingFunction, tmp_path: Path
) -> None:
    """Contract K.1 row 2, and the failure record of C.1 to the letter."""
    stream, queue = await make_stream(kinesis), await make_queue(sqs)
    await stream.put("1", "2", "3", "4", "5", "6")
    function.answer = fails_on("2")
    spec = mapping(
        stream.arn, function.url, batchSize=3, maximumRetryAttempts=2, destinationConfig=on_failure(queue.arn)
    )
    async with run(write(tmp_path, spec), ministack, *IDLE) as running:
        assert await running.end() == 0
    assert function.seen == [["1", "2", "3"]] * 3 + [["4", "5", "6"]]
    calls = function.calls
    assert [call.headers["Headrace-Attempt"] for call in calls] == ["1", "2", "3", "1"]
    assert len({call.headers["Headrace-Request-Id"] for call in calls[:3]}) == 1
    assert calls[3].headers["Headrace-Request-Id"] != calls[0].headers["Headrace-Request-Id"]
    (document,) = await queue.drain()
    info = document["KinesisBatchInfo"]
    for instant in (
        document.pop("timestamp"),
        *(info.pop(f"approximateArrivalOf{which}Record") for which in ("First", "Last")),
    ):
        assert len(instant) == len("2019-11-14T00:38:06.021Z")
        assert instant.endswith("Z")
    assert document == {
        "requestContext": {
            "requestId": calls[0].headers["Headrace-Request-Id"],
            "functionArn": "arn:aws:lambda:us-east-1:000000000000:function:orders",
            "condition": "RetryAttemptsExhausted",
            "approximateInvokeCount": 3,
        },
        "responseContext": {"statusCode": 200, "executedVersion": "$LATEST", "functionError": "Unhandled"},
        "version": "1.0",
        "KinesisBatchInfo": {
            "shardId": "shardId-000000000000",
            "startSequenceNumber": stream.numbers[0],
            "endSequenceNumber": stream.numbers[2],
            "batchSize": 3,
            "streamArn": stream.arn,
        },
    }
    assert (running.summary["invoked"], running.summary["failedInvoke"]) == (12, 9)
    assert (running.summary["delivered"], running.summary["dropped"]) == (3, 0)


async def test_throttles_and_an_unreachable_function_spend_no_attempt(
    ministack: str, kinesis: Any, sqs: Any, function: RecordingFunction, tmp_path: Path
) -> None:
    """Contract K.1 rows 6 and 7: T T E ✗ ✗ with one retry is two function calls."""
    stream, queue = await make_stream(kinesis), await make_queue(sqs)
    await stream.put("1")
    answers = iter([status(429), status(429), status(503), function_error(), function_error()])
    function.answer = lambda _: next(answers)
    spec = mapping(stream.arn, function.url, maximumRetryAttempts=1, destinationConfig=on_failure(queue.arn))
    async with run(write(tmp_path, spec), ministack, *IDLE) as running:
        assert await running.end() == 0
    assert len(function.calls) == 5
    (document,) = await queue.drain()
    assert document["requestContext"]["approximateInvokeCount"] == 2


async def test_without_a_destination_a_discard_is_counted_and_told(
    ministack: str, kinesis: Any, function: RecordingFunction, tmp_path: Path
) -> None:
    stream = await make_stream(kinesis)
    await stream.put("1", "2")
    function.answer = fails_on("1")
    spec = mapping(stream.arn, function.url, batchSize=1, maximumRetryAttempts=1)
    async with run(write(tmp_path, spec), ministack, *IDLE) as running:
        assert await running.end() == 0
    assert function.seen == [["1"], ["1"], ["2"]]
    assert running.summary["dropped"] == 1
    (lost,) = running.logged("records lost")
    assert lost["first"] == lost["last"] == stream.numbers[0]


async def test_a_batch_is_split_until_the_poison_is_alone(
    ministack: str, kinesis: Any, sqs: Any, function: RecordingFunction, tmp_path: Path
) -> None:
    """Contract K.2 row 16: sizes 6, 3, 1, 1, 1, 2, 3."""
    stream, queue = await make_stream(kinesis), await make_queue(sqs)
    await stream.put("1", "2", "3", "4", "5", "6")
    function.answer = fails_on("1")
    spec = mapping(
        stream.arn, function.url, batchSize=6, maximumRetryAttempts=2, bisectBatchOnFunctionError=True,
        destinationConfig=on_failure(queue.arn),
    )  # fmt: skip
    async with run(write(tmp_path, spec), ministack, *IDLE) as running:
        assert await running.end() == 0
    assert [len(batch) for batch in function.seen] == [6, 3, 1, 1, 1, 2, 3]
    (document,) = await queue.drain()
    assert document["KinesisBatchInfo"]["batchSize"] == 1
    assert document["requestContext"]["approximateInvokeCount"] == 3


async def test_partial_failures_go_on_at_the_lowest_failed_record(
    ministack: str, kinesis: Any, sqs: Any, function: RecordingFunction, tmp_path: Path
) -> None:
    """Contract K.3 row 24, recorded from AWS: record 6 is seen five times."""
    stream, queue = await make_stream(kinesis), await make_queue(sqs)
    await stream.put("1", "2", "3", "4", "5", "6")

    def answer(call: RecordedCall) -> web.Response:
        failed = [number for number, data in zip(call.sequence_numbers, call.data, strict=True) if data == "6"]
        return web.json_response({"batchItemFailures": [{"itemIdentifier": number} for number in failed]})

    function.answer = answer
    spec = mapping(
        stream.arn, function.url, batchSize=3, maximumRetryAttempts=3, functionResponseTypes=["ReportBatchItemFailures"],
        destinationConfig=on_failure(queue.arn),
    )  # fmt: skip
    async with run(write(tmp_path, spec), ministack, *IDLE) as running:
        assert await running.end() == 0
    assert function.seen == [["1", "2", "3"], ["4", "5", "6"], ["6"], ["6"], ["6"], ["6"]]
    (document,) = await queue.drain()
    assert document["requestContext"]["approximateInvokeCount"] == 4
    assert document["responseContext"]["functionError"] is None


async def test_a_failing_shard_and_a_failing_mapping_hold_up_no_other(
    ministack: str, kinesis: Any, function: RecordingFunction, tmp_path: Path
) -> None:
    stream = await make_stream(kinesis, shards=2)
    for key in range(12):
        await stream.put(f"{key}", key=f"key {key}")
    stuck: set[str] = set()

    def answer(call: RecordedCall) -> web.Response:
        if call.path == "/second":
            return status(503)
        if not stuck:
            stuck.add(call.headers["Headrace-Shard"])
        return function_error() if call.headers["Headrace-Shard"] in stuck else success(call)

    function.answer = answer
    documents = [
        mapping(stream.arn, function.url + "first", batchSize=1),
        mapping(stream.arn, function.url + "second", name="second"),
    ]
    async with run(write(tmp_path, *documents), ministack) as running:

        def passed() -> set[str]:
            return {
                call.data[0] for call in function.calls
                if call.path == "/first" and call.headers["Headrace-Shard"] not in stuck
            }  # fmt: skip

        await function.until(lambda: stuck and len(passed()) >= 2)
        shards = {call.headers["Headrace-Shard"] for call in function.calls if call.path == "/first"}
        assert len(shards) == 2
        assert await running.stop() == 0


async def test_a_run_goes_on_behind_its_checkpoint(
    ministack: str, kinesis: Any, function: RecordingFunction, tmp_path: Path, state: Path
) -> None:
    stream = await make_stream(kinesis)
    await stream.put("1", "2")
    file = write(tmp_path, mapping(stream.arn, function.url))
    async with run(file, ministack, "--state", state, *IDLE) as first:
        assert await first.end() == 0
    await stream.put("3")
    async with run(file, ministack, "--state", state, *IDLE) as second:
        assert await second.end() == 0
    assert [data for batch in function.seen for data in batch] == ["1", "2", "3"]


async def test_latest_starts_with_what_comes_and_stays_pinned_over_restarts(
    ministack: str, kinesis: Any, function: RecordingFunction, tmp_path: Path, state: Path
) -> None:
    """Contract K.1 row 14, and the design's pin: what is written while nothing runs is not missed either."""
    stream = await make_stream(kinesis)
    await stream.put("before")
    file = write(tmp_path, mapping(stream.arn, function.url, startingPosition="LATEST"))
    async with run(file, ministack, "--state", state) as running:
        await running.until(lambda: running.logged("shard started"))
        await running.kill()
    await stream.put("between")
    async with run(file, ministack, "--state", state) as running:
        await running.until(lambda: running.logged("shard started"))
        await stream.put("after")
        await function.until(lambda: "after" in [data for batch in function.seen for data in batch])
    assert [data for batch in function.seen for data in batch] == ["between", "after"]


async def test_at_timestamp_starts_with_the_first_record_of_that_time(
    ministack: str, kinesis: Any, function: RecordingFunction, tmp_path: Path
) -> None:
    stream = await make_stream(kinesis)
    await stream.put("old")
    await asyncio.sleep(0.3)
    since = time.time()
    await stream.put("new")
    spec = mapping(stream.arn, function.url, startingPosition="AT_TIMESTAMP", startingPositionTimestamp=since)
    async with run(write(tmp_path, spec), ministack, *IDLE) as running:
        assert await running.end() == 0
    assert function.seen == [["new"]]


async def test_a_batching_window_gathers(
    ministack: str, kinesis: Any, function: RecordingFunction, tmp_path: Path
) -> None:
    stream = await make_stream(kinesis)
    await stream.put("1", "2")
    began = time.time()
    file = write(tmp_path, mapping(stream.arn, function.url, maximumBatchingWindowInSeconds=3))
    async with run(file, ministack, "--exit-when-idle", 0.5) as running:
        await asyncio.sleep(1.5)
        await stream.put("3")
        assert await running.end() == 0
    assert function.seen == [["1", "2", "3"]]
    assert function.calls[0].at - began >= 3


async def test_expired_records_go_to_the_destination_unseen(
    ministack: str, kinesis: Any, sqs: Any, function: RecordingFunction, tmp_path: Path
) -> None:
    """Contract K.1 row 9: a function out of reach, no retries allowed, age 60: nothing is discarded before 60 s."""
    stream, queue = await make_stream(kinesis), await make_queue(sqs)
    await stream.put("1")
    put_at = time.time()
    function.answer = lambda _: status(503)
    spec = mapping(
        stream.arn, function.url, maximumRetryAttempts=0, maximumRecordAgeInSeconds=60,
        retryBackoff={"initialSeconds": 1, "maximumSeconds": 5}, destinationConfig=on_failure(queue.arn),
    )  # fmt: skip
    async with run(write(tmp_path, spec), ministack, *IDLE) as running:
        assert await running.end(90) == 0
    (document,) = await queue.drain()
    assert time.time() - put_at >= 60
    assert all(call.at - put_at < 60.5 for call in function.calls)
    assert document["requestContext"]["condition"] == "RecordAgeExceeded"
    assert document["requestContext"]["approximateInvokeCount"] == 1
    assert "responseContext" not in document


async def test_a_call_in_flight_finishes_and_counts_at_a_stop(
    ministack: str, kinesis: Any, function: RecordingFunction, tmp_path: Path, state: Path
) -> None:
    stream = await make_stream(kinesis)
    await stream.put("1", "2")

    async def slowly(call: RecordedCall) -> web.Response:
        await asyncio.sleep(1.5)
        return success(call)

    function.answer = slowly
    file = write(tmp_path, mapping(stream.arn, function.url, batchSize=1))
    async with run(file, ministack, "--state", state) as running:
        await function.until(lambda: function.calls)
        assert await running.stop() == 0
    assert function.seen == [["1"]]
    function.answer = success
    async with run(file, ministack, "--state", state, *IDLE) as running:
        assert await running.end() == 0
    assert function.seen == [["1"], ["2"]]


async def test_what_the_last_call_gives_up_at_a_stop_is_handed_over_and_not_called_again(
    ministack: str, kinesis: Any, sqs: Any, function: RecordingFunction, tmp_path: Path, state: Path
) -> None:
    stream, queue = await make_stream(kinesis), await make_queue(sqs)
    await stream.put("1")

    async def slowly(_: RecordedCall) -> web.Response:
        await asyncio.sleep(1.5)
        return function_error()

    function.answer = slowly
    spec = mapping(stream.arn, function.url, maximumRetryAttempts=0, destinationConfig=on_failure(queue.arn))
    file = write(tmp_path, spec)
    async with run(file, ministack, "--state", state) as running:
        await function.until(lambda: function.calls)
        assert await running.stop() == 0
    async with run(file, ministack, "--state", state, *IDLE) as running:
        assert await running.end() == 0
    assert function.seen == [["1"]]
    (document,) = await queue.drain()
    assert document["requestContext"]["approximateInvokeCount"] == 1


@pytest.mark.parametrize("with_signal", ["SIGTERM", "SIGINT"])
async def test_a_batch_that_waits_is_left_for_the_next_start(
    ministack: str, kinesis: Any, function: RecordingFunction, tmp_path: Path, with_signal: str
) -> None:
    import signal

    stream: Stream = await make_stream(kinesis)
    await stream.put("1")
    function.answer = lambda _: function_error()
    spec = mapping(stream.arn, function.url, retryBackoff={"initialSeconds": 60, "maximumSeconds": 60})
    async with run(write(tmp_path, spec), ministack) as running:
        await function.until(lambda: function.calls)
        began = time.monotonic()
        assert await running.stop(getattr(signal, with_signal)) == 0
        assert time.monotonic() - began < 3
    assert running.summary["invoked"] == running.summary["failedInvoke"] == len(function.calls)


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells which signals a process catches")
@pytest.mark.parametrize("pause", [0.0, 0.2, 0.5, 0.8])
async def test_a_stop_while_it_starts_is_a_clean_end_too(
    ministack: str, kinesis: Any, function: RecordingFunction, tmp_path: Path, pause: float
) -> None:
    stream = await make_stream(kinesis)
    async with run(write(tmp_path, mapping(stream.arn, function.url)), ministack) as running:
        await running.until(running.catches_sigterm)  # before that it is Python that starts
        await asyncio.sleep(pause)
        assert await running.stop() == 0
    assert not any("Traceback" in line for line in running.lines)
