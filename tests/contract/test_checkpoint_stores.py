"""What every checkpoint store promises: SQLite, in a file and in memory."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from headrace.errors import StoreError
from headrace.records import Checkpoint, Lease, Shard, Start, Window
from headrace.stream.stores.sqlite import SqliteFile, SqliteStore


@pytest.fixture(params=["file", "memory"])
async def file(request: pytest.FixtureRequest, state: Path) -> AsyncIterator[SqliteFile]:
    opened = SqliteFile(state if request.param == "file" else None)
    await opened.open()
    yield opened
    await opened.aclose()


async def stored(store: SqliteStore) -> dict[str, Checkpoint | None]:
    """Every checkpoint there is, as whoever takes the shard gets it."""
    return {shard_id: await store.take(shard_id) for shard_id in await store.load([])}


async def test_a_new_mapping_has_neither_start_nor_checkpoints(file: SqliteFile) -> None:
    store = SqliteStore(file, "m")
    assert await store.start() is None
    assert await store.load([Shard("a")]) == {"a": Lease(Shard("a"))}
    assert await store.take("a") == Checkpoint()


@pytest.mark.parametrize("start", [Start(), Start(0.0), Start(1573691886.021)])
async def test_the_first_pin_stays(file: SqliteFile, start: Start) -> None:
    store = SqliteStore(file, "m")
    assert await store.pin(start) == start
    assert await store.pin(Start(99.0)) == start
    assert await store.start() == start


async def test_what_was_saved_last_is_loaded(file: SqliteFile) -> None:
    store = SqliteStore(file, "m")
    await store.save("a", Checkpoint("1"))
    await store.save("a", Checkpoint("49680502034643045785203157069957013966739167811897131026"))
    await store.save("b", Checkpoint(None, finished=True))
    assert await stored(store) == {
        "a": Checkpoint("49680502034643045785203157069957013966739167811897131026"),
        "b": Checkpoint(None, finished=True),
    }


WINDOW = Window(60, 120, "7", b'{"sum":' + b"9" * 1_500_000 + b"}", final=True, early=True)


@pytest.mark.parametrize("window", [Window(60, 120, "7", b"{}"), WINDOW])
async def test_a_window_lies_beside_its_checkpoint_and_goes_with_it(file: SqliteFile, window: Window) -> None:
    store = SqliteStore(file, "m")
    await store.save("a", Checkpoint("1", window=window))
    await store.save("b", Checkpoint("2"))
    assert await stored(store) == {"a": Checkpoint("1", window=window), "b": Checkpoint("2")}
    await store.save("a", Checkpoint("3"))
    assert await stored(store) == {"a": Checkpoint("3"), "b": Checkpoint("2")}


async def test_mappings_do_not_see_each_other(file: SqliteFile) -> None:
    await SqliteStore(file, "m").save("a", Checkpoint("1"))
    await SqliteStore(file, "m").pin(Start(5.0))
    other = SqliteStore(file, "n")
    assert (await other.start(), await stored(other)) == (None, {})


async def test_a_file_survives_its_process(state: Path) -> None:
    first = SqliteFile(state)
    await first.open()
    await SqliteStore(first, "m").save("a", Checkpoint("1"))
    await first.aclose()
    second = SqliteFile(state)
    await second.open()
    assert await stored(SqliteStore(second, "m")) == {"a": Checkpoint("1")}
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


async def test_state_without_a_creation_time_belongs_to_the_stream_that_is_there(file: SqliteFile) -> None:
    store = SqliteStore(file, "m")
    await store.pin(Start(5.0))
    await store.save("a", Checkpoint("1"))
    assert not await store.adopt(1000.5, Start())
    assert not await store.adopt(1000.5, Start())
    assert (await store.start(), await stored(store)) == (Start(5.0), {"a": Checkpoint("1")})


async def test_a_stream_made_anew_inherits_nothing(file: SqliteFile) -> None:
    store, other = SqliteStore(file, "m"), SqliteStore(file, "n")
    for each in (store, other):
        await each.adopt(1000.5, Start())
        await each.pin(Start(5.0))
        await each.save("a", Checkpoint("1", window=WINDOW))
    assert await store.adopt(1000.501, Start())
    assert (await store.start(), await stored(store)) == (Start(), {})
    await store.save("a", Checkpoint("2"))
    assert not await store.adopt(1000.501, Start())
    assert await stored(store) == {"a": Checkpoint("2")}
    assert (await other.start(), await stored(other)) == (Start(5.0), {"a": Checkpoint("1", window=WINDOW)})
