"""`headrace run` that dies by SIGKILL behind a chosen action.

`python -m tests.support.dying` reads lines `[POINT, LOG, ARGUMENT, …]` in JSON. For each it forks a process that runs
the `headrace` command with these arguments, which saves loading the modules each time, and prints how it ended.

An action is what leaves a trace outside the process: a read that gave records, a call of the function, a failure record
handed over, a pin, a checkpoint with its window's state. Every mapping of the run dies behind its own POINT-th: it does
nothing any more from there on, and once all have got there or have nothing left to do, the process kills itself. As
nothing is done between two actions, dying behind one and dying before the next are the same. POINT 0 never dies.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from collections import Counter
from collections.abc import Awaitable, Callable
from contextvars import ContextVar
from dataclasses import replace
from typing import Any, NoReturn

from aiobotocore.session import get_session
from botocore.loaders import JSONFileLoader

from headrace import cli, run
from headrace.stream import running, settings, windows
from headrace.stream.destinations.s3 import S3Bucket
from headrace.stream.destinations.sqs import SqsQueue
from headrace.stream.functions.http import HttpFunction
from headrace.stream.sources.kinesis import KinesisReader
from headrace.stream.stores.sqlite import SqliteStore

AT_REST = 3
"""Reads without records in a row, and nothing else between them, after which a mapping has nothing left to do."""

_point = 0
_current: ContextVar[str] = ContextVar("mapping")
_actions: Counter[str] = Counter()
_empty_reads: Counter[str] = Counter()
_mappings: set[str] = set()


def _dead(name: str) -> bool:
    return 0 < _point <= _actions[name]


async def _die() -> None:
    if all(_dead(one) or _empty_reads[one] >= AT_REST for one in _mappings):
        os.kill(os.getpid(), signal.SIGKILL)
    await asyncio.Event().wait()


def _dying(do: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
    async def action(*arguments: Any) -> Any:
        name = _current.get()
        if _dead(name):
            await _die()
        _empty_reads[name] = 0
        result = await do(*arguments)
        _actions[name] += 1
        if _dead(name):
            await _die()
        return result

    return action


def _dying_read(do: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
    async def read(reader: Any, *most: int) -> Any:
        name = _current.get()
        if _dead(name):
            await _die()
        polled = await do(reader, *most)
        if polled.records:
            _empty_reads[name] = 0
            _actions[name] += 1
        else:
            _empty_reads[name] += 1
        if _dead(name) or (_empty_reads[name] >= AT_REST and any(map(_dead, _mappings))):
            await _die()
        return polled

    return read


def _known(do: Callable[..., Awaitable[None]]) -> Callable[..., Awaitable[None]]:
    async def run_mapping(one: Any, *arguments: Any) -> None:
        _mappings.add(one.key)
        _current.set(one.key)
        await do(one, *arguments)

    return run_mapping


def install() -> None:
    """Puts the fault points in; the pace at the tip and the patience with windows are made short."""
    settings.KINESIS = replace(settings.KINESIS, poll_interval=0.1)
    windows.IDLE_GRACE = 0.05
    vars_of: list[tuple[Any, str]] = [
        (HttpFunction, "invoke"), (SqsQueue, "publish"), (S3Bucket, "publish"), (SqliteStore, "save"), (SqliteStore, "pin"),
    ]  # fmt: skip
    for owner, name in vars_of:
        setattr(owner, name, _dying(getattr(owner, name)))
    KinesisReader.read = _dying_read(KinesisReader.read)  # type: ignore[method-assign,assignment]
    setattr(run, "run_mapping", _known(running.run_mapping))  # noqa: B010 - not exported


async def warm() -> None:
    """What a client loads before its first call is loaded once for all processes."""
    load: Any = JSONFileLoader.load_file
    known: dict[str, Any] = {}

    def load_file(loader: Any, path: str) -> Any:
        if path not in known:
            known[path] = load(loader, path)
        return known[path]

    setattr(JSONFileLoader, "load_file", load_file)  # noqa: B010 - a method
    for service in ("kinesis", "sqs", "s3"):
        async with get_session().create_client(service, region_name="us-east-1"):
            pass


def serve() -> None:
    """Answers every line with the exit status of its process, or minus the signal that ended it."""
    for line in sys.stdin:
        point, log, *arguments = json.loads(line)
        child = os.fork()
        if not child:
            _run(point, log, arguments)
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)


def _run(point: int, log: str, arguments: list[str]) -> NoReturn:
    global _point  # noqa: PLW0603 - one process, one point
    _point = point
    output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(output, 1)
    os.dup2(output, 2)
    sys.argv = ["headrace", *arguments]
    cli.cli()
    raise AssertionError("the command ends the process")


if __name__ == "__main__":
    install()
    asyncio.run(warm())
    serve()
