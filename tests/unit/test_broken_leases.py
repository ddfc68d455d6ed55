"""A lease that is broken costs its shard and no other: told once a minute by one poller, and read again once mended."""

from __future__ import annotations

import asyncio
import copy
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, cast

from headrace.errors import Reason, StoreError
from headrace.records import Checkpoint, Holder, LaneProgress, Polled, Shard, Window
from headrace.resources import SHARD_LEASE, MappingRef
from headrace.spec import parse_mapping
from headrace.stream.events import (
    ConditionObserved,
    ConditionType,
    Faulted,
    LeaseBroken,
    RecordsTrimmed,
    ShardFinished,
    ShardLost,
    ShardsListed,
    ShardStarted,
    ShardStopped,
)
from headrace.stream.mapping import MappingRun
from headrace.stream.membership import Alone
from headrace.stream.notices import notice_of
from headrace.stream.settings import delivery_of
from headrace.stream.stores import table_rows
from headrace.stream.stores.dynamodb import DynamoDBTable
from headrace.stream.stores.kubernetes import KubernetesStore
from headrace.stream.stores.sqlite import SqliteFile, SqliteStore
from tests.support.fake_table import FakeTable
from tests.support.mappings import manifest
from tests.unit.test_mapping_run import Source
from tests.unit.test_shard_poller import Function

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from headrace.stream.aws import AwsAccess
    from headrace.stream.events import Event
    from headrace.stream.stores import CheckpointStore

REF = MappingRef("shop", "orders", "0e9a2b1c-0000-4000-8000-000000000000")
ARN = "arn:aws:kinesis:eu-west-1:123456789012:stream/orders"
FIRST, SECOND = Shard("shardId-000000000000"), Shard("shardId-000000000001")
CHILD = Shard("shardId-000000000002", (FIRST.shard_id,))


@dataclass
class Bench:
    """The data plane of one poller over a table; `events` are what it tells."""

    shards: Sequence[Shard]
    table: FakeTable = field(default_factory=FakeTable)
    membership: Alone = field(default_factory=Alone)
    events: list[Event] = field(default_factory=list)
    told: asyncio.Event = field(default_factory=asyncio.Event)
    later: Sequence[Shard] = ()
    """What is listed from the second time on, where that is something else."""
    reads: dict[str, list[Polled | Exception]] = field(default_factory=dict)
    home: CheckpointStore | None = None
    """Another store than that of the table."""

    def store(self, life: str = "1") -> KubernetesStore:
        home = DynamoDBTable("headrace", REF, cast("AwsAccess", self.table), "eu-west-1", lambda: 1_700_000_000.0)
        return KubernetesStore(home, REF, ARN, None, Holder("pod-a", life))

    async def saved(self, **checkpoints: Checkpoint) -> None:
        store = self.store("0")
        await store.load([Shard(one) for one in checkpoints])
        for shard_id, checkpoint in checkpoints.items():
            await store.take(shard_id)
            await store.save(shard_id, checkpoint)
            await store.release(shard_id)

    def row(self, shard: Shard) -> dict[str, Any]:
        key = table_rows.key(REF.uid, SHARD_LEASE, REF.shard_lease_name(ARN, shard.shard_id))
        return self.table.rows[key["mapping"]["S"], key["object"]["S"]]

    def __call__(self, event: Event) -> None:
        self.events.append(event)
        self.told.set()

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        stop = asyncio.Event()
        mapping = parse_mapping(manifest())
        idle: dict[str, list[Polled | Exception]] = {shard.shard_id: [Polled()] * 1000 for shard in self.shards}
        source = Source([self.shards, self.later or self.shards], idle | self.reads)
        store, delivery = self.home or self.store(), delivery_of(mapping)
        run = MappingRun(mapping, delivery, source, Function(), None, store, self.membership, self, stop)
        async with asyncio.TaskGroup() as tasks, asyncio.timeout(5):
            tasks.create_task(run.run())
            yield
            stop.set()

    async def until(self, event: Event) -> None:
        while event not in self.events:
            self.told.clear()
            await self.told.wait()

    async def look(self) -> None:
        """Waits for one more look at the leases."""
        self.events[:] = [event for event in self.events if not isinstance(event, ShardsListed)]
        self.membership.news.set()
        while not any(isinstance(event, ShardsListed) for event in self.events):
            self.told.clear()
            await self.told.wait()

    def faults(self) -> list[LeaseBroken]:
        return [event for event in self.events if isinstance(event, LeaseBroken)]


async def broken(*shards: Shard) -> tuple[Bench, dict[str, Any]]:
    """A bench on which the lease of FIRST is broken; and its row as it was."""
    bench = Bench(shards)
    await bench.saved(**{FIRST.shard_id: Checkpoint("5"), SECOND.shard_id: Checkpoint("7")})
    row = bench.row(FIRST)
    before = copy.deepcopy(row)
    row["body"] = {"S": "garbage"}
    return bench, before


async def test_other_shards_go_on_and_the_broken_one_is_told_and_counts_as_read_by_nobody() -> None:
    bench, _ = await broken(FIRST, SECOND)
    async with bench.running():
        await bench.until(ShardStarted(SECOND.shard_id, "7"))
        await bench.until(ShardsListed(total=2, waiting=0, unowned=(FIRST.shard_id,)))
    (fault,) = bench.faults()
    assert fault.shard_id == FIRST.shard_id
    assert "body: must be a text with a JSON object" in fault.detail
    assert not [event for event in bench.events if isinstance(event, ShardStarted) and event.shard_id == FIRST.shard_id]
    notice = notice_of(fault)
    assert notice is not None
    assert (notice.reason, notice.shard_id) == (Reason.LEASE_BROKEN, FIRST.shard_id)
    assert fault.detail in notice.message


async def test_a_state_of_a_window_that_is_broken_is_told_of_its_shard_and_others_go_on() -> None:
    bench = Bench([FIRST, SECOND])
    window = Window(60, 120, "5", b"{}")
    await bench.saved(**{FIRST.shard_id: Checkpoint("5", window=window), SECOND.shard_id: Checkpoint("7")})
    (state,) = [row for (_, name), row in bench.table.rows.items() if name.startswith("windowstates/")]
    state["body"] = {"S": "garbage"}
    async with bench.running():
        await bench.until(ShardStarted(SECOND.shard_id, "7"))
        while not bench.faults():
            await bench.look()
    assert [fault.shard_id for fault in bench.faults()] == [FIRST.shard_id]
    assert "take status.window away" in bench.faults()[0].detail
    told = [event for event in bench.events if isinstance(event, ConditionObserved)]
    assert {event.type for event in told} >= {ConditionType.CHECKPOINTS_REACHABLE}
    assert all(event.holds for event in told)


async def test_it_is_read_from_its_checkpoint_as_soon_as_it_is_mended() -> None:
    bench, before = await broken(FIRST, SECOND)
    async with bench.running():
        await bench.until(ShardStarted(SECOND.shard_id, "7"))
        bench.row(FIRST).update(before)
        await bench.look()
        await bench.until(ShardStarted(FIRST.shard_id, "5"))


async def test_it_is_told_once_between_two_listings() -> None:
    bench, _ = await broken(FIRST, SECOND)
    async with bench.running():
        await bench.until(ShardStarted(SECOND.shard_id, "7"))
        for _ in range(5):
            await bench.look()
    assert len(bench.faults()) == 1


async def test_one_of_several_pollers_tells() -> None:
    class Another(Alone):
        def falls_to_us(self, _shard_id: str) -> bool:
            return False

    bench, _ = await broken(FIRST, SECOND)
    bench.membership = Another()
    async with bench.running():
        await bench.until(ShardStarted(SECOND.shard_id, "7"))
    assert bench.faults() == []


async def test_the_children_of_a_broken_shard_wait() -> None:
    bench, before = await broken(FIRST, SECOND, CHILD)
    async with bench.running():
        await bench.until(ShardsListed(total=3, waiting=1, unowned=(FIRST.shard_id,)))
        bench.row(FIRST).update(before)
        await bench.look()
        await bench.until(ShardStarted(FIRST.shard_id, "5"))


async def test_a_broken_lease_of_a_shard_that_the_source_has_forgotten_holds_up_no_child() -> None:
    bench, _ = await broken(SECOND, CHILD)
    async with bench.running():
        await bench.until(ShardStarted(CHILD.shard_id, None))
    assert [fault.shard_id for fault in bench.faults()] == [REF.shard_lease_name(ARN, FIRST.shard_id)]
    assert not [event for event in bench.events if isinstance(event, RecordsTrimmed)]


async def test_a_shard_that_is_read_while_its_lease_breaks_goes_on() -> None:
    bench, before = await broken(FIRST, SECOND)
    bench.row(FIRST).update(before)
    async with bench.running():
        await bench.until(ShardStarted(FIRST.shard_id, "5"))
        bench.row(FIRST)["body"] = {"S": "garbage"}
        while not bench.faults():
            await bench.look()
        assert not [event for event in bench.events if isinstance(event, ShardLost | ShardStopped)]


async def test_a_shard_that_cannot_be_taken_holds_up_neither_the_others_nor_the_listing() -> None:
    class Refusing(KubernetesStore):
        async def take(self, shard_id: str) -> Checkpoint | None:
            if shard_id == FIRST.shard_id:
                raise StoreError(Reason.API_ERROR, "no")
            return await super().take(shard_id)

    class Bad(Bench):
        def store(self, life: str = "1") -> KubernetesStore:
            whole = super().store(life)
            whole.__class__ = Refusing
            return whole

    late = Shard("shardId-000000000003")
    bench = Bad([FIRST, SECOND])
    bench.later = [FIRST, SECOND, late]
    bench.reads = {SECOND.shard_id: [Polled(ended=True)]}
    async with bench.running():
        await bench.until(ShardFinished(SECOND.shard_id))
        await bench.until(ShardStarted(late.shard_id, None))


async def test_a_checkpoint_that_cannot_be_gone_on_from_costs_no_other_shard() -> None:
    bench = Bench([FIRST, SECOND])
    file = SqliteFile(None)
    await file.open()
    store = SqliteStore(file, "m")
    await store.save(FIRST.shard_id, Checkpoint("5", lanes=(LaneProgress(1, 7),)))
    bench.home = store
    async with bench.running():
        await bench.until(ShardStarted(SECOND.shard_id, None))
        while not any(isinstance(event, Faulted) and FIRST.shard_id in event.what for event in bench.events):
            bench.told.clear()
            await bench.told.wait()
        assert not [event for event in bench.events if isinstance(event, ShardStopped)]
    await file.aclose()
