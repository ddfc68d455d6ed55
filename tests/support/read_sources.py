"""Sources on every server that serves them, written to and read in one way, for tests of what all of them promise."""

from __future__ import annotations

import base64
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol

import orjson

from headrace.records import After, Position, Record, Start
from headrace.spec import parse_mapping
from headrace.stream.aws import AwsSettings
from headrace.stream.queues.messages import Message
from headrace.stream.settings import DYNAMODB, KINESIS, SQS, StreamTraits
from headrace.stream.sources import ShardReader, Source, open_queue, open_source
from headrace.stream.sources.sqs import SqsQueue
from tests.support.aws import REGION, client, make_queue, make_stream, unique
from tests.support.fake_dynamodb import FakeTable, serving
from tests.support.fake_queue import FakeQueue, Sent
from tests.support.mappings import manifest
from tests.support.tables_with_streams import make_table
from tests.support.virtual import EPOCH, Clock

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

    queue: SqsQueue | FakeQueue
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
    traits: StreamTraits
    ordered: bool = True
    """Over all records; else by key, where they have one."""
    keyed: bool = True
    queue: FakeQueue | bool = False
    """Whether it is a queue; a fake is one itself."""
    reads: str = "GetRecords"

    @asynccontextmanager
    async def reading(
        self, url: str | None = None, arn: str | None = None, page: int | None = None
    ) -> AsyncIterator[Reading]:
        if isinstance(self.queue, FakeQueue):
            yield ReadingQueue(self.queue, {})
            return
        start = {} if self.queue else {"startingPosition": "TRIM_HORIZON"}
        mapping = parse_mapping(manifest("sqs", eventSourceArn=arn or self.arn, **start))
        aws = AwsSettings(endpoint_url=url or self.url)
        opened = open_queue(mapping, aws) if self.queue else open_source(mapping, aws)
        if page is not None and not isinstance(opened, SqsQueue):
            opened._read_limit = page  # type: ignore[attr-defined]
        try:
            yield ReadingQueue(opened, {}) if isinstance(opened, SqsQueue) else ReadingShard(opened)
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
        yield Place(stream.arn, url, stream.put, text, fields, KINESIS)


Opening = Callable[[str], AbstractAsyncContextManager[Place]]
"""A source made on the server at a URL."""


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
    return Place(arn, url, put, lambda event: str(event["dynamodb"]["NewImage"]["data"]["S"]), fields, DYNAMODB)


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


def of_a_queue(
    arn: str, url: str, put: Callable[..., Awaitable[object]], queue: FakeQueue | bool = True, *, fifo: bool
) -> Place:
    attributes = {
        "ApproximateReceiveCount": "1",
        "SentTimestamp": str,
        "SenderId": str,
        "ApproximateFirstReceiveTimestamp": str,
    }
    if fifo:
        attributes |= {"MessageGroupId": str, "SequenceNumber": str, "MessageDeduplicationId": str}
    fields = {
        "messageId": str,
        "receiptHandle": str,
        "body": str,
        "attributes": attributes,
        "messageAttributes": {},
        "md5OfBody": str,
        "eventSource": "aws:sqs",
        "eventSourceARN": arn,
        "awsRegion": REGION,
    }
    text = lambda event: str(event["body"])  # noqa: E731
    return Place(arn, url, put, text, fields, SQS, ordered=False, keyed=fifo, queue=queue, reads="ReceiveMessage")


@asynccontextmanager
async def a_queue(url: str, *, fifo: bool = False) -> AsyncIterator[Place]:
    async with client("sqs", url) as sqs:
        queue = await make_queue(sqs, **{"FifoQueue": "true"} if fifo else {})

        async def put(*data: str, group: str | None = None) -> None:
            for text in data:
                of = {"MessageGroupId": group or text, "MessageDeduplicationId": unique("once")} if fifo else {}
                await sqs.send_message(QueueUrl=queue.url, MessageBody=text, **of)

        yield of_a_queue(queue.arn, url, put, fifo=fifo)


class Here(Clock):
    """The machine's own time, for a queue that is otherwise in virtual time."""

    def __init__(self) -> None:
        pass

    @property
    def now(self) -> float:  # type: ignore[override]
        return time.time() - EPOCH


@asynccontextmanager
async def a_faked_queue(_: str, *, fifo: bool = False) -> AsyncIterator[Place]:
    queue = FakeQueue(Here(), [], fifo=fifo, latency=0.001)

    async def put(*data: str, group: str | None = None) -> None:
        for text in data:
            queue.send(Sent(text, queue.now, (group or text) if fifo else ""))

    yield of_a_queue(queue.arn, "", put, queue, fifo=fifo)


SOURCES: dict[str, Opening] = {
    "kinesis": a_stream,
    "dynamodb": a_table,
    "sqs": a_queue,
    "fifo": partial(a_queue, fifo=True),
}
FAKES: dict[str, Opening] = {"dynamodb": a_faked_table, "sqs": a_faked_queue, "fifo": partial(a_faked_queue, fifo=True)}
