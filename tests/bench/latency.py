"""Latency: from the put of a record to its function, at so many puts a second, drawn as a Poisson process.

All peers read the same stream at the same time, once a second each, and each calls a function of its own; the stream is
ministack's. How often each really reads stands beside its latency. A round is a span of time, the same for all.
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
from typing import TYPE_CHECKING, Any

from tests.bench.peers import ASYNC_KINESIS, BARE, HEADRACE, KCL_RS, LOCALSTACK, Job, Peer, Unavailable
from tests.bench.processes import CONSUMER, Bench, Group, Stub, environment_of, started, stub
from tests.bench.relay import Relay, relay
from tests.bench.results import Measured
from tests.bench.spread import quantile
from tests.support import aws

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

PART = "latency"
PEERS = (BARE, HEADRACE, KCL_RS, ASYNC_KINESIS, LOCALSTACK)
FEW = (BARE, HEADRACE)
READ_EVERY = 1000
"""Milliseconds between two reads at the tip: Headrace's and Lambda's."""
START = 60.0
"""Seconds until the first record has reached everybody."""
STRAGGLERS = 4.0
"""Seconds after a round in which its records may still come."""
BYTES = 1024


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
    """Puts records, and remembers when each put began, by CLOCK_MONOTONIC."""

    stream: aws.Stream
    chance: random.Random
    sent: list[float]

    async def put(self) -> None:
        opening = json.dumps({"number": len(self.sent), "text": ""})[:-2]
        text = base64.b64encode(self.chance.randbytes(BYTES)).decode()[: BYTES - len(opening) - 2]
        self.sent.append(time.monotonic())
        await self.stream.kinesis.put_record(
            StreamName=self.stream.name, Data=f'{opening}{text}"}}'.encode(), PartitionKey="k"
        )

    async def poisson(self, rate: float, seconds: float) -> None:
        """Puts at random instants, each without regard to how long the one before it takes."""
        due = began = time.monotonic()
        async with asyncio.TaskGroup() as puts:
            while (due := due + self.chance.expovariate(rate)) < began + seconds:
                await asyncio.sleep(max(0.0, due - time.monotonic()))
                puts.create_task(self.put())


async def measure(
    at: Bench, peers: Sequence[Peer], rates: Sequence[float], rounds: int, seconds: float
) -> tuple[list[Measured], list[str]]:
    """Each rate on a stream of its own, one after the other; so many rounds of so many seconds."""
    measured: list[Measured] = []
    left_out: list[str] = []
    async with aws.client("kinesis", at.services) as kinesis:
        for rate in rates:
            found, without = await at_rate(at, kinesis, peers, rate, rounds, seconds)
            measured += found
            left_out += without
            print(f"latency: {rate:g} puts a second done", flush=True)
    return measured, left_out


async def at_rate(
    at: Bench, kinesis: Any, peers: Sequence[Peer], rate: float, rounds: int, seconds: float
) -> tuple[list[Measured], list[str]]:
    writer = Writer(await aws.make_stream(kinesis, name=f"latency-{rate:g}"), random.Random(rate), [])
    left_out: list[str] = []
    async with AsyncExitStack() as stack:
        reading = []
        for peer in peers:
            try:
                reading.append(await stack.enter_async_context(at_work(at, peer, writer.stream)))
            except Unavailable as error:
                left_out.append(str(error))
        reading = await reached(writer, reading, left_out)
        found: dict[str, list[dict[str, float]]] = {each.peer.name: [] for each in reading}
        for _ in range(rounds):
            for name, figures in (await one_round(writer, reading, rate, seconds)).items():
                found[name].append(figures)
    return [Measured(PART, name, {"rate": rate}, each) for name, each in found.items()], left_out


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


async def one_round(writer: Writer, reading: list[Reading], rate: float, seconds: float) -> dict[str, dict[str, float]]:
    """The milliseconds of one span, and the reads a second within it."""
    first = len(writer.sent)
    before = [each.line.reads for each in reading]
    began = time.monotonic()
    await writer.poisson(rate, seconds)
    reads = [each.line.reads - known for each, known in zip(reading, before, strict=True)]
    span = time.monotonic() - began
    await asyncio.sleep(STRAGGLERS)
    found: dict[str, dict[str, float]] = {}
    for each, read in zip(reading, reads, strict=True):
        arrived = await each.arrived()
        took = [
            (arrived[number] - writer.sent[number]) * 1000
            for number in range(first, len(writer.sent))
            if number in arrived
        ]
        found[each.peer.name] = {
            "p50": quantile(took, 0.5),
            "p90": quantile(took, 0.9),
            "p99": quantile(took, 0.99),
            "records": len(took),
            "missing": len(writer.sent) - first - len(took),
            "reads per second": read / span,
        }
    return found
