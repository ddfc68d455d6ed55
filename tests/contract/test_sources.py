"""What every source promises, on every server that serves it.

Quirks: moto numbers the records of each Kinesis shard from 1, gives DynamoDB events the version 1.0, and wants the stream's ARN with GetRecords; the DynamoDB
emulators have one shard that never splits, and tell the bytes of an item as 0 (ministack); moto's queue gives one message
at a time out of many, in any order. A standard queue promises no order: there all that was written is what counts.
"""

from __future__ import annotations

import base64
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import Any, Protocol

import orjson
import pytest

from headrace.errors import Reason, SourceError, Throttled
from headrace.records import After, Position, Record, Start
from headrace.spec import parse_mapping
from headrace.stream.aws import AwsSettings
from headrace.stream.queues.messages import Message
from headrace.stream.sources import ShardReader, Source, open_queue, open_source
from headrace.stream.sources.sqs import SqsQueue
from tests.support.aws import REGION, client, make_queue, make_stream, unique
from tests.support.fake_dynamodb import FakeTable, serving
from tests.support.faulty import Fault, Faulty, faulty
from tests.support.mappings import manifest
from tests.support.servers import free_port
from tests.support.tables_with_streams import make_table

VISIBILITY = 2.0
"""Seconds for which a message that was read is hidden."""


class Reading(Protocol):
    """A source, as its consumer sees it: what is not done with is read again by the next reading."""

    async def read(self) -> Sequence[Record]:
        """What there is, once."""
        ...

    async def done(self, record: Record) -> None:
        """Everything up to this record is done with, or this record alone where there is no order."""
        ...

    def again(self) -> Reading:
        """Another reader, which begins with what is not done with."""
        ...


@dataclass
class ReadingShard:
    """The only shard of a stream."""

    source: Source
    place: Position | None = None
    shard: str = ""
    reader: ShardReader | None = None

    async def read(self) -> Sequence[Record]:
        if self.reader is None:
            (only,) = await self.source.shards()
            self.shard = only.shard_id
            self.reader = self.source.reader(self.shard, self.place or Start())
        found: list[Record] = []
        while True:
            polled = await self.reader.read()
            found += polled.records
            if not polled.records and not polled.behind:
                return found

    async def done(self, record: Record) -> None:
        self.place = After(record.sequence_number)

    def again(self) -> Reading:
        return ReadingShard(self.source, self.place)


@dataclass
class ReadingQueue:
    """A queue; what is read is invisible for VISIBILITY seconds."""

    queue: SqsQueue
    messages: dict[str, Message]

    async def read(self) -> Sequence[Record]:
        found: list[Record] = []
        waited = 0
        while received := await self.queue.receive(10, waited, VISIBILITY):
            self.messages |= {one.message_id: one for one in received}
            found += [one.record for one in received]
        return found

    async def done(self, record: Record) -> None:
        confirmed = await self.queue.delete([self.messages[record.sequence_number]])
        assert len(confirmed.done) == 1

    def again(self) -> Reading:
        return ReadingQueue(self.queue, {})


@dataclass
class Place:
    """A source somewhere: where it is, how texts are written to it, and how they stand in an event."""

    arn: str
    url: str
    put: Callable[..., Awaitable[object]]
    text: Callable[[Any], str]
    fields: dict[str, Any]
    """Of its event: each field with what it says, or with a type, or with fields of its own."""
    ordered: bool = True
    reads: str = "GetRecords"

    @asynccontextmanager
    async def reading(
        self, url: str | None = None, arn: str | None = None, page: int | None = None
    ) -> AsyncIterator[Reading]:
        start = {"startingPosition": "TRIM_HORIZON"} if self.ordered else {}
        mapping = parse_mapping(manifest("sqs", eventSourceArn=arn or self.arn, **start))
        aws = AwsSettings(endpoint_url=url or self.url)
        opened = open_source(mapping, aws) if self.ordered else open_queue(mapping, aws)
        if page is not None and not isinstance(opened, SqsQueue):
            opened._read_limit = page  # type: ignore[attr-defined]
        try:
            yield ReadingShard(opened) if not isinstance(opened, SqsQueue) else ReadingQueue(opened, {})
        finally:
            await opened.aclose()

    def texts(self, records: Sequence[Record]) -> list[str]:
        found = [self.text(orjson.loads(record.event)) for record in records]
        return found if self.ordered else sorted(found, key=int)


@asynccontextmanager
async def a_stream(url: str) -> AsyncIterator[Place]:
    async with client("kinesis", url) as kinesis:
        stream = await make_stream(kinesis)
        inner = {
            "kinesisSchemaVersion": "1.0",
            "partitionKey": "k",
            "sequenceNumber": str,
            "data": str,
            "approximateArrivalTimestamp": float,
        }
        fields = {
            "kinesis": inner,
            "eventSource": "aws:kinesis",
            "eventVersion": "1.0",
            "eventID": str,
            "eventName": "aws:kinesis:record",
            "invokeIdentityArn": str,
            "awsRegion": REGION,
            "eventSourceARN": stream.arn,
        }
        text = lambda event: base64.b64decode(event["kinesis"]["data"]).decode()  # noqa: E731
        yield Place(stream.arn, url, stream.put, text, fields)


def of_a_table(arn: str, url: str, put: Callable[..., Awaitable[object]]) -> Place:
    inner = {
        "ApproximateCreationDateTime": float,
        "Keys": {"pk": {"S": "k"}},
        "NewImage": dict,
        "SequenceNumber": str,
        "SizeBytes": int,
        "StreamViewType": "NEW_AND_OLD_IMAGES",
    }
    fields = {
        "eventID": str,
        "eventName": "INSERT",
        "eventVersion": str,
        "eventSource": "aws:dynamodb",
        "awsRegion": REGION,
        "dynamodb": inner,
        "eventSourceARN": arn,
    }
    return Place(arn, url, put, lambda event: str(event["dynamodb"]["NewImage"]["data"]["S"]), fields)


@asynccontextmanager
async def a_table(url: str) -> AsyncIterator[Place]:
    async with client("dynamodb", url) as dynamodb:
        table = await make_table(dynamodb)
        yield of_a_table(table.arn, url, table.put)


@asynccontextmanager
async def a_faked_table(_: str) -> AsyncIterator[Place]:
    async with serving(FakeTable()) as fake:

        async def put(*data: str) -> object:
            return fake.put(*data)

        yield of_a_table(fake.arn, fake.url, put)


@asynccontextmanager
async def a_queue(url: str) -> AsyncIterator[Place]:
    async with client("sqs", url) as sqs:
        queue = await make_queue(sqs)

        async def put(*data: str) -> None:
            for text in data:
                await sqs.send_message(QueueUrl=queue.url, MessageBody=text)

        attributes = {
            "ApproximateReceiveCount": "1",
            "SentTimestamp": str,
            "SenderId": str,
            "ApproximateFirstReceiveTimestamp": str,
        }
        fields = {
            "messageId": str,
            "receiptHandle": str,
            "body": str,
            "attributes": attributes,
            "messageAttributes": {},
            "md5OfBody": str,
            "eventSource": "aws:sqs",
            "eventSourceARN": queue.arn,
            "awsRegion": REGION,
        }
        text = lambda event: str(event["body"])  # noqa: E731
        yield Place(queue.arn, url, put, text, fields, ordered=False, reads="ReceiveMessage")


SOURCES = {"kinesis": a_stream, "dynamodb": a_table, "sqs": a_queue}
PLACES = [
    ("kinesis", "ministack"),
    ("kinesis", "kinesis_local"),
    ("kinesis", "moto"),
    ("dynamodb", "fake"),
    ("dynamodb", "ministack"),
    ("dynamodb", "moto"),
    ("sqs", "ministack"),
    ("sqs", "moto"),
]


@pytest.fixture(params=PLACES, ids="-on-".join)
async def place(request: pytest.FixtureRequest) -> AsyncIterator[Place]:
    source, server = request.param
    made = a_faked_table("") if server == "fake" else SOURCES[source](request.getfixturevalue(server))
    async with made as there:
        yield there


@pytest.fixture(params=SOURCES)
async def behind(request: pytest.FixtureRequest, ministack: str) -> AsyncIterator[tuple[Place, Faulty]]:
    """A source of each kind behind a way on which things go wrong."""
    async with AsyncExitStack() as stack:
        there = await stack.enter_async_context(SOURCES[request.param](ministack))
        yield there, await stack.enter_async_context(faulty(ministack))


NUMBERS = [str(number) for number in range(25)]


async def test_what_was_written_is_read_once_and_in_order_where_there_is_one(place: Place) -> None:
    await place.put(*NUMBERS)
    async with place.reading() as source:
        records = await source.read()
    assert place.texts(records) == NUMBERS
    assert len({record.sequence_number for record in records}) == len(NUMBERS)


async def test_what_takes_several_answers_to_read_is_read_whole_and_once(place: Place) -> None:
    """A stream's answers have ten records at most here, as a queue's always have."""
    await place.put(*NUMBERS)
    async with place.reading(page=10) as source:
        records = await source.read()
    assert place.texts(records) == NUMBERS


async def test_a_record_tells_when_it_was_written_and_whose_order_it_keeps(place: Place) -> None:
    await place.put("1")
    async with place.reading() as source:
        (record,) = await source.read()
    assert abs(record.arrival - time.time()) < 60
    assert bool(record.key) == place.ordered


async def test_an_event_has_the_fields_of_lambdas_and_no_other(place: Place) -> None:
    """Contract D.1 to D.3."""
    await place.put("1")
    async with place.reading() as source:
        (record,) = await source.read()
    assert unlike(orjson.loads(record.event), place.fields) == []


def unlike(found: Any, wanted: Any, where: str = "event") -> list[str]:
    """Where an event is not as it should be."""
    if isinstance(wanted, type):
        return [] if isinstance(found, wanted) and not isinstance(found, bool) else [f"{where} is {found!r}"]
    if not isinstance(wanted, dict) or not isinstance(found, dict):
        return [] if found == wanted else [f"{where} is {found!r}, not {wanted!r}"]
    differing = [f"{where}.{name}" for name in found.keys() ^ wanted.keys()]
    return differing + [one for name in found.keys() & wanted for one in unlike(found[name], wanted[name], name)]


@pytest.mark.parametrize("place", [one for one in PLACES if one[0] != "sqs"], ids="-on-".join, indirect=True)
async def test_a_read_brings_no_more_records_than_it_is_asked_for_and_the_next_goes_on_behind_them(
    place: Place,
) -> None:
    await place.put(*NUMBERS[:5])
    async with place.reading() as source:
        assert isinstance(source, ReadingShard)
        (shard,) = await source.source.shards()
        reader = source.source.reader(shard.shard_id, Start())
        pages = [(await reader.read(most)).records for most in (1, 3, 100)]
    assert [place.texts(page) for page in pages] == [["0"], ["1", "2", "3"], ["4"]]


async def test_what_is_written_after_a_look_that_found_nothing_is_read_by_the_next(place: Place) -> None:
    async with place.reading() as source:
        assert await source.read() == []
        await place.put("1")
        assert place.texts(await source.read()) == ["1"]
        await place.put("2")
        assert place.texts(await source.read()) == ["2"]


async def test_what_is_not_done_with_comes_again_and_the_rest_does_not(place: Place) -> None:
    await place.put("1", "2", "3")
    async with place.reading() as source:
        first = next(one for one in await source.read() if place.texts([one]) == ["1"])
        await source.done(first)
        deadline = time.monotonic() + 10
        again: list[str] = []
        other = source.again()
        while len(again) < 2 and time.monotonic() < deadline:
            again += place.texts(await other.read())
        assert sorted(again) == ["2", "3"]


async def test_a_source_that_is_not_there_is_told_by_its_name_with_what_to_do(place: Place) -> None:
    name = place.arn.replace("table/", "table/" + unique("no"), 1) if "table/" in place.arn else ""
    arn = name or place.arn + unique("-nowhere")
    async with place.reading(arn=arn) as source:
        with pytest.raises(SourceError) as told:
            await source.read()
    assert told.value.reason is Reason.NOT_FOUND
    assert arn in told.value.message
    assert "spec.eventSourceArn" in told.value.message


async def test_a_server_that_is_away_is_told_as_unreachable(behind: tuple[Place, Faulty]) -> None:
    there, _ = behind
    async with there.reading(f"http://127.0.0.1:{free_port()}") as source:
        with pytest.raises(SourceError) as told:
            await source.read()
    assert told.value.reason is Reason.UNREACHABLE


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        (Fault(400, "AccessDeniedException"), Reason.ACCESS_DENIED),
        (Fault(400, "ExpiredTokenException"), Reason.INVALID_CREDENTIALS),
        (Fault(400, "ThrottlingException"), Reason.THROTTLED),
        (Fault(500, "InternalFailure"), Reason.SERVICE_ERROR),
        (Fault(503, body=b"<html>busy</html>"), Reason.SERVICE_ERROR),
        (Fault(200, body=b"{"), Reason.SERVICE_ERROR),
        (Fault(200, body=b'{"Records": 7, "Messages": 7}'), Reason.SERVICE_ERROR),
    ],
    ids=lambda one: f"{one.status}-{one.code or len(one.body)}" if isinstance(one, Fault) else "",
)
async def test_a_read_that_goes_wrong_says_why_and_costs_no_record(
    behind: tuple[Place, Faulty], fault: Fault, reason: Reason
) -> None:
    there, way = behind
    await there.put("1", "2", "3")
    async with there.reading(way.url) as source:
        way.faults[there.reads] = [fault] * 3
        with pytest.raises(SourceError) as told:
            await source.read()
        assert told.value.reason is reason
        assert isinstance(told.value, Throttled) == (reason is Reason.THROTTLED)
        way.faults.clear()
        assert there.texts(await source.read()) == ["1", "2", "3"]
