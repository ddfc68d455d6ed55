"""The stream and the function of a simulated fleet (`fleet.py`)."""

from __future__ import annotations

import asyncio
import base64
import bisect
import random
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from headrace.records import After, Polled, Position, Record, Shard
from headrace.stream.functions import Call, NoResponse, Response
from headrace.stream.sources.kinesis import RecordFacts, to_records
from tests.support.fleet import ARN, Fleet, Line
from tests.support.virtual import EPOCH


@dataclass
class Stream:
    """The source, as the data plane asks it."""

    fleet: Fleet
    retention: float | None = 86400.0

    async def shards(self) -> Sequence[Shard]:
        await asyncio.sleep(0.02)
        return [
            Shard(shard, _parents(shard))
            for shard in sorted(self.fleet.last)
            if not _parents(shard) or self.fleet.closes.get(_parents(shard)[0], 0.0) <= self.fleet.clock.now
        ]

    async def created(self) -> float | None:
        await asyncio.sleep(0.01)
        return EPOCH - 100.0

    async def now(self) -> float:
        return EPOCH + self.fleet.clock.now

    def reader(self, shard_id: str, position: Position) -> _Reader:
        after = int(position.sequence_number) if isinstance(position, After) else 0
        return _Reader(self.fleet, shard_id, [one for one in self.fleet.last[shard_id] if one > after])

    async def aclose(self) -> None:
        pass


def _parents(shard: str) -> tuple[str, ...]:
    return (shard.rsplit(".", 1)[0],) if "." in shard else ()


@dataclass
class _Reader:
    fleet: Fleet
    shard: str
    left: list[int]

    async def read(self, most: int = 10_000) -> Polled:
        await asyncio.sleep(0.01)
        now = self.fleet.clock.now
        count = bisect.bisect_right(self.left, now, key=lambda one: self.fleet.lines[one - 1].at)
        here, self.left = self.left[:count][:20], self.left[min(count, 20) :]
        ended = self.shard in self.fleet.closes and self.fleet.closes[self.shard] <= now and not self.left
        children = tuple(Shard(one, (self.shard,)) for one in self.fleet.last if _parents(one) == (self.shard,))
        records = tuple(self._record(one) for one in here)
        return Polled(records, 1.0 if count > len(here) else 0.0, ended, children if ended else ())

    def _record(self, number: int) -> Record:
        line = self.fleet.lines[number - 1]
        facts = RecordFacts(ARN, "eu-west-1", "arn:aws:iam::123456789012:role/headrace")
        entry = {
            "SequenceNumber": str(number),
            "PartitionKey": line.key,
            "ApproximateArrivalTimestamp": EPOCH + line.at,
            "Data": base64.b64encode(self.fleet.text(number).encode()).decode(),
        }
        return to_records([entry], self.shard, facts)[0]


@dataclass
class Endpoint:
    """The function, as the data plane calls it."""

    fleet: Fleet

    async def invoke(self, call: Call) -> Response | NoResponse:
        return await self.fleet.invoke(call)

    async def aclose(self) -> None:
        pass


def steady(seconds: float, draw: random.Random, closes: dict[str, float]) -> list[Line]:
    """Three keys a shard, each with a record every two seconds; those of a closed shard go on in its children."""
    puts: list[tuple[float, str, str]] = []
    for shard in ("s0", "s1", "s2", "s3"):
        for key in (f"{shard}a", f"{shard}b", f"{shard}c"):
            at = draw.random()
            while at < seconds:
                here = shard if at < closes.get(shard, seconds) else f"{shard}.{'01'[key[-1] == 'c']}"
                puts.append((at, key, here))
                at += draw.uniform(1.0, 3.0)
    numbers: dict[str, int] = defaultdict(int)
    lines = []
    for at, key, shard in sorted(puts):
        numbers[key] += 1
        lines.append(Line(key, numbers[key], shard, at))
    return lines
