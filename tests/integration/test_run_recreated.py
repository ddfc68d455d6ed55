"""`headrace run` on a stream made anew under its name, while it runs and between two runs, and on one that was trimmed."""

from __future__ import annotations

import asyncio
import sqlite3
from contextlib import closing
from itertools import chain
from pathlib import Path
from typing import Any

import pytest

from tests.support.aws import Stream, client, make_stream
from tests.support.function import RecordingFunction, function_error, success
from tests.support.headrace import mapping, run, write


@pytest.fixture(params=["ministack", "kinesis_local"])
def endpoint(request: pytest.FixtureRequest) -> str:
    return str(request.getfixturevalue(request.param))


async def remade(stream: Stream) -> Stream:
    """Another stream of its name, a second younger at least: ministack's creation times have whole seconds."""
    await stream.kinesis.delete_stream(StreamName=stream.name)
    await asyncio.sleep(1.1)
    while stream.name in (await stream.kinesis.list_streams())["StreamNames"]:
        await asyncio.sleep(0.1)
    return await make_stream(stream.kinesis, name=stream.name)


@pytest.mark.parametrize("position", ["TRIM_HORIZON", "LATEST"])
async def test_between_two_runs(
    endpoint: str, function: RecordingFunction, tmp_path: Path, state: Path, position: str
) -> None:
    async with client("kinesis", endpoint) as kinesis:
        stream = await make_stream(kinesis)
        file = write(tmp_path, mapping(stream.arn, function.url, startingPosition=position))
        arguments: tuple[Any, ...] = ("--state", state, "--exit-when-idle", 1.5)
        async with run(file, endpoint, "--state", state) as running:
            await running.until(lambda: running.logged("shard started"))
            await stream.put("1", "2")
            await running.until(lambda: list(chain(*function.seen)) == ["1", "2"])
            await running.stop()
        await (await remade(stream)).put("a")
        function.calls.clear()
        async with run(file, endpoint, *arguments) as running:
            assert await running.end() == 0
        assert list(chain(*function.seen)) == ["a"]
        assert len(running.logged("the stream was made anew")) == 1
        async with run(file, endpoint, *arguments) as running:
            assert await running.end() == 0
        assert list(chain(*function.seen)) == ["a"]
        assert not running.logged("the stream was made anew")


async def test_while_running_the_old_records_are_told_as_lost_and_the_new_ones_come(
    endpoint: str, function: RecordingFunction, tmp_path: Path, state: Path
) -> None:
    async with client("kinesis", endpoint) as kinesis:
        stream = await make_stream(kinesis)
        await stream.put("1", "2")
        function.answer = lambda call: success(call) if call.data == ["a"] else function_error()
        file = write(tmp_path, mapping(stream.arn, function.url, startingPosition="LATEST"))
        async with run(file, endpoint, "--state", state) as running:
            await running.until(lambda: running.logged("shard started"))
            await stream.put("3")
            await running.until(lambda: function.calls)
            await (await remade(stream)).put("a")
            await running.until(lambda: ["a"] in function.seen)
            assert await running.stop() == 0
        (lost,) = running.logged("their stream was deleted")
        assert (lost["records"], lost["first"]) == (1, stream.numbers[2])
        assert len(running.logged("the stream was made anew")) == 1
        assert running.summary["dropped"] == 1


async def test_a_checkpoint_older_than_the_oldest_record_goes_on_there_and_the_gap_is_told(
    endpoint: str, function: RecordingFunction, tmp_path: Path, state: Path
) -> None:
    """No emulator lets records go while one waits: the stored checkpoint is set back before the oldest record."""
    async with client("kinesis", endpoint) as kinesis:
        stream = await make_stream(kinesis)
        file = write(tmp_path, mapping(stream.arn, function.url))
        arguments: tuple[Any, ...] = ("--state", state, "--exit-when-idle", 1)
        await stream.put("1")
        async with run(file, endpoint, *arguments) as running:
            assert await running.end() == 0
        assert not running.logged("records may be lost")
        gone = str(int(stream.numbers[0]) - 7)
        with closing(sqlite3.connect(state)) as database, database:
            assert database.execute("UPDATE checkpoint SET sequence_number = ?", (gone,)).rowcount == 1
        await stream.put("2")
        async with run(file, endpoint, *arguments) as running:
            assert await running.end() == 0
    assert list(chain(*function.seen)) == ["1", "1", "2"]
    (told,) = running.logged("records may be lost")
    assert (told["after"], told["first"]) == (gone, stream.numbers[0])
