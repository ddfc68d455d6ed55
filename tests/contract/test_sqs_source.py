"""The queue as a source: on ministack, and against a server that answers as a test says."""

from __future__ import annotations

import asyncio
import base64
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import botocore.session
import orjson
import pytest
from aiobotocore.parsers import AioResponseParserFactory
from aiohttp import web
from hypothesis import given
from hypothesis import strategies as st

from headrace.arns import parse_arn
from headrace.errors import Reason, SourceError, Throttled
from headrace.spec import parse_mapping
from headrace.stream.answers import RecordsParserFactory
from headrace.stream.aws import AwsAccess, AwsSettings
from headrace.stream.settings import delivery_of
from headrace.stream.sources.sqs import SqsQueue, to_record
from tests.support.answering import answering as serving
from tests.support.aws import REGION, client, unique
from tests.support.mappings import filters, manifest

ARN = f"arn:aws:sqs:{REGION}:000000000000:orders"


@asynccontextmanager
async def opened(url: str, arn: str = ARN) -> AsyncIterator[SqsQueue]:
    queue = SqsQueue(parse_arn(arn), REGION, AwsAccess(AwsSettings(endpoint_url=url)))
    try:
        yield queue
    finally:
        await queue.aclose()


@pytest.fixture
async def queue(ministack: str, sqs: Any) -> AsyncIterator[tuple[SqsQueue, str]]:
    name = unique("orders")
    made = await sqs.create_queue(QueueName=name, Attributes={"VisibilityTimeout": "7"})
    async with opened(ministack, f"arn:aws:sqs:{REGION}:000000000000:{name}") as source:
        yield source, made["QueueUrl"]


async def test_a_queue_tells_its_visibility_its_backlog_and_whether_it_has_dead_letters(
    queue: tuple[SqsQueue, str], sqs: Any
) -> None:
    source, url = queue
    await sqs.send_message(QueueUrl=url, MessageBody="a")
    facts = await source.facts()
    assert (facts.visibility, facts.backlog, facts.dead_letters) == (7.0, 1, False)
    letters = unique("letters")
    await sqs.create_queue(QueueName=letters)
    target = f"arn:aws:sqs:{REGION}:000000000000:{letters}"
    policy = orjson.dumps({"deadLetterTargetArn": target, "maxReceiveCount": 3}).decode()
    await sqs.set_queue_attributes(QueueUrl=url, Attributes={"RedrivePolicy": policy})
    assert (await source.facts()).dead_letters


async def test_what_is_received_is_invisible_for_so_long_and_comes_again_with_another_receipt(
    queue: tuple[SqsQueue, str], sqs: Any
) -> None:
    source, url = queue
    await sqs.send_message(QueueUrl=url, MessageBody="a")
    (first,) = await source.receive(10, 1, 1.0)
    assert 0 <= first.expires - time.monotonic() <= 1
    assert not await source.receive(10, 0, 1.0)
    (second,) = await source.receive(10, 5, 30.0)
    assert second.message_id == first.message_id
    assert second.receipt != first.receipt


async def test_a_message_that_was_waited_for_is_invisible_from_its_receive_on(
    queue: tuple[SqsQueue, str], sqs: Any
) -> None:
    source, url = queue
    waiting = asyncio.ensure_future(source.receive(10, 10, 3.0))
    await asyncio.sleep(2.5)
    await sqs.send_message(QueueUrl=url, MessageBody="late")
    (message,) = await waiting
    assert message.expires - time.monotonic() > 1


async def test_messages_are_deleted_held_and_given_back_ten_at_a_time(queue: tuple[SqsQueue, str], sqs: Any) -> None:
    source, url = queue
    for number in range(10):
        await sqs.send_message(QueueUrl=url, MessageBody=str(number))
    messages = await source.receive(10, 1, 2.0)
    assert len(messages) == 10
    confirmed = await source.delete(messages[:4])
    assert (len(confirmed.done), list(confirmed.again), list(confirmed.late)) == (4, [], [])
    assert len((await source.hold(messages[4:7], [30.0] * 3)).done) == 3
    assert len((await source.hold(messages[7:], [0.0] * 3)).done) == 3
    given_back = await source.receive(10, 1, 30.0)
    assert {one.message_id for one in given_back} == {one.message_id for one in messages[7:]}
    await asyncio.sleep(2.2)
    assert not await source.receive(10, 0, 30.0)


async def test_a_queue_that_is_not_there_is_told_with_what_to_do(ministack: str) -> None:
    async with opened(ministack, f"arn:aws:sqs:{REGION}:000000000000:{unique('nowhere')}") as source:
        with pytest.raises(SourceError) as told:
            await source.receive(10, 0, 30.0)
    assert told.value.reason is Reason.NOT_FOUND
    assert "create it, or correct spec.eventSourceArn" in told.value.message


# ---- answers as a test says


@asynccontextmanager
async def answering(**answers: Any) -> AsyncIterator[SqsQueue]:
    """A server that answers each operation with a value, bytes, or a status and a code."""

    async def serve(request: web.Request) -> web.Response:
        operation = request.headers["X-Amz-Target"].partition(".")[2]
        said = answers.get(operation, {"QueueUrl": "http://q/orders"})
        if isinstance(said, tuple):
            status, code = said
            return web.json_response({"__type": f"com.amazonaws.sqs#{code}", "message": "no"}, status=status)
        body = said if isinstance(said, bytes) else orjson.dumps(said)
        return web.Response(body=body, content_type="application/x-amz-json-1.0")

    async with serving(serve) as url, opened(url) as source:
        yield source


@pytest.mark.parametrize(
    ("status", "code", "looked_up"),
    [
        (400, "QueueDoesNotExist", 2),
        (503, "ServiceUnavailable", 2),
        (400, "AccessDeniedException", 1),
        (400, "RequestThrottled", 1),
    ],
)
async def test_the_queues_address_is_looked_up_again_where_it_may_be_another(
    status: int, code: str, looked_up: int
) -> None:
    asked: list[str] = []

    async def serve(request: web.Request) -> web.Response:
        asked.append(request.headers["X-Amz-Target"].rpartition(".")[2])
        if asked[-1] == "GetQueueUrl":
            return web.json_response({"QueueUrl": f"http://{request.host}/0/orders"})
        return web.json_response({"__type": f"com.amazonaws.sqs#{code}", "message": "no"}, status=status)

    async with serving(serve) as url, opened(url) as source:
        for _ in range(2):
            with pytest.raises(SourceError):
                await source.receive(10, 0, 30.0)
    assert asked.count("GetQueueUrl") == looked_up
    assert asked.count("ReceiveMessage") == 2


def entry(**fields: Any) -> dict[str, Any]:
    told = {
        "MessageId": "m1",
        "ReceiptHandle": "r1",
        "MD5OfBody": "d",
        "Body": "text",
        "Attributes": {"SentTimestamp": "1700000000123", "ApproximateReceiveCount": "1"},
    }
    return {name: value for name, value in (told | fields).items() if value is not ...}


@pytest.mark.parametrize(
    "answer",
    [
        b"no JSON",
        b"[]",
        b'{"Messages": 7}',
        {"Messages": ["text"]},
        {"Messages": [entry(MessageId=...)]},
        {"Messages": [entry(MessageId=7)]},
        {"Messages": [entry(ReceiptHandle=...)]},
        {"Messages": [entry(ReceiptHandle=None)]},
        {"Messages": [entry(Body=...)]},
        {"Messages": [entry(Body={"a": 1})]},
        {"Messages": [entry(Attributes={})]},
        {"Messages": [entry(Attributes={"SentTimestamp": "soon"})]},
        {"Messages": [entry(Attributes={"SentTimestamp": str(10**18)})]},
        {"Messages": [entry(MessageAttributes={"a": {}})]},
        {"Messages": [entry(MessageAttributes=[1])]},
    ],
    ids=str,
)
async def test_what_is_no_message_is_a_fault_of_the_source(answer: Any) -> None:
    async with answering(ReceiveMessage=answer) as source:
        with pytest.raises(SourceError) as told:
            await source.receive(10, 0, 30.0)
    assert told.value.reason is Reason.SERVICE_ERROR


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        ((403, "AccessDenied"), Reason.ACCESS_DENIED),
        ((403, "InvalidClientTokenId"), Reason.INVALID_CREDENTIALS),
        ((400, "QueueDoesNotExist"), Reason.NOT_FOUND),
        ((400, "KmsAccessDenied"), Reason.ACCESS_DENIED),
        ((400, "RequestThrottled"), Reason.THROTTLED),
        ((400, "InvalidAddress"), Reason.REJECTED),
        ((503, "ServiceUnavailable"), Reason.SERVICE_ERROR),
    ],
)
@pytest.mark.parametrize("operation", ["ReceiveMessage", "GetQueueUrl"])
async def test_a_refusal_has_its_reason_and_a_sentence_with_the_queue(
    operation: str, answer: tuple[int, str], reason: Reason
) -> None:
    async with answering(**{operation: answer}) as source:
        with pytest.raises(SourceError) as told:
            await source.receive(10, 0, 30.0)
    assert told.value.reason is reason
    assert isinstance(told.value, Throttled) == (reason is Reason.THROTTLED)
    assert told.value.message.startswith(f"{ARN}: ")


async def test_of_a_request_for_several_each_message_has_its_own_fate() -> None:
    expired = {"Id": "1", "SenderFault": True, "Code": "ReceiptHandleIsInvalid"}
    internal = {"Id": "2", "SenderFault": False, "Code": "InternalError"}
    answer = {"Successful": [{"Id": "0"}], "Failed": [expired, internal]}
    received = {"Messages": [entry(MessageId=f"m{number}", ReceiptHandle=f"r{number}") for number in range(4)]}
    async with answering(ReceiveMessage=received, DeleteMessageBatch=answer) as source:
        confirmed = await source.delete(await source.receive(10, 0, 30.0))
    fates = [[one.message_id for one in each] for each in (confirmed.done, confirmed.late, confirmed.again)]
    assert fates == [["m0"], ["m1"], ["m2", "m3"]]


# ---- both decoders

SQS = botocore.session.get_session().get_service_model("sqs")
ATTRIBUTES = st.dictionaries(
    st.text(min_size=1, max_size=8),
    st.one_of(
        st.fixed_dictionaries({"DataType": st.just("String"), "StringValue": st.text(max_size=8)}),
        st.fixed_dictionaries(
            {
                "DataType": st.just("Binary"),
                "BinaryValue": st.binary(max_size=8).map(lambda b: base64.b64encode(b).decode()),
            }
        ),
    ),
    max_size=3,
)
MESSAGES = st.lists(
    st.fixed_dictionaries(
        {
            "MessageId": st.uuids().map(str),
            "ReceiptHandle": st.text(min_size=1, max_size=20),
            "MD5OfBody": st.text("0123456789abcdef", min_size=32, max_size=32),
            "Body": st.text(max_size=50),
            "Attributes": st.fixed_dictionaries({"SentTimestamp": st.integers(0, 4_000_000_000_000).map(str)}),
            "MessageAttributes": ATTRIBUTES,
        }
    ),
    max_size=4,
)


async def parsed(factory: Any, body: bytes) -> Any:
    response = {"headers": {"x-amzn-requestid": "r"}, "status_code": 200, "body": body, "context": {}}
    shape = SQS.operation_model("ReceiveMessage").output_shape
    return await factory.create_parser("json").parse(response, shape)


@given(MESSAGES)
async def test_messages_are_the_same_from_both_decoders_and_events_hold_them_as_they_came(
    messages: list[dict[str, Any]],
) -> None:
    body = orjson.dumps({"Messages": messages})
    ours = await parsed(RecordsParserFactory(), body)
    theirs = await parsed(AioResponseParserFactory(), body)
    for message in theirs["Messages"]:
        for attribute in message["MessageAttributes"].values():
            if "BinaryValue" in attribute:
                attribute["BinaryValue"] = base64.b64encode(attribute["BinaryValue"]).decode()
    assert ours["Messages"] == theirs["Messages"] == messages
    for message in messages:
        record = to_record(message, ARN, REGION)
        event = orjson.loads(record.event)
        assert (event["body"], event["messageId"], event["receiptHandle"]) == (
            message["Body"], message["MessageId"], message["ReceiptHandle"],
        )  # fmt: skip
        assert event["attributes"] == message["Attributes"]
        assert event["messageAttributes"].keys() == message["MessageAttributes"].keys()
        for name, attribute in message["MessageAttributes"].items():
            told = event["messageAttributes"][name]
            assert told["dataType"] == attribute["DataType"]
            assert told.get("stringValue") == attribute.get("StringValue")
            assert told.get("binaryValue") == attribute.get("BinaryValue")


# ---- what other services send to a queue


async def test_an_sns_envelope_arrives_as_it_is_and_a_filter_looks_into_it(
    queue: tuple[SqsQueue, str], ministack: str
) -> None:
    source, url = queue
    arn = f"arn:aws:sqs:{REGION}:000000000000:{url.rpartition('/')[2]}"
    async with client("sns", ministack) as sns:
        topic = (await sns.create_topic(Name=unique("topic")))["TopicArn"]
        await sns.subscribe(TopicArn=topic, Protocol="sqs", Endpoint=arn)
        await sns.publish(TopicArn=topic, Message='{"order": 7, "note": "ü"}', Subject="orders")
    event = await received(source, url)
    envelope = orjson.loads(event["body"])
    assert (envelope["Type"], envelope["TopicArn"], envelope["Subject"]) == ("Notification", topic, "orders")
    assert envelope["Message"] == '{"order": 7, "note": "ü"}', "a text in a text"
    assert filtered(event, {"body": {"Subject": ["orders"], "Message": [{"prefix": '{"order"'}]}})
    assert not filtered(event, {"body": {"Subject": ["bills"]}})


async def test_an_s3_notification_arrives_as_it_is_and_a_filter_looks_into_it(
    queue: tuple[SqsQueue, str], ministack: str
) -> None:
    source, url = queue
    arn, bucket = f"arn:aws:sqs:{REGION}:000000000000:{url.rpartition('/')[2]}", unique("bucket")
    wanted = {"QueueConfigurations": [{"QueueArn": arn, "Events": ["s3:ObjectCreated:*"]}]}
    async with client("s3", ministack) as s3:
        await s3.create_bucket(Bucket=bucket)
        await s3.put_bucket_notification_configuration(Bucket=bucket, NotificationConfiguration=wanted)
        await s3.put_object(Bucket=bucket, Key="orders/a b.json", Body=b"{}")
    event = await received(source, url)
    (record,) = orjson.loads(event["body"])["Records"]
    assert (record["eventSource"], record["s3"]["bucket"]["name"]) == ("aws:s3", bucket)
    assert filtered(event, {"body": {"Records": {"s3": {"bucket": {"name": [bucket]}}}}})
    assert not filtered(event, {"body": {"Records": {"s3": {"bucket": {"name": ["other"]}}}}})


async def received(source: SqsQueue, url: str) -> Any:
    """The event of the only message that is no test of the service's own; its body is to the letter what SQS has."""
    while True:
        for message in await source.receive(10, 5, 0.0):
            event = orjson.loads(message.record.event)
            if "s3:TestEvent" in event["body"]:
                await source.delete([message])
                continue
            lying = await source._client.call("receive_message", QueueUrl=url, VisibilityTimeout=0)
            assert event["body"] == lying["Messages"][0]["Body"]
            return event


def filtered(event: Any, pattern: dict[str, Any]) -> bool:
    criteria = filters(orjson.dumps(pattern).decode())
    kept = delivery_of(parse_mapping(manifest("sqs", filterCriteria=criteria))).filter
    assert kept is not None
    return kept.keeps(orjson.dumps(event))
