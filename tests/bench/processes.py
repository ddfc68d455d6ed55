"""The processes of a measurement, and what Linux tells of them."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp

from tests.support.servers import CREDENTIALS, ROOT, clean_environment, ministack

TICKS = os.sysconf("SC_CLK_TCK")
CORES = sorted(os.sched_getaffinity(0))
SERVERS, CONSUMER = ({CORES[0]}, {CORES[-1]})
"""The cores of the servers and of what is measured: two where there are two, so that one does not take the other's time."""


@contextmanager
def out_of_the_way() -> Iterator[None]:
    """This process, and the servers it starts meanwhile, leave the core of what is measured alone."""
    known = os.sched_getaffinity(0)
    os.sched_setaffinity(0, SERVERS)
    try:
        yield
    finally:
        os.sched_setaffinity(0, known)


@dataclass(frozen=True)
class Usage:
    """What a group of processes used since each began, in CPU seconds, and the megabytes it holds."""

    cpu: float
    megabytes: float


class Ended(Exception):
    """A process that is gone, or does not do what is measured; with the end of its log."""


@dataclass
class Group:
    """A process and everything it started: all that is in its session."""

    process: subprocess.Popen[bytes]
    output: Path

    def usage(self) -> Usage:
        """Of those alive, and of children that ended and were waited for."""
        found = [_usage(pid) for pid in self._members()]
        return Usage(sum(each.cpu for each in found), sum(each.megabytes for each in found))

    def living(self) -> Usage:
        """The same of a process that still runs; raises Ended, as one that does not would seem to cost nothing."""
        found = self.usage()
        if self.ended:
            raise Ended(f"{self.output.stem} ended with {self.process.returncode}: {self.log()}")
        return found

    def _members(self) -> list[int]:
        members = []
        for folder in Path("/proc").iterdir():
            if folder.name.isdigit():
                with contextlib.suppress(OSError):
                    if int((folder / "stat").read_text().rpartition(")")[2].split()[3]) == self.process.pid:
                        members.append(int(folder.name))
        return members

    def signal(self, number: int) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, number)

    @property
    def ended(self) -> bool:
        return self.process.poll() is not None

    def log(self) -> str:
        """The end of what it printed."""
        return self.output.read_text(errors="replace")[-2000:]


def _usage(pid: int) -> Usage:
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        status = Path(f"/proc/{pid}/status").read_text()
        # The processor clock of a process, in nanoseconds; the ticks in `stat` are hundredths of a second.
        own = time.clock_gettime((~pid << 3) | 2)
    except OSError:
        return Usage(0.0, 0.0)
    line = next((each for each in status.splitlines() if each.startswith("VmRSS")), "VmRSS: 0")
    children = (int(fields[13]) + int(fields[14])) / TICKS
    return Usage(own + children, int(line.split()[1]) / 1000)


@contextmanager
def started(command: Sequence[str], folder: Path, name: str, cores: set[int], **environment: str) -> Iterator[Group]:
    """A process in a session of its own, on these cores; all of the session is killed at the end."""
    output = folder / f"{name}.log"
    with output.open("wb") as file:
        process = subprocess.Popen(
            list(command),
            env=clean_environment(**{**CREDENTIALS, "PYTHONPATH": f"{ROOT}/operator:{ROOT}"} | environment),
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    os.sched_setaffinity(process.pid, cores)  # before it has any thread of its own
    group = Group(process, output)
    try:
        yield group
    finally:
        group.signal(signal.SIGKILL)
        process.wait()


@dataclass
class Stub:
    """A server of the benchmark's own, commanded over HTTP."""

    url: str
    session: aiohttp.ClientSession

    async def ask(self, command: str, **body: Any) -> Any:
        async with self.session.post(f"{self.url}/_bench/{command}", json=body) as answer:
            return await answer.json()

    async def get(self, path: str, seconds: float = 60.0) -> Any:
        timeout = aiohttp.ClientTimeout(total=seconds)
        async with self.session.get(f"{self.url}/_bench/{path}", timeout=timeout) as answer:
            return await answer.json()


@asynccontextmanager
async def stub(module: str, folder: Path, *arguments: object) -> AsyncIterator[Stub]:
    """`tests.bench.MODULE` as a server, on the servers' core."""
    command = [sys.executable, "-m", f"tests.bench.{module}", *map(str, arguments)]
    with started(command, folder, f"{module}-{time.monotonic_ns()}", SERVERS) as group:
        port = await told_port(group)
        async with aiohttp.ClientSession() as session:
            yield Stub(f"http://127.0.0.1:{port}", session)


async def told_port(group: Group) -> int:
    """The port that a stub prints once it listens."""
    async with asyncio.timeout(60):
        while not group.log().endswith("\n") and not group.ended:
            await asyncio.sleep(0.02)
    return int(group.log())


def environment_of(kinesis: str, services: str) -> dict[str, str]:
    """Where Kinesis is, and where all other services are."""
    region = "eu-west-1"
    return {
        "AWS_ENDPOINT_URL": services,
        "AWS_ENDPOINT_URL_KINESIS": kinesis,
        "AWS_REGION": region,
        "AWS_DEFAULT_REGION": region,
    }


@dataclass(frozen=True)
class Bench:
    """Where it is measured: the stub of Kinesis, all other services of AWS, and a folder for files."""

    kinesis: Stub
    services: str
    folder: Path


@asynccontextmanager
async def bench(records: int) -> AsyncIterator[Bench]:
    """With so many records in a shard at most."""
    with (
        out_of_the_way(),
        tempfile.TemporaryDirectory(prefix="headrace-bench-") as name,
        ministack(Path(name)) as services,
    ):
        async with stub("stub_kinesis", Path(name), "--records", records) as kinesis:
            yield Bench(kinesis, services, Path(name))
