"""`headrace demo` as its users start it."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import json
import os
import pty
import re
import signal
import struct
import subprocess
import sys
import termios
import time
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.support.headrace import Running, finished, headrace
from tests.support.servers import MINISTACK, ROOT, clean_environment

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

pytestmark = pytest.mark.skipif(not MINISTACK.exists(), reason="ministack has no environment: make test makes one")

HOSTILE = {
    "AWS_PROFILE": "nobody",
    "AWS_ENDPOINT_URL": "http://192.0.2.1:1",
    "AWS_ENDPOINT_URL_KINESIS": "http://192.0.2.1:1",
    "AWS_ENDPOINT_URL_SQS": "http://192.0.2.1:1",
    "AWS_REGION": "nowhere",
    "AWS_CA_BUNDLE": "/nowhere",
    "AWS_MAX_ATTEMPTS": "none",
    "AWS_USE_FIPS_ENDPOINT": "true",
    "HTTP_PROXY": "http://192.0.2.1:1",
    "https_proxy": "http://192.0.2.1:1",
    "GATEWAY_PORT": "1",
    "BIND_HOST": "192.0.2.1",
}


def demo(seconds: int, **environment: str) -> contextlib.AbstractAsyncContextManager[Running]:
    return headrace("demo", "--ministack", MINISTACK, "--seconds", seconds, environment=environment)


def count(text: str, what: str) -> int:
    found = re.search(rf"^ +(\d+)  {what}", text, re.MULTILINE)
    assert found is not None, text
    return int(found[1])


def failure_record(text: str) -> dict[str, Any]:
    record: dict[str, Any]
    record, _ = json.JSONDecoder().raw_decode(text[text.index("{\n") :])
    return record


async def eventually(condition: Callable[[], bool], seconds: float = 5.0) -> bool:
    for _ in range(int(seconds / 0.05)):
        if condition():
            break
        await asyncio.sleep(0.05)
    return condition()


def children(pid: int) -> list[int]:
    listed = subprocess.run(["ps", "-o", "pid=", "--ppid", str(pid)], capture_output=True, text=True, check=False)
    return [int(one) for one in listed.stdout.split()]


def alive(pid: int) -> bool:
    """Whether a process runs; one that has ended and that nobody has waited for does not."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state not in {"Z", "X"}


def left_in(folder: Path) -> list[str]:
    return [file.name for file in folder.iterdir()]


@asynccontextmanager
async def half_way(tmp_path: Path) -> AsyncIterator[tuple[Running, int]]:
    """A demo that handles records, and its emulator's pid."""
    async with demo(30, TMPDIR=str(tmp_path)) as running:
        await running.until(lambda: any("acknowledged" in line for line in running.lines))
        (emulator,) = children(running.process.pid)
        assert alive(emulator)
        try:
            yield running, emulator
        finally:
            if alive(emulator):
                os.kill(emulator, signal.SIGKILL)


async def test_ends_by_itself_with_counts_that_add_up_and_the_failure_record() -> None:
    began = time.monotonic()
    async with demo(6, **HOSTILE) as running:
        status = await running.end(55)
    text = "".join(running.lines)
    assert status == 0, text
    assert time.monotonic() - began < 55
    assert "\x1b" not in text
    record = failure_record(text)
    assert record["requestContext"]["condition"] == "RetryAttemptsExhausted"
    assert record["requestContext"]["approximateInvokeCount"] == 3
    assert count(text, "written") == 60
    assert count(text, "written") == count(text, "acknowledged,") + count(text, "in 1 failure record")
    assert count(text, "in 1 failure record") == record["KinesisBatchInfo"]["batchSize"]
    assert count(text, "in neither") == count(text, "in both") == count(text, "out of") == 0
    for told in ("attempt 3 of 3", "gives up", "throttled", "iterator age", "polled 60", "dropped 0"):
        assert told in text


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
async def test_a_signal_ends_it_at_once_and_leaves_nothing_behind(
    number: signal.Signals, status: int, tmp_path: Path
) -> None:
    async with half_way(tmp_path) as (running, emulator):
        began = time.monotonic()
        assert await running.stop(number) == status
        assert time.monotonic() - began < 5
        assert not alive(emulator)
        assert not left_in(tmp_path)
    assert f"Stopped by {number.name}" in running.lines[-1]


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells a process that its parent has died")
async def test_even_a_killed_demo_takes_its_emulator_with_it(tmp_path: Path) -> None:
    async with half_way(tmp_path) as (running, emulator):
        await running.kill()
        assert await eventually(lambda: not alive(emulator))


async def test_an_emulator_that_dies_ends_it_with_a_sentence(tmp_path: Path) -> None:
    async with half_way(tmp_path) as (running, emulator):
        os.kill(emulator, signal.SIGKILL)
        assert await running.end() == 1
        assert not left_in(tmp_path)
    text = "".join(running.lines)
    assert "The demo failed: ministack ended with status -9" in text
    assert "Traceback" not in text


async def test_a_reader_that_goes_away_ends_it_without_a_traceback(tmp_path: Path) -> None:
    command = f"{sys.executable} -m headrace demo --ministack {MINISTACK} --seconds 30 | head -n 3"
    environment = clean_environment(PYTHONPATH=str(ROOT / "operator"), TMPDIR=str(tmp_path))
    shell = await asyncio.create_subprocess_exec(
        "bash", "-c", f"set -o pipefail; {command}", env=environment, stderr=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.DEVNULL,
    )  # fmt: skip
    async with asyncio.timeout(60):
        _, errors = await shell.communicate()
    assert (shell.returncode, errors) == (128 + signal.SIGPIPE, b"")
    assert not left_in(tmp_path)


async def test_without_ministack_it_says_how_to_get_it() -> None:
    status, text = await finished("demo", "--ministack", "/nowhere/ministack")
    assert status == 2
    assert text.count("\n") == 1
    assert "pip install ministack==" in text


async def test_an_emulator_that_does_not_start_shows_its_last_lines(tmp_path: Path) -> None:
    broken = tmp_path / "ministack"
    broken.write_text("#!/bin/sh\necho cannot find my feet\nexit 3\n")
    broken.chmod(0o755)
    status, text = await finished("demo", "--ministack", broken)
    assert status == 1
    assert "The demo failed: ministack did not start (status 3); its last lines:\n  cannot find my feet" in text
    assert "Traceback" not in text


async def test_on_a_terminal_it_draws_and_ends_well() -> None:
    leader, follower = pty.openpty()
    fcntl.ioctl(follower, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 100, 0, 0))
    environment = clean_environment(PYTHONPATH=str(ROOT / "operator"), TERM="xterm-256color")
    command = [sys.executable, "-m", "headrace", "demo", "--ministack", str(MINISTACK), "--seconds", "3"]
    process = await asyncio.create_subprocess_exec(
        *command, stdin=follower, stdout=follower, stderr=follower, env=environment
    )
    os.close(follower)
    drawn = await asyncio.to_thread(_read_all, leader)
    assert await asyncio.wait_for(process.wait(), 30) == 0
    assert "\x1b[" in drawn
    assert "acknowledged" in drawn
    assert "iterator" in drawn
    assert "It adds up: 30 = " in drawn
    assert drawn.count("\x1b[?25l") == drawn.count("\x1b[?25h") == 1  # the cursor is hidden, and comes back


def _read_all(leader: int) -> str:
    parts = []
    with contextlib.suppress(OSError):  # EIO: the other side is closed
        while part := os.read(leader, 65536):
            parts.append(part)
    os.close(leader)
    return b"".join(parts).decode()
