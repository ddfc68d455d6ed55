"""Waiting for whichever comes first: an event or a time."""

from __future__ import annotations

import asyncio


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
