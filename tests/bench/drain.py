"""Drain: how many records a second, and a CPU second, a consumer takes from a stream that is full.

    python -m tests.bench.drain --peers bare,headrace --shards 1 --batch 100 --rounds 3

Reads are held back until every shard asks for records; from then on time and CPU of the consumer's whole session count,
until the function has answered for the last record. What a consumer needs to start is left out.
"""

from __future__ import annotations

import asyncio
import tempfile
import time
from argparse import ArgumentParser
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from tests.bench.peers import BARE, HEADRACE, PEERS, Job, Peer, Unavailable
from tests.bench.processes import CONSUMER, Group, Stub, environment_of, keep_out_of_the_way, started, stub
from tests.bench.spread import figure, ratio
from tests.support.servers import ministack

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

START = 120.0
"""Seconds until all shards are read at most."""
SETTLE = 0.25
"""Seconds of the consumer's CPU time that still count after the last answer: it stores how far it is."""


@dataclass(frozen=True)
class Setting:
    """One point of the grid; `records` are those of all shards together, `seconds` what it may take at most."""

    shards: int = 1
    batch: int = 100
    delay: float = 0.0
    parallel: int = 1
    filters: int = 0
    records: int = 100_000
    seconds: float = 30.0

    @property
    def each(self) -> int:
        """Records of one shard."""
        return max(1, self.records // self.shards)


@dataclass(frozen=True)
class Drained:
    """One round of one peer."""

    records: int
    wall: float
    cpu: float
    megabytes: float

    @property
    def per_cpu_second(self) -> float:
        return self.records / self.cpu

    @property
    def per_second(self) -> float:
        return self.records / self.wall


class Repeated(Exception):
    """More records came than there are: a consumer that repeats measures something else."""


@dataclass(frozen=True)
class Bench:
    """Where it is measured: the stub of Kinesis, all other services of AWS, and a folder for files."""

    kinesis: Stub
    services: str
    folder: Path


@asynccontextmanager
async def bench(records: int) -> AsyncIterator[Bench]:
    """With so many records in a shard at most."""
    keep_out_of_the_way()
    with tempfile.TemporaryDirectory(prefix="headrace-bench-") as name, ministack(Path(name)) as services:
        async with stub("stub_kinesis", Path(name), "--records", records) as kinesis:
            yield Bench(kinesis, services, Path(name))


async def drain(peer: Peer, setting: Setting, at: Bench, function: Stub) -> Drained:
    """One round: a new stream, a new process."""
    kinesis = at.kinesis
    name = f"{peer.name}-{time.monotonic_ns()}"
    arn = (await kinesis.ask("stream", name=name, shards=setting.shards, records=0))["arn"]
    await kinesis.ask("hold", name=name)
    await function.get("reset")
    job = Job(kinesis.url, arn, function.url + "/", setting.batch, setting.parallel, setting.filters)
    surroundings = environment_of(kinesis.url, at.services)
    with started(peer.command(job, at.folder), at.folder, peer.name, CONSUMER, **surroundings) as consumer:
        await all_asked(kinesis, name, setting.shards, consumer)
        return await released(setting, name, kinesis, function, consumer)


async def all_asked(kinesis: Stub, name: str, shards: int, consumer: Group) -> None:
    """Waits until each shard is read, and what the consumer does besides has calmed down."""
    held = asyncio.ensure_future(kinesis.ask("held", name=name, shards=shards))
    try:
        async with asyncio.timeout(START):
            while not held.done() and not consumer.ended:
                await asyncio.sleep(0.05)
    except TimeoutError:
        pass
    if not held.done():
        held.cancel()
        raise AssertionError(f"not every shard is read within {START:g} s:\n{consumer.log()}")
    await asyncio.sleep(SETTLE)


async def released(setting: Setting, name: str, kinesis: Stub, function: Stub, consumer: Group) -> Drained:
    """Lets the records go and waits for them."""
    wanted = setting.each * setting.shards
    before = consumer.usage().cpu
    began = (await kinesis.ask("release", name=name, records=setting.each))["at"]
    try:
        counted = await function.get(f"until?records={wanted}", setting.seconds)
        await asyncio.sleep(SETTLE)
    except TimeoutError:
        counted = await function.get("stats")
    if consumer.ended:
        raise AssertionError(f"it ended:\n{consumer.log()}")
    after = consumer.usage()
    if (came := (await function.get("stats"))["records"]) > wanted:
        raise Repeated(f"{came} records of {wanted}")
    return Drained(counted["records"], counted["last"] - began, after.cpu - before, after.megabytes)


async def rounds(peers: list[Peer], setting: Setting, number: int, at: Bench) -> dict[str, list[Drained]]:
    """One round after the other, every peer in each; one that fails is left out with a line."""
    found: dict[str, list[Drained]] = {peer.name: [] for peer in peers}
    async with stub("stub_function", at.folder, "--delay", setting.delay) as function:
        for _ in range(number):
            for peer in peers:
                if peer.name not in found:
                    continue
                try:
                    found[peer.name].append(await drain(peer, setting, at, function))
                except (Unavailable, AssertionError) as error:
                    del found[peer.name]
                    print(f"{peer.name} is left out: {error}")
    return found


def told(found: dict[str, list[Drained]]) -> None:
    """Prints the figures, and the ratios to the least loop."""
    for name, drained in found.items():
        cpu, wall = figure([each.per_cpu_second for each in drained]), figure([each.per_second for each in drained])
        print(
            f"{name:14} {cpu.median:9,.0f} records a CPU second ({cpu.lower:,.0f} to {cpu.upper:,.0f}), "
            f"{wall.median:9,.0f} a second ({wall.lower:,.0f} to {wall.upper:,.0f}), "
            f"{max(each.megabytes for each in drained):.0f} MB"
        )
    for name, drained in found.items():
        if name != BARE.name and BARE.name in found:
            pair = ratio([each.per_cpu_second for each in drained], [each.per_cpu_second for each in found[BARE.name]])
            said = f"{pair.of.median:.2f} of" if pair.stated else "no difference measured from"
            print(f"{name:14} {said} the bare loop's records a CPU second ({pair.of.lower:.2f} to {pair.of.upper:.2f})")


async def main() -> None:
    parser = ArgumentParser(description=__doc__)
    parser.add_argument("--peers", default=f"{BARE.name},{HEADRACE.name}")
    parser.add_argument("--rounds", type=int, default=5)
    for name, value in vars(Setting()).items():
        parser.add_argument(f"--{name}", type=type(value), default=value)
    options = parser.parse_args()
    setting = replace(Setting(), **{name: getattr(options, name) for name in vars(Setting())})
    peers = [PEERS[name] for name in options.peers.split(",")]
    async with bench(setting.each) as at:
        told(await rounds(peers, setting, options.rounds, at))


if __name__ == "__main__":
    asyncio.run(main())
