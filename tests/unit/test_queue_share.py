"""A queue's run and its share of the calls: what was put off while the share shrank waits for its turn."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from headrace.spec import parse_mapping
from headrace.stream import queue
from headrace.stream.events import CallsAllowed, Event
from headrace.stream.functions import Call, Response
from headrace.stream.membership import Alone
from headrace.stream.queue import QueueRun
from headrace.stream.queues.messages import Message, QueueFacts
from headrace.stream.settings import delivery_of
from headrace.stream.sources.sqs import Confirmed
from tests.support.mappings import manifest
from tests.support.messages import message
from tests.support.virtual import Clock, run_virtually

TOTAL = 8


class Share(Alone):
    """As many calls as the test says."""

    def __init__(self) -> None:
        super().__init__()
        self.calls = TOTAL

    def limit(self, _total: int) -> int:
        return self.calls


class Queue:
    """A queue whose messages are all received at once, and forgotten where they are deleted."""

    name = "orders"

    def __init__(self, messages: Sequence[Message]) -> None:
        self.waiting = list(messages)

    async def facts(self) -> QueueFacts:
        return QueueFacts(60.0, len(self.waiting), True)

    async def receive(self, most: int, wait: float, _visibility: float) -> Sequence[Message]:
        if not self.waiting:
            await asyncio.sleep(wait)
        given, self.waiting = self.waiting[:most], self.waiting[most:]
        return given

    async def delete(self, messages: Sequence[Message]) -> Confirmed:
        return Confirmed(messages, (), ())

    async def hold(self, messages: Sequence[Message], _seconds: Sequence[float]) -> Confirmed:
        return Confirmed(messages, (), ())


class Function:
    """Is busy, then takes a second for each call."""

    def __init__(self) -> None:
        self.busy, self.in_flight, self.most, self.done = True, 0, 0, 0

    async def invoke(self, _call: Call) -> Response:
        if self.busy:
            return Response(429, {}, b"")
        self.in_flight += 1
        self.most = max(self.most, self.in_flight)
        await asyncio.sleep(1.0)
        self.in_flight -= 1
        self.done += 1
        return Response(200, {}, b"null")

    async def aclose(self) -> None:
        """Nothing to free."""


@pytest.fixture
def virtually(monkeypatch: pytest.MonkeyPatch) -> Callable[[Any], None]:
    clock = Clock()
    monkeypatch.setattr(queue, "time", clock)
    return lambda main: run_virtually(clock, main)


def test_batches_that_were_put_off_are_called_within_a_share_that_has_shrunk_meanwhile(
    virtually: Callable[[Any], None],
) -> None:
    async def main() -> None:
        mapping = parse_mapping(manifest("sqs", batchSize=1, scalingConfig={"maximumConcurrency": TOTAL}))
        share, function, stop = Share(), Function(), asyncio.Event()
        made: Any = Queue([message(number) for number in range(TOTAL)])
        told: list[Event] = []
        run = QueueRun(mapping, delivery_of(mapping), made, function, share, told.append, stop)
        running = asyncio.create_task(run.run())
        await asyncio.sleep(30.0)
        assert run.in_flight > 2, "they wait for the function"
        share.calls, function.busy = 0, False
        await asyncio.sleep(60.0)
        assert function.most == 0
        share.calls = 2
        await asyncio.sleep(60.0)
        assert (function.most, function.done) == (2, TOTAL)
        allowed = [event.limit for event in told if isinstance(event, CallsAllowed)]
        assert (allowed[0], 0 in allowed, allowed[-1]) == (5, True, 2), "as it was at first, and whenever it changed"
        stop.set()
        await running

    virtually(main())
