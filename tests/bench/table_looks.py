"""`make bench-table`: how long one poller waits for a checkpoint table, with 1, 100 and 1,000 shards, on ministack.

The emulator is one process beside the benchmark; as AWS answers from elsewhere, each request also waits `AWAY` seconds.
"""

from __future__ import annotations

import asyncio
import os
import tempfile
import time
import uuid
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any, cast

from headrace.records import Checkpoint, Holder, Shard
from headrace.resources import MappingRef
from headrace.stream.stores.dynamodb import DynamoDBTable
from headrace.stream.stores.kubernetes import KubernetesStore
from tests.support import aws, servers, tables

if TYPE_CHECKING:
    from contextlib import AsyncExitStack

    from headrace.stream.aws import AwsAccess

ARN = "arn:aws:kinesis:eu-west-1:123456789012:stream/orders"
SHARDS = (1, 100, 1000)
AWAY = 0.005
LOOKS = 5
MONTH = 31 * 86_400


@dataclass
class Away:
    """An access to a table that answers from further away; counts the requests."""

    access: AwsAccess
    requests: int = 0

    async def client(self, service: str, region: str, stack: AsyncExitStack, *, read_timeout: float) -> Any:
        self.inner = await self.access.client(service, region, stack, read_timeout=read_timeout)
        return self

    def __getattr__(self, operation: str) -> Any:
        async def call(**arguments: Any) -> Any:
            self.requests += 1
            await asyncio.sleep(AWAY)
            return await getattr(self.inner, operation)(**arguments)

        return call


@dataclass
class Figures:
    """Milliseconds of one step, of which our own process worked so many, and its requests."""

    waited: float
    worked: float
    requests: float

    def __str__(self) -> str:
        return f"{self.waited:,.0f} ms, {self.worked:,.0f} ms, {self.requests:,.0f}"


async def step(line: Away, action: Callable[[], Awaitable[object]], times: int = 1) -> Figures:
    found = []
    for _ in range(times):
        began, worked, before = time.perf_counter(), time.process_time(), line.requests
        await action()
        waited = time.perf_counter() - began
        found.append((waited * 1000, (time.process_time() - worked) * 1000, line.requests - before))
    return Figures(*map(median, zip(*found, strict=True)))


async def measured(endpoint: str, shards: int) -> dict[str, Figures]:
    async with tables.table(endpoint) as (name, access):
        line, now = Away(access), [time.time()]
        ref = MappingRef("shop", "orders", str(uuid.uuid4()))
        home = DynamoDBTable(name, ref, cast("AwsAccess", line), aws.REGION, lambda: now[0])
        store = KubernetesStore(home, ref, ARN, None, Holder("orders-poller-6d4cf56db6-x7k2p", "0123456789ab"))
        listed = [Shard(f"shardId-{number:012}") for number in range(shards)]
        await store.load([])  # makes the client
        found = {"the first look, which makes every lease": await step(line, lambda: store.load(listed))}

        async def take() -> None:
            await asyncio.gather(*(store.take(shard.shard_id) for shard in listed))

        async def save() -> None:
            await asyncio.gather(*(store.save(shard.shard_id, Checkpoint("4968")) for shard in listed))

        found["every shard is taken"] = await step(line, take)
        found["every shard's checkpoint is written"] = await step(line, save)
        found["a look"] = await step(line, lambda: store.load(listed), LOOKS)
        now[0] += MONTH
        found["a look, every row is to be renewed"] = await step(line, lambda: store.load(listed))
        await home.aclose()
        return found


async def main() -> None:
    os.environ |= servers.CREDENTIALS
    with tempfile.TemporaryDirectory() as folder, servers.ministack(Path(folder)) as endpoint:
        found = {shards: await measured(endpoint, shards) for shards in SHARDS}
    print(f"waited, own CPU, requests; each request waits {AWAY * 1000:g} ms more than the emulator takes\n")
    print(f"| | {' | '.join(f'{shards:,} shards' for shards in SHARDS)} |")
    print(f"|---|{'---|' * len(SHARDS)}")
    for name in found[SHARDS[0]]:
        print(f"| {name} | {' | '.join(str(found[shards][name]) for shards in SHARDS)} |")


if __name__ == "__main__":
    asyncio.run(main())
