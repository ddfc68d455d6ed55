"""ministack as a process of the demo's own: found, started on a free port, watched, killed by pid."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import socket
import sys
import tempfile
from contextlib import asynccontextmanager, closing, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from headrace.demo.isolation import HOST, emulator_environment
from headrace.errors import HeadraceError

if TYPE_CHECKING:
    from asyncio.subprocess import Process
    from collections.abc import AsyncIterator

START_PATIENCE = 20.0
"""Seconds ministack may take until it listens."""
LAST_LINES = 8
"""How much of its output is shown when it fails."""
INSTALL = (
    "python3 -m venv ministack && ministack/bin/pip install ministack==1.5.33 && "
    "headrace demo --ministack ministack/bin/ministack"
)
"""How to get it: it pins botocore exactly, so it cannot live beside aiobotocore."""

# Linux kills the emulator with the demo, even where the demo can do nothing more about it (kill -9). The check after
# prctl is for a demo that died before it; elsewhere than on Linux nothing is leashed and execv alone remains.
_LEASH = """
import ctypes, os, signal, sys
with __import__("contextlib").suppress(OSError, AttributeError):
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)
if os.getppid() == int(sys.argv[1]):
    os.execv(sys.argv[2], sys.argv[2:])
"""


class EmulatorFailed(HeadraceError):
    """ministack did not start, or ended before its time; the message holds the last lines it wrote."""


def find_ministack(given: Path | None) -> Path | None:
    """The program to run: the given one, else the one beside this Python, else on PATH; None if there is none."""
    beside = Path(sys.executable).parent / "ministack"
    candidates = [str(given)] if given is not None else [str(beside), "ministack"]
    found = next(filter(None, map(shutil.which, candidates)), None)
    return Path(found).absolute() if found is not None else None


@dataclass(frozen=True, slots=True)
class Emulator:
    """A ministack that answers at `url`."""

    url: str
    process: Process
    output: Path

    async def watch(self) -> None:
        """Raises EmulatorFailed as soon as the process has ended; never returns."""
        raise EmulatorFailed(_last_words(self.output, f"ministack ended with status {await self.process.wait()}"))


@asynccontextmanager
async def emulator(program: Path) -> AsyncIterator[Emulator]:
    """A ministack that lives as long as the block; raises EmulatorFailed. Its folder goes with it."""
    with tempfile.TemporaryDirectory(prefix="headrace-demo-", ignore_cleanup_errors=True) as folder:
        port = _free_port()
        output = Path(folder) / "ministack.log"
        process = await _start(program, folder, port, output)
        try:
            await _listening(process, port, output)
            yield Emulator(f"http://{HOST}:{port}", process, output)
        finally:
            await _kill(process)


async def _start(program: Path, folder: str, port: int, output: Path) -> Process:
    with output.open("wb") as file:
        return await asyncio.create_subprocess_exec(
            sys.executable, "-I", "-S", "-c", _LEASH, str(os.getpid()), str(program),
            env=emulator_environment(os.environ, folder, port),
            cwd=folder,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=file,
            stderr=file,
            start_new_session=True,  # Ctrl-C is for the demo, which then ends the emulator
        )  # fmt: skip


async def _listening(process: Process, port: int, output: Path) -> None:
    try:
        async with asyncio.timeout(START_PATIENCE):
            while process.returncode is None:
                with suppress(OSError):
                    _, writer = await asyncio.open_connection(HOST, port)
                    writer.close()
                    return
                await asyncio.sleep(0.05)
    except TimeoutError:
        what = f"ministack does not listen after {START_PATIENCE:g} s"
        raise EmulatorFailed(_last_words(output, what)) from None
    raise EmulatorFailed(_last_words(output, f"ministack did not start (status {process.returncode})"))


async def _kill(process: Process) -> None:
    """Kills the process and whatever it started; it holds nothing that would be worth a graceful end."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    await process.wait()


def _last_words(output: Path, what: str) -> str:
    lines = [line for line in output.read_text(errors="replace").splitlines() if line.strip()][-LAST_LINES:]
    return "\n  ".join([f"{what}; its last lines:", *lines]) if lines else f"{what} and wrote nothing"


def _free_port() -> int:
    with closing(socket.socket()) as listener:
        listener.bind((HOST, 0))
        return int(listener.getsockname()[1])
