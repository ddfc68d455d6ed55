"""A source that answers garbage, over real sockets: a SourceError each time, in bounded memory and time, and then on."""

from __future__ import annotations

import asyncio
import gzip
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass

import pytest

from headrace.errors import Reason, SourceError, Throttled
from headrace.records import Start
from headrace.stream.aws import ANSWER_LIMIT, AwsAccess, AwsSettings
from headrace.stream.sources import Source, dynamodb, kinesis
from headrace.stream.sources.dynamodb import DynamoDBStream, StreamFacts
from headrace.stream.sources.kinesis import Kinesis, RecordFacts
from tests.support.aws import REGION

SHARD = "shardId-00000001700000000000-00000000"
Said = bytes | Callable[[], AsyncIterator[bytes]]
SPARE = 8 * 1024 * 1024
"""What may lie in the buffers of both sockets beside what was read, in bytes."""
GOOD = (
    b'{"Shards":[{"ShardId":"s"}],"StreamDescription":{"Shards":[{"ShardId":"s"}]},'
    b'"ShardIterator":"i","Records":[],"NextShardIterator":"n"}'
)
"""An answer to every call of either source."""
EITHER = pytest.mark.parametrize("kind", ["kinesis", "dynamodb"])


@dataclass
class Stub:
    """Answers every request alike; counts what the other side took."""

    said: Said
    url: str = ""
    sent: int = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            head = await reader.readuntil(b"\r\n\r\n")
            length = next(line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:"))
            await reader.readexactly(int(length.partition(b":")[2]))
            async for piece in once(self.said) if isinstance(self.said, bytes) else self.said():
                writer.write(piece)
                await writer.drain()
                self.sent += len(piece)
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()


async def once(piece: bytes) -> AsyncIterator[bytes]:
    yield piece


@asynccontextmanager
async def stub(said: Said, kind: str = "kinesis") -> AsyncIterator[tuple[Stub, Source]]:
    made = Stub(said)
    server = await asyncio.start_server(made.serve, "127.0.0.1", 0)
    async with server:
        made.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        access = AwsAccess(AwsSettings(endpoint_url=made.url))
        source: Source
        if kind == "kinesis":
            arn = f"arn:aws:kinesis:{REGION}:000000000000:stream/s"
            source = Kinesis(RecordFacts(arn, REGION, "arn:aws:iam::000000000000:role/r"), access, read_limit=10)
        else:
            arn = f"arn:aws:dynamodb:{REGION}:000000000000:table/t/stream/s"
            source = DynamoDBStream(StreamFacts(arn, REGION), access, read_limit=10)
        try:
            yield made, source
        finally:
            await source.aclose()


def reply(body: bytes, *headers: str, status: str = "200 OK") -> bytes:
    lines = (f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", "Connection: close", *headers)
    return "\r\n".join((*lines, "", "")).encode("latin-1") + body


def record(**fields: str) -> bytes:
    told = {
        "SequenceNumber": '"1"',
        "PartitionKey": '"k"',
        "ApproximateArrivalTimestamp": "1.5",
        "Data": '"YQ=="',
    } | fields
    inside = ",".join(f'"{name}":{value}' for name, value in told.items() if value)
    return reply(GOOD.replace(b'"Records":[]', b'"Records":[{%s}]' % inside.encode()))


UNREACHABLE, SERVICE, REJECTED = Reason.UNREACHABLE, Reason.SERVICE_ERROR, Reason.REJECTED
HTML = b"<html><body>502 Bad Gateway</body></html>"
ROWS: dict[str, tuple[bytes, Reason]] = {
    "html": (reply(HTML), SERVICE),
    "html with an error's status": (reply(HTML, status="502 Bad Gateway"), SERVICE),
    "html with a refusal's status": (reply(HTML, status="400 Bad Request"), REJECTED),
    "an empty error": (reply(b"", status="500 No"), SERVICE),
    "a list as error": (reply(b"[1]", status="400 Bad Request"), SERVICE),
    "half JSON": (reply(GOOD[:40]), SERVICE),
    "invalid UTF-8": (reply(b'{"Shards":"\xff"}'), SERVICE),
    "NUL bytes": (reply(bytes(1000)), SERVICE),
    "100,000 brackets": (reply(b"[" * 100_000), SERVICE),
    "100,000 objects": (reply(b'{"a":' * 100_000 + b"1" + b"}" * 100_000), SERVICE),
    "a huge number": (reply(b'{"Shards":' + b"1" * 10_000 + b"}"), SERVICE),
    "gzip, which is not asked for": (reply(gzip.compress(GOOD), "Content-Encoding: gzip"), SERVICE),
    "nothing": (b"", UNREACHABLE),
    "another protocol": (b"SSH-2.0-OpenSSH_9.6\r\n", UNREACHABLE),
    "half a head": (b"HTTP/1.1 200 OK\r\nContent-Le", UNREACHABLE),
    "half a body": (reply(GOOD)[:-10], UNREACHABLE),
    "a header of 1 MB": (reply(GOOD, "X-A: " + "a" * 1_000_000), UNREACHABLE),
    "a header that is not UTF-8": (reply(GOOD, "X-A: \xff"), UNREACHABLE),
}
BAD_RECORDS = {
    "no sequence number": record(SequenceNumber=""),
    "a number as sequence number": record(SequenceNumber="1"),
    "a sequence number that is none": record(SequenceNumber='"one"'),
    "no key": record(PartitionKey=""),
    "a list as key": record(PartitionKey="[]"),
    "no time": record(ApproximateArrivalTimestamp=""),
    "a time that is none": record(ApproximateArrivalTimestamp='"soon"'),
    "a time beyond any": record(ApproximateArrivalTimestamp="1e300"),
    "no data": record(Data=""),
    "null data": record(Data="null"),
    "an object as data": record(Data="{}"),
}


async def refused(source: Source) -> list[Reason]:
    """The reasons of a listing and of a read, both of which fail."""
    reasons = []
    for attempt in (source.shards, source.reader(SHARD, Start()).read):
        with pytest.raises(SourceError) as caught:
            await asyncio.wait_for(attempt(), 20)
        assert not isinstance(caught.value, Throttled)
        reasons.append(caught.value.reason)
    return reasons


@EITHER
@pytest.mark.parametrize("row", ROWS)
async def test_garbage_is_the_sources_fault_and_the_next_answer_is_read(row: str, kind: str) -> None:
    said, reason = ROWS[row]
    async with stub(said, kind) as (made, source):
        assert await refused(source) == [reason, reason]
        made.said = reply(GOOD)
        assert len(await source.shards()) == 1


@pytest.mark.parametrize("row", BAD_RECORDS)
async def test_a_record_that_is_none_stops_the_read_and_not_the_process(row: str) -> None:
    async with stub(BAD_RECORDS[row]) as (made, source):
        reader = source.reader(SHARD, Start())
        with pytest.raises(SourceError) as caught:
            await reader.read()
        assert caught.value.reason is SERVICE
        made.said = record()
        assert [one.sequence_number for one in (await reader.read()).records] == ["1"]


@pytest.mark.parametrize("encoding", ["", "Content-Encoding: gzip\r\n"], ids=["plain", "a gzip bomb"])
async def test_an_answer_without_end_is_cut_off(encoding: str) -> None:
    piece = gzip.compress(bytes(2**24)) if encoding else b"x" * 65536

    async def endless() -> AsyncIterator[bytes]:
        yield f"HTTP/1.1 200 OK\r\n{encoding}\r\n".encode()
        while True:
            yield piece

    async with stub(endless) as (made, source):
        assert await refused(source) == [SERVICE, SERVICE]
        assert made.sent <= 2 * (ANSWER_LIMIT + SPARE)


@EITHER
async def test_an_answer_that_drips_is_given_up(monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    monkeypatch.setattr({"kinesis": kinesis, "dynamodb": dynamodb}[kind], "READ_TIMEOUT", 1.0)

    async def dripping() -> AsyncIterator[bytes]:
        yield b"HTTP/1.1 200 OK\r\n\r\n"
        while True:
            yield b" "
            await asyncio.sleep(0.05)

    async with stub(dripping, kind) as (_, source):
        assert await refused(source) == [UNREACHABLE, UNREACHABLE]
