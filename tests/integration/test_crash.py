"""SIGKILL behind every action of `headrace run`: whatever it had done until then, the next life loses nothing.

The fault points are in tests/support/dying.py. One process holds a mapping per scenario, each with its own count.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from tests.support.aws import client, make_queue, make_stream, unique
from tests.support.function import RecordedCall, RecordingFunction, function_error, success
from tests.support.headrace import mapping, on_failure, write
from tests.support.places import Bucket
from tests.support.servers import CREDENTIALS, ROOT, clean_environment

AT_A_TIME = 3
"""Points that are tried side by side."""


def fails_on_2(call: RecordedCall) -> web.Response:
    return function_error() if any(data.startswith("2") for data in call.data) else success(call)


def fails_from_3(call: RecordedCall) -> web.Response:
    """Says that record 3 failed, unless it comes first."""
    failed = [number for data, number in zip(call.data, call.sequence_numbers, strict=True) if data == "3"]
    failed = [] if failed == call.sequence_numbers[:1] else failed
    return web.json_response({"batchItemFailures": [{"itemIdentifier": number} for number in failed]})


def counts(call: RecordedCall) -> web.Response:
    state = call.event["state"].get("n", 0) + len(call.event["Records"])
    return web.json_response({"state": {"n": state}})


@dataclass(frozen=True)
class Scenario:
    """A mapping, what its function answers, and what is to become of its records, whatever happens between."""

    spec: dict[str, Any]
    answer: Callable[[RecordedCall], web.Response] = success
    data: tuple[tuple[str, str], ...] = tuple((key, str(number)) for number, key in enumerate("kkkkk", 1))
    acknowledged: frozenset[str] = frozenset("12345")
    discarded: tuple[tuple[str, str], ...] = ()
    lanes: int = 1
    destination: str | None = None

    @property
    def in_flight(self) -> int:
        """Records that may be under way in all lanes together."""
        return int(self.spec["batchSize"]) * self.lanes


SCENARIOS = {
    "plain": Scenario({"batchSize": 2}),
    "bisect": Scenario(
        {"batchSize": 4, "bisectBatchOnFunctionError": True, "maximumRetryAttempts": 1},
        fails_on_2, acknowledged=frozenset("1345"), discarded=(("2", "2"),), destination="sqs",
    ),
    "partial": Scenario({"batchSize": 4, "functionResponseTypes": ["ReportBatchItemFailures"]}, fails_from_3),
    "lanes": Scenario(
        {"batchSize": 1, "parallelizationFactor": 2, "maximumRetryAttempts": 2},
        fails_on_2,
        data=(("a", "1"), ("a", "2"), ("b", "3"), ("a", "4"), ("b", "5")),
        acknowledged=frozenset("1345"), discarded=(("2", "2"),), lanes=2, destination="sqs",
    ),
    "filter": Scenario(
        {"batchSize": 1, "filterCriteria": {"filters": [{"pattern": '{"data": {"n": [2, 5]}}'}]}},
        data=tuple(("k", json.dumps({"n": number})) for number in range(1, 6)),
        acknowledged=frozenset({'{"n": 2}', '{"n": 5}'}),
    ),
    "s3": Scenario(
        {"batchSize": 2, "maximumRetryAttempts": 0},
        fails_on_2, acknowledged=frozenset("345"), discarded=(("1", "2"),), destination="s3",
    ),
    "window": Scenario({"batchSize": 1, "tumblingWindowInSeconds": 1}, counts),
}  # fmt: skip


@dataclass
class Life:
    """One point's two lives: calls of the function by scenario, and how many of them came before the kill."""

    calls: dict[str, list[RecordedCall]] = field(default_factory=lambda: {name: [] for name in SCENARIOS})
    before: dict[str, int] = field(default_factory=dict)
    documents: dict[str, list[dict[str, Any]]] = field(default_factory=dict)


@dataclass
class World:
    """The streams, which all points share, and what became of each point."""

    ministack: str
    folder: Path
    function: RecordingFunction
    sqs: Any
    s3: Any
    runners: asyncio.Queue[Any] = field(default_factory=asyncio.Queue)
    streams: dict[str, Any] = field(default_factory=dict)
    lives: dict[int, Life] = field(default_factory=dict)

    async def fill(self, kinesis: Any) -> None:
        for name, scenario in SCENARIOS.items():
            self.streams[name] = await make_stream(kinesis)
            for key, data in scenario.data:
                await self.streams[name].put(data, key=key)
        await asyncio.sleep(1.0)  # the window's second has to end before it can close

    def answer(self, call: RecordedCall) -> web.Response:
        _, point, name = call.path.split("/")
        self.lives[int(point)].calls[name].append(call)
        return SCENARIOS[name].answer(call)

    async def live(self, point: int) -> bool:
        """Both lives of a point; False when nobody died there. Point 0 is the undisturbed one."""
        life = self.lives[point] = Life()
        folder = self.folder / str(point)
        folder.mkdir()
        queues = {name: await make_queue(self.sqs) for name, one in SCENARIOS.items() if one.destination == "sqs"}
        bucket = Bucket(self.s3, unique("bucket"))
        await bucket.create()
        documents = []
        for name, one in SCENARIOS.items():
            spec = dict(one.spec)
            arn = queues[name].arn if name in queues else bucket.arn
            if one.destination:
                spec["destinationConfig"] = on_failure(arn)
            url = f"{self.function.url}{point}/{name}"
            made = mapping(self.streams[name].arn, url, name, **spec)
            made["spec"]["retryBackoff"] = {"initialSeconds": 0.01, "maximumSeconds": 0.02}
            documents.append(made)
        file = write(folder, *documents)
        arguments = (
            "run", "-f", file, "--endpoint-url", self.ministack, "--state", folder / "state.sqlite",
            "--exit-when-idle", 0.2, "--log-format", "json",
        )  # fmt: skip
        died = await self._run(point, folder / "log", *arguments) == -signal.SIGKILL
        life.before = {name: len(calls) for name, calls in life.calls.items()}
        if died:
            assert await self._run(0, folder / "log", *arguments) == 0
        life.documents = {name: await queue.drain() for name, queue in queues.items()}
        life.documents["s3"] = await bucket.documents()
        return died

    async def _run(self, point: int, log: Path, *arguments: object) -> int:
        process = await self.runners.get()
        line = json.dumps([point, str(log), *map(str, arguments)])
        process.stdin.write(line.encode() + b"\n")
        async with asyncio.timeout(60):
            answer = await process.stdout.readline()
        self.runners.put_nowait(process)
        return int(answer)


@asynccontextmanager
async def runner() -> AsyncIterator[asyncio.subprocess.Process]:
    """A process of tests/support/dying.py; it goes with what it has started."""
    path = os.pathsep.join((str(ROOT / "operator"), str(ROOT)))
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.support.dying",
        env=clean_environment(PYTHONPATH=path, **CREDENTIALS),
        stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, start_new_session=True,
    )  # fmt: skip
    try:
        yield process
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        await process.wait()


def acknowledged(call: RecordedCall, answer: web.Response) -> list[str]:
    if "X-Amz-Function-Error" in answer.headers:
        return []
    body = json.loads(answer.body or b"null")  # type: ignore[arg-type]
    failed = [one["itemIdentifier"] for one in (body or {}).get("batchItemFailures", [])]
    upto = call.sequence_numbers.index(failed[0]) if failed else len(call.data)
    return call.data[:upto]


@pytest.mark.timeout(300)
async def test_killed_behind_any_action_the_next_life_completes_what_was_begun(
    ministack: str, kinesis: Any, sqs: Any, function: RecordingFunction, tmp_path: Path
) -> None:
    async with AsyncExitStack() as opened:
        s3 = await opened.enter_async_context(client("s3", ministack))
        world = World(ministack, tmp_path, function, sqs, s3)
        function.answer = world.answer
        for _ in range(AT_A_TIME):
            world.runners.put_nowait(await opened.enter_async_context(runner()))
        await world.fill(kinesis)
        assert not await world.live(0)
        points, died = 0, True
        while died:
            tried = range(points + 1, points + 1 + AT_A_TIME)
            died = all(await asyncio.gather(*map(world.live, tried)))
            points += AT_A_TIME
    repeats: Counter[str] = Counter()
    for point, life in world.lives.items():
        for name in SCENARIOS:
            repeats[name] += check(world, point, name, life)
    deaths = sum(
        life.before != {name: len(calls) for name, calls in life.calls.items()} for life in world.lives.values()
    )
    print(f"{points} points, {deaths} of them with work left; records repeated: {dict(repeats)}")
    assert points > 10
    assert all(repeats.values()), "each scenario was killed between an answer and its checkpoint"


def check(world: World, point: int, name: str, life: Life) -> int:
    """All claims on one scenario at one point; gives how many acknowledged records came again."""
    scenario, where = SCENARIOS[name], f"{name} at point {point}"
    stream, calls, before = world.streams[name], life.calls[name], life.before[name]
    numbers = dict(zip((data for _, data in scenario.data), stream.numbers, strict=True))
    done = [acknowledged(call, scenario.answer(call)) for call in calls]
    earlier = [data for call in done[:before] for data in call]
    later = [data for call in done[before:] for data in call]

    assert set(earlier) | set(later) == scenario.acknowledged, where
    for lived in (earlier, later):
        assert len(lived) == len(set(lived)), f"{where}: repeated within one life"
        for key in {key for key, _ in scenario.data}:
            order = [numbers[data] for of, data in scenario.data if of == key and data in lived]
            assert [numbers[data] for data in lived if numbers[data] in order] == order, f"{where}: out of order"
    again = len(set(earlier) & set(later))
    assert again <= scenario.in_flight, where

    found = [
        (d["KinesisBatchInfo"][f"{end}SequenceNumber"] for end in ("start", "end"))
        for d in life.documents.get(name, [])
    ]
    discards = Counter(tuple(pair) for pair in found)
    assert set(discards) == {(numbers[first], numbers[last]) for first, last in scenario.discarded}, where
    assert sum(discards.values()) <= len(scenario.discarded) + (point > 0), f"{where}: a failure record too often"

    undisturbed = world.lives[0].calls[name]
    same: dict[str, Any] = {}
    for call in [*undisturbed, *calls]:
        identity = call.headers["Headrace-Request-Id"]
        assert same.setdefault(identity, call.event) == call.event, f"{where}: one request id, two events"
    batches = {
        (tuple(event["Records"][i]["eventID"] for i in range(len(event["Records"]))), final(event))
        for event in same.values()
    }
    assert len(batches) == len(same), f"{where}: one batch, two request ids"
    allowed = Counter(call.headers["Headrace-Request-Id"] for call in undisturbed)
    for identity, times in Counter(call.headers["Headrace-Request-Id"] for call in calls).items():
        most = allowed[identity] or int(scenario.spec.get("maximumRetryAttempts", 0)) + 1
        assert times <= most + 1, f"{where}: more attempts than the one in flight"
    assert {i for i in allowed if final(same[i])} <= {c.headers["Headrace-Request-Id"] for c in calls}, (
        f"{where}: a window was not closed"
    )
    return again


def final(event: dict[str, Any]) -> str:
    return json.dumps(event["window"]) if event.get("isFinalInvokeForWindow") else ""
