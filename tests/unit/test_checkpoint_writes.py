"""How often checkpoints are written where writes are shared with others: figures in docs/scale.md."""

from __future__ import annotations

import asyncio

import pytest

from headrace.cluster import Body
from headrace.records import Checkpoint, Holder, Shard
from headrace.resources import EVENT_SOURCE_MAPPING, SHARD_LEASE, Kind, ref_of
from headrace.stream.checkpoints import CheckpointWriter
from headrace.stream.progress import ShardFacts
from headrace.stream.stores.kubernetes import KubernetesStore
from tests.support.clusters import mapping
from tests.support.fake_cluster import FakeCluster
from tests.support.virtual import Clock, run_virtually

SECONDS = 60
BATCHES_A_SECOND = 20


class Counting(FakeCluster):
    """Counts what is written of ShardLeases."""

    def __init__(self) -> None:
        super().__init__()
        self.replaced = 0

    async def replace(self, kind: Kind, body: Body) -> Body:
        self.replaced += kind == SHARD_LEASE
        return await super().replace(kind, body)


async def write(api: Counting, clock: Clock, shards: int) -> tuple[int, int]:
    """What is written in a minute of records, and in the idle minute after it; takes the shards before that."""
    ref = ref_of(await api.create(EVENT_SOURCE_MAPPING, mapping("shop", "orders")))
    store = KubernetesStore(api, ref, "arn", None, Holder("a", "1"), clock.time)
    names = [f"shardId-{number:012}" for number in range(shards)]
    await store.load([Shard(name) for name in names])
    stop = asyncio.Event()
    writers = [
        CheckpointWriter(store, name, await store.take(name) or Checkpoint(), lambda _: None, lambda _: 1.0, stop)
        for name in names
    ]
    async with asyncio.TaskGroup() as tasks:
        running = [tasks.create_task(writer.run()) for writer in writers]
        before = api.replaced
        for number in range(1, SECONDS * BATCHES_A_SECOND + 1):
            for name, writer in zip(names, writers, strict=True):
                await writer.advance(Checkpoint(str(number)))
                if number % (2 * BATCHES_A_SECOND) == 0:
                    await store.report_shard(name, ShardFacts(iterator_age_seconds=1.0))
            await asyncio.sleep(1 / BATCHES_A_SECOND)
        await asyncio.sleep(2.0)
        busy = api.replaced - before
        for _ in range(SECONDS // 2):
            for name in names:
                await store.report_shard(name, ShardFacts(iterator_age_seconds=1.0))
            await asyncio.sleep(2.0)
        for task in running:
            task.cancel()
    return busy, api.replaced - before - busy


@pytest.mark.parametrize("shards", [1, 10])
def test_a_shard_is_written_at_most_once_a_second_while_records_flow_and_never_while_idle(shards: int) -> None:
    clock, api = Clock(), Counting()
    busy, idle = run_virtually(clock, write(api, clock, shards))
    assert SECONDS * shards * 0.9 <= busy <= (SECONDS + 2) * shards
    assert idle == 0
