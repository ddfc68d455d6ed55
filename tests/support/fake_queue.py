"""An SQS queue in virtual time, and a mapping's world around it: visibility, receipts, groups, redrive as SQS has them.

Messages are known by their place in what is sent, from 1; that is their MessageId too.
"""

from __future__ import annotations

import asyncio
import hashlib
import itertools
import json
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import orjson
import pytest
from prometheus_client import CollectorRegistry

from headrace.errors import Reason, SourceError
from headrace.spec import parse_mapping
from headrace.stream import running as running_module
from headrace.stream.aws import AwsSettings
from headrace.stream.events import Event, all_of
from headrace.stream.functions import Call, Fault, NoResponse, Response
from headrace.stream.health import Health
from headrace.stream.membership import Alone, Membership
from headrace.stream.metrics import Counts, Metrics
from headrace.stream.queues.messages import Message, QueueFacts
from headrace.stream.sources.sqs import Confirmed, to_message
from tests.support.virtual import EPOCH, Clock, run_virtually

MOMENT = 1e-6
"""Seconds within which two times are one, as the virtual clock has them."""
ARN = "arn:aws:sqs:us-east-1:000000000000:orders"


@dataclass(frozen=True)
class Sent:
    """A message: its body, when it is sent (seconds from the start), its group."""

    body: str
    at: float = 0.0
    group: str = ""


@dataclass
class Lying:
    """A message in the queue."""

    place: int
    sent: Sent
    visible_at: float
    receives: int = 0
    receipt: str = ""
    first_received: float = 0.0

    @property
    def id(self) -> str:
        return str(self.place)


class FakeQueue:
    """A queue; `fault` may say what an operation meets instead of an answer, `refuse` which single messages fail."""

    def __init__(
        self,
        clock: Clock,
        sent: Sequence[Sent],
        *,
        fifo: bool = False,
        visibility: float = 30.0,
        max_receives: int | None = None,
        latency: float = 0.005,
    ) -> None:
        self.name = "orders.fifo" if fifo else "orders"
        self.clock, self.fifo, self.visibility, self.max_receives = clock, fifo, visibility, max_receives
        self.latency = latency
        self.lying = [Lying(place, one, one.at) for place, one in enumerate(sent, 1)]
        self.dead: list[Lying] = []
        self.deleted: list[tuple[float, str]] = []
        self.operations: list[tuple[float, str, int]] = []
        """When, which, and for how many messages."""
        self.fault: Callable[[str], BaseException | None] = lambda _: None
        self.refuse: Callable[[str, str], bool] = lambda _operation, _id: False
        self._changed = asyncio.Event()
        self._receipts = itertools.count(1)

    @property
    def now(self) -> float:
        return self.clock.now

    @property
    def arn(self) -> str:
        return ARN + ".fifo" * self.fifo

    def send(self, message: Sent) -> None:
        """Sends a message more, which is there from `message.at` on."""
        self.lying.append(Lying(len(self.lying) + len(self.dead) + len(self.deleted) + 1, message, message.at))
        self._changed.set()

    @property
    def hidden(self) -> list[str]:
        return [one.id for one in self.lying if self._is_hidden(one) and one.receives]

    @property
    def visible(self) -> list[str]:
        return [one.id for one in self.lying if not self._is_hidden(one)]

    def _is_hidden(self, one: Lying) -> bool:
        return one.visible_at > self.now + MOMENT

    async def _enter(self, operation: str, count: int) -> None:
        self.operations.append((self.now, operation, count))
        await asyncio.sleep(self.latency)
        if (error := self.fault(operation)) is not None:
            raise error

    async def facts(self) -> QueueFacts:
        await self._enter("facts", 0)
        return QueueFacts(self.visibility, len(self.visible), self.max_receives is not None)

    async def receive(self, most: int, wait: int, visibility: float) -> Sequence[Message]:
        assert 1 <= most <= 10
        assert 0 <= wait <= 20
        await self._enter("receive", most)
        until = self.now + wait
        while not (found := self._take(most, visibility)) and self.now < until - MOMENT:
            self._changed.clear()
            coming = [one.visible_at for one in self.lying if self._is_hidden(one)]
            timeout = min([until, *coming]) - self.now
            try:
                await asyncio.wait_for(self._changed.wait(), timeout)
            except TimeoutError:
                continue
        handed_over = self.now
        await asyncio.sleep(self.latency)
        return [self._message(one, handed_over, visibility) for one in found]

    def _take(self, most: int, visibility: float) -> list[Lying]:
        found: list[Lying] = []
        locked = {one.sent.group for one in self.lying if one.receives and self._is_hidden(one)}
        for one in tuple(self.lying):
            if len(found) == most:
                break
            if self._is_hidden(one):
                if self.fifo:
                    locked.add(one.sent.group)
                continue
            if self.fifo and one.sent.group in locked:
                continue
            if self.max_receives is not None and one.receives >= self.max_receives:
                self.lying.remove(one)
                self.dead.append(one)
                continue
            one.receives += 1
            one.first_received = one.first_received or self.now
            one.receipt = f"receipt {next(self._receipts)}"
            one.visible_at = self.now + visibility
            found.append(one)
        return found

    def _message(self, one: Lying, received: float, visibility: float) -> Message:
        attributes = {
            "ApproximateReceiveCount": str(one.receives),
            "SentTimestamp": str(int((EPOCH + one.sent.at) * 1000)),
            "SenderId": "me",
            "ApproximateFirstReceiveTimestamp": str(int((EPOCH + one.first_received) * 1000)),
        }
        if self.fifo:
            attributes |= {"MessageGroupId": one.sent.group, "SequenceNumber": one.id}
            attributes["MessageDeduplicationId"] = f"once {one.id}"
        md5 = hashlib.md5(one.sent.body.encode(), usedforsecurity=False).hexdigest()
        entry = {
            "MessageId": one.id, "ReceiptHandle": one.receipt, "Body": one.sent.body, "MD5OfBody": md5,
            "Attributes": attributes,
        }  # fmt: skip
        return to_message(entry, self.arn, "us-east-1", received, received + visibility)

    def _by(self, message: Message) -> Lying | None:
        return next((one for one in self.lying if one.receipt == message.receipt), None)

    async def delete(self, messages: Sequence[Message]) -> Confirmed:
        return await self._each("delete", messages, self._delete)

    def _delete(self, one: Lying) -> None:
        self.lying.remove(one)
        self.deleted.append((self.now, one.id))
        self._changed.set()  # of a group what follows may be received

    async def hold(self, messages: Sequence[Message], seconds: Sequence[float]) -> Confirmed:
        wanted = {message.receipt: each for message, each in zip(messages, seconds, strict=True)}

        def change(one: Lying) -> None:
            one.visible_at = self.now + wanted[one.receipt]
            self._changed.set()

        return await self._each("hold" if any(seconds) else "give back", messages, change)

    async def _each(self, operation: str, messages: Sequence[Message], do: Callable[[Lying], None]) -> Confirmed:
        assert 1 <= len(messages) <= 10
        await self._enter(operation, len(messages))
        done, again, late = [], [], []
        for message in messages:
            one = self._by(message)
            if one is None or (self.fifo and not self._is_hidden(one)):
                late.append(message)
            elif self.refuse(operation, message.message_id):
                again.append(message)
            else:
                do(one)
                done.append(message)
        await asyncio.sleep(self.latency)
        return Confirmed(done, again, late)

    async def aclose(self) -> None:
        pass


@dataclass
class CalledWith:
    """A call that was made: with which messages, when, and how it was answered."""

    ids: tuple[str, ...]
    at: float
    attempt: int
    request_id: str
    receives: tuple[int, ...]
    mark: str = ""
    until: float = math.inf


Answering = Callable[[CalledWith], tuple[str, Response | NoResponse, float]]
"""A call's mark, its answer, and the seconds that it takes."""


def ok(_: CalledWith, takes: float = 0.0) -> tuple[str, Response, float]:
    return "✓", Response(200, {}, b"null"), takes


def error(_: CalledWith, takes: float = 0.0) -> tuple[str, Response, float]:
    return "✗", Response(200, {"x-amz-function-error": "Unhandled"}, b"{}"), takes


def throttle(_: CalledWith, takes: float = 0.0) -> tuple[str, Response, float]:
    return "T", Response(429, {}, b""), takes


def away(_: CalledWith, takes: float = 0.0) -> tuple[str, NoResponse, float]:
    return "E", NoResponse(Fault.NOT_CONNECTED, "refused"), takes


def partly(ids: Iterable[str], takes: float = 0.0) -> tuple[str, Response, float]:
    named = list(ids)
    body = json.dumps({"batchItemFailures": [{"itemIdentifier": one} for one in named]}).encode()
    return f"P({','.join(named)})", Response(200, {}, body), takes


def unreachable_queue(_: str = "") -> SourceError:
    return SourceError(Reason.UNREACHABLE, "the queue cannot be reached")


@dataclass(frozen=True)
class Life:
    """One start of the poller, until it is stopped or killed `at` so many seconds."""

    at: float
    kill: bool = False


@dataclass
class QueueWorld:
    """A mapping of a queue with everything around it."""

    sent: Sequence[Sent]
    answer: Answering = ok
    spec: dict[str, Any] = field(default_factory=dict)
    fifo: bool = False
    visibility: float = 30.0
    max_receives: int | None = None
    clock: Clock = field(default_factory=Clock)
    membership: Membership = field(default_factory=Alone)
    queue: FakeQueue = field(init=False)
    calls: list[CalledWith] = field(default_factory=list)
    events: list[Event] = field(default_factory=list)
    in_flight: int = 0
    most_in_flight: int = 0
    most_of_group: int = 0
    counts: Counts = field(default_factory=Counts)
    health: Health = field(default_factory=Health)
    ended: list[float] = field(default_factory=list)
    """When each life had ended."""

    def __post_init__(self) -> None:
        self.queue = FakeQueue(
            self.clock, self.sent, fifo=self.fifo, visibility=self.visibility, max_receives=self.max_receives
        )

    @property
    def seen(self) -> list[tuple[tuple[str, ...], str]]:
        return [(call.ids, call.mark) for call in self.calls]

    def group_of(self, message_id: str) -> str:
        return self.sent[int(message_id) - 1].group or message_id

    def play(self, *lives: Life) -> None:
        """Runs the mapping, one life after the other, each beginning when the one before has ended."""
        document = {
            "apiVersion": "headrace.dev/v1alpha1",
            "kind": "EventSourceMapping",
            "metadata": {"name": "orders", "namespace": "shop"},
            "spec": {
                "eventSourceArn": ARN + (".fifo" if self.fifo else ""),
                "function": {"url": "http://function.test", "timeoutSeconds": 10},
                **self.spec,
            },
        }
        mapping = parse_mapping(document)

        async def live() -> None:
            counting = Metrics(CollectorRegistry()).observer("shop", "orders", ARN, self.health)
            self.counts = counting.counts
            observer = all_of(self.health, counting, self.events.append)
            for life in lives:
                stop = asyncio.Event()
                store: Any = None
                running = running_module.run_mapping(mapping, store, AwsSettings(), observer, stop, self.membership)
                run = asyncio.ensure_future(running)
                await asyncio.wait({run}, timeout=max(0.0, life.at - self.clock.now))
                if life.kill:
                    run.cancel()
                    with pytest.raises(asyncio.CancelledError):
                        await run
                stop.set()
                if not life.kill:
                    await run
                self.ended.append(self.clock.now)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(running_module, "open_queue", lambda *_: self.queue)
            patch.setattr(running_module, "open_function", lambda *_: _Function(self))
            run_virtually(self.clock, live())


@dataclass
class _Function:
    world: QueueWorld

    async def invoke(self, call: Call) -> Response | NoResponse:
        world = self.world
        records = orjson.loads(call.event)["Records"]
        receives = tuple(int(one["attributes"]["ApproximateReceiveCount"]) for one in records)
        ids = tuple(one["messageId"] for one in records)
        made = CalledWith(ids, world.clock.now, call.attempt, call.request_id, receives)
        world.calls.append(made)
        world.in_flight += 1
        world.most_in_flight = max(world.most_in_flight, world.in_flight)
        made.mark, answer, takes = world.answer(made)
        try:
            await asyncio.sleep(takes)
        except asyncio.CancelledError:
            made.mark = "†"
            raise
        finally:
            made.until = world.clock.now
            world.in_flight -= 1
        return answer

    async def aclose(self) -> None:
        pass
