"""SIGTERM and SIGINT as an asyncio event."""

from __future__ import annotations

import asyncio
import signal
import threading


def set_on_signal(stop: asyncio.Event) -> None:
    """From now on both signals set `stop`; only the main thread gets any."""
    if threading.current_thread() is threading.main_thread():
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, stop.set)
