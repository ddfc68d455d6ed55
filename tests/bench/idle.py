"""Idle: what a consumer of an empty stream costs: CPU, reads, memory, with 1 to 256 shards.

One consumer after the other, or two that together take far less than a core; so that none waits for another, nor has its
caches emptied by many. A round is a span of time. What has ended, or reads nothing, fails its turn and is told.
"""

from __future__ import annotations

import asyncio
import time
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tests.bench.peers import ASYNC_KINESIS, BARE, HEADRACE, KCL_RS, Job, Peer, Unavailable
from tests.bench.processes import CONSUMER, Bench, Ended, Group, environment_of, started, stub
from tests.bench.results import Measured

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from contextlib import AbstractContextManager

PART = "idle"
Turn = tuple[tuple[Peer, int], ...]
"""Who idles at the same time, each with how many shards."""
ALL: tuple[Turn, ...] = (
    ((HEADRACE, 1), (KCL_RS, 16)),
    ((HEADRACE, 16), (BARE, 16)),
    ((HEADRACE, 64), (ASYNC_KINESIS, 16)),
    ((HEADRACE, 256),),
)
FEW: tuple[Turn, ...] = (((HEADRACE, 1), (BARE, 1)), ((HEADRACE, 64),))
BEGIN = 60.0
"""Seconds until everybody has read at most."""
CALM = 6.0
"""Seconds after everybody has read once, before it counts."""


@dataclass(frozen=True)
class Idling:
    """A consumer, and its stream."""

    peer: Peer
    shards: int
    stream: str
    process: Group

    async def state(self, at: Bench) -> dict[str, Any]:
        """What it has used and asked for until now; raises Ended."""
        stats = await at.kinesis.ask("stats", name=self.stream)
        usage = self.process.living()
        return {"at": time.monotonic(), "cpu": usage.cpu, "MB": usage.megabytes, "requests": stats["requests"]}


async def measure(at: Bench, turns: Sequence[Turn], rounds: int, seconds: float) -> tuple[list[Measured], list[str]]:
    """So many rounds of so many seconds in each turn."""
    measured: list[Measured] = []
    left_out: list[str] = []
    async with stub("stub_function", at.folder) as function:
        for turn in turns:
            try:
                measured += await one_turn(at, turn, f"{function.url}/", left_out, rounds, seconds)
            except Ended as error:
                print(f"idle: FAILED: {error}", flush=True)
                left_out.append(f"idle: {error}")
    print("idle: done", flush=True)
    return measured, left_out


async def one_turn(
    at: Bench, turn: Turn, function: str, left_out: list[str], rounds: int, seconds: float
) -> list[Measured]:
    """Those of one turn, at the same time; raises Ended."""
    with ExitStack() as stack:
        idling = []
        for peer, shards in turn:
            try:
                idling.append(stack.enter_context(await begun(at, peer, shards, function)))
            except Unavailable as error:
                left_out.append(str(error))
        await all_reading(at, idling)
        found = await watched(at, idling, rounds, seconds)
    return [Measured(PART, each.peer.name, {"shards": each.shards}, found[each.stream]) for each in idling]


async def begun(at: Bench, peer: Peer, shards: int, function: str) -> AbstractContextManager[Idling]:
    """A consumer of a new stream without records; raises Unavailable."""
    name = f"idle-{peer.name}-{shards}"
    arn = (await at.kinesis.ask("stream", name=name, shards=shards, records=0))["arn"]
    folder = at.folder / name
    folder.mkdir()
    command = peer.command(Job(at.kinesis.url, arn, function, read_every=1000), folder)

    @contextmanager
    def running() -> Iterator[Idling]:
        with started(command, folder, name, CONSUMER, **environment_of(at.kinesis.url, at.services)) as process:
            yield Idling(peer, shards, name, process)

    return running()


async def all_reading(at: Bench, idling: list[Idling]) -> None:
    """Waits until all of them read, and for a while more; raises Ended."""
    for each in idling:
        try:
            async with asyncio.timeout(BEGIN):
                while not (await each.state(at))["requests"].get("GetRecords"):
                    await asyncio.sleep(0.2)
        except TimeoutError:
            raise Ended(f"{each.stream} read nothing in {BEGIN:g} s: {each.process.log()}") from None
    await asyncio.sleep(CALM)


async def watched(at: Bench, idling: list[Idling], rounds: int, seconds: float) -> dict[str, list[dict[str, float]]]:
    """The figures of each round, by stream; raises Ended."""
    found: dict[str, list[dict[str, float]]] = {each.stream: [] for each in idling}
    before = [await each.state(at) for each in idling]
    for _ in range(rounds):
        await asyncio.sleep(seconds)
        after = [await each.state(at) for each in idling]
        for each, then, now in zip(idling, before, after, strict=True):
            found[each.stream].append(cost(each, then, now))
        before = after
    return found


def cost(of: Idling, then: dict[str, Any], now: dict[str, Any]) -> dict[str, float]:
    """Of one span; CPU for each shard is at the reads that were made, not at those that were meant."""
    span = now["at"] - then["at"]
    reads = (now["requests"]["GetRecords"] - then["requests"]["GetRecords"]) / span
    percent = 100 * (now["cpu"] - then["cpu"]) / span
    if not reads:
        raise Ended(f"{of.stream} read nothing for {span:.0f} s: {of.process.log()}")
    return {
        "CPU %": percent,
        "CPU % per read a second": percent / reads,
        "reads per second": reads,
        "requests per second": (sum(now["requests"].values()) - sum(then["requests"].values())) / span,
        "MB": now["MB"],
    }
