"""The world of one mapping in virtual time: a stream, a function, a destination and a store around the real data plane.

Records are known by their place in what is put, from 1; that is their sequence number too.
"""

from __future__ import annotations

import asyncio
import base64
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import orjson
import pytest
from prometheus_client import CollectorRegistry

from headrace.errors import DestinationError, Reason
from headrace.records import After, Checkpoint, Lease, Polled, Position, Record, Shard, Start
from headrace.spec import EventSourceMapping, parse_mapping
from headrace.stream import running as running_module
from headrace.stream.aws import AwsSettings
from headrace.stream.events import CallEnded, Event, all_of
from headrace.stream.functions import Call, NoResponse, Response
from headrace.stream.health import NO_RECORDS, Health
from headrace.stream.membership import Alone
from headrace.stream.metrics import Counts, Metrics
from headrace.stream.report import FailureRecord
from headrace.stream.sources import dynamodb
from headrace.stream.sources.kinesis import RecordFacts, to_records
from tests.support.items import image_of, sequence_number
from tests.support.virtual import EPOCH, Clock, run_virtually


@dataclass(frozen=True)
class Put:
    """A record: what it holds, when it arrives (seconds from the start; before it when negative), its key and shard."""

    data: str
    at: float = 0.0
    key: str = "k"
    shard: str = "shard-1"


@dataclass(frozen=True)
class Reshard:
    """A shard: its parents, from when it is listed, and when it is closed."""

    shard_id: str = "shard-1"
    parents: tuple[str, ...] = ()
    opens: float = -math.inf
    closes: float = math.inf


@dataclass(frozen=True)
class Stop:
    """The poller stops (`kill` at once, else gracefully) and starts again later."""

    at: float
    until: float
    kill: bool = False


@dataclass(frozen=True)
class Seen:
    """One call as the function sees it: which one it is, the records' places, the event."""

    index: int
    records: tuple[int, ...]
    numbers: tuple[str, ...]
    event: dict[str, Any]


@dataclass(frozen=True)
class Answered:
    """An answer, its mark in the notation of the contract, and the seconds it takes."""

    mark: str
    answer: Response | NoResponse
    takes: float = 0.0


@dataclass
class Called:
    """A call that was made."""

    seen: Seen
    mark: str
    at: float
    request_id: str
    attempt: int


@dataclass
class World:
    """Everything around one mapping; `play` runs it."""

    spec: dict[str, Any]
    puts: Sequence[Put]
    answer: Callable[[Seen], Answered]
    name: str = "row"
    shards: Sequence[Reshard] = (Reshard(),)
    destination: bool = True
    destination_away_until: float = -math.inf
    stops: Sequence[Stop] = ()
    clock: Clock = field(default_factory=Clock)
    happened: list[Called | FailureRecord] = field(default_factory=list)
    """Calls and failure records, in order."""
    saved: dict[str, Checkpoint] = field(default_factory=dict)
    pinned: Start | None = None
    in_flight: int = 0
    most_in_flight: int = 0
    counts: Counts = field(default_factory=Counts)
    health: Health = field(default_factory=Health)
    last_result: str = NO_RECORDS
    """The last processing result that showed, of shards that have ended too."""

    @property
    def calls(self) -> list[Called]:
        return [one for one in self.happened if isinstance(one, Called)]

    def _note(self, event: Event) -> None:
        if isinstance(event, CallEnded):
            self.last_result = self.health.last_processing_result

    def play(self, seconds: float) -> None:
        """Runs the mapping for so long in virtual time."""
        play([self], seconds)

    async def live(self, seconds: float) -> None:
        document = {
            "apiVersion": "headrace.dev/v1alpha1",
            "kind": "EventSourceMapping",
            "metadata": {"name": self.name, "namespace": "shop"},
            "spec": self.spec,
        }
        mapping = parse_mapping(document)
        counting = Metrics(CollectorRegistry()).observer("shop", self.name, "arn", self.health)
        self.counts = counting.counts
        observer = all_of(self.health, counting, self._note)
        for life in (*self.stops, Stop(seconds, seconds)):
            stop = asyncio.Event()
            run = asyncio.ensure_future(
                running_module.run_mapping(mapping, _Store(self), AwsSettings(), observer, stop, Alone())
            )
            await asyncio.sleep(life.at - self.clock.now)
            if life.kill:
                run.cancel()
            stop.set()
            await asyncio.gather(run, return_exceptions=life.kill)
            await asyncio.sleep(max(0.0, life.until - self.clock.now))


def play(worlds: Sequence[World], seconds: float) -> None:
    """Runs mappings side by side, each with a name of its own, for so long in the virtual time of the first."""
    named = {f"shop/{world.name}": world for world in worlds}
    for world in worlds:
        world.clock = worlds[0].clock

    async def live() -> None:
        async with asyncio.TaskGroup() as lives:
            for world in worlds:
                lives.create_task(world.live(seconds))

    def open_destination(mapping: EventSourceMapping, *_: object) -> _Sink | None:
        world = named[mapping.key]
        return _Sink(world) if world.destination else None

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(running_module, "open_source", lambda mapping, *_: _Source(named[mapping.key]))
        patch.setattr(running_module, "open_function", lambda mapping, *_: _Function(named[mapping.key]))
        patch.setattr(running_module, "open_destination", open_destination)
        run_virtually(worlds[0].clock, live())


@dataclass
class _Source:
    world: World
    retention: float | None = None

    async def shards(self) -> Sequence[Shard]:
        now = self.world.clock.now
        return [Shard(one.shard_id, one.parents) for one in self.world.shards if one.opens <= now]

    async def now(self) -> float:
        return self.world.clock.time()

    async def created(self) -> float | None:
        return None

    def reader(self, shard_id: str, position: Position) -> _Reader:
        (shard,) = (one for one in self.world.shards if one.shard_id == shard_id)
        return _Reader(self.world, shard, position)

    async def aclose(self) -> None:
        pass


class _Reader:
    """Reads what has arrived in one shard."""

    def __init__(self, world: World, shard: Reshard, position: Position) -> None:
        self._world, self._shard = world, shard
        make = _change if ":dynamodb:" in world.spec["eventSourceArn"] else self._record
        self._left = [
            (EPOCH + put.at, make(number, put, world.spec["eventSourceArn"]))
            for number, put in enumerate(world.puts, 1)
            if put.shard == shard.shard_id and _reaches(position, number, put)
        ]

    def _record(self, number: int, put: Put, arn: str) -> Record:
        facts = RecordFacts(arn, "us-east-1", "arn:aws:iam::000000000000:role/headrace")
        entry = {
            "SequenceNumber": str(number),
            "PartitionKey": put.key,
            "ApproximateArrivalTimestamp": EPOCH + put.at,
            "Data": base64.b64encode(put.data.encode()).decode(),
        }
        return to_records([entry], self._shard.shard_id, facts)[0]

    async def read(self, most: int = 10_000) -> Polled:
        await asyncio.sleep(0)
        now = self._world.clock.time()
        here = [record for arrival, record in self._left if arrival <= now]
        self._left = self._left[len(here) :]
        return Polled(tuple(here), ended=self._world.clock.now >= self._shard.closes and not self._left)


def _change(number: int, put: Put, arn: str) -> Record:
    image = image_of(put.data, put.key)
    change = {
        "ApproximateCreationDateTime": math.floor(EPOCH + put.at),
        "Keys": {"pk": image["pk"]},
        "NewImage": image,
        "SequenceNumber": str(number),
        "SizeBytes": len(put.data),
        "StreamViewType": "NEW_IMAGE",
    }
    entry = {"eventID": f"{number:032x}", "eventName": "INSERT", "eventVersion": "1.1", "dynamodb": change}
    return dynamodb.to_records([entry], dynamodb.StreamFacts(arn, "us-east-1"))[0]


def _reaches(position: Position, number: int, put: Put) -> bool:
    if isinstance(position, After):
        return number > int(position.sequence_number)
    return position.timestamp is None or EPOCH + put.at >= position.timestamp


@dataclass
class _Function:
    world: World

    async def invoke(self, call: Call) -> Response | NoResponse:
        world, event = self.world, orjson.loads(call.event)
        numbers = tuple(map(sequence_number, event["Records"]))
        seen = Seen(len(world.calls), tuple(map(int, numbers)), numbers, event)
        answered = world.answer(seen)
        world.happened.append(Called(seen, answered.mark, world.clock.now, call.request_id, call.attempt))
        world.in_flight += 1
        world.most_in_flight = max(world.most_in_flight, world.in_flight)
        try:
            await asyncio.sleep(answered.takes)
        finally:
            world.in_flight -= 1
        return answered.answer

    async def aclose(self) -> None:
        pass


@dataclass
class _Sink:
    world: World

    async def check(self) -> None:
        pass

    async def publish(self, record: FailureRecord) -> None:
        if self.world.clock.now < self.world.destination_away_until:
            raise DestinationError(Reason.ACCESS_DENIED, "the queue is denied")
        self.world.happened.append(record)

    async def aclose(self) -> None:
        pass


@dataclass
class _Store:
    world: World
    write_interval: float = 0.0

    async def pin(self, start: Start) -> Start:
        self.world.pinned = self.world.pinned or start
        return self.world.pinned

    async def start(self) -> Start | None:
        return self.world.pinned

    async def adopt(self, created: float, restart: Start) -> bool:
        return False  # the stream is always the same

    async def load(self, shards: Sequence[Shard], makes: Callable[[str], bool] | None = None, /) -> Mapping[str, Lease]:
        listed = {shard.shard_id: shard for shard in shards}
        return {
            one: Lease(listed.get(one, Shard(one)), self.world.saved.get(one, Checkpoint()))
            for one in {*listed, *self.world.saved}
        }

    async def take(self, shard_id: str) -> Checkpoint | None:
        return self.world.saved.get(shard_id, Checkpoint())

    async def release(self, shard_id: str) -> None:
        pass

    async def save(self, shard_id: str, checkpoint: Checkpoint) -> None:
        self.world.saved[shard_id] = checkpoint

    async def aclose(self) -> None:
        pass
