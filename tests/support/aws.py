"""Streams and queues on an emulator."""

from __future__ import annotations

import asyncio
import itertools
import json
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from aiobotocore.session import get_session

from tests.support.servers import CREDENTIALS

REGION = "us-east-1"
_names = itertools.count(1)


def unique(prefix: str) -> str:
    return f"{prefix}-{next(_names)}"


@asynccontextmanager
async def client(service: str, url: str) -> AsyncIterator[Any]:
    session = get_session()
    async with session.create_client(
        service,
        region_name=REGION,
        endpoint_url=url,
        aws_access_key_id=CREDENTIALS["AWS_ACCESS_KEY_ID"],
        aws_secret_access_key=CREDENTIALS["AWS_SECRET_ACCESS_KEY"],
    ) as made:
        yield made


@dataclass
class Stream:
    """A Kinesis stream of the test's own."""

    kinesis: Any
    name: str
    arn: str
    numbers: list[str] = field(default_factory=list)
    """Sequence numbers of what was put, in order."""

    async def put(self, *data: str, key: str = "k") -> None:
        for one in data:
            answer = await self.kinesis.put_record(StreamName=self.name, Data=one.encode(), PartitionKey=key)
            self.numbers.append(answer["SequenceNumber"])

    async def put_bytes(self, data: Sequence[bytes], key: str = "k") -> None:
        for one in data:
            answer = await self.kinesis.put_record(StreamName=self.name, Data=one, PartitionKey=key)
            self.numbers.append(answer["SequenceNumber"])


async def make_stream(kinesis: Any, shards: int = 1, name: str | None = None) -> Stream:
    name = name or unique("stream")
    await kinesis.create_stream(StreamName=name, ShardCount=shards)
    while True:
        answer = await kinesis.describe_stream_summary(StreamName=name)
        summary = answer["StreamDescriptionSummary"]
        if summary["StreamStatus"] == "ACTIVE":
            return Stream(kinesis, name, summary["StreamARN"])
        await asyncio.sleep(0.05)


@dataclass
class Queue:
    """An SQS queue of the test's own."""

    sqs: Any
    url: str
    arn: str

    async def take(self, count: int = 1, seconds: float = 20.0) -> list[Any]:
        """So many messages' bodies, as JSON; fails when they do not come."""
        bodies: list[Any] = []
        async with asyncio.timeout(seconds):
            while len(bodies) < count:
                bodies += await self._receive(wait=1)
        return bodies

    async def drain(self) -> list[Any]:
        """Everything that lies there now."""
        bodies: list[Any] = []
        while received := await self._receive(wait=0):
            bodies += received
        return bodies

    async def _receive(self, wait: int) -> list[Any]:
        answer = await self.sqs.receive_message(QueueUrl=self.url, MaxNumberOfMessages=10, WaitTimeSeconds=wait)
        messages = answer.get("Messages", [])
        for message in messages:
            await self.sqs.delete_message(QueueUrl=self.url, ReceiptHandle=message["ReceiptHandle"])
        return [json.loads(message["Body"]) for message in messages]


async def make_queue(sqs: Any, name: str | None = None, **attributes: str) -> Queue:
    suffix = ".fifo" if "FifoQueue" in attributes else ""
    made = await sqs.create_queue(QueueName=name or unique("queue") + suffix, Attributes=attributes)
    told = await sqs.get_queue_attributes(QueueUrl=made["QueueUrl"], AttributeNames=["QueueArn"])
    return Queue(sqs, made["QueueUrl"], told["Attributes"]["QueueArn"])
