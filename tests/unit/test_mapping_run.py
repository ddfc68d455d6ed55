"""One mapping's shards with a fake stream: lineage beyond the listing."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import pytest

from headrace.errors import Reason, StoreError, Throttled
from headrace.records import Checkpoint, Gap, Polled, Position, Shard, Start
from headrace.spec import parse_mapping
from headrace.stream import mapping as mapping_module
from headrace.stream.events import (
    ConditionObserved,
    ConditionType,
    Event,
    Faulted,
    RecordsTrimmed,
    ShardFinished,
    ShardsListed,
    ShardStarted,
)
from headrace.stream.mapping import MappingRun
from headrace.stream.membership import Alone
from headrace.stream.settings import delivery_of
from headrace.stream.stores.sqlite import SqliteFile, SqliteStore
from tests.support.mappings import manifest
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
