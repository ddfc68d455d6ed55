"""SIGTERM and SIGINT as an asyncio event, and pauses that it ends."""

from __future__ import annotations

import asyncio
import signal
import threading


def set_on_signal(stop: asyncio.Event) -> None:
    """From now on both signals set `stop`; only the main thread gets any."""
    if threading.current_thread() is threading.main_thread():
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, stop.set)


async def pause(stop: asyncio.Event, seconds: float) -> None:
    """Waits so long, or until `stop`."""
    try:
        async with asyncio.timeout(seconds):
            await stop.wait()
    except TimeoutError:
        return
