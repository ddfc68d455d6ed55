"""Keeping one held shard at work: again after a fault of our own, never again once it is another's.

Before this: `mapping.py`. After this: `poller.py`, once per life of the shard's work.
"""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from headrace.errors import LeaseLost
from headrace.stream.events import Faulted, Observer
from headrace.stream.poller import backoff
from headrace.stream.waiting import first

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from headrace.records import Checkpoint
    from headrace.stream.functions import Call, Function, NoResponse, Response
    from headrace.stream.membership import Permit
    from headrace.stream.poller import ShardPoller

LONGEST_PAUSE = 10.0
"""Longest pause in seconds before a shard is tried again."""


@dataclass(slots=True, eq=False)
class Calls:
    """The function, as one shard calls it: a call goes on when its caller is cut short, and can be waited for."""

    function: Function
    flying: set[asyncio.Task[Response | NoResponse]] = field(default_factory=set)

    async def invoke(self, call: Call) -> Response | NoResponse:
        """One call."""
        task = asyncio.ensure_future(self.function.invoke(call))
        self.flying.add(task)
        task.add_done_callback(self.flying.discard)
        return await asyncio.shield(task)

    async def ended(self) -> None:
        """Waits for those that are in flight; the function's time-out is the bound."""
        if self.flying:
            await asyncio.wait(self.flying)

    async def aclose(self) -> None:
        """The function is others' too."""


@asynccontextmanager
async def calls_of(function: Function) -> AsyncIterator[Calls]:
    """One shard's calls: at the end of the block they have ended; where it is cut short, they are."""
    calls = Calls(function)
    try:
        yield calls
        await calls.ended()
    finally:
        for task in calls.flying:
            task.cancel()


async def keep_working(
    shard_id: str,
    permit: Permit,
    checkpoint: Checkpoint,
    calls: Calls,
    open_poller: Callable[[Checkpoint], ShardPoller],
    observer: Observer,
) -> tuple[bool, tuple[str, ...]]:
    """Whether the shard is finished, and the records that were read and are not decided; raises LeaseLost.

    A fault is told, and the shard goes on from where it is decided, once the calls that it cut short have ended.
    """
    failures = 0
    while not permit.leave.is_set():
        poller: ShardPoller | None = None
        try:
            poller = open_poller(checkpoint)
            finished = await _until_lost(poller, permit, shard_id)
        except Exception as error:  # a checkpoint that cannot be gone on from costs no other shard
            if (lost := _loss_in(error)) is not None:
                raise lost from error
            failures += 1
            pause = backoff(failures, LONGEST_PAUSE)
            observer(Faulted(f"shard {shard_id}", error, pause))
            checkpoint = poller.newest if poller is not None else checkpoint
            await first(pause, permit.leave, permit.lost)
            await calls.ended()
            if permit.lost.is_set():
                raise LeaseLost(shard_id, permit.lost_to) from error
        else:
            return finished, poller.undecided
    return False, ()


async def _until_lost(poller: ShardPoller, permit: Permit, shard_id: str) -> bool:
    """Runs a shard; it is cut short, with LeaseLost in a group, as soon as it is known to be another's."""

    async def lose() -> None:
        await permit.lost.wait()
        raise LeaseLost(shard_id, permit.lost_to)

    async with asyncio.TaskGroup() as tasks:
        losing = tasks.create_task(lose())
        finished = await poller.run()
        losing.cancel()
    return finished


def _loss_in(error: BaseException) -> BaseException | None:
    """A LeaseLost among what has gone wrong."""
    if isinstance(error, BaseExceptionGroup):
        return next(filter(None, map(_loss_in, error.exceptions)), None)
    return error if isinstance(error, LeaseLost) else None
