"""The least loop there is: signed GetRecords, orjson, a POST per batch. No guarantee whatever: the limit on this machine.

One task a shard, as many calls at a time as `--parallel` says; what fails ends it.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import time
from argparse import ArgumentParser, Namespace
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any

import aiohttp
import orjson

from tests.bench.loops.event import event_of, options_of

KEY = SECRET = "test"
POLL_INTERVAL = 1.0
"""Seconds between two reads at the tip; Headrace's and Lambda's."""


@lru_cache(maxsize=1)
def signing_key(secret: str, day: str, region: str) -> bytes:
    """One for a day."""
    key = b"AWS4" + secret.encode()
    for part in (day, region, "kinesis", "aws4_request"):
        key = hmac.digest(key, part.encode(), "sha256")
    return key


def signed(operation: str, body: bytes, host: str, region: str, now: datetime) -> dict[str, str]:
    """The headers of a request to Kinesis, by Signature Version 4."""
    at = now.strftime("%Y%m%dT%H%M%SZ")
    day, target = at[:8], f"Kinesis_20131202.{operation}"
    names = "content-type;host;x-amz-date;x-amz-target"
    canonical = (
        f"POST\n/\n\ncontent-type:application/x-amz-json-1.1\nhost:{host}\nx-amz-date:{at}\nx-amz-target:{target}\n\n"
        f"{names}\n{hashlib.sha256(body).hexdigest()}"
    )
    scope = f"{day}/{region}/kinesis/aws4_request"
    text = f"AWS4-HMAC-SHA256\n{at}\n{scope}\n{hashlib.sha256(canonical.encode()).hexdigest()}"
    signature = hmac.digest(signing_key(SECRET, day, region), text.encode(), "sha256").hex()
    return {
        "Content-Type": "application/x-amz-json-1.1",
        "X-Amz-Date": at,
        "X-Amz-Target": target,
        "Authorization": f"AWS4-HMAC-SHA256 Credential={KEY}/{scope}, SignedHeaders={names}, Signature={signature}",
    }


def decoded(answer: bytes) -> Any:
    """An answer of Kinesis; a function of its own, so that a profile can tell."""
    return orjson.loads(answer)


def encoded(batch: list[dict[str, Any]]) -> bytes:
    """The Lambda event of a batch."""
    return orjson.dumps({"Records": batch})


class Loop:
    """Reads a stream and calls a function."""

    def __init__(self, options: Namespace, session: aiohttp.ClientSession) -> None:
        self._options = options
        self._session = session
        self._host = options.endpoint.removeprefix("http://")

    async def kinesis(self, operation: str, **asked: Any) -> Any:
        body = orjson.dumps(asked)
        headers = signed(operation, body, self._host, self._options.region, datetime.now(UTC))
        async with self._session.post(f"{self._options.endpoint}/", data=body, headers=headers) as answer:
            return decoded(await answer.read())

    async def shard(self, shard_id: str) -> None:
        asked = {"StreamARN": self._options.arn, "ShardId": shard_id, "ShardIteratorType": "TRIM_HORIZON"}
        iterator = (await self.kinesis("GetShardIterator", **asked))["ShardIterator"]
        size, parallel = self._options.batch, self._options.parallel
        while iterator:
            began = time.monotonic()
            answer = await self.kinesis("GetRecords", ShardIterator=iterator, Limit=self._options.limit)
            records = [event_of(record, shard_id, self._options) for record in answer["Records"]]
            batches = [records[start : start + size] for start in range(0, len(records), size)]
            for start in range(0, len(batches), parallel):
                if parallel == 1:
                    await self.call(batches[start])
                else:
                    await asyncio.gather(*map(self.call, batches[start : start + parallel]))
            iterator = answer.get("NextShardIterator")
            if not answer["MillisBehindLatest"]:
                await asyncio.sleep(max(0.0, POLL_INTERVAL - (time.monotonic() - began)))

    async def call(self, batch: list[dict[str, Any]]) -> None:
        headers = {"Content-Type": "application/json"}
        async with self._session.post(self._options.function, data=encoded(batch), headers=headers) as answer:
            await answer.read()
            answer.raise_for_status()


async def run(options: Namespace) -> None:
    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(connector=connector) as session, asyncio.TaskGroup() as shards:
        loop = Loop(options, session)
        for shard in (await loop.kinesis("ListShards", StreamARN=options.arn))["Shards"]:
            shards.create_task(loop.shard(shard["ShardId"]))


def main() -> None:
    parser = ArgumentParser(description=__doc__)
    parser.add_argument("--limit", type=int, default=1000, help="records that one read asks for")
    asyncio.run(run(options_of(parser)))


if __name__ == "__main__":
    main()
