"""kill -9 at random moments: nothing lost, at most one batch per shard again."""

from __future__ import annotations

import asyncio
import os
import random
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from tests.support.aws import make_stream
from tests.support.function import RecordedCall, RecordingFunction, success
from tests.support.headrace import mapping, run, write

KILLS = int(os.environ.get("HEADRACE_TEST_KILLS", "50"))
SHARDS = 2
BATCH = 5


@pytest.mark.timeout(300)
async def test_killed_again_and_again_it_loses_nothing_and_repeats_a_batch_per_shard_at_most(
    ministack: str, kinesis: Any, function: RecordingFunction, tmp_path: Path, state: Path
) -> None:
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    chance = random.Random(seed)
    stream = await make_stream(kinesis, shards=SHARDS)
    written: list[str] = []
    enough = asyncio.Event()
    lifetime = 0
    seen_in: list[tuple[int, str]] = []

    async def answer(call: RecordedCall) -> Any:
        seen_in.extend((lifetime, data) for data in call.data)
        await asyncio.sleep(0.002)
        return success(call)

    async def produce() -> None:
        """Single writes in order, so that the emulator keeps them in order."""
        number = 0
        while not enough.is_set():
            await stream.put(str(number), key=f"key {number % 16}")
            written.append(str(number))
            number += 1
            await asyncio.sleep(0.004)

    function.answer = answer
    file = write(tmp_path, mapping(stream.arn, function.url, batchSize=BATCH))
    producing = asyncio.create_task(produce())
    for lifetime in range(KILLS):  # noqa: B007 - the closure above reads it
        calls = len(function.calls)
        async with run(file, ministack, "--state", state) as running:
            await function.until(lambda: len(function.calls) > calls)
            await asyncio.sleep(chance.uniform(0, 0.25))
            await running.kill()
    enough.set()
    await producing
    lifetime += 1
    async with run(file, ministack, "--state", state, "--exit-when-idle", 1.5) as running:
        assert await running.end() == 0

    times = Counter(data for _, data in seen_in)
    assert set(times) == set(written), "a record was lost"
    in_one_lifetime = Counter(seen_in)
    assert max(in_one_lifetime.values()) == 1, "a record was repeated without a kill"
    repeats = sum(times.values()) - len(times)
    print(f"{len(written)} records, {KILLS} kills, {repeats} repeats, bound {KILLS * SHARDS * BATCH}")
    assert repeats <= KILLS * SHARDS * BATCH
    for life in range(1, lifetime + 1):
        earlier = {data for past, data in seen_in if past < life}
        again = [data for now, data in seen_in if now == life and data in earlier]
        assert len(again) <= SHARDS * BATCH, f"{len(again)} records again in lifetime {life}"
