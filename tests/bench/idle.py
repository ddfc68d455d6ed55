"""Idle: what a consumer of an empty stream costs: CPU, reads, memory, with 1 to 256 shards.

All consumers idle at the same time, as none of them does much; a round is a span of time, the same for all.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tests.bench.peers import ASYNC_KINESIS, BARE, HEADRACE, KCL_RS, Job, Peer, Unavailable
from tests.bench.processes import CONSUMER, Bench, Group, environment_of, started, stub
from tests.bench.results import Measured

if TYPE_CHECKING:
    from collections.abc import Sequence

PART = "idle"
ALL = (*((HEADRACE, shards) for shards in (1, 16, 64, 256)), *((peer, 16) for peer in (BARE, KCL_RS, ASYNC_KINESIS)))
FEW = tuple((HEADRACE, shards) for shards in (1, 64))
BEGIN = 60.0
"""Seconds until everybody has read at most."""
CALM = 10.0
"""Seconds after everybody has read once, before it counts."""


@dataclass(frozen=True)
class Idling:
    """A consumer, and its stream."""

    peer: Peer
    shards: int
    stream: str
    process: Group

    async def state(self, at: Bench) -> dict[str, Any]:
        stats = await at.kinesis.ask("stats", name=self.stream)
        usage = self.process.usage()
        return {"at": time.monotonic(), "cpu": usage.cpu, "MB": usage.megabytes, "requests": stats["requests"]}


async def measure(
    at: Bench, idlers: Sequence[tuple[Peer, int]], rounds: int, seconds: float
) -> tuple[list[Measured], list[str]]:
    """So many rounds of so many seconds each."""
    left_out: list[str] = []
    async with AsyncExitStack() as stack:
        function = await stack.enter_async_context(stub("stub_function", at.folder))
        idling: list[Idling] = []
        for peer, shards in idlers:
            name = f"idle-{peer.name}-{shards}"
            arn = (await at.kinesis.ask("stream", name=name, shards=shards, records=0))["arn"]
            folder = at.folder / name
            folder.mkdir()
            job = Job(at.kinesis.url, arn, f"{function.url}/", read_every=1000)
            try:
                command = peer.command(job, folder)
            except Unavailable as error:
                left_out.append(str(error))
                continue
            environment = environment_of(at.kinesis.url, at.services)
            idling.append(
                Idling(peer, shards, name, stack.enter_context(started(command, folder, name, CONSUMER, **environment)))
            )
        await all_reading(at, idling)
        found = await watched(at, idling, rounds, seconds)
    print("idle: done", flush=True)
    return [Measured(PART, each.peer.name, {"shards": each.shards}, found[each.stream]) for each in idling], left_out


async def all_reading(at: Bench, idling: list[Idling]) -> None:
    for each in idling:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(BEGIN):
                while not (await each.state(at))["requests"].get("GetRecords"):
                    await asyncio.sleep(0.2)
    await asyncio.sleep(CALM)


async def watched(at: Bench, idling: list[Idling], rounds: int, seconds: float) -> dict[str, list[dict[str, float]]]:
    found: dict[str, list[dict[str, float]]] = {each.stream: [] for each in idling}
    before = [await each.state(at) for each in idling]
    for _ in range(rounds):
        await asyncio.sleep(seconds)
        after = [await each.state(at) for each in idling]
        for each, then, now in zip(idling, before, after, strict=True):
            span = now["at"] - then["at"]
            requests = sum(now["requests"].values()) - sum(then["requests"].values())
            percent = 100 * (now["cpu"] - then["cpu"]) / span
            found[each.stream].append(
                {
                    "CPU %": percent,
                    "CPU % per shard": percent / each.shards,
                    "requests per second": requests / span,
                    "MB": now["MB"],
                }
            )
        before = after
    return found
