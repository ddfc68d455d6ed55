"""`headrace run` on SQS queues of ministack: what the function sees, what is left in the queue (contract F, K.8)."""

from __future__ import annotations

import asyncio
import itertools
import json
import random
import time
from collections import Counter, defaultdict
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from tests.support.aws import Queue, make_queue, unique
from tests.support.faulty import Fault, faulty
from tests.support.function import RecordedCall, RecordingFunction, fails_on, function_error, status, success
from tests.support.headrace import mapping, run, write
from tests.support.mappings import filters

IDLE = ("--exit-when-idle", 1.5)
VISIBILITY = 5
PARTIAL = {"functionResponseTypes": ["ReportBatchItemFailures"]}


async def make(sqs: Any, *, fifo: bool = False, **attributes: str) -> Queue:
    told = {"VisibilityTimeout": str(VISIBILITY), **({"FifoQueue": "true"} if fifo else {}), **attributes}
    return await make_queue(sqs, **told)


async def with_dead_letters(sqs: Any, receives: int, *, fifo: bool = False) -> tuple[Queue, Queue]:
    letters = await make(sqs, fifo=fifo)
    policy = json.dumps({"deadLetterTargetArn": letters.arn, "maxReceiveCount": receives})
    return await make(sqs, fifo=fifo, RedrivePolicy=policy), letters


async def send(queue: Queue, *bodies: str, group: str | None = None) -> list[str]:
    """Sends messages; gives their ids."""
    ids = []
    for body in bodies:
        fifo = {"MessageGroupId": group, "MessageDeduplicationId": unique("d")} if group else {}
        ids.append((await queue.sqs.send_message(QueueUrl=queue.url, MessageBody=body, **fifo))["MessageId"])
    return ids


async def counts(queue: Queue) -> tuple[int, int]:
    """Messages that can be received, and those that are invisible."""
    names = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"]
    told = (await queue.sqs.get_queue_attributes(QueueUrl=queue.url, AttributeNames=names))["Attributes"]
    return int(told[names[0]]), int(told[names[1]])


def source(queue: Queue, url: str, **spec: Any) -> dict[str, Any]:
    made = mapping(queue.arn, url, **spec)
    del made["spec"]["startingPosition"]
    return made


def receives(call: RecordedCall) -> list[int]:
    return [int(one["attributes"]["ApproximateReceiveCount"]) for one in call.event["Records"]]


def partial(*ids: object) -> web.Response:
    return web.json_response({"batchItemFailures": [{"itemIdentifier": one} for one in ids]})


async def test_messages_come_in_one_call_and_are_deleted(
    ministack: str, sqs: Any, function: RecordingFunction, tmp_path: Path
) -> None:
    queue = await make(sqs)
    await send(queue, "a", "b", "c")
    async with run(write(tmp_path, source(queue, function.url)), ministack, *IDLE) as running:
        assert await running.end() == 0
    assert function.seen == [["a", "b", "c"]]
    assert await counts(queue) == (0, 0)
    assert running.summary["deleted"] == 3


async def test_an_event_is_what_lambda_sends(
    ministack: str, sqs: Any, function: RecordingFunction, tmp_path: Path
) -> None:
    queue = await make(sqs)
    attributes = {
        "Number": {"DataType": "Number", "StringValue": "6"},
        "Bytes": {"DataType": "Binary", "BinaryValue": b"\x00\xff"},
    }
    body = '{"é": "\\u00e9", "n": 1.0}'
    sent = await sqs.send_message(QueueUrl=queue.url, MessageBody=body, MessageAttributes=attributes)
    async with run(write(tmp_path, source(queue, function.url)), ministack, *IDLE) as running:
        assert await running.end() == 0
    (record,) = function.calls[0].event["Records"]
    told = record.pop("attributes")
    assert isinstance(record.pop("receiptHandle"), str)
    assert told["ApproximateReceiveCount"] == "1"
    assert abs(int(told["SentTimestamp"]) / 1000 - time.time()) < 60
    assert all(isinstance(value, str) for value in told.values())
    assert record == {
        "messageId": sent["MessageId"],
        "body": body,
        "messageAttributes": {
            "Number": {"stringValue": "6", "stringListValues": [], "binaryListValues": [], "dataType": "Number"},
            "Bytes": {"binaryValue": "AP8=", "stringListValues": [], "binaryListValues": [], "dataType": "Binary"},
        },
        "md5OfBody": sent["MD5OfMessageBody"],
        "md5OfMessageAttributes": sent["MD5OfMessageAttributes"],
        "eventSource": "aws:sqs",
        "eventSourceARN": queue.arn,
        "awsRegion": "us-east-1",
    }


async def test_what_fails_comes_again_after_the_visibility_timeout_and_ends_in_the_dead_letter_queue(
    ministack: str, sqs: Any, function: RecordingFunction, tmp_path: Path
) -> None:
    queue, letters = await with_dead_letters(sqs, 2)
    (message_id,) = await send(queue, "poison")
    function.answer = fails_on("poison")
    async with run(write(tmp_path, source(queue, function.url)), ministack) as running:
        await function.until(lambda: len(function.calls) == 2)
        async with asyncio.timeout(60):
            while await counts(letters) == (0, 0):
                await asyncio.sleep(0.2)
        assert await running.stop() == 0
    assert [receives(call) for call in function.calls] == [[1], [2]]
    assert function.calls[1].at - function.calls[0].at >= VISIBILITY - 0.5
    (letter,) = (await sqs.receive_message(QueueUrl=letters.url))["Messages"]
    assert (letter["Body"], letter["MessageId"]) == ("poison", message_id)


async def test_of_a_partial_answer_the_named_messages_stay_and_the_rest_is_deleted(
    ministack: str, sqs: Any, function: RecordingFunction, tmp_path: Path
) -> None:
    queue = await make(sqs, VisibilityTimeout="60")
    ids = await send(queue, "a", "b", "c", "d")
    function.answer = lambda _: partial(ids[0], ids[2])
    async with run(write(tmp_path, source(queue, function.url, **PARTIAL)), ministack, *IDLE) as running:
        assert await running.end() == 0
    assert await counts(queue) == (0, 2)
    assert (running.summary["deleted"], running.summary["failedInvoke"]) == (2, 2)


@pytest.mark.parametrize(
    "answer",
    [
        {"batchItemFailures": [{"itemIdentifier": "nobody's"}]},
        {"batchItemFailures": [{"itemIdentifier": ""}]},
        {"batchItemFailures": [{"itemIdentifier": None}]},
        {"batchItemFailures": [{"itemIdentifier": 7}]},
        {"batchItemFailures": [{"foo": "bar"}]},
        {"batchItemFailures": [{}]},
        {"batchItemFailures": "all"},
    ],
    ids=str,
)
async def test_an_answer_that_names_no_message_of_the_batch_deletes_nothing(
    answer: Any, ministack: str, sqs: Any, function: RecordingFunction, tmp_path: Path
) -> None:
    queue = await make(sqs, VisibilityTimeout="60")
    await send(queue, "a", "b")
    function.answer = lambda _: web.json_response(answer)
    async with run(write(tmp_path, source(queue, function.url, **PARTIAL)), ministack, *IDLE) as running:
        assert await running.end() == 0
    assert await counts(queue) == (0, 2)


async def test_a_window_fills_one_batch_after_the_other(
    ministack: str, sqs: Any, function: RecordingFunction, tmp_path: Path
) -> None:
    queue = await make(sqs)
    file = write(tmp_path, source(queue, function.url, batchSize=15, maximumBatchingWindowInSeconds=2))
    async with run(file, ministack, *IDLE) as running:
        await running.until(lambda: running.logged("shard started"))
        for number in range(20):
            await send(queue, str(number))
            await asyncio.sleep(0.02)
        assert await running.end() == 0
    assert [len(call.data) for call in function.calls] == [15, 5]
    assert await counts(queue) == (0, 0)


async def test_maximum_concurrency_bounds_the_calls_in_flight(
    ministack: str, sqs: Any, function: RecordingFunction, tmp_path: Path
) -> None:
    queue = await make(sqs)
    await asyncio.gather(*(send(queue, str(number)) for number in range(60)))

    async def slowly(_: RecordedCall) -> web.Response:
        await asyncio.sleep(0.02)
        return web.json_response(None)

    function.answer = slowly
    spec = {"batchSize": 1, "scalingConfig": {"maximumConcurrency": 2}}
    async with run(write(tmp_path, source(queue, function.url, **spec)), ministack, *IDLE) as running:
        assert await running.end() == 0
    assert len(function.calls) == 60
    assert function.most_in_flight == 2


async def test_a_throttled_batch_is_held_for_longer_than_its_visibility_and_spends_no_receive(
    ministack: str, sqs: Any, function: RecordingFunction, tmp_path: Path
) -> None:
    queue = await make(sqs)
    await send(queue, "a", "b")
    began = time.monotonic()
    function.answer = lambda call: status(429) if time.monotonic() - began < 2 * VISIBILITY else success(call)
    async with run(write(tmp_path, source(queue, function.url)), ministack, *IDLE) as running:
        await function.until(lambda: function.calls)
        await send(queue, "later")
        assert await running.end() == 0
    assert Counter(one for call in function.calls for one in receives(call)).keys() == {1}
    assert [call.data for call in function.calls[-2:]] == [["a", "b"], ["later"]]
    assert await counts(queue) == (0, 0)


async def test_a_call_that_takes_longer_than_the_visibility_is_not_made_twice(
    ministack: str, sqs: Any, function: RecordingFunction, tmp_path: Path
) -> None:
    queue = await make(sqs)
    await send(queue, "a")

    async def slowly(_: RecordedCall) -> web.Response:
        await asyncio.sleep(2 * VISIBILITY)
        return web.json_response(None)

    function.answer = slowly
    spec = {"function": {"url": function.url, "timeoutSeconds": 30}}
    async with run(write(tmp_path, source(queue, function.url, **spec)), ministack, *IDLE) as running:
        assert await running.end() == 0
    assert function.seen == [["a"]]
    assert await counts(queue) == (0, 0)
    (warning,) = [one for one in running.logged("condition does not hold") if one["condition"] == "VisibilityTimeout"]
    assert "visibility timeout of 5 s is shorter than spec.function.timeoutSeconds of 30 s" in warning["message"]


async def test_a_stop_finishes_what_is_in_flight_and_gives_the_rest_back_at_once(
    ministack: str, sqs: Any, function: RecordingFunction, tmp_path: Path
) -> None:
    queue = await make(sqs, VisibilityTimeout="600")
    await send(queue, "held", "good")
    finish = asyncio.Event()

    async def answers(call: RecordedCall) -> web.StreamResponse:
        if call.data == ["held"]:
            return status(503)
        await finish.wait()
        return success(call)

    function.answer = answers
    async with run(write(tmp_path, source(queue, function.url, batchSize=1)), ministack) as running:
        await function.until(lambda: ["held"] in function.seen and ["good"] in function.seen)
        ending = asyncio.ensure_future(running.stop())
        await asyncio.sleep(0.3)
        finish.set()
        assert await ending == 0
    assert await counts(queue) == (1, 0)


async def test_messages_that_no_filter_matches_are_deleted_without_a_call(
    ministack: str, sqs: Any, function: RecordingFunction, tmp_path: Path
) -> None:
    queue = await make(sqs)
    await send(queue, '{"keep": true}', '{"keep": false}', "no JSON")
    filters = {"filters": [{"pattern": json.dumps({"body": {"keep": [True]}})}]}
    async with run(write(tmp_path, source(queue, function.url, filterCriteria=filters)), ministack, *IDLE) as running:
        assert await running.end() == 0
    assert function.seen == [['{"keep": true}']]
    assert await counts(queue) == (0, 0)
    told = {name: running.summary[name] for name in ("polled", "filteredOut", "invoked", "deleted")}
    assert told == {"polled": 3, "filteredOut": 2, "invoked": 1, "deleted": 3}


async def test_of_a_fifo_group_one_batch_is_in_flight_and_order_is_kept(
    ministack: str, sqs: Any, function: RecordingFunction, tmp_path: Path
) -> None:
    queue = await make(sqs, fifo=True)
    await send(queue, *"abcde", group="g")

    async def slowly(_: RecordedCall) -> web.Response:
        await asyncio.sleep(0.3)
        return web.json_response(None)

    function.answer = slowly
    async with run(write(tmp_path, source(queue, function.url, batchSize=1)), ministack, *IDLE) as running:
        assert await running.end() == 0
    assert function.seen == [["a"], ["b"], ["c"], ["d"], ["e"]]
    assert function.most_in_flight == 1


async def test_what_a_fifo_group_fails_at_is_called_again_before_what_follows_while_other_groups_go_on(
    ministack: str, sqs: Any, function: RecordingFunction, tmp_path: Path
) -> None:
    queue = await make(sqs, fifo=True)
    await send(queue, "a1", "a2", "a3", group="a")
    await send(queue, "b1", "b2", group="b")
    failed: list[int] = []

    def answer(call: RecordedCall) -> web.Response:
        if call.data == ["a1"] and not failed:
            failed.append(1)
            return function_error()
        return success(call)

    function.answer = answer
    async with run(write(tmp_path, source(queue, function.url, batchSize=1)), ministack) as running:
        await function.until(lambda: ["a3"] in function.seen)
        assert await running.stop() == 0
    assert [one for one in function.seen if one[0].startswith("a")] == [["a1"], ["a1"], ["a2"], ["a3"]]
    assert function.seen.index(["b2"]) < len(function.seen) - 3


async def test_fifty_fifo_groups_keep_their_order_under_random_failures(
    ministack: str, sqs: Any, function: RecordingFunction, tmp_path: Path
) -> None:
    queue = await make(sqs, fifo=True)
    groups, each = 50, 6
    for number in range(each):
        await asyncio.gather(*(send(queue, f"{group}:{number}", group=str(group)) for group in range(groups)))
    chance = random.Random(7)
    acknowledged: dict[str, list[int]] = defaultdict(list)

    def answer(call: RecordedCall) -> web.Response:
        if chance.random() < 0.1:
            return function_error()
        for one in call.data:
            group, number = one.split(":")
            acknowledged[group].append(int(number))
        return success(call)

    function.answer = answer
    async with run(write(tmp_path, source(queue, function.url, batchSize=5)), ministack) as running:
        await running.until(lambda: sum(map(len, acknowledged.values())) >= groups * each, 100)
        assert await running.stop() == 0
    assert all(numbers == list(range(each)) for numbers in acknowledged.values()), dict(acknowledged)
    assert await counts(queue) == (0, 0)


async def test_killed_again_and_again_no_message_is_lost_and_none_comes_before_its_visibility_is_over(
    ministack: str, sqs: Any, function: RecordingFunction, tmp_path: Path
) -> None:
    queue = await make(sqs)
    total = 1_000
    file = write(tmp_path, source(queue, function.url, batchSize=5))
    handed: dict[str, list[float]] = defaultdict(list)

    async def answer(call: RecordedCall) -> web.Response:
        for one in call.data:
            handed[one].append(time.monotonic())
        await asyncio.sleep(0.05)
        return success(call)

    function.answer = answer
    sending = asyncio.ensure_future(asyncio.gather(*(send(queue, str(number)) for number in range(total))))
    for _ in range(4):
        async with run(file, ministack) as running:
            await running.until(lambda: running.logged("shard started"))
            await asyncio.sleep(0.4)
            await running.kill()
    await sending
    async with run(file, ministack) as running:
        await running.until(lambda: running.logged("shard started"))
        await function.until(lambda: len(handed) == total)
        async with asyncio.timeout(60):
            while await counts(queue) != (0, 0):
                await asyncio.sleep(0.2)
        assert await running.stop() == 0
    gaps = [later - before for times in handed.values() for before, later in itertools.pairwise(times)]
    assert min(gaps, default=VISIBILITY) >= VISIBILITY - 0.5
    print(f"{len(gaps)} of {total} came again")


async def test_a_queue_that_is_not_there_is_told_and_read_once_it_is(
    ministack: str, sqs: Any, function: RecordingFunction, tmp_path: Path
) -> None:
    queue = await make(sqs)
    await sqs.delete_queue(QueueUrl=queue.url)
    async with run(write(tmp_path, source(queue, function.url)), ministack) as running:
        await running.until(lambda: running.logged("condition does not hold"))
        told = running.logged("condition does not hold")[0]
        assert (told["condition"], told["reason"]) == ("SourceReachable", "NotFound")
        assert "create it, or correct spec.eventSourceArn" in told["message"]
        name = queue.arn.rpartition(":")[2]
        made = await sqs.create_queue(QueueName=name, Attributes={"VisibilityTimeout": "30"})
        await sqs.send_message(QueueUrl=made["QueueUrl"], MessageBody="a")
        await function.until(lambda: function.seen == [["a"]])
        assert await running.stop() == 0


async def test_a_queue_that_is_denied_is_told_with_the_rights_that_it_takes_and_read_once_they_are_there(
    ministack: str, sqs: Any, function: RecordingFunction, tmp_path: Path
) -> None:
    queue = await make(sqs)
    await send(queue, "a")
    async with faulty(ministack) as way:
        way.faults["ReceiveMessage"] = [Fault(400, "AccessDeniedException")] * 3
        async with run(write(tmp_path, source(queue, function.url)), way.url) as running:
            await function.until(lambda: function.seen == [["a"]])
            assert await running.stop() == 0
    told = [one for one in running.logged("condition does not hold") if one["condition"] == "SourceReachable"]
    assert {one["reason"] for one in told} == {"AccessDenied"}
    assert "allow sqs:ReceiveMessage, DeleteMessage, ChangeMessageVisibility" in told[0]["message"]


async def test_a_queue_of_another_region_is_told_with_what_to_look_at(
    ministack: str, sqs: Any, function: RecordingFunction, tmp_path: Path
) -> None:
    queue = await make(sqs)
    document = source(queue, function.url)
    document["spec"]["eventSourceArn"] = queue.arn.replace("us-east-1", "eu-west-1")
    async with run(write(tmp_path, document), ministack) as running:
        await running.until(lambda: running.logged("condition does not hold"))
        assert await running.stop() == 0
    told = running.logged("condition does not hold")[0]
    assert (told["condition"], told["reason"]) == ("SourceReachable", "NotFound")
    assert "spec.aws.region" in told["message"]


async def test_a_filter_on_a_field_that_no_message_has_is_told_at_the_start(
    ministack: str, sqs: Any, function: RecordingFunction, tmp_path: Path
) -> None:
    queue = await make(sqs)
    document = source(queue, function.url, filterCriteria=filters('{"data": {"kind": ["order"]}}'))
    async with run(write(tmp_path, document), ministack, *IDLE) as running:
        assert await running.end() == 0
    (told,) = running.logged("a filter matches nothing")
    assert (told["filter"], told["field"], told["data_field"]) == (
        "spec.filterCriteria.filters[0].pattern", "data", "body",
    )  # fmt: skip


async def test_a_queue_without_dead_letters_is_told_with_advice(
    ministack: str, sqs: Any, function: RecordingFunction, tmp_path: Path
) -> None:
    queue = await make(sqs, VisibilityTimeout="30")
    async with run(write(tmp_path, source(queue, function.url)), ministack, *IDLE) as running:
        assert await running.end() == 0
    (told,) = running.logged("condition does not hold")
    assert (told["condition"], told["reason"]) == ("DeadLetterQueue", "NoDeadLetterQueue")
    assert "give it a dead-letter queue" in told["message"]
