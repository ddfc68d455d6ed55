"""Recovery: a process that reads a shard is killed, or asked to end; until the other one's first record.

Two processes for one shard in which records keep coming: one reads, the other stands by. Headrace's are pollers beside
the API server that KUBECONFIG names; without one they are left out.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import time
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from headrace.resources import EVENT_SOURCE_MAPPING
from tests.bench.peers import HEADRACE, KCL_RS, Job, Unavailable
from tests.bench.processes import CONSUMER, Bench, Group, Stub, environment_of, started, stub
from tests.bench.relay import Relay, relay
from tests.bench.results import Measured
from tests.support import clusters

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterable

PART = "recovery"
SIGNALS = {"kill -9": signal.SIGKILL, "SIGTERM": signal.SIGTERM}
EVERY = 0.05
"""Seconds between two records."""
SETTLED = 4.0
"""Seconds for which one alone has read: more than two reads at the tip, and more than a stand-by needs to be there."""
LONGEST = 120.0


class NotRecovered(Exception):
    """Nobody reads, or both do, for too long."""


@dataclass
class Pair:
    """Two places for a process, each with a line of its own to Kinesis, and how one is started there."""

    name: str
    command: Callable[[int], list[str]]
    lines: list[Relay]
    function: Stub
    at: Bench
    environment: dict[str, str]
    stack: AsyncExitStack
    processes: list[Group] = field(default_factory=list)
    starts: int = 0

    def start(self, place: int) -> None:
        self.starts += 1
        name = f"{self.name}-{self.starts}"
        environment = environment_of(self.lines[place].url, self.at.services) | self.environment
        made = started(self.command(place), self.at.folder, name, CONSUMER, **environment)
        group = self.stack.enter_context(made)
        self.processes[place : place + 1] = [group]

    async def reader(self) -> int:
        """The place that alone has read for a while."""
        deadline = time.monotonic() + LONGEST
        while time.monotonic() < deadline:
            before = [line.reads for line in self.lines]
            await asyncio.sleep(SETTLED)
            read = [line.reads > known for line, known in zip(self.lines, before, strict=True)]
            if sum(read) == 1:
                return read.index(True)
        raise NotRecovered(f"{self.name}: {' | '.join(each.log() for each in self.processes)}")

    async def taken_over(self, number: int) -> float:
        """Seconds from the signal to the first call after the other's first read; then the pair is whole again."""
        place = await self.reader()
        other = self.lines[1 - place]
        known = other.reads
        sent = time.monotonic()
        os.kill(self.processes[place].process.pid, number)
        while other.reads == known:
            if time.monotonic() > sent + LONGEST:
                raise NotRecovered(f"{self.name}: {self.processes[1 - place].log()}")
            await asyncio.sleep(0.002)
        calls = (await self.function.get("stats"))["records"]
        answer = await self.function.get(f"until?records={calls + 1}")
        self.start(place)
        return float(answer["last"] - sent)


async def flow(at: Bench, stream: str) -> None:
    """Records keep coming."""
    while True:
        await at.kinesis.ask("release", name=stream, records=1)
        await asyncio.sleep(EVERY)


async def measure(at: Bench, rounds: int) -> tuple[list[Measured], list[str]]:
    """Both pairs at the same time: nearly all of it is waiting."""
    left_out: list[str] = []
    found: dict[tuple[str, str], list[dict[str, float]]] = {}
    work = []
    if os.environ.get("KUBECONFIG"):
        work.append(observed(headrace_pair(at), SIGNALS, rounds, found, left_out))
    else:
        left_out.append("headrace's recovery is skipped: KUBECONFIG names no cluster")
    work.append(observed(kcl_pair(at), ("kill -9",), rounds, found, left_out))
    await asyncio.gather(*work)
    print("recovery: done", flush=True)
    return [
        Measured(PART, name, {"signal": float(SIGNALS[what])}, each) for (name, what), each in found.items()
    ], left_out


async def observed(
    made: Any,
    signals: Iterable[str],
    rounds: int,
    found: dict[tuple[str, str], list[dict[str, float]]],
    left_out: list[str],
) -> None:
    try:
        async with made as pair:
            for place in (0, 1):
                pair.start(place)
            for _ in range(rounds):
                for what in signals:
                    seconds = await pair.taken_over(SIGNALS[what])
                    found.setdefault((pair.name, what), []).append({"seconds": seconds})
    except Unavailable as error:
        left_out.append(str(error))
    except NotRecovered as error:
        left_out.append(f"recovery of {error}")


@asynccontextmanager
async def prepared(at: Bench, name: str) -> AsyncIterator[tuple[str, Pair]]:
    """The stream's ARN, and a pair without a command yet."""
    stream = f"recovery-{name}"
    arn = (await at.kinesis.ask("stream", name=stream, shards=1, records=1))["arn"]
    async with AsyncExitStack() as stack:
        lines = [await stack.enter_async_context(relay(at.kinesis.url)) for _ in range(2)]
        function = await stack.enter_async_context(stub("stub_function", at.folder))
        records = asyncio.create_task(flow(at, stream))
        stack.callback(records.cancel)
        yield arn, Pair(name, lambda _: [], lines, function, at, {}, stack)


@asynccontextmanager
async def kcl_pair(at: Bench) -> AsyncIterator[Pair]:
    async with prepared(at, KCL_RS.name) as (arn, pair):
        KCL_RS.python()
        pair.command = lambda place: KCL_RS.command(Job(pair.lines[place].url, arn, f"{pair.function.url}/"), at.folder)
        yield pair


@asynccontextmanager
async def headrace_pair(at: Bench) -> AsyncIterator[Pair]:
    async with (
        prepared(at, HEADRACE.name) as (arn, pair),
        clusters.cluster() as api,
        clusters.namespace(api) as namespace,
    ):
        spec = {"eventSourceArn": arn, "function": {"url": f"{pair.function.url}/"}}
        await api.create(EVENT_SOURCE_MAPPING, clusters.mapping(namespace, "bench", **spec))
        command = [
            sys.executable,
            "-m",
            "headrace",
            "poller",
            "--mapping",
            f"{namespace}/bench",
            "--log-format",
            "json",
        ]
        pair.command = lambda _: [*command, "--identity", f"poller-{pair.starts}"]
        pair.environment = {"KUBECONFIG": os.environ["KUBECONFIG"]}
        yield pair
