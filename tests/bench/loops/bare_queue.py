"""The least loop over a queue that leaves signing to aiobotocore: receive, a POST each, delete ten at a time.

No guarantee whatever: nothing is kept invisible, and what fails ends it. As many calls at a time as `--concurrency`.
"""

from __future__ import annotations

import asyncio
from argparse import ArgumentParser, Namespace
from dataclasses import dataclass, field
from typing import Any

import aiohttp
import orjson
from aiobotocore.config import AioConfig
from aiobotocore.session import get_session

RECEIVES = 3
AT_ONCE = 10
LINGER = 0.01


@dataclass
class Loop:
    """Drains a queue for ever."""

    options: Namespace
    sqs: Any
    session: aiohttp.ClientSession
    free: asyncio.Semaphore
    done: list[str] = field(default_factory=list)

    async def run(self) -> None:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self.delete(tasks))
            for _ in range(RECEIVES):
                tasks.create_task(self.receive(tasks))

    async def receive(self, tasks: asyncio.TaskGroup) -> None:
        while True:
            answer = await self.sqs.receive_message(
                QueueUrl=self.options.queue,
                MaxNumberOfMessages=AT_ONCE,
                WaitTimeSeconds=1,
                AttributeNames=["All"],
                MessageAttributeNames=["All"],
            )
            for message in answer.get("Messages", ()):
                await self.free.acquire()
                tasks.create_task(self.call(message))
            if not answer.get("Messages"):
                await asyncio.sleep(LINGER)

    async def call(self, message: dict[str, Any]) -> None:
        event = {
            "messageId": message["MessageId"],
            "receiptHandle": message["ReceiptHandle"],
            "body": message["Body"],
            "attributes": message["Attributes"],
            "messageAttributes": message.get("MessageAttributes", {}),
            "md5OfBody": message["MD5OfBody"],
            "eventSource": "aws:sqs",
            "eventSourceARN": self.options.queue,
            "awsRegion": "eu-west-1",
        }
        headers = {"Content-Type": "application/json"}
        data = orjson.dumps({"Records": [event]})
        async with self.session.post(self.options.function, data=data, headers=headers) as answer:
            await answer.read()
            answer.raise_for_status()
        self.free.release()
        self.done.append(message["ReceiptHandle"])

    async def delete(self, tasks: asyncio.TaskGroup) -> None:
        while True:
            if len(self.done) < AT_ONCE:
                await asyncio.sleep(LINGER)
            part, self.done = self.done[:AT_ONCE], self.done[AT_ONCE:]
            if part:
                entries = [{"Id": str(index), "ReceiptHandle": one} for index, one in enumerate(part)]
                tasks.create_task(self.sqs.delete_message_batch(QueueUrl=self.options.queue, Entries=entries))


async def run(options: Namespace) -> None:
    config = AioConfig(parameter_validation=False, max_pool_connections=50)
    connector = aiohttp.TCPConnector(limit=0)
    async with (
        get_session().create_client("sqs", "eu-west-1", endpoint_url=options.endpoint, config=config) as sqs,
        aiohttp.ClientSession(connector=connector) as session,
    ):
        await Loop(options, sqs, session, asyncio.Semaphore(options.concurrency)).run()


def main() -> None:
    parser = ArgumentParser(description=__doc__)
    for name in ("--endpoint", "--queue", "--function"):
        parser.add_argument(name, required=True)
    parser.add_argument("--concurrency", type=int, default=50)
    asyncio.run(run(parser.parse_args()))


if __name__ == "__main__":
    main()
