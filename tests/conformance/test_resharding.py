"""Rows that reshard, from outside: real SplitShard and MergeShards, on the emulator that does these as AWS does."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from tests.conformance.rows import RESHARDED, ROWS
from tests.conformance.table import ERROR, OK, Row, call_step
from tests.support import aws
from tests.support.aws import Stream, make_stream
from tests.support.function import RecordedCall, RecordingFunction
from tests.support.headrace import mapping, run, write

HALF = 2**127
"""Where the hash keys of two shards of equal size part."""
IDLE = ("--exit-when-idle", 2)


@pytest.fixture
async def kinesis(kinesis_local: str) -> AsyncIterator[Any]:
    async with aws.client("kinesis", kinesis_local) as client:
        yield client


def row(name: str) -> Row:
    assert name in RESHARDED
    return next(row for row in ROWS if row.name == name)


async def put(stream: Stream, hash_key: int) -> None:
    """One more record, in the shard that holds this hash key."""
    data = str(len(stream.numbers) + 1)
    answer = await stream.kinesis.put_record(
        StreamName=stream.name, Data=data.encode(), PartitionKey="k", ExplicitHashKey=str(hash_key)
    )
    stream.numbers.append(answer["SequenceNumber"])


async def active(stream: Stream, open_shards: int) -> None:
    """Waits until the stream has so many open shards and takes records again."""
    async with asyncio.timeout(30):
        while True:
            answer = await stream.kinesis.describe_stream_summary(StreamName=stream.name)
            summary = answer["StreamDescriptionSummary"]
            if (summary["StreamStatus"], summary["OpenShardCount"]) == ("ACTIVE", open_shards):
                return
            await asyncio.sleep(0.05)


def told(function: RecordingFunction, failing: int = 0) -> list[str]:
    """The calls as steps; the first `failing` of record 2 failed."""
    steps = []
    for call in function.calls:
        failing -= call.data == ["2"]
        steps.append(call_step([int(one) for one in call.data], "✗" if call.data == ["2"] and failing >= 0 else "✓"))
    return steps


async def test_row_47_a_merges_child_waits_for_both_parents(
    kinesis_local: str, kinesis: Any, function: RecordingFunction, tmp_path: Path
) -> None:
    stream = await make_stream(kinesis, shards=2)
    await put(stream, 0)
    await put(stream, HALF)
    await kinesis.merge_shards(
        StreamName=stream.name, ShardToMerge="shardId-000000000000", AdjacentShardToMerge="shardId-000000000001"
    )
    await active(stream, open_shards=1)
    await put(stream, 0)
    steps = row("47").steps
    failures = steps.count("[2]✗")

    def answer(call: RecordedCall) -> web.Response:
        response = (ERROR if told(function, failures)[-1].endswith("✗") else OK).answer
        return web.Response(status=response.status, headers=response.headers, body=response.body)  # type: ignore[union-attr]

    function.answer = answer
    async with run(write(tmp_path, mapping(stream.arn, function.url)), kinesis_local, *IDLE) as running:
        assert await running.end() == 0
    calls = told(function, failures)
    assert sorted(calls) == sorted(steps), "the parents are read side by side"
    assert calls[-1] == steps[-1] == "[3]✓"


async def test_row_48_latest_misses_nothing_of_the_children_of_a_later_split(
    kinesis_local: str, kinesis: Any, function: RecordingFunction, tmp_path: Path
) -> None:
    stream = await make_stream(kinesis)
    await put(stream, 0)
    document = mapping(stream.arn, function.url, **row("48").spec)
    async with run(write(tmp_path, document), kinesis_local) as running:
        await running.until(lambda: running.logged("shard started"))
        await put(stream, 0)
        await kinesis.split_shard(
            StreamName=stream.name, ShardToSplit="shardId-000000000000", NewStartingHashKey=str(HALF)
        )
        await active(stream, open_shards=2)
        await put(stream, 0)
        await put(stream, HALF)
        await function.until(lambda: len(function.calls) >= len(row("48").steps))
        assert await running.stop() == 0
    calls = told(function)
    assert calls[0] == row("48").steps[0], "the parent comes first"
    assert sorted(calls) == sorted(row("48").steps), "the children are read side by side"
