"""What a queue's settings mean for its mapping (contract F.1, A.3 V22). Pure: warnings, none keeps it from running."""

from __future__ import annotations

from typing import TYPE_CHECKING

from headrace.errors import Reason
from headrace.stream.events import ConditionObserved, ConditionType
from headrace.stream.queues.visibility import too_short

if TYPE_CHECKING:
    from headrace.stream.queues.messages import QueueFacts


def advice(facts: QueueFacts, function: float) -> tuple[ConditionObserved, ConditionObserved]:
    """The conditions VisibilityTimeout and DeadLetterQueue; `function` is the function's timeout in seconds."""
    short = too_short(facts.visibility, function)
    kind, reason = ConditionType.VISIBILITY_TIMEOUT, Reason.VISIBILITY_TOO_SHORT if short else Reason.CONFIGURED
    said = short or f"{facts.visibility:g} s, for a function that may take {function:g} s"
    visible = ConditionObserved(kind, short is None, reason, said)
    letters = facts.dead_letters
    said = (
        "what fails again and again goes to the queue of its redrive policy"
        if letters
        else "the queue has no redrive policy: what fails comes again until its retention ends;"
        " give it a dead-letter queue with a maxReceiveCount of 5 or more"
    )
    reason = Reason.CONFIGURED if letters else Reason.NO_DEAD_LETTER_QUEUE
    return visible, ConditionObserved(ConditionType.DEAD_LETTER_QUEUE, letters, reason, said)
