"""How often checkpoints are written: once a second for each shard while records flow, never when none do."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, cast

import pytest

from headrace.records import Checkpoint, Holder, Shard
from headrace.resources import Kind, MappingRef
from headrace.stream.aws import AwsAccess
from headrace.stream.checkpoints import CheckpointWriter
from headrace.stream.progress import ShardFacts
from headrace.stream.stores import Objects
from headrace.stream.stores.dynamodb import DynamoDBTable
from headrace.stream.stores.kubernetes import AGE_INTERVAL, KubernetesStore
from tests.support.fake_cluster import FakeCluster
from tests.support.fake_table import FakeTable
from tests.support.virtual import Clock, run_virtually

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from headrace.cluster import Body

REF = MappingRef("shop", "orders", "0e9a2b1c-0000-4000-8000-000000000000")
ARN = "arn:aws:kinesis:eu-west-1:123456789012:stream/orders"
SHARDS = [Shard(f"shardId-{number:012}") for number in range(5)]
TELL_INTERVAL = 2.0
"""Seconds between two reports of a shard, as `headrace poller` makes them."""


class Cluster(FakeCluster):
    """Notes when it is written to, and takes a moment for it."""

    def __init__(self, clock: Clock) -> None:
        super().__init__()
        self._clock = clock
        self.writes: list[tuple[float, str]] = []

    async def replace(self, kind: Kind, body: Body) -> Body:
        self.writes.append((self._clock.now, body["spec"]["shardId"]))
        await asyncio.sleep(0.01)
        return await super().replace(kind, body)


class Table(FakeTable):
    """Notes when it is written to, and takes a moment for it."""

    def __init__(self, clock: Clock) -> None:
        super().__init__()
        self._clock = clock
        self.writes: list[tuple[float, str]] = []

    async def put_item(self, **arguments: Any) -> Any:
        self.writes.append((self._clock.now, arguments["Item"]["object"]["S"]))
        await asyncio.sleep(0.01)
        return await super().put_item(**arguments)


class World:
    """Shards that are held in one home of leases, each with its writer and its reports."""

    def __init__(self, home: str) -> None:
        self.clock = Clock()
        self.noting: Cluster | Table = Cluster(self.clock) if home == "cluster" else Table(self.clock)
        objects = cast("Objects", self.noting)
        if home == "table":
            access = cast("AwsAccess", self.noting)
            objects = DynamoDBTable("headrace", REF, access, "eu-west-1", self.clock.time)
        self.store = KubernetesStore(objects, REF, ARN, None, Holder("pod-a", "1"), self.clock.time)
        self.writers: list[CheckpointWriter] = []
        self.facts: Callable[[], ShardFacts] = ShardFacts

    @asynccontextmanager
    async def held(self) -> AsyncIterator[None]:
        """Every shard is held and written, as `MappingRun` and `Poller` do it; what was written until then is gone."""
        await self.store.load(SHARDS)
        stop = asyncio.Event()
        async with asyncio.TaskGroup() as tasks:
            running = [tasks.create_task(self._tell())]
            for shard in SHARDS:
                checkpoint = await self.store.take(shard.shard_id)
                assert checkpoint is not None
                writer = CheckpointWriter(self.store, shard.shard_id, checkpoint, lambda _: None, lambda _: 1.0, stop)
                self.writers.append(writer)
                running.append(tasks.create_task(writer.run()))
            await asyncio.sleep(AGE_INTERVAL * 1.5)
            self.noting.writes.clear()
            yield
            for task in running:
                task.cancel()

    async def _tell(self) -> None:
        while True:
            await asyncio.sleep(TELL_INTERVAL)
            for shard in SHARDS:
                await self.store.report_shard(shard.shard_id, self.facts())

    async def flow(self, seconds: float, every: float) -> None:
        """A batch of each shard is decided every so many seconds."""
        began = self.clock.now
        number = int(began * 1000)
        while self.clock.now < began + seconds:
            number += 1
            for writer in self.writers:
                await writer.advance(Checkpoint(str(number)))
            await asyncio.sleep(every)

    def most(self, window: float = 1.0) -> int:
        """The most writes of one shard that begin within `window` seconds."""
        writes = sorted(self.noting.writes)
        return max(
            sum(1 for at, who in writes if who == shard and since <= at < since + window) for since, shard in writes
        )


@pytest.fixture(params=["cluster", "table"])
def world(request: pytest.FixtureRequest) -> World:
    return World(request.param)


def test_while_records_flow_every_shard_is_written_once_a_second(world: World) -> None:
    async def main() -> None:
        async with world.held():
            await world.flow(60.0, every=0.02)
        assert 0.95 * 60 <= len(world.noting.writes) / len(SHARDS) <= 60 + 1
        assert world.most() == 1

    run_virtually(world.clock, main())


def test_what_is_told_of_a_shard_goes_with_its_checkpoints(world: World) -> None:
    async def main() -> None:
        async with world.held():
            world.facts = lambda: ShardFacts(iterator_age_seconds=world.clock.now)
            await world.flow(60.0, every=0.02)
        assert len(world.noting.writes) / len(SHARDS) <= 60 + 1
        assert world.most() == 1

    run_virtually(world.clock, main())


def test_rare_batches_are_written_as_often_as_they_come(world: World) -> None:
    async def main() -> None:
        async with world.held():
            await world.flow(60.0, every=5.0)
        assert len(world.noting.writes) == 12 * len(SHARDS)

    run_virtually(world.clock, main())


def test_nothing_is_written_when_no_record_comes(world: World) -> None:
    async def main() -> None:
        async with world.held():
            await asyncio.sleep(3600.0)
        assert world.noting.writes == []

    run_virtually(world.clock, main())


def test_an_age_that_grows_alone_costs_a_write_every_ten_seconds(world: World) -> None:
    async def main() -> None:
        async with world.held():
            world.facts = lambda: ShardFacts(iterator_age_seconds=world.clock.now)
            await asyncio.sleep(60.0)
        assert 60 / (AGE_INTERVAL + TELL_INTERVAL) <= len(world.noting.writes) / len(SHARDS) <= 60 / AGE_INTERVAL

    run_virtually(world.clock, main())
