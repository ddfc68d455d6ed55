"""Waiting for whichever comes first: an event or a time."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


async def first(seconds: float | None, *events: asyncio.Event) -> None:
    """Waits until one of the events is set, at most so many seconds (None: without end)."""
    if any(event.is_set() for event in events):
        return
    waiters = [asyncio.ensure_future(event.wait()) for event in events]
    try:
        timeout = None if seconds is None else max(0.0, seconds)
        await asyncio.wait(waiters, timeout=timeout, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for waiter in waiters:
            waiter.cancel()


@asynccontextmanager
async def within(seconds: float, event: asyncio.Event) -> AsyncIterator[None]:
    """Raises TimeoutError once its block goes on for so many seconds while the event is set; till then it has time."""
    loop = asyncio.get_running_loop()
    async with asyncio.timeout(None) as limit:

        async def arm() -> None:
            await event.wait()
            limit.reschedule(loop.time() + seconds)

        arming: list[asyncio.Task[None]] = []
        watching = loop.call_soon(lambda: arming.append(loop.create_task(arm())))  # not for a block that never waits
        try:
            yield
        finally:
            watching.cancel()
            for task in arming:
                task.cancel()
