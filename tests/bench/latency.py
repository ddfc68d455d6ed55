"""Latency: from the put of a record to its function, at so many puts a second, drawn as a Poisson process.

Those of a turn read the same stream at the same time, once a second each, and each calls a function of its own; the stream
is ministack's. The bare loop is in every turn and tells whether it is the emulator that is measured: where there are many
puts, few read beside it. How often each really reads stands beside its latency. A round is a span of time, the same for all.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import random
import time
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import aiohttp

from tests.bench.loops import bare
from tests.bench.peers import ASYNC_KINESIS, BARE, HEADRACE, KCL_RS, LOCALSTACK, Job, Peer, Unavailable
from tests.bench.processes import CONSUMER, Bench, Ended, Group, Stub, environment_of, started, stub
from tests.bench.relay import Relay, relay
from tests.bench.results import Measured
from tests.bench.spread import quantile, quantile_error
from tests.support import aws

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

PART = "latency"
PEERS = (BARE, HEADRACE, KCL_RS, ASYNC_KINESIS, LOCALSTACK)
READ_EVERY = 1000
"""Milliseconds between two reads at the tip: Headrace's and Lambda's."""
START = 120.0
"""Seconds until the first record has reached everybody."""
STRAGGLERS = 4.0
"""Seconds after a round in which its records may still come."""
BYTES = 1024
SHARES = {"p50": 0.5, "p90": 0.9, "p99": 0.99}


@dataclass(frozen=True)
class Turn:
    """Who reads one stream, puts a second into it, seconds of a round."""

    rate: float
    peers: tuple[Peer, ...]
    seconds: float

    def setting(self, number: int) -> dict[str, float]:
        return {"rate": self.rate, "turn": number}


FEW: tuple[tuple[Turn, ...], ...] = ((Turn(10.0, (BARE, HEADRACE), 4.0),), (Turn(100.0, (BARE, HEADRACE), 4.0),))
ALL: tuple[tuple[Turn, ...], ...] = (
    (Turn(1.0, PEERS, 55.0), Turn(10.0, PEERS, 55.0)),
    (Turn(100.0, (BARE, HEADRACE), 20.0),),
    (Turn(100.0, (BARE, KCL_RS), 6.0),),
    (Turn(100.0, (BARE, ASYNC_KINESIS, LOCALSTACK), 6.0),),
)
"""Turns at the same time, one group after the other. A median is known to 10 ms after 2,500 records."""


@dataclass(frozen=True)
class Reading:
    """A peer at work: its function, the line it reads over, how many calls were looked at."""

    peer: Peer
    function: Stub
    line: Relay
    process: Group
    looked_at: list[int]

    async def arrived(self) -> dict[int, float]:
        """When each record came that has come since the last look, by its number."""
        calls = await self.function.get(f"calls?after={self.looked_at[0]}")
        self.looked_at[0] += len(calls)
        found: dict[int, float] = {}
        for at, body in calls:
            for record in json.loads(base64.b64decode(body))["Records"]:
                number = json.loads(base64.b64decode(record["kinesis"]["data"]))["number"]
                found.setdefault(number, at)
        return found


@dataclass
class Writer:
    """Puts records, and remembers when each put began, by CLOCK_MONOTONIC; as cheaply as the bare loop reads."""

    stream: aws.Stream
    url: str
    session: aiohttp.ClientSession
    chance: random.Random
    sent: list[float]

    async def put(self) -> None:
        opening = json.dumps({"number": len(self.sent), "text": ""})[:-2]
        text = base64.b64encode(self.chance.randbytes(BYTES)).decode()[: BYTES - len(opening) - 2]
        data = base64.b64encode(f'{opening}{text}"}}'.encode()).decode()
        body = json.dumps({"StreamName": self.stream.name, "Data": data, "PartitionKey": "k"}).encode()
        self.sent.append(time.monotonic())
        region = self.stream.arn.split(":")[3]
        headers = bare.signed("PutRecord", body, urlsplit(self.url).netloc, region, datetime.now(UTC))
        async with self.session.post(f"{self.url}/", data=body, headers=headers) as answer:
            answer.raise_for_status()

    async def poisson(self, rate: float, seconds: float) -> None:
        """Puts at random instants, each without regard to how long the one before it takes."""
        due = began = time.monotonic()
        async with asyncio.TaskGroup() as puts:
            while (due := due + self.chance.expovariate(rate)) < began + seconds:
                await asyncio.sleep(max(0.0, due - time.monotonic()))
                puts.create_task(self.put())


async def measure(at: Bench, groups: Sequence[Sequence[Turn]], rounds: int) -> tuple[list[Measured], list[str]]:
    """Each turn on a stream of its own."""
    measured: list[Measured] = []
    left_out: list[str] = []
    number = 0
    connector = aiohttp.TCPConnector(limit=0)
    async with aws.client("kinesis", at.services) as kinesis, aiohttp.ClientSession(connector=connector) as session:
        for group in groups:
            numbered = enumerate(group, number)
            each = (one_turn(at, kinesis, session, turn, place, rounds, left_out) for place, turn in numbered)
            for found in await asyncio.gather(*each):
                measured += found
            number += len(group)
            print(f"latency: {', '.join(f'{turn.rate:g}' for turn in group)} puts a second done", flush=True)
    return measured, left_out


async def one_turn(
    at: Bench,
    kinesis: Any,
    session: aiohttp.ClientSession,
    turn: Turn,
    number: int,
    rounds: int,
    left_out: list[str],
) -> list[Measured]:
    stream = await aws.make_stream(kinesis, name=f"latency-{turn.rate:g}-{number}")
    writer = Writer(stream, at.services, session, random.Random(number), [])
    async with AsyncExitStack() as stack:
        reading = []
        for peer in turn.peers:
            try:
                reading.append(await stack.enter_async_context(at_work(at, peer, stream)))
            except Unavailable as error:
                left_out.append(str(error))
        reading = await reached(writer, reading, left_out)
        spans = [await one_round(writer, reading, turn) for _ in range(rounds)]
    return [
        Measured(PART, name, turn.setting(number), [span[name].figures() for span in spans], pooled(own))
        for name in (each.peer.name for each in reading)
        if (own := [span[name] for span in spans])
    ]


@dataclass(frozen=True)
class Span:
    """What one peer did in one round: milliseconds of each record, between two reads; records that did not come."""

    took: list[float]
    interval: float
    missing: int

    def figures(self) -> dict[str, float]:
        return {
            **{name: quantile(self.took, share) for name, share in SHARES.items()},
            "records": len(self.took),
            "missing": self.missing,
            "reads per second": 1000 / self.interval,
        }


def pooled(spans: Sequence[Span]) -> dict[str, float]:
    """Of the records of all rounds: the quantiles, and how far they lie beyond half of, and all of, what lies between two reads."""
    took = [each for span in spans for each in span.took]
    beyond_half = [each - span.interval / 2 for span in spans for each in span.took]
    beyond = [each - span.interval for span in spans for each in span.took]
    return {
        **{name: quantile(took, share) for name, share in SHARES.items()},
        "records": len(took),
        "missing": sum(span.missing for span in spans),
        "p50 beyond": quantile(beyond_half, 0.5),
        "p50 error": quantile_error(beyond_half, 0.5),
        "p99 beyond": quantile(beyond, 0.99),
        "p99 error": quantile_error(beyond, 0.99),
    }


@asynccontextmanager
async def at_work(at: Bench, peer: Peer, stream: aws.Stream) -> AsyncIterator[Reading]:
    async with (
        relay(at.services) as line,
        stub("stub_function", at.folder, "--keep") as function,
    ):
        job = Job(line.url, stream.arn, f"{function.url}/", read_every=READ_EVERY)
        folder = at.folder / f"{stream.name}-{peer.name}"
        folder.mkdir()
        environment = environment_of(line.url, at.services)
        with started(peer.command(job, folder), folder, peer.name, CONSUMER, **environment) as process:
            yield Reading(peer, function, line, process, [0])


async def reached(writer: Writer, reading: list[Reading], left_out: list[str]) -> list[Reading]:
    """Puts until everybody has called its function; gives those who have."""
    there: set[str] = set()
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(START):
            while len(there) < len(reading):
                await writer.put()
                await asyncio.sleep(0.5)
                there = {each.peer.name for each in reading if (await each.function.get("stats"))["records"]}
    await asyncio.sleep(STRAGGLERS)
    for each in reading:
        await each.arrived()
        if each.peer.name not in there:
            left_out.append(f"{each.peer.name} called nobody within {START:g} s: {each.process.log()}")
    return [each for each in reading if each.peer.name in there]


async def one_round(writer: Writer, reading: list[Reading], turn: Turn) -> dict[str, Span]:
    """One span, by peer; raises Ended of who has."""
    first = len(writer.sent)
    before = [each.line.reads for each in reading]
    await writer.poisson(turn.rate, turn.seconds)
    reads = [each.line.times[known:] for each, known in zip(reading, before, strict=True)]
    await asyncio.sleep(STRAGGLERS)
    found: dict[str, Span] = {}
    for each, times in zip(reading, reads, strict=True):
        each.process.living()
        arrived = await each.arrived()
        numbers = range(first, len(writer.sent))
        took = [(arrived[number] - writer.sent[number]) * 1000 for number in numbers if number in arrived]
        if not took or len(times) < 2:
            raise Ended(f"{each.peer.name} read {len(times)} times and called {len(took)} times: {each.process.log()}")
        interval = 1000 * (times[-1] - times[0]) / (len(times) - 1)
        found[each.peer.name] = Span(took, interval, len(numbers) - len(took))
    return found
