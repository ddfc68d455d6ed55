"""Drain: how many records a second, and a CPU second, a consumer takes from a stream that is full.

    python -m tests.bench.drain --peers bare,headrace --shards 1 --batch 100 --rounds 3

Reads are held back until every shard asks for records; from then on time and CPU of the consumer's whole session count,
until the function has answered for the last record. What a consumer needs to start is left out.
"""

from __future__ import annotations

import asyncio
import time
from argparse import ArgumentParser
from contextlib import AsyncExitStack
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING

from tests.bench.peers import ASYNC_KINESIS, BARE, HEADRACE, KCL_RS, LOCALSTACK, PEERS, Job, Peer, Unavailable
from tests.bench.processes import CONSUMER, Bench, Group, Stub, bench, environment_of, started, stub
from tests.bench.results import Measured
from tests.bench.spread import LEAST_ROUNDS, figure, in_turn, ratio

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

PART = "drain"
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
    records: int = 60_000
    seconds: float = 12.0

    @property
    def each(self) -> int:
        """Records of one shard."""
        return max(1, self.records // self.shards)


class NotMeasured(Exception):
    """A consumer that did something else than what is measured; with the end of its log."""


ALL = (BARE, HEADRACE, KCL_RS, ASYNC_KINESIS)
TWO = (BARE, HEADRACE)


def grid() -> Mapping[Setting, Sequence[Peer]]:
    """Who is measured where: one thing is varied at a time."""
    base = Setting()
    return {
        base: (*ALL, LOCALSTACK),  # which reads one shard after the other, so that more are not comparable
        **{replace(base, shards=shards): TWO for shards in (4, 64)},
        replace(base, shards=16): ALL,
        replace(base, shards=256, records=256_000): TWO,  # a full read for each shard
        replace(base, batch=1, records=6_000): TWO,
        replace(base, batch=10, records=30_000): TWO,
        replace(base, batch=1000): TWO,
        replace(base, delay=0.01, records=20_000): TWO,
        replace(base, delay=0.01, parallel=10): TWO,
        **{replace(base, parallel=parallel): TWO for parallel in (2, 10)},
        **{replace(base, filters=filters): (HEADRACE,) for filters in (1, 5)},  # five is the most there may be
        **{replace(base, records=records): (HEADRACE,) for records in (20_000, 300_000)},
    }


def quick_grid() -> Mapping[Setting, Sequence[Peer]]:
    """The same in small."""
    base = Setting(records=20_000)
    return {
        base: (BARE, HEADRACE, KCL_RS),
        replace(base, shards=16): TWO,
        replace(base, batch=1, records=1_000): TWO,
        replace(base, batch=1000): TWO,
        replace(base, filters=5): (HEADRACE,),
    }


@dataclass
class Rounds:
    """What each peer did at each point, round by round, and who is left out, with sentences."""

    wanted: int
    found: dict[tuple[Setting, Peer], list[dict[str, float]]]
    failed: dict[tuple[Setting, Peer], list[str]] = field(default_factory=dict)
    left_out: list[str] = field(default_factory=list)

    def note(self, setting: Setting, peer: Peer, why: str) -> None:
        """A round that failed: the others stand while enough of them can remain."""
        reasons = self.failed.setdefault((setting, peer), [])
        reasons.append(why)
        if self.wanted - len(reasons) < min(LEAST_ROUNDS, self.wanted):
            del self.found[setting, peer]

    def sentences(self) -> list[str]:
        """What failed, and what became of the rounds that did not."""
        told = [
            f"{peer.name} with {shown(setting)}: "
            + ("left out" if (setting, peer) not in self.found else f"{len(why)} of {self.wanted} rounds left out")
            + f": {why[0]}"
            for (setting, peer), why in self.failed.items()
        ]
        return [*dict.fromkeys(self.left_out), *told]


async def measure(at: Bench, points: Mapping[Setting, Sequence[Peer]], rounds: int) -> tuple[list[Measured], list[str]]:
    """Every point and every peer once in each round, first to last and last to first; what fails is told in a sentence."""
    done = Rounds(rounds, {(setting, peer): [] for setting, peers in points.items() for peer in peers})
    async with AsyncExitStack() as stack:
        functions = {
            delay: await stack.enter_async_context(stub("stub_function", at.folder, "--delay", delay))
            for delay in {setting.delay for setting in points}
        }
        for number in range(rounds):
            for setting, peer in in_turn(list(done.found), number):
                await one_of(done, number, setting, peer, at, functions[setting.delay])
            print(f"drain: round {number + 1} of {rounds} done", flush=True)
    return [
        Measured(PART, peer.name, asdict(point), each) for (point, peer), each in done.found.items()
    ], done.sentences()


async def one_of(done: Rounds, number: int, setting: Setting, peer: Peer, at: Bench, function: Stub) -> None:
    """One peer's turn at a point."""
    try:
        figures = await drain(peer, setting, at, function)
        done.found[setting, peer].append({"round": number} | figures)
    except Unavailable as error:
        del done.found[setting, peer]
        done.left_out.append(str(error))
    except NotMeasured as error:
        done.note(setting, peer, str(error))


def shown(setting: Setting) -> str:
    return ", ".join(f"{name} {value}" for name, value in asdict(setting).items())


async def drain(peer: Peer, setting: Setting, at: Bench, function: Stub) -> dict[str, float]:
    """One round: a new stream, a new process. Raises Unavailable or NotMeasured."""
    name = f"{peer.name}-{time.monotonic_ns()}"
    arn = (await at.kinesis.ask("stream", name=name, shards=setting.shards, records=0))["arn"]
    await at.kinesis.ask("hold", name=name)
    await function.get("reset")
    job = Job(at.kinesis.url, arn, f"{function.url}/", setting.batch, setting.parallel, setting.filters)
    surroundings = environment_of(at.kinesis.url, at.services)
    with started(peer.command(job, at.folder), at.folder, peer.name, CONSUMER, **surroundings) as consumer:
        await all_asked(at.kinesis, name, setting.shards, consumer)
        return await released(setting, name, at.kinesis, function, consumer)


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
        raise NotMeasured(f"not every shard is read: {consumer.log()}")
    await asyncio.sleep(SETTLE)


async def released(setting: Setting, name: str, kinesis: Stub, function: Stub, consumer: Group) -> dict[str, float]:
    """Lets the records go and waits for them; when they take too long, for what has come until then."""
    wanted = setting.each * setting.shards
    before = consumer.usage().cpu
    began = (await kinesis.ask("release", name=name, records=setting.each))["at"]
    try:
        counted = await function.get(f"until?records={wanted}", setting.seconds)
        await asyncio.sleep(SETTLE)
    except TimeoutError:
        counted = await function.get("stats")
    after = consumer.usage()
    if consumer.ended or not counted["records"]:
        raise NotMeasured(f"it ended, or called nobody: {consumer.log()}")
    if (came := (await function.get("stats"))["records"]) > wanted:
        raise NotMeasured(f"{came} records came of {wanted}: what repeats measures something else")
    wall, cpu = counted["last"] - began, after.cpu - before
    return {
        "records": counted["records"],
        "calls": counted["calls"],
        "per CPU second": counted["records"] / cpu,
        "per second": counted["records"] / wall,
        "µs per record": cpu / counted["records"] * 1e6,
        "MB": after.megabytes,
    }


def tell(measured: Sequence[Measured]) -> None:
    """Prints the figures, and the ratios to the first peer's."""
    for each in measured:
        cpu, wall = each.figure("per CPU second"), each.figure("per second")
        print(
            f"{each.peer:14} {cpu.median:9,.0f} records a CPU second ({cpu.lower:,.0f} to {cpu.upper:,.0f}), "
            f"{wall.median:9,.0f} a second ({wall.lower:,.0f} to {wall.upper:,.0f}), {figure(each.values('MB')).median:.0f} MB"
        )
    for each in measured[1:]:
        first = measured[0]
        known, own = first.by_round("per CPU second"), each.by_round("per CPU second")
        both = [number for number in own if number in known]
        pair = ratio([own[number] for number in both], [known[number] for number in both])
        said = f"{pair.of.median:.2f} of" if pair.stated else "no difference measured from"
        print(f"{each.peer:14} {said} {first.peer}'s records a CPU second ({pair.of.lower:.2f} to {pair.of.upper:.2f})")


async def main() -> None:
    parser = ArgumentParser(description=__doc__)
    parser.add_argument(
        "--peers", default=f"{BARE.name},{HEADRACE.name}", help="the first is what others are compared with"
    )
    parser.add_argument("--rounds", type=int, default=5)
    for name, value in asdict(Setting()).items():
        parser.add_argument(f"--{name}", type=type(value), default=value)
    options = parser.parse_args()
    setting = Setting(**{name: getattr(options, name) for name in asdict(Setting())})
    async with bench(setting.each) as at:
        peers = [PEERS[name] for name in options.peers.split(",")]
        measured, left_out = await measure(at, {setting: peers}, options.rounds)
    print(*left_out, sep="\n", end="\n" * bool(left_out))
    tell(measured)


if __name__ == "__main__":
    asyncio.run(main())
