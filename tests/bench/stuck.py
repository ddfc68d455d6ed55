"""Memory while the function is stuck: it takes calls and never answers, and the stream is full."""

from __future__ import annotations

import asyncio
import time
from contextlib import AsyncExitStack
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from tests.bench.peers import HEADRACE, Job
from tests.bench.processes import CONSUMER, Bench, Ended, Group, Stub, environment_of, started, stub
from tests.bench.results import Measured

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

PART = "stuck"
LOOKS = 20
BEGIN = 60.0
"""Seconds until all shards are read at most."""
KB = 1024


@dataclass(frozen=True)
class Full:
    """A stream: shards, records that wait in each, bytes of each record."""

    shards: int
    backlog: int
    bytes: int = KB

    @property
    def name(self) -> str:
        return f"stuck-{self.shards}-{self.backlog}-{self.bytes}"


Turn = tuple[Full, ...]
"""Those that are measured at the same time."""
FEW: tuple[Turn, ...] = ((*(Full(1, backlog) for backlog in (10_000, 100_000, 300_000)), Full(16, 100, 100 * KB)),)
ALL: tuple[Turn, ...] = (
    tuple(Full(shards, backlog) for shards in (1, 16) for backlog in (10_000, 100_000, 300_000)),
    (Full(64, 10_000), Full(64, 300_000)),
    (Full(16, 100, 100 * KB), Full(16, 600, 100 * KB)),
    (Full(256, 10_000), Full(256, 300_000)),
)


async def measure(at: Bench, turns: Sequence[Turn], seconds: float) -> tuple[list[Measured], list[str]]:
    """Memory over so many seconds from the first reads on, for each stream; who ends instead of waiting is told."""
    measured: list[Measured] = []
    left_out: list[str] = []
    async with AsyncExitStack() as stack:
        function = await stack.enter_async_context(stub("stub_function", at.folder, "--stuck"))
        servers = {KB: at.kinesis}
        for size in sorted({full.bytes for turn in turns for full in turn} - set(servers)):
            most = max(full.backlog for turn in turns for full in turn if full.bytes == size)
            made = stub("stub_kinesis", at.folder, "--records", most, "--bytes", size)
            servers[size] = await stack.enter_async_context(made)
        for turn in turns:
            try:
                measured += await one_turn(at, turn, servers, f"{function.url}/", seconds)
            except Ended as error:
                print(f"stuck: FAILED: {error}", flush=True)
                left_out.append(f"stuck: {error}")
    print("stuck: done", flush=True)
    return measured, left_out


async def one_turn(at: Bench, turn: Turn, servers: dict[int, Stub], function: str, seconds: float) -> list[Measured]:
    """Looks at the memory of all of a turn; raises Ended."""
    working: dict[Full, Group] = {}
    looks: dict[Full, list[dict[str, float]]] = {full: [] for full in turn}
    async with AsyncExitStack() as stack:
        for full in turn:
            kinesis = servers[full.bytes]
            asked = {"name": full.name, "shards": full.shards, "records": full.backlog}
            arn = (await kinesis.ask("stream", **asked))["arn"]
            command = HEADRACE.command(Job(kinesis.url, arn, function), folder_of(at, full))
            environment = environment_of(kinesis.url, at.services)
            made = started(command, at.folder / full.name, full.name, CONSUMER, **environment)
            working[full] = stack.enter_context(made)
        for full, process in working.items():
            await all_read(servers[full.bytes], full, process)
        for _ in range(LOOKS):
            await asyncio.sleep(seconds / LOOKS)
            for full, process in working.items():
                looks[full].append({"MB": process.living().megabytes})
        for full in turn:
            stats = await servers[full.bytes].ask("stats", name=full.name)
            looks[full][-1]["MB sent"] = stats["bytes"] / 1e6
    return [Measured(PART, HEADRACE.name, dict(asdict(full)), each) for full, each in looks.items()]


async def all_read(kinesis: Stub, full: Full, process: Group) -> None:
    """Waits for as many reads as there are shards; raises Ended."""
    deadline = time.monotonic() + BEGIN
    while (await kinesis.ask("stats", name=full.name))["requests"].get("GetRecords", 0) < full.shards:
        process.living()
        if time.monotonic() > deadline:
            raise Ended(f"{full.name}: not every shard is read within {BEGIN:g} s: {process.log()}")
        await asyncio.sleep(0.2)


def folder_of(at: Bench, full: Full) -> Path:
    """A new one."""
    folder = at.folder / full.name
    folder.mkdir()
    return folder
