"""`make bench-checkpoints`: how large leases and heartbeats are, and what so many shards cost an API server or a table.

Sizes are those of objects that the store writes to the cluster that KUBECONFIG names, and of the rows that it writes to
a table in memory; rates are computed from them and from the intervals of the code. A shard counts as written once a second, which is the most there is.
"""

from __future__ import annotations

import asyncio
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

import orjson

from headrace import heartbeat
from headrace.heartbeat import RENEW_INTERVAL, TERM, Heartbeat, ReportedCondition
from headrace.membership import READ_INTERVAL, READ_PER_POLLER
from headrace.records import Checkpoint, Head, Holder, LaneProgress, Shard, Start
from headrace.resources import EVENT_SOURCE_MAPPING, LEASE, SHARD_LEASE, ref_of
from headrace.stream.mapping import LISTING_INTERVAL, SETTLED_INTERVAL, SETTLED_PER_SHARD
from headrace.stream.progress import ShardFacts
from headrace.stream.stores import table_rows
from headrace.stream.stores.dynamodb import DynamoDBTable
from headrace.stream.stores.kubernetes import WRITE_INTERVAL, KubernetesStore
from tests.support import clusters
from tests.support.fake_table import FakeTable, row_bytes

if TYPE_CHECKING:
    from headrace.cluster import Cluster
    from headrace.resources import MappingRef
    from headrace.stream.aws import AwsAccess
    from headrace.stream.stores import Objects

ARN = "arn:aws:kinesis:eu-west-1:123456789012:stream/orders"
SHARD = Shard("shardId-000000000000")
NUMBER = "49680502034643045785203157069957013966739167811897131{:03}"
HOLDER = Holder("orders-poller-6d4cf56db6-x7k2p", "0123456789ab")
SHARDS_PER_POLLER = 16
KILOBYTE, READ_UNIT = 1024, 4096


@dataclass(frozen=True)
class Sizes:
    """Bytes of one lease as JSON, of its row as DynamoDB counts it, and of one heartbeat as JSON."""

    lease: int
    row: int
    beat: int


def checkpoint(lanes: int) -> Checkpoint:
    """One of a shard in full flow; with lanes every one of them has a batch that failed twice."""
    heads = [Head(NUMBER.format(n), NUMBER.format(n + 100), 100, 2) for n in range(lanes)]
    progress = tuple(LaneProgress(lanes, n, NUMBER.format(n), heads[n], open=True) for n in range(lanes))
    return Checkpoint(NUMBER.format(0), lanes=progress if lanes > 1 else ())


async def saved(objects: Objects, ref: MappingRef, lanes: int) -> None:
    store = KubernetesStore(objects, ref, ARN, None, HOLDER)
    await store.adopt(1_700_000_000.5, Start())
    await store.load([SHARD])
    await store.take(SHARD.shard_id)
    await store.report_shard(SHARD.shard_id, ShardFacts(iterator_age_seconds=12))
    await store.save(SHARD.shard_id, checkpoint(lanes))


async def measured(api: Cluster, namespace: str, lanes: int) -> Sizes:
    ref = ref_of(await api.create(EVENT_SOURCE_MAPPING, clusters.mapping(namespace, f"orders-{lanes}")))
    await saved(api, ref, lanes)
    (lease,) = await api.select(SHARD_LEASE, ref.namespace, ref.selector)
    table = FakeTable()
    await saved(DynamoDBTable("headrace", ref, cast("AwsAccess", table), "eu-west-1"), ref, lanes)
    (row,) = table.rows.values()
    condition = ReportedCondition("SourceReachable", "True", "Reachable", "the stream answers")
    said = Heartbeat(HOLDER.identity, 3, (condition,) * 4, "OK", 12, 16, 0, 16, 16, HOLDER.incarnation)
    made = await api.create(LEASE, heartbeat.lease(ref, said, "2026-01-01T00:00:00.000000Z"))
    beat = await api.replace(LEASE, made)
    return Sizes(len(orjson.dumps(lease)), row_bytes(row), len(orjson.dumps(beat)))


@dataclass(frozen=True)
class Load:
    """Per second: what all pollers of one mapping of so many shards ask of an API server and of a table."""

    shards: int
    sizes: Sizes

    @property
    def pollers(self) -> int:
        return math.ceil(self.shards / SHARDS_PER_POLLER)

    @property
    def lease_writes(self) -> float:
        return self.shards / WRITE_INTERVAL

    @property
    def lease_bytes(self) -> float:
        """There and back."""
        return self.lease_writes * self.sizes.lease * 2

    @property
    def lease_reads(self) -> float:
        """Bytes: each poller reads all leases."""
        return self.pollers * self.shards * self.sizes.lease / self.read_interval

    @property
    def read_interval(self) -> float:
        """Seconds between two reads of the leases by one poller while nothing asks for one."""
        return min(LISTING_INTERVAL, max(SETTLED_INTERVAL, SETTLED_PER_SHARD * self.shards))

    @property
    def beat_requests(self) -> float:
        """Every poller renews its own and reads all, more seldom the more there are, and reads the mapping."""
        return self.pollers * (2 / RENEW_INTERVAL + 1 / self.beat_interval)

    @property
    def beat_interval(self) -> float:
        others = self.pollers - 1
        return READ_INTERVAL + READ_PER_POLLER * others if others else RENEW_INTERVAL

    @property
    def beat_bytes(self) -> float:
        read = self.pollers * self.pollers * self.sizes.beat / self.beat_interval
        return read + self.pollers * self.sizes.beat * 2 / RENEW_INTERVAL

    @property
    def write_units(self) -> float:
        return self.lease_writes * math.ceil(self.sizes.row / KILOBYTE)

    @property
    def read_units(self) -> float:
        """Consistent queries: one per partition key and page, each rounded up to 4 KB."""
        partitions = min(table_rows.BUCKETS, self.shards)
        each = math.ceil(self.shards / partitions * self.sizes.row / READ_UNIT)
        empty = table_rows.BUCKETS - partitions
        return self.pollers * (partitions * each + empty) / self.read_interval


def line(*cells: str) -> str:
    return "| " + " | ".join(cells) + " |"


async def main() -> None:
    async with clusters.cluster() as api, clusters.namespace(api) as namespace:
        plain, lanes = await measured(api, namespace, 1), await measured(api, namespace, 10)
    print(f"bytes of a ShardLease {plain.lease}, with ten lanes that all retry {lanes.lease}")
    print(f"bytes of a row {plain.row}, with ten lanes that all retry {lanes.row}; of a heartbeat {plain.beat}")
    print(f"a heartbeat is renewed every {RENEW_INTERVAL:g} s and worth {TERM} s\n")
    loads = [Load(shards, plain) for shards in (1, 100, 1000)]
    wide = [Load(shards, lanes) for shards in (1, 100, 1000)]
    print(line("shards", *(f"{load.shards:,}" for load in loads)))
    print(line("---", *("---" for _ in loads)))
    for name, told in (
        ("pollers", [f"{load.pollers}" for load in loads]),
        ("writes of leases", [f"{load.lease_writes:.0f}" for load in loads]),
        ("their KB, there and back", [f"{load.lease_bytes / 1000:.1f}" for load in loads]),
        ("KB of leases read when settled", [f"{load.lease_reads / 1000:.1f}" for load in loads]),
        ("requests for heartbeats and the mapping", [f"{load.beat_requests:.1f}" for load in loads]),
        ("KB of heartbeats", [f"{load.beat_bytes / 1000:.1f}" for load in loads]),
        ("WCU", [f"{load.write_units:.0f}" for load in loads]),
        ("WCU, ten lanes that all retry", [f"{load.write_units:.0f}" for load in wide]),
        ("RCU when settled", [f"{load.read_units:.2f}" for load in loads]),
        ("RCU when settled, ten lanes that all retry", [f"{load.read_units:.2f}" for load in wide]),
    ):
        print(line(name, *told))


if __name__ == "__main__":
    asyncio.run(main())
