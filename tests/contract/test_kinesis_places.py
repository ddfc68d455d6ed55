"""The Kinesis source where its place is gone: trimmed checkpoints, streams made anew, the children at a shard's end."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from typing import Any

import pytest

from headrace.errors import Reason, SourceError
from headrace.records import After, Gap, Shard, Start
from headrace.stream.aws import AwsAccess, AwsSettings
from headrace.stream.sources.kinesis import ITERATOR_LIFE, Kinesis, RecordFacts
from tests.support.aws import REGION, Stream, client, make_stream

SHARD = "shardId-000000000000"


@pytest.fixture(params=["ministack", "kinesis_local"])
def endpoint(request: pytest.FixtureRequest) -> str:
    return str(request.getfixturevalue(request.param))


@pytest.fixture
async def stream(endpoint: str) -> AsyncIterator[Stream]:
    async with client("kinesis", endpoint) as kinesis:
        made = await make_stream(kinesis)
        await made.put("1", "2", "3")
        yield made


@pytest.fixture
async def source(stream: Stream, endpoint: str) -> AsyncIterator[Kinesis]:
    facts = RecordFacts(stream.arn, REGION, "arn:aws:iam::000000000000:role/r")
    made = Kinesis(facts, AwsAccess(AwsSettings(endpoint_url=endpoint)), read_limit=100)
    yield made
    await made.aclose()


def beside(number: str, by: int) -> str:
    return str(int(number) + by).zfill(len(number))


async def test_a_trimmed_checkpoint_goes_on_at_the_oldest_record_and_tells_the_gap(
    stream: Stream, source: Kinesis
) -> None:
    gone = beside(stream.numbers[0], -1)
    reader = source.reader(SHARD, After(gone))
    polled = await reader.read()
    assert [record.sequence_number for record in polled.records] == stream.numbers
    assert polled.gap == Gap(gone, stream.numbers[0], None, polled.records[0].arrival)
    assert (await reader.read()).gap is None


async def test_a_checkpoint_that_is_there_has_no_gap(stream: Stream, source: Kinesis) -> None:
    polled = await source.reader(SHARD, After(stream.numbers[0])).read()
    assert ([record.sequence_number for record in polled.records], polled.gap) == (stream.numbers[1:], None)


async def test_an_unknown_number_within_the_shard_repeats_nothing_before_it(stream: Stream, source: Kinesis) -> None:
    polled = await source.reader(SHARD, After(beside(stream.numbers[1], 1))).read()
    assert ([record.sequence_number for record in polled.records], polled.gap) == (stream.numbers[2:], None)


async def test_a_gap_is_looked_for_at_the_start_only(stream: Stream, source: Kinesis) -> None:
    whole, calls = source.call, list[str]()

    async def counted(operation: str, **arguments: Any) -> Any:
        calls.append(operation)
        return await whole(operation, **arguments)

    source.call = counted  # type: ignore[method-assign]
    reader = source.reader(SHARD, After(stream.numbers[0]))
    await reader.read()
    assert calls == ["get_shard_iterator", "get_records"] * 2
    await reader.read()
    assert calls[4:] == ["get_records"]
    await source.reader(SHARD, Start()).read()
    assert calls[5:] == ["get_shard_iterator", "get_records"]


async def test_a_place_held_for_longer_than_an_iterator_lives_is_looked_at_again(
    stream: Stream, source: Kinesis
) -> None:
    """As after a lane that blocked reading for hours; meanwhile retention may have taken what follows."""
    reader = source.reader(SHARD, Start())
    await reader.read()
    gone = beside(stream.numbers[0], -1)
    for held, gap in ((ITERATOR_LIFE - 60, None), (ITERATOR_LIFE, stream.numbers[0])):
        reader._iterator, reader._position = None, After(gone)
        reader._read_at = time.monotonic() - held
        told = (await reader.read()).gap
        assert (told.first if told is not None else None) == gap


async def test_a_reader_refuses_to_go_on_in_a_stream_made_anew(stream: Stream, source: Kinesis) -> None:
    made = await source.created()
    assert made == await source.created()
    reader = source.reader(SHARD, Start())
    await reader.read()
    await remake(stream, source, made)
    for _ in range(2):
        with pytest.raises(SourceError) as caught:
            await reader.read()
        assert caught.value.reason is Reason.NOT_FOUND


async def remake(stream: Stream, source: Kinesis, made: float | None) -> None:
    """Deletes the stream and makes it again, until its time differs: ministack's has whole seconds."""
    while True:
        await stream.kinesis.delete_stream(StreamName=stream.name)
        await asyncio.sleep(0.6)
        while stream.name in (await stream.kinesis.list_streams())["StreamNames"]:
            await asyncio.sleep(0.1)
        await (await make_stream(stream.kinesis, name=stream.name)).put("a")  # kinesis-local reads on in an empty one
        other = Kinesis(source._facts, source._client._access, read_limit=100)
        created = await other.created()
        await other.aclose()
        if created != made:
            return


async def test_the_end_of_a_shard_names_its_children(kinesis_local: str) -> None:
    async with client("kinesis", kinesis_local) as kinesis:
        stream = await make_stream(kinesis)
        await kinesis.split_shard(StreamName=stream.name, ShardToSplit=SHARD, NewStartingHashKey=str(2**127))
        await asyncio.sleep(1)
        facts = RecordFacts(stream.arn, REGION, "r")
        source = Kinesis(facts, AwsAccess(AwsSettings(endpoint_url=kinesis_local)), read_limit=100)
        reader = source.reader(SHARD, Start())
        polled = await reader.read()
        while not polled.ended:
            polled = await reader.read()
        assert sorted(polled.children, key=lambda shard: shard.shard_id) == [
            Shard("shardId-000000000001", (SHARD,)),
            Shard("shardId-000000000002", (SHARD,)),
        ]
        await source.aclose()


async def test_more_than_a_thousand_shards_are_listed_by_token_alone() -> None:
    source = Kinesis(RecordFacts("arn", REGION, "r"), AwsAccess(AwsSettings()), read_limit=100)
    asked: list[dict[str, Any]] = []

    async def pages(operation: str, **arguments: Any) -> Any:
        asked.append(arguments)
        page = int(arguments.get("NextToken", 0))
        shards = [{"ShardId": f"shardId-{number:012}"} for number in range(1000 * page, min(1000 * page + 1000, 2500))]
        return {"Shards": shards} | ({"NextToken": str(page + 1)} if page < 2 else {})

    source.call = pages  # type: ignore[method-assign]
    found = await source.shards()
    assert [shard.shard_id for shard in found] == [f"shardId-{number:012}" for number in range(2500)]
    assert asked == [{"StreamARN": "arn"}, {"NextToken": "1"}, {"NextToken": "2"}]
