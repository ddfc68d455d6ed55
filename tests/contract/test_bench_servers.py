"""The benchmark's own servers: the stub of Kinesis beside kinesis-local, the stub of a function, and signatures."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import aiohttp
import orjson
import pytest
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

from tests.bench.loops import bare
from tests.bench.processes import Stub, stub

RECORDS = 10
SHARD = "shardId-000000000000"


@dataclass(frozen=True)
class Server:
    """Kinesis, asked without any library's ideas of what it answers."""

    url: str
    session: aiohttp.ClientSession

    async def answer(self, operation: str, **asked: Any) -> tuple[int, str, Any]:
        """Status, content type, body."""
        body = orjson.dumps(asked)
        host = self.url.removeprefix("http://")
        headers = bare.signed(operation, body, host, "eu-west-1", datetime.now(UTC))
        async with self.session.post(f"{self.url}/", data=body, headers=headers) as answer:
            return answer.status, answer.content_type, await answer.json(content_type=None)

    async def ask(self, operation: str, **asked: Any) -> Any:
        status, _, body = await self.answer(operation, **asked)
        assert status == 200, body
        return body

    async def iterator(self, **where: Any) -> str:
        where = {"ShardIteratorType": "TRIM_HORIZON"} | where
        return str((await self.ask("GetShardIterator", StreamName="orders", ShardId=SHARD, **where))["ShardIterator"])

    async def read(self, iterator: str, limit: int = 100) -> Any:
        return await self.ask("GetRecords", ShardIterator=iterator, Limit=limit)


@asynccontextmanager
async def stubbed(
    folder: Path, records: int = RECORDS, shown: int = 3, size: int = 1024
) -> AsyncIterator[tuple[Stub, Server]]:
    """A stream `orders` of one shard that shows some of the records."""
    async with stub("stub_kinesis", folder, "--records", records, "--bytes", size) as kinesis:
        await kinesis.ask("stream", name="orders", shards=1, records=shown)
        yield kinesis, Server(kinesis.url, kinesis.session)


def shape(value: Any) -> Any:
    """Names and kinds of what an answer holds; what is null is not there."""
    match value:
        case dict():
            return {name: shape(each) for name, each in value.items() if each is not None}
        case list():
            return [shape(each) for each in value[:1]]
        case str():
            return "digits" if value.isdigit() else "text"
        case bool():
            return "truth"
        case int() | float():
            return "number"
    return type(value).__name__


async def test_the_stub_answers_in_the_form_of_kinesis(tmp_path: Path, kinesis_local: str) -> None:
    async with stubbed(tmp_path) as (_, ours):
        theirs = Server(kinesis_local, ours.session)
        await make_stream(theirs)
        questions: tuple[tuple[str, dict[str, Any]], ...] = (
            ("ListShards", {"StreamName": "orders"}),
            ("DescribeStream", {"StreamName": "orders"}),
            ("DescribeStreamSummary", {"StreamName": "orders"}),
            ("GetShardIterator", {"StreamName": "orders", "ShardId": SHARD, "ShardIteratorType": "TRIM_HORIZON"}),
            ("GetRecords", {"ShardIterator": None, "Limit": 1}),
            ("GetRecords", {"ShardIterator": None, "Limit": 100}),
            ("ListShards", {"StreamName": "another"}),
            ("GetShardIterator", {"StreamName": "orders", "ShardId": "shardId-9", "ShardIteratorType": "LATEST"}),
        )
        for operation, asked in questions:
            found = []
            for server in (ours, theirs):
                if "ShardIterator" in asked:
                    asked["ShardIterator"] = await server.iterator()
                status, kind, body = await server.answer(operation, **asked)
                found.append((status, kind, shape(body), body.get("__type")))
            assert found[0] == found[1], operation


async def make_stream(server: Server) -> None:
    async with server.session.post(
        f"{server.url}/",
        data=(body := b'{"StreamName":"orders","ShardCount":1}'),
        headers=bare.signed("CreateStream", body, server.url.removeprefix("http://"), "eu-west-1", datetime.now(UTC)),
    ) as made:
        assert made.status == 200
    while (await server.ask("DescribeStreamSummary", StreamName="orders"))["StreamDescriptionSummary"][
        "StreamStatus"
    ] != "ACTIVE":
        await asyncio.sleep(0.05)
    for number in range(3):
        data = base64.b64encode(b"{}").decode()
        await server.ask("PutRecord", StreamName="orders", Data=data, PartitionKey=f"key-{number}")


async def test_an_iterator_stays_at_its_place_and_the_next_one_goes_on(tmp_path: Path) -> None:
    async with stubbed(tmp_path) as (kinesis, server):
        start = await server.iterator()
        first = await server.read(start, limit=2)
        again = await server.read(start, limit=2)
        assert again["Records"] == first["Records"]
        assert first["MillisBehindLatest"] > 0
        rest = await server.read(first["NextShardIterator"])
        numbers = [int(record["SequenceNumber"]) for record in first["Records"] + rest["Records"]]
        assert numbers == sorted(set(numbers))
        assert len(numbers) == 3
        assert rest["MillisBehindLatest"] == 0
        tip = await server.read(rest["NextShardIterator"])
        assert (tip["Records"], tip["MillisBehindLatest"]) == ([], 0)
        await kinesis.ask("release", name="orders", records=1)
        assert len((await server.read(tip["NextShardIterator"]))["Records"]) == 1


async def test_one_read_is_ten_megabytes_at_most(tmp_path: Path) -> None:
    async with stubbed(tmp_path, records=120, shown=120, size=100 * 1024) as (_, server):
        first = await server.read(await server.iterator(), limit=1000)
        sizes = [len(base64.b64decode(record["Data"])) for record in first["Records"]]
        assert set(sizes) == {100 * 1024}
        assert 10_000_000 < sum(sizes) <= 10 * 1024 * 1024
        rest = await server.read(first["NextShardIterator"], limit=1000)
        assert len(first["Records"]) + len(rest["Records"]) == 120


async def test_iterators_begin_where_they_are_told_to(tmp_path: Path) -> None:
    async with stubbed(tmp_path) as (_, server):
        records = (await server.read(await server.iterator()))["Records"]
        second = records[1]["SequenceNumber"]
        for where, expected in (
            ({"ShardIteratorType": "LATEST"}, []),
            ({"ShardIteratorType": "AT_SEQUENCE_NUMBER", "StartingSequenceNumber": second}, records[1:]),
            ({"ShardIteratorType": "AFTER_SEQUENCE_NUMBER", "StartingSequenceNumber": second}, records[2:]),
            (
                {"ShardIteratorType": "AT_TIMESTAMP", "Timestamp": records[1]["ApproximateArrivalTimestamp"]},
                records[1:],
            ),
        ):
            assert (await server.read(await server.iterator(**where)))["Records"] == expected, where


async def test_reads_are_held_back_until_they_are_released(tmp_path: Path) -> None:
    async with stubbed(tmp_path) as (kinesis, server):
        await kinesis.ask("hold", name="orders")
        read = asyncio.create_task(server.read(await server.iterator()))
        await kinesis.ask("held", name="orders", shards=1)
        assert not read.done()
        await kinesis.ask("release", name="orders", records=2)
        assert len((await read)["Records"]) == 5


@pytest.mark.parametrize("size", [1, 7, 1000, 300_000])
async def test_the_function_counts_every_record_however_the_body_is_cut(tmp_path: Path, size: int) -> None:
    body = (
        b'{"Records":[' + b",".join(b'{"eventID":"%d","data":"%s"}' % (each, b"x" * 700) for each in range(500)) + b"]}"
    )

    async def pieces() -> AsyncIterator[bytes]:
        for start in range(0, len(body), size):
            yield body[start : start + size]

    async with stub("stub_function", tmp_path, "--answer", "{}") as function:
        if size == 1:
            body = body[:5000] + b"]}"
        headers = {"Content-Length": str(len(body))}
        async with function.session.post(f"{function.url}/", data=pieces(), headers=headers) as answer:
            assert await answer.json() == {}
        counted = await function.get("until?records=1")
    assert counted["records"] == body.count(b'"eventID"')
    assert counted["calls"] == 1


def test_the_bare_loop_signs_as_botocore_does() -> None:
    now = datetime.now(UTC)
    body, host = b'{"Limit":1}', "127.0.0.1:4567"
    headers = bare.signed("GetRecords", body, host, "eu-west-1", now)
    request = AWSRequest("POST", f"http://{host}/", data=body)
    for name in ("Content-Type", "X-Amz-Target"):
        request.headers[name] = headers[name]
    request.headers["X-Amz-Date"] = headers["X-Amz-Date"]
    request.context["timestamp"] = headers["X-Amz-Date"]
    auth = SigV4Auth(Credentials(bare.KEY, bare.SECRET), "kinesis", "eu-west-1")
    signature = auth.signature(auth.string_to_sign(request, auth.canonical_request(request)), request)
    assert headers["Authorization"].endswith(f"Signature={signature}")
