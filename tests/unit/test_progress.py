"""What a ShardLease tells of its shard."""

from __future__ import annotations

import pytest

from headrace.errors import Reason
from headrace.records import Record
from headrace.stream.classify import Failed, FailureKind, NotInvoked, Outcome, PartiallyFailed, Refused, Succeeded
from headrace.stream.events import CallEnded, DeliveryFailed, DiscardDelivered, ShardFinished, ShardStarted, Waiting
from headrace.stream.progress import Progress, ShardFacts
from headrace.stream.retry import Condition, Discard

BATCH = (Record("1", 0.0, "k", b"{}"),)


def ended(outcome: Outcome) -> CallEnded:
    return CallEnded("s", BATCH, 1, "r", outcome, 0.1)


def after(*events: object) -> ShardFacts | None:
    progress = Progress()
    progress(ShardStarted("s", None))
    for event in events:
        progress(event)  # type: ignore[arg-type]
    return progress.facts.get("s")


@pytest.mark.parametrize(
    ("outcome", "state"),
    [
        (Succeeded(), "Held"),
        (Failed(FailureKind.FUNCTION_ERROR, "Unhandled", detail="boom"), "Retrying"),
        (PartiallyFailed(0), "Retrying"),
        (Refused(), "Retrying"),
        (NotInvoked(throttled=False, detail="connection refused"), "Blocked"),
    ],
)
def test_a_failing_function_is_retried_and_an_absent_one_blocks(outcome: Outcome, state: str) -> None:
    facts = after(ended(outcome))
    assert facts is not None
    assert facts.state == state
    assert (facts.last_error is None) == (state == "Held")


def test_attempts_are_those_that_count() -> None:
    failed = ended(Failed(FailureKind.FUNCTION_ERROR, "Unhandled", detail="boom"))
    assert after(failed, Waiting("s", BATCH, 1.0, 3)) == ShardFacts("Retrying", 3, "boom")


def test_success_clears_everything() -> None:
    failed = ended(Failed(FailureKind.FUNCTION_ERROR, "Unhandled", detail="boom"))
    assert after(failed, Waiting("s", BATCH, 1.0, 3), ended(Succeeded())) == ShardFacts()


def test_a_destination_that_does_not_take_a_record_blocks_until_it_does() -> None:
    discard = Discard(BATCH, Condition.RETRY_ATTEMPTS_EXHAUSTED, 1, None, BATCH, 0.0)
    failed = DeliveryFailed("s", discard, Reason.NOT_FOUND, "no such queue")
    assert after(failed) == ShardFacts("Blocked", 0, "NotFound: no such queue")
    assert after(failed, DiscardDelivered("s", discard, "r")) == ShardFacts()


def test_a_finished_shard_is_not_told_of_any_more() -> None:
    assert after(ShardFinished("s")) is None
