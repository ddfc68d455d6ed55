"""Memory while the function is stuck: it takes calls and never answers, and the stream is full."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING

from tests.bench.peers import HEADRACE, Job
from tests.bench.processes import CONSUMER, Bench, environment_of, started, stub
from tests.bench.results import Measured

if TYPE_CHECKING:
    from collections.abc import Sequence

PART = "stuck"
BACKLOGS = (10_000, 100_000, 300_000)
LOOKS = 20


async def measure(at: Bench, shards: Sequence[int], seconds: float) -> tuple[list[Measured], list[str]]:
    """Memory over so many seconds, for each number of shards and of records in a shard, all at the same time."""
    async with AsyncExitStack() as stack:
        function = await stack.enter_async_context(stub("stub_function", at.folder, "--stuck"))
        working = {}
        for number in shards:
            for backlog in BACKLOGS:
                name = f"stuck-{number}-{backlog}"
                arn = (await at.kinesis.ask("stream", name=name, shards=number, records=backlog))["arn"]
                folder = at.folder / name
                folder.mkdir()
                command = HEADRACE.command(Job(at.kinesis.url, arn, f"{function.url}/"), folder)
                environment = environment_of(at.kinesis.url, at.services)
                process = stack.enter_context(started(command, folder, name, CONSUMER, **environment))
                working[number, backlog] = process, [0.0] * LOOKS
        for look in range(LOOKS):
            await asyncio.sleep(seconds / LOOKS)
            for process, megabytes in working.values():
                megabytes[look] = process.usage().megabytes
    print("stuck: done", flush=True)
    measured = [
        Measured(PART, HEADRACE.name, {"shards": number, "backlog": backlog}, [{"MB": each} for each in megabytes])
        for (number, backlog), (_, megabytes) in working.items()
    ]
    return measured, []
