"""One mapping's shards with a fake stream: lineage beyond the listing."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import pytest
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import generate_latest

from headrace.errors import Reason, StoreError, Throttled
from headrace.records import Checkpoint, Gap, Head, Holder, LaneProgress, Polled, Position, Shard, Start
from headrace.resources import SHARD_LEASE, MappingRef
from headrace.spec import parse_mapping
from headrace.stream import ahead, working
from headrace.stream import mapping as mapping_module
from headrace.stream.events import (
    CallStarted,
    ConditionObserved,
    ConditionType,
    Event,
    Faulted,
    RecordsTrimmed,
    ShardFinished,
    ShardLost,
    ShardsListed,
    ShardStarted,
    ShardStopped,
    all_of,
)
from headrace.stream.functions import Call, NoResponse, Response
from headrace.stream.health import Health
from headrace.stream.mapping import MappingRun
from headrace.stream.membership import Alone
from headrace.stream.metrics import Metrics
from headrace.stream.settings import MOST_READ, delivery_of
from headrace.stream.stores.kubernetes import KubernetesStore
from headrace.stream.stores.sqlite import SqliteFile, SqliteStore
from tests.support.fake_cluster import FakeCluster
from tests.support.mappings import manifest
from tests.support.records import record, records
from tests.unit.test_shard_poller import Function, Reader

CHILD = Shard("child", ("parent",))


@dataclass
class Source:
    listings: list[Sequence[Shard] | Exception]
    readers: dict[str, list[Polled | Exception]] = field(default_factory=dict)
    retention: float | None = 86400.0

    async def shards(self) -> Sequence[Shard]:
        answer = self.listings.pop(0) if len(self.listings) > 1 else self.listings[0]
        if isinstance(answer, Exception):
            raise answer
        return answer

    async def created(self) -> float | None:
        return 1000.0

    async def now(self) -> float:
        return 0.0

    def reader(self, shard_id: str, position: Position) -> Reader:
        return Reader(self.readers.get(shard_id, []))

    async def aclose(self) -> None:
        pass


class Refusing(SqliteStore):
    """Refuses some of its calls as often as told."""

    refusals: dict[str, int]

    def refuse(self, call: str) -> bool:
        self.refusals[call] = self.refusals.get(call, 0) - 1
        return self.refusals[call] >= 0

    async def adopt(self, created: float, restart: Start) -> bool:
        if self.refuse("adopt"):
            raise StoreError(Reason.NOT_FOUND, "no such table; make it")
        return await super().adopt(created, restart)

    async def take(self, shard_id: str) -> Checkpoint | None:
        if self.refuse("take"):
            raise StoreError(Reason.ACCESS_DENIED, "may not write; allow it")
        return None if self.refuse("changed") else await super().take(shard_id)


async def run(
    source: Source, until: Callable[[Event], bool], refusals: dict[str, int] | None = None, **checkpoints: Checkpoint
) -> list[Event]:
    events: list[Event] = []
    stop = asyncio.Event()

    def observe(event: Event) -> None:
        events.append(event)
        if until(event):
            stop.set()

    file = SqliteFile(None)
    await file.open()
    store = Refusing(file, "m")
    store.refusals = refusals or {}
    for shard_id, checkpoint in checkpoints.items():
        await store.save(shard_id, checkpoint)
    mapping = parse_mapping(manifest())
    async with asyncio.timeout(5):
        delivery = delivery_of(mapping)
        await MappingRun(mapping, delivery, source, Function(), None, store, Alone(), observe, stop).run()
    await file.aclose()
    return events


def child_started(event: Event) -> bool:
    return isinstance(event, ShardStarted) and event.shard_id == "child"


async def test_children_that_a_shards_end_names_start_though_the_stream_cannot_be_listed() -> None:
    source = Source([[Shard("parent")], Throttled("slow")], {"parent": [Polled(ended=True, children=(CHILD,))]})
    events = await run(source, child_started)
    assert ShardFinished("parent") in events


async def test_a_parent_gone_with_its_records_is_told_and_holds_up_nobody() -> None:
    events = await run(Source([[CHILD]]), child_started, parent=Checkpoint("7"))
    assert RecordsTrimmed("parent", Gap("7", None)) in events


async def test_a_parent_that_is_still_read_is_waited_for_though_the_listing_has_forgotten_it() -> None:
    source = Source([[Shard("parent"), CHILD], [CHILD]], {"parent": [Polled(), Polled(), Polled(ended=True)]})
    events = await run(source, child_started)
    assert events.index(ShardFinished("parent")) < next(i for i, each in enumerate(events) if child_started(each))


async def test_a_child_that_is_listed_and_named_by_its_parents_end_starts_once() -> None:
    source = Source([[Shard("parent"), CHILD]], {"parent": [Polled(ended=True, children=(CHILD,))]})
    source.readers["child"] = [Polled(ended=True)]
    events = await run(source, lambda event: event == ShardFinished("child"))
    assert sum(map(child_started, events)) == 1


@pytest.fixture
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mapping_module, "LONGEST_PAUSE", 0.01)
    monkeypatch.setattr(mapping_module, "SETTLED_INTERVAL", 0.01)


def started(event: Event) -> bool:
    return isinstance(event, ShardStarted)


@pytest.mark.usefixtures("_quick")
@pytest.mark.parametrize(
    ("call", "reason"), [("adopt", Reason.NOT_FOUND), ("take", Reason.ACCESS_DENIED)], ids=["adopt", "take"]
)
async def test_a_store_that_refuses_is_a_condition_that_holds_once_it_does_not(call: str, reason: Reason) -> None:
    def healed(event: Event) -> bool:
        return (
            isinstance(event, ConditionObserved) and event.holds and event.type is ConditionType.CHECKPOINTS_REACHABLE
        )

    events = await run(Source([[Shard("parent")]]), healed, {call: 2})
    seen = [each for each in events if isinstance(each, ConditionObserved)]
    told = [(each.holds, each.reason) for each in seen if each.type is ConditionType.CHECKPOINTS_REACHABLE]
    assert told == [(False, reason), (False, reason), (True, Reason.REACHABLE)]
    assert not [each for each in events if isinstance(each, Faulted)]


@pytest.mark.usefixtures("_quick")
async def test_a_shard_is_told_as_nobodys_until_it_is_taken() -> None:
    looks: list[tuple[str, ...]] = []

    def taken(event: Event) -> bool:
        if isinstance(event, ShardsListed):
            looks.append(event.unowned)
        return len(looks) == 2

    await run(Source([[Shard("parent"), CHILD]]), taken, {"changed": 1})
    assert looks == [("parent",), ()]


async def test_a_shard_that_is_taken_over_says_what_it_is_stuck_on() -> None:
    """The lanes that begin with a batch that has failed, as far as they are lanes of this mapping."""
    head = Head("5", "7", 3, attempts=2)
    other = LaneProgress(10, 3, "5", head)
    ours = LaneProgress(1, 0, "4", head)
    for lanes, told in (((ours,), (ours,)), ((other,), ()), ((LaneProgress(1, 0, "5"),), ())):
        events = await run(Source([[Shard("child")]]), child_started, child=Checkpoint("4", lanes=lanes))
        assert [event.stuck for event in events if isinstance(event, ShardStarted)] == [told]


class Brittle(SqliteStore):
    async def release(self, shard_id: str) -> None:
        raise KeyError(shard_id)


async def test_a_fault_of_the_whole_run_leaves_no_gauge_of_a_shard_behind() -> None:
    registry, health, stop = CollectorRegistry(), Health(), asyncio.Event()
    counting = Metrics(registry).observer("shop", "orders", "arn", health)
    source = Source([[Shard("one"), Shard("two")]], {"one": [Polled(), Polled(), Polled(ended=True)]})
    file = SqliteFile(None)
    await file.open()
    mapping, store = parse_mapping(manifest()), Brittle(file, "m")
    observer = all_of(health, counting)
    run = MappingRun(mapping, delivery_of(mapping), source, Function(), None, store, Alone(), observer, stop)
    with pytest.raises(ExceptionGroup):
        async with asyncio.timeout(5):
            await run.run()
    await file.aclose()
    assert 'shard="' not in generate_latest(registry).decode()


@dataclass
class Asked(Source):
    """Keeps how many records its first reads are asked for."""

    first_reads: dict[str, int] = field(default_factory=dict)

    def reader(self, shard_id: str, position: Position) -> Reader:
        asked = self.first_reads

        class Keeping(Reader):
            async def read(self, most: int = 10_000) -> Polled:
                asked.setdefault(shard_id, most)
                return await super().read(most)

        return Keeping([])


@pytest.mark.parametrize("shards", [1, 64])
async def test_the_more_shards_are_read_in_a_process_the_less_each_is_read_ahead(shards: int) -> None:
    source = Asked([[Shard(f"shard {number}") for number in range(shards)]])
    await run(source, lambda _: len(source.first_reads) == shards)
    asked = list(source.first_reads.values())
    assert asked[-1] == ahead.records(ahead.share(shards), None)
    assert asked == sorted(asked, reverse=True), "the more are taken on, the less each asks for"
    assert sum(most == MOST_READ for most in asked) <= 16


class Ours(Alone):
    """The only poller, of leases that may be lost all the same."""

    def may_run(self, holder: Holder | None) -> bool:
        return holder is not None


@dataclass
class SlowFunction(Function):
    """Answers when it is told to."""

    answering: asyncio.Event = field(default_factory=asyncio.Event)
    flying: int = 0
    most: int = 0

    async def invoke(self, call: Call) -> Response | NoResponse:
        self.calls.append(call)
        self.flying += 1
        self.most = max(self.most, self.flying)
        await self.answering.wait()
        self.flying -= 1
        return Response(200, {}, b"null")


async def test_a_shard_that_another_poller_has_is_told_as_lost_to_that_one() -> None:
    events: list[Event] = []
    stop, function, cluster, ours = asyncio.Event(), SlowFunction(), FakeCluster(), Ours()
    ref = MappingRef("shop", "orders", "0a1b2c3d-1")
    store = KubernetesStore(cluster, ref, "arn", Start(), Holder("a", "1"))
    source = Source([[Shard("one"), Shard("two")]], {one: [Polled(records(1))] for one in ("one", "two")})
    mapping = parse_mapping(manifest())
    run = MappingRun(mapping, delivery_of(mapping), source, function, None, store, ours, events.append, stop)
    async with asyncio.timeout(5), asyncio.TaskGroup() as tasks:
        tasks.create_task(run.run())
        while len(function.calls) < 2:
            await asyncio.sleep(0.001)
        other = KubernetesStore(cluster, ref, "arn", Start(), Holder("b", "1"))
        await other.load([Shard("one"), Shard("two")])
        for shard_id in ("one", "two"):
            await other.take(shard_id)
        ours.on_lost(await store.regain(Holder("a", "2")))
        while not {ShardLost("one", "b"), ShardLost("two", "b")} <= set(events):
            await asyncio.sleep(0.001)
        function.answering.set()
        stop.set()


async def test_a_shard_whose_lease_was_deleted_is_begun_anew_only_after_its_call_has_ended() -> None:
    events: list[Event] = []
    stop, function, cluster, ours = asyncio.Event(), SlowFunction(), FakeCluster(), Ours()
    store = KubernetesStore(cluster, MappingRef("shop", "orders", "0a1b2c3d-1"), "arn", Start(), Holder("a", "1"))
    source = Source([[Shard("one")]], {"one": [Polled(records(1))]})
    mapping = parse_mapping(manifest())
    run = MappingRun(mapping, delivery_of(mapping), source, function, None, store, ours, events.append, stop)
    async with asyncio.timeout(5), asyncio.TaskGroup() as tasks:
        tasks.create_task(run.run())
        while not function.calls:
            await asyncio.sleep(0.001)
        source.readers["one"] = [Polled(records(1))]
        (key,) = [key for key in cluster.objects if key[0] == SHARD_LEASE]
        del cluster.objects[key]
        ours.news.set()
        while ShardLost("one", None) not in events:
            await asyncio.sleep(0.001)
        for _ in range(20):
            ours.news.set()
            await asyncio.sleep(0.01)
        assert len(function.calls) == 1
        assert events.count(ShardStopped("one")) == 1, "told at once"
        function.answering.set()
        while len(function.calls) < 2:
            await asyncio.sleep(0.001)
        stop.set()
    assert function.most == 1
    assert sum(isinstance(event, ShardStarted) for event in events) == 2


async def test_a_fault_of_a_shard_waits_for_the_calls_that_it_cut_short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(working, "LONGEST_PAUSE", 0.01)
    stop, function, events = asyncio.Event(), SlowFunction(), list[Event]()
    mapping = parse_mapping(manifest(parallelizationFactor=2))
    delivery = delivery_of(mapping)
    file = SqliteFile(None)
    await file.open()
    store = SqliteStore(file, "m")
    batch = tuple(record(n, key=key) for n, key in enumerate("abcdefgh", 1))
    source = Source([[Shard("one")]], {"one": [Polled(batch), Polled(batch)]})

    def observe(event: Event) -> None:
        events.append(event)
        if isinstance(event, CallStarted) and sum(isinstance(one, CallStarted) for one in events) == 2:
            raise KeyError("a fault of our own")

    run = MappingRun(mapping, delivery, source, function, None, store, Alone(), observe, stop)
    async with asyncio.timeout(5), asyncio.TaskGroup() as tasks:
        tasks.create_task(run.run())
        while not any(isinstance(event, Faulted) for event in events):
            await asyncio.sleep(0.001)
        await asyncio.sleep(0.1)
        assert len(function.calls) == 1
        function.answering.set()
        while len(function.calls) < 3:
            await asyncio.sleep(0.001)
        stop.set()
    await file.aclose()
