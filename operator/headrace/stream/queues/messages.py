"""A message of a queue, and what is known of the queue. Frozen values. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from headrace.records import Record

LONGEST_HOLD = 12 * 3600.0
"""Seconds for which SQS keeps a received message invisible at most, however often that is asked for."""


class Message(NamedTuple):
    """One message as it was received.

    `record` is it as it stands in the Lambda event (contract D.3): its sequence number is the message's id, its arrival
    when it was sent, its key the message group. `receipt` is what it is deleted with, `received` when it was asked for
    and `expires` when it is visible again unless more time is asked for (both in seconds of a monotonic clock);
    `receives` is its ApproximateReceiveCount.
    """

    record: Record
    receipt: str
    received: float
    expires: float
    receives: int = 1

    @property
    def message_id(self) -> str:
        """SQS's id, the same at every receive."""
        return self.record.sequence_number

    @property
    def group(self) -> str:
        """The message group of a FIFO queue; empty elsewhere."""
        return self.record.key


@dataclass(frozen=True, slots=True)
class QueueFacts:
    """What a queue tells of itself.

    `visibility` is its visibility timeout in seconds, `backlog` about how many messages could be received now;
    `dead_letters` says whether it has a redrive policy.
    """

    visibility: float
    backlog: int
    dead_letters: bool
