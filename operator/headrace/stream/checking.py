"""Looking at a mapping's destination before anything is to be delivered. Polling does not wait for it.

Before this: `mapping.py`. After this: `destinations/`.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from headrace.errors import DestinationError
from headrace.stream.events import ConditionType, Faulted, reachable, unreachable
from headrace.stream.poller import backoff

if TYPE_CHECKING:
    from headrace.stream.destinations import Destination
    from headrace.stream.events import Observer

LONGEST_PAUSE = 10.0
"""Longest pause in seconds between two looks."""


async def check(destination: Destination | None, observer: Observer) -> None:
    """Tells until it shows whether failure records could be delivered, where they are to be."""
    failures = 0
    while destination is not None:
        try:
            await destination.check()
        except DestinationError as error:
            failures += 1
            observer(unreachable(ConditionType.DESTINATION_REACHABLE, error))
            await asyncio.sleep(backoff(failures, LONGEST_PAUSE))
        except Exception as error:  # noqa: BLE001 - a look that fails stops no shard
            failures += 1
            pause = backoff(failures, LONGEST_PAUSE)
            observer(Faulted("looking at the destination", error, pause))
            await asyncio.sleep(pause)
        else:
            observer(reachable(ConditionType.DESTINATION_REACHABLE))
            return
