"""Real pollers of one mapping in virtual time, with everything around them a fake that can go wrong.

Each poller is a process of its own (`processes.py`) with the real `headrace.poller.Poller` in it. Requests to the API
server take time, are lost before or after they were done, or never answered; what was sent is done though its sender
has died. The function and the API server look at what comes: what must never be is a `Wrong`.
"""

from __future__ import annotations

import asyncio
import base64
import bisect
import random
from collections import Counter
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass, field
from typing import Any

import orjson

from headrace.cluster import Body, ClusterError
from headrace.errors import LeaseLost, StoreError
from headrace.poller import Poller, PollerSettings
from headrace.records import Holder
from headrace.resources import EVENT, EVENT_SOURCE_MAPPING, LEASE, SHARD_LEASE, Kind, MappingRef, ref_of
from headrace.stream.aws import AwsSettings
from headrace.stream.events import Faulted, ShardFinished, ShardLost, ShardStarted, ShardStopped
from headrace.stream.functions import Call, NoResponse, Response
from headrace.stream.stores.lease_status import holder_of, status_of
from tests.support.fake_cluster import FakeCluster
from tests.support.fleet_windows import Windows
from tests.support.processes import PROCESS, WORLD, Process, ProcessLoop
from tests.support.virtual import Clock

ARN = "arn:aws:kinesis:eu-west-1:123456789012:stream/orders"
REQUEST_TIMEOUT = 10.0
LEAST, MOST = 0.002, 0.05
"""Seconds one way of a request takes."""
FAILS = Response(200, {"x-amz-function-error": "Unhandled"}, b"{}")


class Wrong(AssertionError):
    """What must never happen."""


@dataclass
class Chances:
    """How often requests, and calls of the function, go wrong."""

    slow: float = 0.0
    lost: float = 0.0
    unheard: float = 0.0
    hanging: float = 0.0
    rest: float = 0.0
    """For how many seconds none of a poller's requests hangs after one did."""
    failing: float = 0.0


@dataclass(eq=False)
class Begun:
    """One call of the function."""

    process: Process
    shard: str
    records: tuple[int, ...]
    at: float
    ended: float | None = None
    succeeded: bool = False


@dataclass(frozen=True)
class Line:
    """Where a record is: its key, its number among those of the key, its shard, and when it arrives."""

    key: str
    number: int
    shard: str
    at: float


@dataclass(eq=False)
class Member:
    """A poller that runs, or ran."""

    process: Process
    identity: str
    poller: Poller
    stop: asyncio.Event
    task: asyncio.Task[None]
    cut: bool = False
    troubles: list[tuple[float, float]] = field(default_factory=list)
    """When it was halted, cut off, killed: from, to."""

    @property
    def running(self) -> bool:
        return not self.task.done() and not self.process.killed

    @property
    def life(self) -> Holder:
        return self.poller._membership.holder


class Fleet:
    """One mapping's world."""

    def __init__(self, seed: int, clock: Clock, lines: Sequence[Line], closes: dict[str, float] | None = None) -> None:
        self.draw = random.Random(seed)
        self.clock, self.lines, self.closes = clock, lines, closes or {}
        self.chances = Chances()
        self.down = False
        self.closed = False
        self.cluster = _Watched(self)
        self.members: dict[Process, Member] = {}
        self.calls: list[Begun] = []
        self.flying: list[Begun] = []
        self.acknowledged: dict[int, Begun] = {}
        self.repeats: list[tuple[int, Begun, Begun]] = []
        """Records that came, or were closed with a window, though they had been: the first such call, and this one."""
        self.windows = Windows(self)
        self.last: dict[str, list[int]] = {}
        self.before: dict[int, int] = {}
        self.wrong: list[str] = []
        self.log: list[str] = []
        """All that happened, to compare two runs of one seed."""
        self.loose: set[str] = set()
        """Identities that two processes use, or have used of late, and shards whose lease was deleted by hand."""
        newest: dict[str, int] = {}
        for at, line in enumerate(lines, 1):
            self.last.setdefault(line.shard, []).append(at)
            if line.key in newest:
                self.before[at] = newest[line.key]
            newest[line.key] = at
        self.holders: list[tuple[float, str, str | None]] = []
        self.ref: MappingRef

    @property
    def loop(self) -> ProcessLoop:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, ProcessLoop)
        return loop

    def note(self, what: str) -> None:
        self.log.append(f"{self.clock.now:.4f} {what}")

    def accuse(self, what: str) -> None:
        self.note(f"WRONG: {what}")
        self.wrong.append(f"at {self.clock.now:.3f}: {what}")

    async def make(self, factor: int, window: int = 0) -> None:
        self.factor = factor
        said: dict[str, Any] = {
            "eventSourceArn": ARN,
            "startingPosition": "TRIM_HORIZON",
            "function": {"url": "http://function"},
        }
        said |= {
            "batchSize": 5,
            "retryBackoff": {"initialSeconds": 0.1, "maximumSeconds": 1},
            "parallelizationFactor": factor,
            "tumblingWindowInSeconds": window,
        }
        metadata = {"name": "orders", "namespace": "shop"}
        body = {"apiVersion": "headrace.dev/v1alpha1", "kind": "EventSourceMapping", "metadata": metadata, "spec": said}
        self.body = await self.cluster.create(EVENT_SOURCE_MAPPING, body)
        self.ref = ref_of(self.body)

    def observe(self, event: object) -> None:
        """What a poller tells; faults of its own are wrong."""
        process = PROCESS.get()
        assert process is not None
        if isinstance(event, ShardStarted | ShardStopped | ShardFinished | ShardLost):
            self.note(f"{process.name}: {event}")
        elif isinstance(event, Faulted) and not self.closed:
            self.note(f"{process.name}: {event}")
            if not _is_trouble(event.error):
                self.accuse(f"{process.name}: {event}")

    # ---- pollers

    def start(self, identity: str, rate: float = 1.0, skew: float = 0.0) -> Member:
        process = Process(f"{identity}#{len(self.members)}", rate, skew)
        self.note(f"{process.name} starts")
        settings = PollerSettings("shop", "orders", identity, AwsSettings())
        stop = asyncio.Event()

        async def main() -> None:
            poller = Poller(_Api(self, process), settings, orjson.loads(orjson.dumps(self.body)), stop)
            self.members[process].poller = poller
            await poller.run()

        task = self.loop.start(process, main())
        member = self.members[process] = Member(process, identity, None, stop, task)  # type: ignore[arg-type]
        return member

    def leave(self, member: Member) -> None:
        self.note(f"{member.process.name} is asked to leave")
        member.stop.set()

    def kill(self, member: Member) -> None:
        self.note(f"{member.process.name} is killed")
        member.process.halted = member.process.killed = True
        member.troubles.append((self.clock.now, self.clock.now))

    async def halt(self, member: Member, seconds: float) -> None:
        self.note(f"{member.process.name} is halted for {seconds:.1f} s")
        member.process.halted = True
        began = self.clock.now
        member.troubles.append((began, began + seconds))
        await asyncio.sleep(seconds)
        if not member.process.killed:
            self.note(f"{member.process.name} goes on")
            self.loop.resume(member.process)

    async def cut_off(self, member: Member, seconds: float) -> None:
        self.note(f"{member.process.name} is cut off for {seconds:.1f} s")
        member.cut = True
        member.troubles.append((self.clock.now, self.clock.now + seconds))
        await asyncio.sleep(seconds)
        self.note(f"{member.process.name} is on line")
        member.cut = False

    async def outage(self, seconds: float) -> None:
        self.note(f"the API server is away for {seconds:.1f} s")
        self.down = True
        await asyncio.sleep(seconds)
        self.note("the API server is back")
        self.down = False

    async def end(self) -> None:
        """Nothing reaches anybody any more; whatever is left of the pollers is put away."""
        self.closed = True
        for member in self.members.values():
            member.task.cancel()
            self.loop.resume(member.process)
        done = await asyncio.gather(*(member.task for member in self.members.values()), return_exceptions=True)
        for member, result in zip(self.members.values(), done, strict=True):
            if isinstance(result, BaseException) and not isinstance(result, asyncio.CancelledError):
                self.accuse(f"{member.process.name} ended with {result!r}")

    # ---- what the store shows

    def leases(self) -> dict[str, Body]:
        found = ((key[0], body) for key, body in self.cluster.objects.items())
        return {body["spec"]["shardId"]: body for kind, body in found if kind == SHARD_LEASE}

    def heartbeats(self) -> list[str]:
        found = self.cluster.objects.items()
        return sorted(body["spec"]["holderIdentity"] for key, body in found if key[0] == LEASE)

    def owners(self) -> dict[str, str | None]:
        holders = {shard: holder_of(body) for shard, body in self.leases().items()}
        return {shard: holder.identity if holder is not None else None for shard, holder in sorted(holders.items())}

    # ---- the function

    async def invoke(self, call: Call) -> Response | NoResponse:
        process = PROCESS.get()
        assert process is not None
        event = orjson.loads(call.event)
        numbers = tuple(int(record["kinesis"]["sequenceNumber"]) for record in event["Records"])
        for record, number in zip(event["Records"], numbers, strict=True):
            assert base64.b64decode(record["kinesis"]["data"]).decode() == self.text(number)
        begun = Begun(process, call.shard_id, numbers, self.clock.now)
        self.begins(begun)
        if "window" in event:
            self.windows.begins(begun, event)
        fails = self.draw.random() < self.chances.failing
        takes = 0.02 + 0.8 * self.draw.random() ** 4
        answered: asyncio.Future[Response] = self.loop.create_future()

        def end() -> None:
            self.ends(begun, succeeded=not fails)
            body = self.windows.answered(begun, event) if "window" in event and not fails else b"null"
            if not answered.done():
                answered.set_result(FAILS if fails else Response(200, {}, body))

        self.loop.call_later(takes, end, context=WORLD)
        return await answered

    def text(self, number: int) -> str:
        line = self.lines[number - 1]
        return f"{line.key} {line.number}"

    def begins(self, begun: Begun) -> None:
        process, shard = begun.process, begun.shard
        self.note(f"{process.name} calls {shard} with {begun.records}")
        member = self.members[process]
        holder = holder_of(self.leases()[shard]) if shard in self.leases() else None
        if holder != member.life and not self.loose & {member.identity, shard}:
            self.accuse(
                f"{process.name} calls {shard} with {begun.records} as {member.life}, but its holder is {holder}"
            )
        others = [one for one in self.flying if one.shard == shard and one.process is not process]
        if max(Counter(one.process for one in others).values(), default=0) > self.factor:
            self.accuse(f"{shard} has more calls in flight than one a lane of each former holder")
        keys = {self.lines[number - 1].key for number in begun.records}
        for one in self.flying:
            if one.process is process and keys & {self.lines[n - 1].key for n in one.records}:
                self.accuse(f"{process.name} calls {shard} with {begun.records} while {one.records} are in flight")
        for at, number in enumerate(begun.records):
            before = self.before.get(number)
            if before is not None and before not in self.acknowledged and before not in begun.records[:at]:
                self.accuse(f"{process.name} calls with {self.text(number)} though {self.text(before)} is not done")
            if number in self.acknowledged:
                self.repeats.append((number, self.acknowledged[number], begun))
        self.calls.append(begun)
        self.flying.append(begun)

    def ends(self, begun: Begun, *, succeeded: bool) -> None:
        begun.ended, begun.succeeded = self.clock.now, succeeded
        self.flying.remove(begun)
        self.note(f"the call of {begun.process.name} with {begun.records} ends")
        if succeeded:
            for number in begun.records:
                self.acknowledged.setdefault(number, begun)

    # ---- the API server's side

    def written(self, body: Body, before: Body | None) -> None:
        """A ShardLease is about to be written, by a process or by hand."""
        shard, status = body["spec"]["shardId"], status_of(body)
        told = status_of(before) if before is not None else {}
        holder, was = holder_of(body), holder_of(before) if before is not None else None
        number, stored = int(status.get("sequenceNumber") or 0), int(told.get("sequenceNumber") or 0)
        writer = self.cluster.writer
        self.note(f"{writer.name if writer else 'nobody'} writes {shard}: {number} {holder}")
        owner, former = (one.identity if one is not None else None for one in (holder, was))
        if owner != former:
            self.holders.append((self.clock.now, shard, owner))
        if writer is None:
            return
        if number < stored:
            self.accuse(f"{writer.name} takes the checkpoint of {shard} back from {stored} to {number}")
        if number > stored and (was is None or was.identity != self.members[writer].identity):
            self.accuse(f"{writer.name} checkpoints {shard}, which {was} holds")
        here = self.last.get(shard, [])
        undone = [one for one in here[: bisect.bisect_right(here, number)] if one not in self.acknowledged]
        if undone:
            self.accuse(f"{writer.name} checkpoints {shard} at {number}, but {undone} are not done")


def _is_trouble(error: BaseException) -> bool:
    """Whether an error is one of those that the world causes."""
    if isinstance(error, BaseExceptionGroup):
        return all(_is_trouble(one) for one in error.exceptions)
    return isinstance(error, StoreError | LeaseLost | TimeoutError)


class _Watched(FakeCluster):
    """The API server; copies as one does that sends bytes."""

    def __init__(self, fleet: Fleet) -> None:
        super().__init__()
        self.fleet = fleet
        self.writer: Process | None = None

    async def create(self, kind: Kind, body: Body) -> Body:
        made = await super().create(kind, body)
        if kind == SHARD_LEASE:
            self.fleet.written(made, None)
        return made

    def _write(self, kind: Kind, there: Body, body: Body) -> Body:
        if kind == SHARD_LEASE:
            self.fleet.written(body, there)
        return super()._write(kind, there, body)


class _Api:
    """The API server as one process reaches it."""

    def __init__(self, fleet: Fleet, process: Process) -> None:
        self.fleet, self.process = fleet, process
        self.hung = float("-inf")

    async def find(self, kind: Kind, namespace: str, name: str) -> Body | None:
        found: Body | None = await self._ask(lambda: self.fleet.cluster.find(kind, namespace, name), f"find {name}")
        return found

    async def select(self, kind: Kind, namespace: str | None, selector: str = "") -> list[Body]:
        found: list[Body] = await self._ask(
            lambda: self.fleet.cluster.select(kind, namespace, selector), f"select {kind.plural}"
        )
        return found

    async def versions(self, group: str) -> frozenset[str]:
        return frozenset()

    async def create(self, kind: Kind, body: Body) -> Body:
        if kind == EVENT:
            return body
        made: Body = await self._ask(
            lambda: self.fleet.cluster.create(kind, body), f"create {body['metadata']['name']}"
        )
        return made

    async def replace(self, kind: Kind, body: Body) -> Body:
        made: Body = await self._ask(
            lambda: self.fleet.cluster.replace(kind, body), f"replace {body['metadata']['name']}"
        )
        return made

    async def merge(self, kind: Kind, namespace: str, name: str, patch: Body, subresource: str | None = None) -> Body:
        raise NotImplementedError

    async def delete(self, kind: Kind, body: Body) -> None:
        await self._ask(lambda: self.fleet.cluster.delete(kind, body), f"delete {body['metadata']['name']}")

    async def _ask(self, request: Callable[[], Coroutine[Any, Any, Any]], what: str) -> Any:
        fleet, chances, draw = self.fleet, self.fleet.chances, self.fleet.draw
        if fleet.closed:
            raise ClusterError("the world has ended")
        answer: asyncio.Future[Any] = fleet.loop.create_future()
        slow = 3.0 if draw.random() < chances.slow else MOST
        there, back, fate = draw.uniform(LEAST, slow), draw.uniform(LEAST, slow), draw.random()
        status = draw.choice((0, 503))
        lost, unheard = fate < chances.lost, fate < chances.lost + chances.unheard
        hanging = draw.random() < chances.hanging and fleet.clock.now - self.hung >= chances.rest
        if hanging:
            self.hung = fleet.clock.now

        def fail() -> None:
            if not answer.done() and not hanging:
                answer.set_exception(ClusterError(f"lost: {what}", status))

        def arrive() -> None:
            fleet.note(
                f"{self.process.name}: {what}{' is lost' * (lost or self._away())}{' unheard' * unheard}{' hangs' * hanging}"
            )
            if lost or self._away():
                fail()
                return
            fleet.cluster.writer = self.process
            try:
                request().send(None)
            except StopIteration as done:
                fleet.loop.call_later(back, hear, done.value, None, context=WORLD)
            except ClusterError as error:
                fleet.loop.call_later(back, hear, None, error, context=WORLD)
            finally:
                fleet.cluster.writer = None

        def hear(result: Any, error: ClusterError | None) -> None:
            if unheard or self._away():
                fail()
            elif not answer.done() and not hanging:
                answer.set_exception(error) if error is not None else answer.set_result(result)

        fleet.loop.call_later(there, arrive, context=WORLD)
        try:
            async with asyncio.timeout(REQUEST_TIMEOUT):
                return await answer
        except TimeoutError:
            raise ClusterError(f"timed out: {what}") from None

    def _away(self) -> bool:
        return self.fleet.closed or self.fleet.down or self.fleet.members[self.process].cut
