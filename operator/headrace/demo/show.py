"""The demo from start to end: emulator, function, mapping, producer, and the account at the close."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import signal
import sys
import time
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import structlog

from headrace.demo import summary
from headrace.demo.account import settle
from headrace.demo.board import Board, Tone
from headrace.demo.emulator import EmulatorFailed, emulator
from headrace.demo.function import SampleFunction, served
from headrace.demo.isolation import ACCOUNT, REGION, isolated
from headrace.demo.orders import Plan, Producer
from headrace.demo.screen import Scene, Screen
from headrace.errors import HeadraceError
from headrace.run import Run, RunSettings
from headrace.spec import parse_mapping
from headrace.stream.aws import FAILURES, AwsAccess, AwsSettings, Client

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Coroutine
    from pathlib import Path

    from headrace.demo.emulator import Emulator
    from headrace.spec import EventSourceMapping
    from headrace.stream.events import Event
    from headrace.stream.metrics import Counts

STREAM = "orders"
QUEUE = "orders-failed"
SHARDS = 2
RETRIES = 2
BUSY = 1.5
"""Seconds the function is busy for, once: longer than the pause between two reads, so that a call falls into it."""
PATIENCE = 15.0
"""Seconds after the last order in which every record must be decided."""
TIMEOUT = 5.0
"""Seconds for one answer of the emulator to the demo itself."""
UNACCOUNTED = 1
BROKEN_PIPE = 128 + signal.SIGPIPE
_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@dataclass(frozen=True, slots=True)
class DemoSettings:
    """Which ministack is run, and for how many seconds orders are written."""

    ministack: Path
    seconds: int


def show(settings: DemoSettings) -> int:
    """Shows it all and gives the exit status: 0, 1, or 128 and the number of the signal that ended it.

    The process is the demo's own: its environment is replaced; its logs are silenced, as the story tells the same.
    """
    environment = isolated(os.environ)
    os.environ.clear()
    os.environ.update(environment)
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    screen = Screen()
    try:
        return asyncio.run(_until_signalled(_demo(settings, screen), screen))
    except BaseExceptionGroup as group:
        return _explain(group, screen)
    except (HeadraceError, OSError) as error:
        return _explain(BaseExceptionGroup("", [error]), screen)


async def _until_signalled(demo: Coroutine[Any, Any, bool], screen: Screen) -> int:
    """Cancels the demo on the first signal, which runs every clean-up on its way out."""
    loop = asyncio.get_running_loop()
    task = asyncio.ensure_future(demo)
    received: list[int] = []

    def on_signal(number: int) -> None:
        received.append(number)
        task.cancel()

    for number in _SIGNALS:
        if number == signal.SIGHUP and signal.getsignal(number) is signal.SIG_IGN:
            continue  # nohup
        loop.add_signal_handler(number, on_signal, number)
    try:
        return 0 if await task else UNACCOUNTED
    except (asyncio.CancelledError, BaseExceptionGroup):
        if not received:
            raise
        screen.write("", f"Stopped by {signal.Signals(received[0]).name}; nothing is left running.")
        return 128 + received[0]


async def _demo(settings: DemoSettings, screen: Screen) -> bool:
    """True when every record is accounted for."""
    screen.write("Headrace: a stream, a function, and a record that no retry can help.")
    screen.write(f"It takes about {settings.seconds + 3} s; Ctrl-C ends it at once.", "")
    async with asyncio.TaskGroup() as tasks:
        drawing = tasks.create_task(screen.run())
        async with _stage(settings.ministack, screen) as stage:
            played = await _play(stage, Plan.over(settings.seconds), screen)
            failures = await stage.failures()
        drawing.cancel()
    account = settle(played.written, stage.function.acknowledged, failures)
    out_of_order = stage.function.out_of_order
    screen.write("", *summary.failure_records(failures, QUEUE))
    screen.write("", *summary.counted(account, out_of_order, len(failures), QUEUE, played.counts))
    screen.write(summary.verdict(account), style="bold green" if account.adds_up else "bold red")
    if account.adds_up:
        screen.write("", *summary.MEANING)
    return account.adds_up


@dataclass(frozen=True, slots=True)
class _Stage:
    """What stands before the play begins: emulator, function, stream, queue, mapping."""

    emulator: Emulator
    function: SampleFunction
    kinesis: Client
    sqs: Client
    queue_url: str
    mapping: EventSourceMapping

    async def failures(self) -> list[dict[str, Any]]:
        """The failure records in the queue, which keeps them."""
        found: list[dict[str, Any]] = []
        while True:
            answer = await self.sqs.call("receive_message", QueueUrl=self.queue_url, MaxNumberOfMessages=10)
            messages = answer.get("Messages", [])
            if not messages:
                return found
            found += [json.loads(message["Body"]) for message in messages]


@asynccontextmanager
async def _stage(program: Path, screen: Screen) -> AsyncIterator[_Stage]:
    async with AsyncExitStack() as opened:
        screen.tell("demo", f"starts the emulator, {program}")
        running = await opened.enter_async_context(emulator(program))
        function = SampleFunction()
        url = await opened.enter_async_context(served(function))
        access = AwsAccess(AwsSettings(endpoint_url=running.url))
        kinesis = Client(access, "kinesis", REGION, read_timeout=TIMEOUT)
        opened.push_async_callback(kinesis.aclose)
        sqs = Client(access, "sqs", REGION, read_timeout=TIMEOUT)
        opened.push_async_callback(sqs.aclose)
        await _make_stream(kinesis)
        queue_url = (await sqs.call("create_queue", QueueName=QUEUE))["QueueUrl"]
        screen.tell("emulator", f"{running.url}: stream {STREAM} with {SHARDS} shards, queue {QUEUE}")
        screen.tell("function", f"listens on {url}")
        yield _Stage(running, function, kinesis, sqs, queue_url, _mapping(url))


async def _make_stream(kinesis: Client) -> None:
    await kinesis.call("create_stream", StreamName=STREAM, ShardCount=SHARDS)
    async with asyncio.timeout(TIMEOUT):
        while True:
            answer = await kinesis.call("describe_stream_summary", StreamName=STREAM)
            if answer["StreamDescriptionSummary"]["StreamStatus"] == "ACTIVE":
                return
            await asyncio.sleep(0.05)


def _mapping(url: str) -> EventSourceMapping:
    """What a user would write into a file."""
    return parse_mapping(
        {
            "apiVersion": "headrace.dev/v1alpha1",
            "kind": "EventSourceMapping",
            "metadata": {"name": "orders", "namespace": "demo"},
            "spec": {
                "eventSourceArn": f"arn:aws:kinesis:{REGION}:{ACCOUNT}:stream/{STREAM}",
                "function": {"url": url, "protocol": "http", "timeoutSeconds": 5},
                "startingPosition": "TRIM_HORIZON",
                "batchSize": 5,
                "maximumRetryAttempts": RETRIES,
                "retryBackoff": {"initialSeconds": 2, "maximumSeconds": 4},
                "destinationConfig": {"onFailure": {"destination": f"arn:aws:sqs:{REGION}:{ACCOUNT}:{QUEUE}"}},
            },
        }
    )


LAST_WORDS = 2.0
"""Seconds in which the end of the emulator's process is noticed."""


@dataclass(frozen=True, slots=True)
class _Played:
    """What the play leaves behind for the account: the producer's records and Headrace's own counts."""

    written: list[str]
    counts: Counts


async def _play(stage: _Stage, plan: Plan, screen: Screen) -> _Played:
    """Orders are written and handled until all are decided, or patience ends."""
    board = Board(attempts=1 + RETRIES, queue=QUEUE)
    producer = Producer(STREAM, stage.kinesis, screen.tell)
    decided = asyncio.Event()

    def observe(event: Event) -> None:
        for line in board.take(event):
            screen.tell(line.who, line.text, line.tone)
        if board.decided >= plan.total:
            decided.set()

    def be_busy() -> None:
        stage.function.be_busy(BUSY)
        screen.tell("function", f"is busy for {BUSY:g} s and answers 429", Tone.WARNING)

    run = Run([stage.mapping], RunSettings(AwsSettings(endpoint_url=stage.emulator.url)), watch=observe)
    age = lambda shard_id: run.running[0].health.iterator_age(shard_id, time.time())  # noqa: E731
    screen.scene = Scene(board, lambda: len(producer.written), age)
    screen.tell("headrace", f"mapping {stage.mapping.key}: batches of 5, {RETRIES} retries, then a failure record")
    async with asyncio.TaskGroup() as tasks:
        watching = tasks.create_task(stage.emulator.watch())
        tasks.create_task(run.run())
        try:
            await producer.write(plan, be_busy)
        except FAILURES:
            await asyncio.sleep(LAST_WORDS)  # an emulator that has ended says more than a broken connection
            raise
        with suppress(TimeoutError):  # then the account tells what is missing
            async with asyncio.timeout(PATIENCE):
                await decided.wait()
        run.stop.set()
        watching.cancel()
    return _Played(producer.written, run.running[0].metrics.counts)


def _explain(group: BaseExceptionGroup[Any], screen: Screen) -> int:
    """What can be expected is one sentence; anything else is our own bug and keeps its traceback."""
    if group.subgroup(BrokenPipeError) is not None:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # nobody reads: the last flush must not fail
        return BROKEN_PIPE
    expected, rest = group.split((HeadraceError, OSError, *FAILURES))
    if expected is None or rest is not None:
        raise group
    error: BaseException = expected.subgroup(EmulatorFailed) or expected
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    screen.write("", f"The demo failed: {str(error) or type(error).__name__}", style="red")
    return UNACCOUNTED
