"""On-failure destinations of each kind on an emulator, and what lies in them."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Any

from tests.support.aws import REGION, client, make_queue, unique

ACCOUNT = "000000000000"
NEEDS = {"sqs": ("sqs",), "sns": ("sns", "sqs"), "s3": ("s3",)}
"""The services that a kind of place is made with."""


@dataclass(frozen=True)
class StoredObject:
    """One object of a bucket."""

    key: str
    content_type: str
    document: dict[str, Any]


@dataclass
class Bucket:
    """An S3 bucket of the test's own."""

    s3: Any
    name: str

    @property
    def arn(self) -> str:
        return f"arn:aws:s3:::{self.name}"

    async def create(self) -> None:
        await self.s3.create_bucket(Bucket=self.name)

    async def objects(self) -> list[StoredObject]:
        listed = await self.s3.list_objects_v2(Bucket=self.name)
        return [await self._read(entry["Key"]) for entry in listed.get("Contents", [])]

    async def _read(self, key: str) -> StoredObject:
        answer = await self.s3.get_object(Bucket=self.name, Key=key)
        async with answer["Body"] as body:
            return StoredObject(key, answer["ContentType"], json.loads(await body.read()))

    async def documents(self) -> list[Any]:
        return [one.document for one in await self.objects()]


@dataclass
class Place:
    """A destination that `create` brings into being; `documents` are what was handed over to it."""

    kind: str
    arn: str
    create: Callable[[], Awaitable[Any]]
    documents: Callable[[], Awaitable[list[Any]]]
    bucket: Bucket | None = None


async def place(kind: str, url: str, stack: AsyncExitStack) -> Place:
    """A place of a kind (sqs, sns, s3) that does not exist yet; its clients are closed with `stack`."""
    return await place_with(
        kind, {service: await stack.enter_async_context(client(service, url)) for service in NEEDS[kind]}
    )


async def place_with(kind: str, clients: Mapping[str, Any]) -> Place:
    """The same with clients that are there already."""
    if kind == "s3":
        bucket = Bucket(clients["s3"], unique("bucket"))
        return Place(kind, bucket.arn, bucket.create, bucket.documents, bucket)
    if kind == "sqs":
        return _queue(clients["sqs"])
    return await _topic(clients["sns"], clients["sqs"])


def _queue(sqs: Any) -> Place:
    name = unique("failed")

    async def documents() -> list[Any]:
        return await (await make_queue(sqs, name)).drain()

    return Place("sqs", f"arn:aws:sqs:{REGION}:{ACCOUNT}:{name}", lambda: make_queue(sqs, name), documents)


async def _topic(sns: Any, sqs: Any) -> Place:
    """A topic with a queue behind it, in which what was published lies as SNS wraps it."""
    name, queue = unique("topic"), await make_queue(sqs)

    async def create() -> None:
        made = await sns.create_topic(Name=name)
        await sns.subscribe(TopicArn=made["TopicArn"], Protocol="sqs", Endpoint=queue.arn)

    async def documents() -> list[Any]:
        found = await queue.drain()
        for _ in range(20):
            if found:
                break
            await asyncio.sleep(0.05)
            found = await queue.drain()
        return [json.loads(notification["Message"]) for notification in found]

    return Place("sns", f"arn:aws:sns:{REGION}:{ACCOUNT}:{name}", create, documents)
