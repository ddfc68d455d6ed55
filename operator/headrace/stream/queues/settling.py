"""What becomes of a batch of messages once the function has answered (contract F.1, F.2). Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from headrace.stream.classify import Failed, FailureKind, NotInvoked, PartiallyFailed, Succeeded

if TYPE_CHECKING:
    from collections.abc import Sequence

    from headrace.stream.classify import Outcome
    from headrace.stream.queues.messages import Message


@dataclass(frozen=True, slots=True)
class Settled:
    """The messages to delete, and those that are left in the queue, to be visible again when their time has passed."""

    delete: Sequence[Message]
    leave: Sequence[Message] = ()


@dataclass(frozen=True, slots=True)
class Again:
    """The function did not run: the batch stays here and is tried again.

    `connected` says that something answered, if not the function.
    """

    throttled: bool
    connected: bool
    retry_after: float | None


def settle(batch: Sequence[Message], outcome: Outcome) -> Settled | Again:
    """A success deletes all, an error none, a partial answer what it does not name."""
    match outcome:
        case Succeeded():
            return Settled(batch)
        case PartiallyFailed(failures=failures) | Failed(kind=FailureKind.PARTIAL, failures=failures):
            done = [one for one in batch if one.message_id not in failures]
            return Settled(done, [one for one in batch if one.message_id in failures])
        case NotInvoked(throttled=throttled, retry_after=retry_after, status=status):
            return Again(throttled, status is not None, retry_after)
        case _:
            return Settled((), batch)


def counted(messages: int, outcome: Outcome) -> Outcome:
    """The outcome as metrics count it: as many messages of a partial answer have failed as it names."""
    match outcome:
        case PartiallyFailed(failures=failures) | Failed(kind=FailureKind.PARTIAL, failures=failures):
            return PartiallyFailed(messages - len(failures), failures=failures)
        case _:
            return outcome
