"""What every checkpoint store promises: SQLite in a file and in memory, Kubernetes objects, a DynamoDB table."""

from __future__ import annotations

import asyncio
import threading
import uuid
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from headrace.cluster import Cluster
from headrace.errors import LeaseLost, StoreError
from headrace.records import Checkpoint, GivenUp, Head, Holder, LaneProgress, Lease, Shard, Start, Window
from headrace.resources import EVENT_SOURCE_MAPPING, MappingRef, ref_of
from headrace.stream.stores import CheckpointStore
from headrace.stream.stores.dynamodb import PIECE, DynamoDBTable
from headrace.stream.stores.kubernetes import KubernetesStore
from headrace.stream.stores.sqlite import LOG_PAGES, SqliteFile, SqliteStore
from tests.support import aws, clusters, tables
from tests.support.fake_cluster import FakeCluster

ARN = "arn:aws:kinesis:eu-west-1:123456789012:stream/orders"
Open = Callable[[str], CheckpointStore]
"""Opens the store of one of two mappings, m and n, as a poller that begins anew does."""


@pytest.fixture(params=["sqlite", "memory", "objects", "table", pytest.param("server", marks=pytest.mark.cluster)])
async def stores(request: pytest.FixtureRequest, state: Path) -> AsyncIterator[Open]:
    async with AsyncExitStack() as stack:
        match request.param:
            case "sqlite" | "memory":
                file = SqliteFile(state if request.param == "sqlite" else None)
                await file.open()
                stack.push_async_callback(file.aclose)
                yield lambda mapping: SqliteStore(file, mapping)
            case "table":
                name, access = await stack.enter_async_context(tables.table(request.getfixturevalue("ministack")))
                refs = {mapping: MappingRef("shop", mapping, str(uuid.uuid4())) for mapping in "mn"}
                homes = {mapping: DynamoDBTable(name, ref, access, aws.REGION) for mapping, ref in refs.items()}
                for home in homes.values():
                    stack.push_async_callback(home.aclose)
                yield lambda one: KubernetesStore(homes[one], refs[one], ARN, None, life(), piece=PIECE)
            case home:
                api: Cluster = FakeCluster()
                namespace = "shop"
                if home == "server":
                    api = await stack.enter_async_context(clusters.cluster())
                    namespace = await stack.enter_async_context(clusters.namespace(api))
                made = [await api.create(EVENT_SOURCE_MAPPING, clusters.mapping(namespace, one)) for one in "mn"]
                named = dict(zip("mn", map(ref_of, made), strict=True))
                yield lambda one: KubernetesStore(api, named[one], ARN, None, life())


def life() -> Holder:
    return Holder("poller", uuid.uuid4().hex)


A, B = Shard("a"), Shard("b")
BOTH = (A, B)
WINDOW = Window(60, 120, "7", b'{"sum":' + b"9" * 1_500_000 + b"}", final=True, early=True)


async def taken(store: CheckpointStore, shards: Sequence[Shard] = BOTH) -> dict[str, Checkpoint | None]:
    """Takes every shard that is not finished; gives the checkpoint of each."""
    leases = await store.load(shards)
    return {
        shard_id: lease.checkpoint if lease.checkpoint.finished else await store.take(shard_id)
        for shard_id, lease in leases.items()
    }


async def test_a_new_mapping_has_a_lease_without_a_checkpoint_for_every_shard(stores: Open) -> None:
    child = Shard("c", ("a", "b"))
    assert await stores("m").load((*BOTH, child)) == {"a": Lease(A), "b": Lease(B), "c": Lease(child)}
    assert await taken(stores("m")) == {"a": Checkpoint(), "b": Checkpoint()} | (
        {} if isinstance(stores("m"), SqliteStore) else {"c": Checkpoint()}
    )


async def test_what_was_saved_last_is_what_the_next_poller_takes(stores: Open) -> None:
    lanes = (
        LaneProgress(2, 0, "49680502034643045785203157069957013966739167811897131030", None, open=True),
        LaneProgress(2, 1, None, Head("1", "2", 2, 3, GivenUp(1700000000.25, 200, "Unhandled"))),
        LaneProgress(3, 1, None, Head("3", "3", 1, 3, GivenUp(0.0))),
    )
    newest = Checkpoint("49680502034643045785203157069957013966739167811897131026", lanes=lanes)
    store = stores("m")
    await taken(store)
    await store.save("a", Checkpoint("1"))
    await store.save("a", newest)
    await store.save("b", Checkpoint(None, finished=True))
    assert await taken(stores("m")) == {"a": newest, "b": Checkpoint(None, finished=True)}


@pytest.mark.parametrize("window", [Window(60, 120, "7", b"{}"), WINDOW], ids=["small", "large"])
async def test_a_window_lies_beside_its_checkpoint_and_goes_with_it(stores: Open, window: Window) -> None:
    store = stores("m")
    await taken(store)
    await store.save("a", Checkpoint("1", window=window))
    await store.save("b", Checkpoint("2"))
    later = stores("m")
    assert await taken(later) == {"a": Checkpoint("1", window=window), "b": Checkpoint("2")}
    await later.save("a", Checkpoint("3"))
    assert await taken(stores("m")) == {"a": Checkpoint("3"), "b": Checkpoint("2")}


async def test_mappings_do_not_see_each_other(stores: Open) -> None:
    store = stores("m")
    await taken(store)
    await store.save("a", Checkpoint("1"))
    assert await stores("n").load([]) == {}
    assert await taken(stores("n")) == {"a": Checkpoint(), "b": Checkpoint()}


async def test_what_is_given_back_can_be_taken_with_its_checkpoint(stores: Open) -> None:
    store = stores("m")
    await taken(store)
    await store.save("a", Checkpoint("1"))
    await store.release("a")
    assert (await store.load(BOTH))["a"] == Lease(A, Checkpoint("1"))
    assert await store.take("a") == Checkpoint("1")


async def test_what_another_life_has_taken_is_lost_where_there_can_be_one(stores: Open) -> None:
    store = stores("m")
    if isinstance(store, SqliteStore):
        return  # the file is locked: nobody else can be there (`test_one_state_serves_one_run_at_a_time`)
    await taken(store)
    await taken(stores("m"))
    with pytest.raises(LeaseLost):
        await store.save("a", Checkpoint("1"))


async def test_state_without_a_creation_time_belongs_to_the_stream_that_is_there(stores: Open) -> None:
    store = stores("m")
    await taken(store)
    await store.save("a", Checkpoint("1"))
    later = stores("m")
    assert not await later.adopt(1000.5, Start())
    assert not await later.adopt(1000.5, Start())
    assert (await taken(later))["a"] == Checkpoint("1")


async def test_a_stream_made_anew_inherits_nothing(stores: Open) -> None:
    for one in "mn":
        store = stores(one)
        await store.adopt(1000.5, Start())
        await taken(store)
        await store.save("a", Checkpoint("1", window=WINDOW))
    store = stores("m")
    assert await store.adopt(1000.501, Start())
    assert await taken(store) == {"a": Checkpoint(), "b": Checkpoint()}
    await store.save("a", Checkpoint("2"))
    again = stores("m")
    assert not await again.adopt(1000.501, Start())
    assert (await taken(again))["a"] == Checkpoint("2")
    other = stores("n")
    assert not await other.adopt(1000.5, Start())
    assert (await taken(other))["a"] == Checkpoint("1", window=WINDOW)


# ---- SQLite alone: the start, and the file


@pytest.fixture(params=["file", "memory"])
async def file(request: pytest.FixtureRequest, state: Path) -> AsyncIterator[SqliteFile]:
    opened = SqliteFile(state if request.param == "file" else None)
    await opened.open()
    yield opened
    await opened.aclose()


@pytest.mark.parametrize("start", [Start(), Start(0.0), Start(1573691886.021)])
async def test_the_first_pin_stays(file: SqliteFile, start: Start) -> None:
    store = SqliteStore(file, "m")
    assert await store.pin(start) == start
    assert await store.pin(Start(99.0)) == start
    assert await store.start() == start


async def test_a_file_survives_its_process(state: Path) -> None:
    first = SqliteFile(state)
    await first.open()
    await SqliteStore(first, "m").save("a", Checkpoint("1"))
    await first.aclose()
    second = SqliteFile(state)
    await second.open()
    assert await taken(SqliteStore(second, "m"), []) == {"a": Checkpoint("1")}
    await second.aclose()


async def test_one_state_serves_one_run_at_a_time(state: Path) -> None:
    first, second = SqliteFile(state), SqliteFile(state)
    await first.open()
    with pytest.raises(StoreError, match="another headrace run"):
        await second.open()
    await second.aclose()
    await first.aclose()


@pytest.mark.parametrize("content", [b"this is no database, though it is long enough to look like one" * 40])
async def test_a_file_that_is_no_state_is_refused_in_a_sentence(state: Path, content: bytes) -> None:
    state.write_bytes(content)
    file = SqliteFile(state)
    with pytest.raises(StoreError, match="SQLITE_NOTADB"):
        await file.open()
    await file.aclose()


async def test_another_stream_and_another_mapping_have_starts_of_their_own(file: SqliteFile) -> None:
    store, other = SqliteStore(file, "m"), SqliteStore(file, "n")
    await store.adopt(1000.5, Start())
    await store.pin(Start(5.0))
    assert await other.start() is None
    assert await store.adopt(1000.501, Start())
    assert await store.start() == Start()


async def test_a_commit_comes_behind_what_the_files_thread_is_at(file: SqliteFile) -> None:
    store, began, go_on = SqliteStore(file, "m"), threading.Event(), threading.Event()

    def work() -> list[tuple[object, ...]]:
        began.set()
        assert go_on.wait(10)
        return file.execute("SELECT count(*) FROM checkpoint")

    async with asyncio.TaskGroup() as tasks:
        counting = tasks.create_task(file.run(work))
        assert await asyncio.to_thread(began.wait, 10)
        saving = tasks.create_task(store.save("s", Checkpoint("1")))
        await asyncio.sleep(0)
        assert not saving.done()
        go_on.set()
    assert counting.result() == [(0,)]
    assert (await store.load([]))["s"].checkpoint == Checkpoint("1")


async def test_the_log_of_a_state_file_does_not_grow_without_end(state: Path) -> None:
    file = SqliteFile(state)
    await file.open()
    store = SqliteStore(file, "m")
    for number in range(3 * LOG_PAGES):
        await store.save("s", Checkpoint(str(number)))
    assert Path(f"{state}-wal").stat().st_size < 4 * LOG_PAGES * 4096
    await file.aclose()
