"""`headrace` as its users start it: a process, its log, its exit status."""

from __future__ import annotations

import asyncio
import contextlib
import json
import signal
import sys
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from tests.support.servers import CREDENTIALS, ROOT, clean_environment


def mapping(arn: str, url: str, name: str = "orders", **spec: Any) -> dict[str, Any]:
    """A mapping from TRIM_HORIZON with quick retries; `spec` overrides and adds properties."""
    return {
        "apiVersion": "headrace.dev/v1alpha1",
        "kind": "EventSourceMapping",
        "metadata": {"name": name, "namespace": "shop"},
        "spec": {
            "eventSourceArn": arn,
            "function": {"url": url, "timeoutSeconds": 5},
            "startingPosition": "TRIM_HORIZON",
            "retryBackoff": {"initialSeconds": 0.05, "maximumSeconds": 0.2},
            **spec,
        },
    }


def long_window() -> int:
    """Seconds of a tumbling window that will not end during a test."""
    return next(width for width in range(900, 600, -1) if width - time.time() % width > 120)


def on_failure(arn: str, **more: Any) -> dict[str, Any]:
    return {"onFailure": {"destination": arn, **more}}


def write(folder: Path, *documents: dict[str, Any], name: str = "mapping.yaml") -> Path:
    file = folder / name
    file.write_text(yaml.safe_dump_all(documents))
    return file


@dataclass
class Running:
    """A started `headrace`; its log lines as JSON."""

    process: asyncio.subprocess.Process
    lines: list[str] = field(default_factory=list)

    @property
    def log(self) -> list[dict[str, Any]]:
        found = []
        for line in self.lines:
            with contextlib.suppress(json.JSONDecodeError):
                found.append(json.loads(line))
        return found

    def logged(self, event: str) -> list[dict[str, Any]]:
        return [entry for entry in self.log if event in str(entry.get("event", ""))]

    @property
    def summary(self) -> dict[str, Any]:
        return self.logged("summary")[-1]

    async def until(self, condition: Callable[[], object], seconds: float = 60.0) -> None:
        try:
            async with asyncio.timeout(seconds):
                while not condition():
                    if self.process.returncode is not None:
                        break
                    await asyncio.sleep(0.02)
        except TimeoutError:
            pass
        if not condition():
            raise AssertionError("not reached; log:\n" + "".join(self.lines[-40:]))

    def catches_sigterm(self) -> bool:
        """Whether the process has a handler for SIGTERM by now; as Linux tells it."""
        told = Path(f"/proc/{self.process.pid}/status").read_text()
        caught = next(line for line in told.splitlines() if line.startswith("SigCgt:"))
        return bool(int(caught.split()[1], 16) >> (signal.SIGTERM - 1) & 1)

    async def end(self, seconds: float = 60.0) -> int:
        """Waits for the process to end by itself."""
        try:
            async with asyncio.timeout(seconds):
                return await self.process.wait()
        except TimeoutError:
            raise AssertionError("still running; log:\n" + "".join(self.lines[-40:])) from None

    async def stop(self, with_signal: int = signal.SIGTERM) -> int:
        self.process.send_signal(with_signal)
        return await self.end()

    async def kill(self) -> None:
        self.process.kill()
        await self.process.wait()


@asynccontextmanager
async def headrace(*arguments: object, environment: dict[str, str] | None = None) -> AsyncIterator[Running]:
    """`headrace ARGUMENTS`, killed at the end if it still runs."""
    started = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "headrace",
        *map(str, arguments),
        env=clean_environment(PYTHONPATH=str(ROOT / "operator"), **CREDENTIALS, **(environment or {})),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        limit=1024 * 1024,
    )
    running = Running(started)
    reading = asyncio.create_task(_read(running))
    try:
        yield running
    finally:
        if started.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                started.kill()
        await started.wait()
        await reading


async def _read(running: Running) -> None:
    stream = running.process.stdout
    if stream is None:
        return
    async for line in stream:
        running.lines.append(line.decode(errors="replace"))


@asynccontextmanager
async def run(
    file: Path, endpoint: str, *arguments: object, environment: dict[str, str] | None = None
) -> AsyncIterator[Running]:
    """`headrace run` of one file, with the log as JSON."""
    command = ("run", "-f", file, "--endpoint-url", endpoint, "--log-format", "json", *arguments)
    async with headrace(*command, environment=environment) as running:
        yield running


async def finished(*arguments: object, environment: dict[str, str] | None = None) -> tuple[int, str]:
    """Runs `headrace ARGUMENTS` to its end: exit status and everything it printed."""
    async with headrace(*arguments, environment=environment) as running:
        status = await running.end()
    return status, "".join(running.lines)
