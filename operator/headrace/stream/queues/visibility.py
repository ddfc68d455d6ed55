"""How long messages stay invisible while they are held here (contract F.1, "this project"). Pure.

A message is asked for with a time that covers its wait in an open batch and one call; while it is held beyond half of
what is left, more is asked for, at most SQS's twelve hours from its receive on. What has lapsed comes again by itself
and must not be handed to the function here.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from headrace.stream.queues.messages import LONGEST_HOLD

if TYPE_CHECKING:
    from collections.abc import Sequence

    from headrace.stream.queues.messages import Message

LEAST = 5.0
"""Seconds of invisibility to receive with at least: with less, nothing can be held from one look to the next."""
SPARE = 30.0
"""What Lambda adds to window and time-out where a queue's own time does not cover both (contract F.1)."""


def asked_for(queue: float, window: float, function: float) -> float:
    """Seconds of invisibility to receive with: the queue's own, or more where a batching window needs it (F.1)."""
    if window > 0 and window + function > queue:
        return min(LONGEST_HOLD, window + function + SPARE)
    return max(LEAST, queue)


def extension(message: Message, each: float, now: float) -> float | None:
    """Seconds from now on to ask for, None while there is time; `each` is what the message was received with.

    No longer than that, so that a message whose call fails comes again as soon as the queue would have it; never beyond
    twelve hours from its receive: what is not done by then lapses.
    """
    if message.expires - now > each / 2:
        return None
    left = message.received + LONGEST_HOLD - 1 - now
    if now + min(each, left) <= message.expires:
        return None
    return float(int(min(each, left)))


def lapsed(message: Message, now: float) -> bool:
    """Whether it is visible to everybody again, so that it is not this poller's any more."""
    return now >= message.expires


def still_held(batch: Sequence[Message], now: float) -> Sequence[Message]:
    """Those that are invisible; of a group nothing behind a message that is not, for that one comes first (F.3)."""
    gone: set[str] = set()
    held: list[Message] = []
    for one in batch:
        if lapsed(one, now):
            gone.add(one.group)
        elif one.group not in gone or not one.group:
            held.append(one)
    return held


def too_short(queue: float, function: float) -> str | None:
    """What to say of a queue's visibility timeout that is shorter than the function's; None where it is not."""
    if function <= queue:
        return None
    return (
        f"the queue's visibility timeout of {queue:g} s is shorter than spec.function.timeoutSeconds of {function:g} s:"
        f" set it to {6 * function:g} s, six times as long; meanwhile messages are kept invisible while they are held"
    )
