"""Keeping received messages invisible while they are held here, and giving them back (contract F.1). Shell.

One loop for all of them. Before this: `queue.py`. The times are decided in `queues/visibility.py`.
"""

from __future__ import annotations

import asyncio
import time
from contextlib import suppress
from typing import TYPE_CHECKING, TypeVar

from headrace.errors import SourceError
from headrace.stream.poller import backoff
from headrace.stream.queues.visibility import extension
from headrace.stream.sources.sqs import AT_ONCE

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable, Sequence

    from headrace.stream.asking import Asking
    from headrace.stream.queues.messages import Message
    from headrace.stream.sources.sqs import SqsQueue

HOLD_INTERVAL = 1.0
"""Seconds between two looks at who needs more time."""
SIDE_BY_SIDE = 16
"""Requests at a time."""
LONGEST_PAUSE = 10.0

T = TypeVar("T")


async def hold(
    queue: SqsQueue,
    held: Callable[[], Iterable[Message]],
    renew: Callable[[Message, float], None],
    each: Callable[[], float],
    asking: Asking,
) -> None:
    """For ever: asks for more time for those of `held` that need it; `each` is what messages are received with.

    `renew` is told of the time (seconds of a monotonic clock) from which on a message is visible again.
    """
    failures = 0
    while True:
        await asyncio.sleep(backoff(failures, LONGEST_PAUSE) if failures else HOLD_INTERVAL)
        now = time.monotonic()
        due = [(one, more) for one in held() if (more := extension(one, each(), now)) is not None]
        refusal = await _extend(queue, due, now, renew, asking)
        if refusal is not None:
            asking.failed(refusal)
        failures = failures + 1 if refusal is not None else 0


async def _extend(
    queue: SqsQueue,
    due: Sequence[tuple[Message, float]],
    now: float,
    renew: Callable[[Message, float], None],
    asking: Asking,
) -> SourceError | None:
    """So many seconds more for each, up to the first refusal, which it gives: the rest would meet the same."""
    refusal: SourceError | None = None

    async def ask(part: Sequence[tuple[Message, float]]) -> None:
        nonlocal refusal
        if refusal is not None:
            return
        try:
            confirmed = await queue.hold([one for one, _ in part], [more for _, more in part])
        except SourceError as error:
            refusal = error
            return
        asking.succeeded()
        seconds = {one.message_id: more for one, more in part}
        for message in confirmed.done:
            renew(message, now + seconds[message.message_id])
        for message in confirmed.late:
            renew(message, now)

    await _in_tens(due, ask)
    return refusal


async def give_back(queue: SqsQueue, messages: Sequence[Message], seconds: float, asking: Asking) -> None:
    """Makes messages visible at once, for `seconds` at most; what is not reached comes again when its time is over."""

    async def ask(part: Sequence[Message]) -> None:
        try:
            await queue.hold(part, [0.0] * len(part))
        except SourceError as error:
            asking.failed(error)

    with suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await _in_tens(messages, ask)


async def _in_tens(things: Sequence[T], ask: Callable[[Sequence[T]], Awaitable[None]]) -> None:
    free = asyncio.Semaphore(SIDE_BY_SIDE)

    async def one(part: Sequence[T]) -> None:
        async with free:
            await ask(part)

    async with asyncio.TaskGroup() as requests:
        for start in range(0, len(things), AT_ONCE):
            requests.create_task(one(things[start : start + AT_ONCE]))
