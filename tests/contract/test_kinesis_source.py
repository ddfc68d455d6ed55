"""The Kinesis source against ministack and kinesis-local: what every source of a stream promises."""

from __future__ import annotations

import asyncio
import base64
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import orjson
import pytest
from aiohttp import web

from headrace.errors import Reason, SourceError
from headrace.records import After, Position, Record, Start
from headrace.stream.aws import AwsAccess, AwsSettings
from headrace.stream.sources import ShardReader
from headrace.stream.sources.asking import server_time
from headrace.stream.sources.kinesis import Kinesis, RecordFacts
from tests.support.answering import answering
from tests.support.aws import REGION, Stream, client, make_stream
from tests.support.servers import free_port

SHARD = "shardId-000000000000"


@pytest.fixture(params=["ministack", "kinesis_local"])
def endpoint(request: pytest.FixtureRequest) -> str:
    return str(request.getfixturevalue(request.param))


@pytest.fixture
async def stream(endpoint: str) -> AsyncIterator[Stream]:
    async with client("kinesis", endpoint) as kinesis:
        yield await make_stream(kinesis)


def source_of(arn: str, endpoint: str, read_limit: int = 1000) -> Kinesis:
    facts = RecordFacts(arn, REGION, "arn:aws:iam::000000000000:role/r")
    return Kinesis(facts, AwsAccess(AwsSettings(endpoint_url=endpoint)), read_limit=read_limit)


@pytest.fixture
async def source(stream: Stream, endpoint: str) -> AsyncIterator[Kinesis]:
    made = source_of(stream.arn, endpoint, read_limit=2)
    yield made
    await made.aclose()


async def read_all(reader: ShardReader) -> list[Record]:
    found: list[Record] = []
    while True:
        polled = await reader.read()
        found += polled.records
        if polled.ended or (not polled.records and not polled.behind):
            return found


def data(found: list[Record]) -> list[str]:
    return [base64.b64decode(orjson.loads(record.event)["kinesis"]["data"]).decode() for record in found]


async def test_records_come_in_order_from_the_oldest(stream: Stream, source: Kinesis) -> None:
    await stream.put("1", "2", "3", "4", "5")
    found = await read_all(source.reader(SHARD, Start()))
    assert data(found) == ["1", "2", "3", "4", "5"]
    assert [record.sequence_number for record in found] == stream.numbers
    assert all(abs(record.arrival - time.time()) < 60 for record in found)


async def test_reading_goes_on_behind_a_sequence_number(stream: Stream, source: Kinesis) -> None:
    await stream.put("1", "2", "3")
    assert data(await read_all(source.reader(SHARD, After(stream.numbers[1])))) == ["3"]


async def test_reading_starts_at_a_time(stream: Stream, source: Kinesis) -> None:
    await stream.put("old")
    await asyncio.sleep(0.2)
    since = time.time()
    await stream.put("new")
    assert data(await read_all(source.reader(SHARD, Start(since)))) == ["new"]


async def test_the_servers_clock_divides_what_was_written_before_from_what_comes_after(
    stream: Stream, source: Kinesis
) -> None:
    await stream.put("before")
    await asyncio.sleep(0.05)
    now = await source.now()
    await stream.put("after")
    assert data(await read_all(source.reader(SHARD, Start(now)))) == ["after"]


@pytest.mark.parametrize("position", [Start(), None], ids=["nothing read yet", "after a record"])
async def test_an_expired_iterator_is_renewed_at_the_place_reached(
    stream: Stream, source: Kinesis, position: Position | None
) -> None:
    await stream.put("1", "2", "3")
    reader = source.reader(SHARD, position or After(stream.numbers[0]))
    expiring = ExpiringOnce(source)
    reader._source = expiring  # type: ignore[assignment]
    first = await reader.read()
    expiring.expire = True
    rest = await read_all(reader)
    assert data([*first.records, *rest]) == (["1", "2", "3"] if position else ["2", "3"])
    assert not expiring.expire


class ExpiringOnce:
    """A source whose next GetRecords is refused as after five idle minutes."""

    def __init__(self, source: Kinesis) -> None:
        self._source = source
        self.expire = False

    async def call(self, operation: str, **arguments: Any) -> Any:
        if self.expire and operation == "get_records":
            from botocore.exceptions import ClientError

            self.expire = False
            raise ClientError({"Error": {"Code": "ExpiredIteratorException", "Message": ""}}, "GetRecords")
        return await self._source.call(operation, **arguments)


async def test_the_retention_is_known_once_the_stream_was_looked_at(stream: Stream, source: Kinesis) -> None:
    assert source.retention is None
    await source.created()
    assert source.retention == 24 * 3600


async def test_a_missing_stream_is_told_with_its_name(endpoint: str) -> None:
    missing = source_of(f"arn:aws:kinesis:{REGION}:000000000000:stream/missing", endpoint)
    with pytest.raises(SourceError, match="stream/missing") as caught:
        await missing.shards()
    assert caught.value.reason is Reason.NOT_FOUND
    await missing.aclose()


async def test_an_endpoint_that_is_away_is_unreachable() -> None:
    away = source_of(f"arn:aws:kinesis:{REGION}:000000000000:stream/s", f"http://127.0.0.1:{free_port()}")
    with pytest.raises(SourceError) as caught:
        await away.shards()
    assert caught.value.reason is Reason.UNREACHABLE
    await away.aclose()


async def test_a_split_shard_ends_and_its_children_name_it(kinesis_local: str) -> None:
    """Only kinesis-local reshards as AWS does; ministack deletes the parents with their records."""
    async with client("kinesis", kinesis_local) as kinesis:
        stream = await make_stream(kinesis)
        await stream.put("1")
        middle = str(2**127)
        await kinesis.split_shard(StreamName=stream.name, ShardToSplit=SHARD, NewStartingHashKey=middle)
        await asyncio.sleep(1)
        source = source_of(stream.arn, kinesis_local)
        shards = await source.shards()
        assert sorted(shard.parents for shard in shards) == [(), (SHARD,), (SHARD,)]
        reader = source.reader(SHARD, Start())
        polled, found = await reader.read(), 0
        while not polled.ended:
            found += len(polled.records)
            polled = await reader.read()
        assert found + len(polled.records) == 1
        await source.aclose()


async def test_shards_are_listed_page_after_page(kinesis_local: str) -> None:
    async with client("kinesis", kinesis_local) as kinesis:
        stream = await make_stream(kinesis, shards=5)
        source = source_of(stream.arn, kinesis_local)
        whole = source.call

        async def small_pages(operation: str, **arguments: Any) -> Any:
            return await whole(operation, **arguments, MaxResults=2)

        source.call = small_pages  # type: ignore[method-assign]
        assert len(await source.shards()) == 5
        await source.aclose()


@pytest.mark.parametrize(
    ("before", "expected"),
    [
        (1573691886.25, 1573691886.25),
        (1573691885.9, 1573691885.9),
        (1573691880.0, 1573691886.0),
        (1573691999.0, 1573691886.0),
    ],
    ids=["agrees", "agrees, sent just before", "local clock behind", "local clock ahead"],
)
def test_the_servers_second_is_refined_only_by_a_clock_that_agrees(before: float, expected: float) -> None:
    assert server_time("Thu, 14 Nov 2019 00:38:06 GMT", before) == expected
    assert server_time(None, before) == before


@pytest.mark.parametrize("body", [b"", b"{}", b"[]", b'"text"', b"<html>", b'{"Shards":[{}],"Records":[{}]}', b"null"])
async def test_an_answer_that_is_none_of_kinesis_is_the_sources_fault(body: bytes) -> None:
    async def answer(_: web.Request) -> web.Response:
        return web.Response(body=body, content_type="application/x-amz-json-1.1")

    async with answering(answer) as url:
        source = source_of(f"arn:aws:kinesis:{REGION}:000000000000:stream/s", url)
        reader = source.reader(SHARD, Start())
        for attempt in (source.shards, reader.read):
            with pytest.raises(SourceError) as caught:
                await attempt()
            assert caught.value.reason is Reason.SERVICE_ERROR
        await source.aclose()


async def test_credentials_that_are_mended_are_taken_up(
    ministack: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They may come from a file that is written later, or rewritten."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    file = tmp_path / "credentials"
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(file))
    async with client("kinesis", ministack) as kinesis:
        stream = await make_stream(kinesis)
    source = source_of(stream.arn, ministack)
    with pytest.raises(SourceError) as caught:
        await source.shards()
    assert caught.value.reason is Reason.INVALID_CREDENTIALS
    file.write_text("[default]\naws_access_key_id = test\naws_secret_access_key = test\n")
    assert len(await source.shards()) == 1
    await source.aclose()


async def test_an_endpoint_that_is_no_url_is_told_and_not_our_own_fault() -> None:
    source = source_of(f"arn:aws:kinesis:{REGION}:000000000000:stream/s", "localhost:4566")
    with pytest.raises(SourceError):
        await source.shards()
    await source.aclose()
