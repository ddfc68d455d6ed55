"""`make profile`: where CPU time and memory go in a drain, and CPU time in idling; writes docs/profile.md.

CPU a record is taken without a profiler, Headrace and the bare loop in turn, and of all rounds the least counts: a busy
machine only ever adds to it. What py-spy samples tells how that divides, what memray traces what is allocated. py-spy
attaches to the consumer, which takes root or `kernel.yama.ptrace_scope=0`.
"""

from __future__ import annotations

import asyncio
import json
import signal
import subprocess
import sys
import time
from argparse import ArgumentParser
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.bench import idle
from tests.bench.drain import Setting, all_asked, released
from tests.bench.peers import BARE, HEADRACE, Job, Peer, environment
from tests.bench.processes import CONSUMER, SERVERS, Bench, Group, Stub, bench, environment_of, started, stub
from tests.bench.profile_page import Profile, page
from tests.bench.spread import in_turn
from tests.bench.stages import DRAIN, IDLE, parse, tally
from tests.bench.versions import OWN, machine, pinned, versions
from tests.support.servers import ROOT

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

PEERS = (HEADRACE, BARE)
TOOLS = "bench-profile"
RATE = 500
"""Samples a second."""
ENDS = 60.0
"""Seconds in which a profiler writes what it has."""


@dataclass(frozen=True)
class Sizes:
    """How much is measured: rounds, records of a drain without a profiler, sampled, traced; seconds of idling, shards."""

    rounds: int = 7
    records: int = 100_000
    sampled: int = 300_000
    traced: int = 50_000
    idles: float = 30.0
    shards: tuple[int, ...] = (1, 64)


@dataclass
class Measuring:
    """Where it is measured, and by what."""

    at: Bench
    function: Stub
    tools: Path
    sizes: Sizes
    found: Profile = field(default_factory=Profile)

    async def drains(self) -> None:
        """CPU a record, in rounds."""
        setting = Setting(records=self.sizes.records, seconds=120.0)
        for number in range(self.sizes.rounds):
            for peer in in_turn(PEERS, number):
                async with self.full(peer, setting, peer.command) as (consumer, name):
                    figures = await released(setting, name, self.at.kinesis, self.function, consumer)
                self.found.cpu.setdefault(peer.name, []).append(figures["µs per record"])

    async def samples(self) -> None:
        """Where it goes."""
        setting = Setting(records=self.sizes.sampled, seconds=300.0)
        for peer in PEERS:
            async with self.full(peer, setting, peer.command) as (consumer, name), self.spied(consumer) as raw:
                await released(setting, name, self.at.kinesis, self.function, consumer)
            self.found.samples[peer.name] = tally(parse(raw.read_text()), DRAIN)

    async def allocations(self) -> None:
        """What is allocated on the way."""
        setting = Setting(records=self.sizes.traced, seconds=300.0)
        packages = next((self.tools / "lib").glob("python*/site-packages"))
        path = {"PYTHONPATH": f"{ROOT}/operator:{ROOT}:{packages}"}
        for peer in PEERS:
            file = self.at.folder / f"{peer.name}.memray"

            def command(job: Job, folder: Path, peer: Peer = peer, file: Path = file) -> list[str]:
                python, _, *module = peer.command(job, folder)
                return [python, "-m", "tests.bench.traced", str(file), *module]

            async with self.full(peer, setting, command, **path) as (consumer, name):
                consumer.signal(signal.SIGUSR2)
                await released(setting, name, self.at.kinesis, self.function, consumer)
                consumer.signal(signal.SIGINT)
                await ended(consumer)
            read = [str(self.tools / "bin" / "python"), "-m", "tests.bench.allocations", str(file)]
            reading = await asyncio.to_thread(subprocess.run, read, cwd=ROOT, check=True, capture_output=True)
            told = json.loads(reading.stdout)
            self.found.allocations[peer.name] = told["stages"]
            self.found.peak[peer.name] = told["peak"] / 1e6
        self.found.traced = self.sizes.traced

    async def idling(self) -> None:
        """What empty shards cost, and where that goes; one size after the other, the peers of a size beside each other."""
        for shards in self.sizes.shards:
            async with asyncio.TaskGroup() as tasks:
                for peer in PEERS:
                    tasks.create_task(self._idle(peer, shards, f"idle-{peer.name}-{shards}"))

    async def _idle(self, peer: Peer, shards: int, name: str) -> None:
        with await idle.begun(self.at, peer, shards, f"{self.function.url}/") as idling:
            await idle.all_reading(self.at, [idling])
            told = await idle.watched(self.at, [idling], self.sizes.rounds, self.sizes.idles / self.sizes.rounds)
            self.found.idle[f"{peer.name} {shards}"] = [10 * each["CPU % per read a second"] for each in told[name]]
            if peer is not HEADRACE:
                return
            if shards == min(self.sizes.shards):
                self.found.memory = imports() | {"run": told[name][-1]["MB"]}
            async with self.spied(idling.process) as raw:
                await asyncio.sleep(2 * self.sizes.idles)
            self.found.idle_samples[str(shards)] = tally(parse(raw.read_text()), IDLE)

    @asynccontextmanager
    async def full(
        self, peer: Peer, setting: Setting, command: Any, **environment: str
    ) -> AsyncIterator[tuple[Group, str]]:
        """A consumer that has asked for the records of a new stream, which are held back; and the stream's name."""
        name = f"{peer.name}-{time.monotonic_ns()}"
        arn = (await self.at.kinesis.ask("stream", name=name, shards=setting.shards, records=0))["arn"]
        await self.at.kinesis.ask("hold", name=name)
        await self.function.get("reset")
        job = Job(self.at.kinesis.url, arn, f"{self.function.url}/", setting.batch, setting.parallel)
        surroundings = environment_of(self.at.kinesis.url, self.at.services) | environment
        with started(command(job, self.at.folder), self.at.folder, peer.name, CONSUMER, **surroundings) as consumer:
            await all_asked(self.at.kinesis, name, setting.shards, consumer)
            yield consumer, name

    @asynccontextmanager
    async def spied(self, consumer: Group) -> AsyncIterator[Path]:
        """Samples a process for the length of the block; the file is there after it."""
        raw = self.at.folder / f"{time.monotonic_ns()}.raw"
        command = [str(self.tools / "bin" / "py-spy"), "record", "--pid", str(consumer.process.pid)]
        options = ["--rate", str(RATE), "--format", "raw", "--output", str(raw)]
        with started([*command, *options], self.at.folder, "py-spy", SERVERS) as spy:
            yield raw
            spy.signal(signal.SIGINT)
            await ended(spy)
            if not raw.exists():
                raise RuntimeError(f"py-spy wrote nothing: {spy.log()}")


def imports() -> dict[str, float]:
    """MB that a process holds more with what Headrace imports, and with what `headrace run` leaves out besides."""
    libraries = "aiobotocore.session, aiohttp, pydantic"
    bare, known, more = (resident(modules) for modules in ("sys", libraries, f"{libraries}, kubernetes.aio.client"))
    return {"libraries": known - bare, "cluster": more - known}


def resident(modules: str) -> float:
    """MB of a process that imports these."""
    program = f"import {modules}; print(open('/proc/self/status').read().partition('VmRSS:')[2].split()[0])"
    done = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True)
    return int(done.stdout) / 1000


async def ended(process: Group) -> None:
    """Waits until a process has ended."""
    async with asyncio.timeout(ENDS):
        while not process.ended:
            await asyncio.sleep(0.05)


async def measure(sizes: Sizes) -> Profile:
    tools = environment(TOOLS)
    most = max(sizes.records, sizes.sampled, sizes.traced)
    async with bench(most) as at, stub("stub_function", at.folder, "--delay", 0.0) as function:
        measuring = Measuring(at, function, tools, sizes)
        for part in (measuring.drains, measuring.samples, measuring.allocations, measuring.idling):
            await part()
            print(f"profile: {part.__name__} done", flush=True)
    return measuring.found


def main() -> None:
    parser = ArgumentParser(prog="make profile", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a look, written to build/bench/")
    parser.add_argument("--again", action="store_true", help="the page only, from the figures of the last run")
    options = parser.parse_args()
    build = ROOT / "build" / "bench"
    build.mkdir(parents=True, exist_ok=True)
    figures = build / "profile.json"
    if not options.again:
        quick = Sizes(2, 20_000, 40_000, 10_000, 6.0, (1, 16))
        found = asyncio.run(measure(quick if options.quick else Sizes()))
        found.made = f"{datetime.now(UTC):%Y-%m-%d} on {machine()}"
        every = versions() | {name: pinned(TOOLS, name) for name in ("py-spy", "memray")}
        found.versions = {name: every[name] for name in ("commit", "Python", *OWN, "kcl-rs", "py-spy", "memray")}
        figures.write_text(json.dumps(asdict(found), indent=1, ensure_ascii=False))
    text = page(Profile(**json.loads(figures.read_text())))
    file = (build if options.quick else ROOT / "docs") / "profile.md"
    file.write_text(text)
    print(f"see {file}")


if __name__ == "__main__":
    main()
