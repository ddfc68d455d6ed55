"""A steady load of numbered records, and a function's ledger of what came of it."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import time
from collections import Counter, defaultdict
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tests.support.aws import Stream
    from tests.support.function import RecordedCall, RecordingFunction


@dataclass
class Load:
    """Writes `key number` for every key in turn, numbers from 1, until it is told to stop."""

    stream: Stream
    keys: int = 32
    put: dict[str, int] = field(default_factory=dict)
    """The last number written of each key."""

    async def run(self, rate: float) -> None:
        number = 0
        while True:
            number += 1
            began = time.monotonic()
            entries = [{"Data": f"k{key} {number}".encode(), "PartitionKey": f"k{key}"} for key in range(self.keys)]
            await self._write(entries, number)
            await asyncio.sleep(max(0.0, began + self.keys / rate - time.monotonic()))

    async def _write(self, entries: list[dict[str, Any]], number: int) -> None:
        """All of them, in order per key; what a resharding stream refuses is written again."""
        left = entries
        while left:
            answer = await self.stream.kinesis.put_records(StreamName=self.stream.name, Records=left)
            results = zip(left, answer["Records"], strict=True)
            left = [entry for entry, result in results if "SequenceNumber" not in result]
            for entry in entries:
                if entry not in left:
                    self.put[entry["PartitionKey"]] = number
            if left:
                await asyncio.sleep(0.1)


@asynccontextmanager
async def loaded(stream: Stream, rate: float, keys: int = 32) -> AsyncIterator[Load]:
    """Records flow until the end of the block."""
    load = Load(stream, keys)
    writing = asyncio.create_task(load.run(rate))
    try:
        yield load
    finally:
        writing.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await writing


@dataclass
class Ledger:
    """What a function was called with, by key and by shard."""

    function: RecordingFunction

    def numbers(self) -> dict[str, list[int]]:
        """The numbers of each key in the order they came."""
        came: dict[str, list[int]] = defaultdict(list)
        for call in self.function.calls:
            for data in call.data:
                key, number = data.split()
                came[key].append(int(number))
        return came

    def complete(self, load: Load) -> bool:
        """Whether everything that was written has come."""
        came = self.numbers()
        return all(last in came[key] for key, last in load.put.items())

    def lost(self, load: Load) -> dict[str, set[int]]:
        """What of each key never came."""
        came = self.numbers()
        missing = {key: set(range(1, last + 1)) - set(came[key]) for key, last in load.put.items()}
        return {key: numbers for key, numbers in missing.items() if numbers}

    def repeats(self) -> int:
        """How many records came again."""
        return sum(count - 1 for numbers in self.numbers().values() for count in Counter(numbers).values())

    def out_of_order(self) -> dict[str, list[int]]:
        """The keys whose records did not come one after the other; going back to what came before is a repeat."""
        wrong = {}
        for key, numbers in self.numbers().items():
            highest = 0
            for before, number in zip([0, *numbers], numbers, strict=False):
                if number != before + 1 and number > highest:
                    wrong[key] = numbers
                highest = max(highest, number)
        return wrong

    def longest_silence(self, since: float, until: float) -> dict[str, float]:
        """The longest time of each shard without a call, in seconds."""
        calls: dict[str, list[RecordedCall]] = defaultdict(list)
        for call in self.function.calls:
            if since <= call.at <= until:
                calls[call.headers["Headrace-Shard"]].append(call)
        return {
            shard: max(after.at - before.at for before, after in itertools.pairwise(found))
            for shard, found in calls.items()
            if len(found) > 1
        }
