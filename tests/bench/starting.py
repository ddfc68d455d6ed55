"""Start: from the start of a process to the first record in its function, from a stream that has some.

kcl-rs is measured as it comes, with a minute between two looks at the shards; its rounds run at the same time, as nearly
all of it is waiting.
"""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

from tests.bench.peers import ASYNC_KINESIS, BARE, HEADRACE, KCL_RS, Job, Peer, Unavailable
from tests.bench.processes import CONSUMER, Bench, environment_of, started, stub
from tests.bench.results import Measured
from tests.bench.spread import in_turn

if TYPE_CHECKING:
    from collections.abc import Sequence

PART = "start"
LONGEST = 120.0
AS_IT_COMES = ("--sync-every", "60000")


async def measure(at: Bench, rounds: int, *, slow: bool) -> tuple[list[Measured], list[str]]:
    """`slow` also measures who takes more than a minute."""
    found: dict[str, list[dict[str, float]]] = {}
    left_out: list[str] = []
    for number in range(rounds):
        for peer in in_turn((BARE, HEADRACE, ASYNC_KINESIS), number):
            await tried(at, peer, 1, found, left_out)
    if slow:
        await tried(at, KCL_RS, rounds, found, left_out, AS_IT_COMES)
    print("start: done", flush=True)
    return [Measured(PART, name, {"shards": 1}, each) for name, each in found.items()], left_out


async def tried(
    at: Bench,
    peer: Peer,
    times: int,
    found: dict[str, list[dict[str, float]]],
    left_out: list[str],
    more: Sequence[str] = (),
) -> None:
    try:
        took = await asyncio.gather(*(first_record(at, peer, tuple(more)) for _ in range(times)))
        found.setdefault(peer.name, []).extend({"seconds": each} for each in took)
    except Unavailable as error:
        left_out.append(str(error))
    except TimeoutError:
        left_out.append(f"{peer.name} needed more than {LONGEST:g} s from its start to its first record")


async def first_record(at: Bench, peer: Peer, more: tuple[str, ...]) -> float:
    """Seconds; raises TimeoutError, Unavailable."""
    name = f"start-{peer.name}-{time.monotonic_ns()}"
    arn = (await at.kinesis.ask("stream", name=name, shards=1, records=100))["arn"]
    folder = at.folder / name
    folder.mkdir()
    async with stub("stub_function", at.folder) as function:
        command = peer.command(Job(at.kinesis.url, arn, f"{function.url}/", more=more), folder)
        began = time.monotonic()
        with started(command, folder, name, CONSUMER, **environment_of(at.kinesis.url, at.services)):
            counted = await function.get("until?records=1", LONGEST)
    return float(counted["first"] - began)
