"""`headrace run` as a process: each kind of destination after a poison record, and a function that takes CloudEvents."""

from __future__ import annotations

import base64
import json
import re
import uuid
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any, cast

import pytest
from aiohttp import web

from tests.support.aws import client, make_queue, make_stream, unique
from tests.support.function import RecordedCall, RecordingFunction, fails_on, function_error
from tests.support.headrace import mapping, on_failure, run, write
from tests.support.places import Bucket, place

IDLE = ("--exit-when-idle", 1.5)
NOUNS = {"sns": "topic", "s3": "bucket"}


@pytest.fixture
async def bucket(ministack: str) -> AsyncIterator[Bucket]:
    async with client("s3", ministack) as s3:
        made = Bucket(s3, unique("bucket"))
        await made.create()
        yield made


@pytest.mark.parametrize("kind", ["sqs", "sns", "s3"])
async def test_a_poison_record_ends_in_the_destination_and_the_shard_goes_on(
    kind: str, ministack: str, kinesis: Any, function: RecordingFunction, tmp_path: Path
) -> None:
    """Contract K.5 rows 54 and 55."""
    stream = await make_stream(kinesis)
    await stream.put("1", "2", "3", "4")
    function.answer = fails_on("2")
    async with AsyncExitStack() as stack:
        there = await place(kind, ministack, stack)
        await there.create()
        spec = mapping(
            stream.arn, function.url, batchSize=2, maximumRetryAttempts=1, destinationConfig=on_failure(there.arn)
        )
        async with run(write(tmp_path, spec), ministack, *IDLE) as running:
            assert await running.end() == 0
        (document,) = await there.documents()
    assert function.seen == [["1", "2"], ["1", "2"], ["3", "4"]]
    assert document["requestContext"]["requestId"] == function.calls[1].headers["Headrace-Request-Id"]
    assert document["requestContext"]["approximateInvokeCount"] == 2
    info = document["KinesisBatchInfo"]
    assert (info["startSequenceNumber"], info["endSequenceNumber"]) == tuple(stream.numbers[:2])
    assert ("payload" in document) == (kind == "s3")
    assert (running.summary["delivered"], running.summary["dropped"]) == (2, 0)


async def test_an_object_has_the_key_of_aws_and_the_last_event_as_its_payload(
    ministack: str, kinesis: Any, bucket: Bucket, function: RecordingFunction, tmp_path: Path
) -> None:
    stream = await make_stream(kinesis)
    await stream.put("1", '{"a": "ä"}')
    function.answer = lambda _: function_error()
    spec = mapping(stream.arn, function.url, maximumRetryAttempts=0, destinationConfig=on_failure(bucket.arn))
    async with run(write(tmp_path, spec), ministack, *IDLE) as running:
        assert await running.end() == 0
    (stored,) = await bucket.objects()
    (call,) = function.calls
    assert json.loads(stored.document["payload"]) == call.event
    *folders, name = stored.key.split("/")
    instant, identity = stored.document["timestamp"], name[len("2019-11-14T00.38.06-") :]
    uid = call.headers["Headrace-Mapping-Uid"]
    assert folders == ["aws", "lambda", uid, "shardId-000000000000", *instant[:10].split("-")]
    assert name == f"{instant[:19].replace(':', '.')}-{identity}"
    assert str(uuid.UUID(identity)) == identity
    assert stored.content_type == "application/octet-stream"


@pytest.mark.parametrize("kind", ["sns", "s3"])
async def test_a_blocked_destination_holds_the_batch_until_it_is_there(
    kind: str, ministack: str, kinesis: Any, function: RecordingFunction, tmp_path: Path
) -> None:
    stream = await make_stream(kinesis)
    await stream.put("1", "2")
    function.answer = fails_on("1")
    async with AsyncExitStack() as stack:
        there = await place(kind, ministack, stack)
        spec = mapping(
            stream.arn, function.url, batchSize=1, maximumRetryAttempts=0, destinationConfig=on_failure(there.arn)
        )
        async with run(write(tmp_path, spec), ministack, *IDLE) as running:
            await running.until(lambda: running.logged("failure record could not be delivered"))
            assert any(f"create the {NOUNS[kind]}" in line for line in running.lines)
            assert function.seen == [["1"]]
            await there.create()
            assert await running.end() == 0
    # Not what lies there: a topic is made before anybody can subscribe to it, and may be published to in between.
    assert (running.summary["delivered"], running.summary["dropped"]) == (1, 0)
    assert function.seen == [["1"], ["2"]]


@pytest.mark.parametrize("ended", ["killed", "stopped"])
async def test_what_waits_for_its_destination_is_not_called_again_after_a_restart(
    ended: str, ministack: str, kinesis: Any, sqs: Any, function: RecordingFunction, tmp_path: Path
) -> None:
    stream = await make_stream(kinesis)
    await stream.put("1", "2")
    function.answer = fails_on("1")
    name = unique("later")
    arn = f"arn:aws:sqs:us-east-1:000000000000:{name}"
    policy: dict[str, Any] = {"batchSize": 1, "maximumRetryAttempts": 1, "destinationConfig": on_failure(arn)}
    file = write(tmp_path, mapping(stream.arn, function.url, **policy))
    kept = ("--state", tmp_path / "state")
    async with run(file, ministack, *kept) as running:
        await running.until(lambda: running.logged("failure record could not be delivered"))
        await (running.kill() if ended == "killed" else running.stop())
    queue = await make_queue(sqs, name)
    async with run(file, ministack, *kept, *IDLE) as running:
        assert await running.end() == 0
    (record,) = await queue.drain()
    assert record["requestContext"]["approximateInvokeCount"] == 2
    assert record["responseContext"]["functionError"] == "Unhandled"
    assert function.seen == [["1"], ["1"], ["2"]]


# CloudEvents


def events_of(call: RecordedCall) -> list[dict[str, Any]]:
    """The body of a call with CloudEvents is an array."""
    return cast("list[dict[str, Any]]", call.event)


def data_of(call: RecordedCall) -> list[str]:
    return [base64.b64decode(event["data_base64"]).decode() for event in events_of(call)]


def cloudevents(arn: str, url: str, **spec: Any) -> dict[str, Any]:
    return mapping(arn, url, function={"url": url, "protocol": "cloudevents", "timeoutSeconds": 5}, **spec)


async def test_a_function_gets_a_batch_of_cloudevents(
    ministack: str, kinesis: Any, function: RecordingFunction, tmp_path: Path
) -> None:
    stream = await make_stream(kinesis)
    await stream.put("1", "2", "3")
    function.answer = lambda _: web.Response(status=202)
    async with run(write(tmp_path, cloudevents(stream.arn, function.url, batchSize=2)), ministack, *IDLE) as running:
        assert await running.end() == 0
    assert [data_of(call) for call in function.calls] == [["1", "2"], ["3"]]
    headers = function.calls[0].headers
    assert headers["Content-Type"] == "application/cloudevents-batch+json"
    assert headers["Headrace-Attempt"] == "1"
    first = events_of(function.calls[0])[0]
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", first.pop("time"))
    assert first == {
        "specversion": "1.0",
        "id": f"shardId-000000000000:{stream.numbers[0]}",
        "source": stream.arn,
        "type": "aws.kinesis.record",
        "partitionkey": "k",
        "sequencenumber": stream.numbers[0],
        "datacontenttype": "application/octet-stream",
        "data_base64": "MQ==",
    }


async def test_a_poison_cloudevent_is_kept_as_lambdas_event(
    ministack: str, kinesis: Any, bucket: Bucket, function: RecordingFunction, tmp_path: Path
) -> None:
    stream = await make_stream(kinesis)
    await stream.put("1", "2", "3")
    function.answer = lambda call: web.Response(status=500 if "2" in data_of(call) else 204)
    spec = cloudevents(
        stream.arn, function.url, batchSize=3, maximumRetryAttempts=0, bisectBatchOnFunctionError=True,
        destinationConfig=on_failure(bucket.arn),
    )  # fmt: skip
    async with run(write(tmp_path, spec), ministack, *IDLE) as running:
        assert await running.end() == 0
    assert [data_of(call) for call in function.calls] == [["1", "2", "3"], ["1"], ["2", "3"], ["2"], ["3"]]
    (stored,) = await bucket.objects()
    (record,) = json.loads(stored.document["payload"])["Records"]
    assert record["eventSource"] == "aws:kinesis"
    assert record["kinesis"]["data"] == "Mg=="
    assert stored.document["responseContext"]["statusCode"] == 500


async def test_a_function_of_cloudevents_can_say_which_records_failed(
    ministack: str, kinesis: Any, function: RecordingFunction, tmp_path: Path
) -> None:
    stream = await make_stream(kinesis)
    await stream.put("1", "2", "3")

    def answer(call: RecordedCall) -> web.Response:
        failed = [events_of(call)[1]["sequencenumber"]] if len(function.calls) == 1 else []
        return web.json_response({"batchItemFailures": [{"itemIdentifier": number} for number in failed]})

    function.answer = answer
    spec = cloudevents(stream.arn, function.url, functionResponseTypes=["ReportBatchItemFailures"])
    async with run(write(tmp_path, spec), ministack, *IDLE) as running:
        assert await running.end() == 0
    assert [data_of(call) for call in function.calls] == [["1", "2", "3"], ["2", "3"]]
