"""What a ShardLease tells of its shard."""

from __future__ import annotations

import pytest

from headrace.errors import Reason
from headrace.records import Record
from headrace.stream.classify import Failed, FailureKind, NotInvoked, Outcome, PartiallyFailed, Refused, Succeeded
from headrace.stream.events import (
    CallEnded,
    DeliveryFailed,
    DiscardDelivered,
    Event,
    RecordsDropped,
    RecordsPolled,
    ShardFinished,
    ShardStarted,
    ShardStopped,
    Waiting,
)
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
    ("outcome", "state", "error"),
    [
        (Succeeded(), "Held", None),
        (Failed(FailureKind.FUNCTION_ERROR, "Unhandled", detail="boom"), "Retrying", "boom"),
        (Failed(FailureKind.FUNCTION_ERROR, "Unhandled"), "Retrying", "FunctionError"),
        (PartiallyFailed(0), "Retrying", "a part of the batch failed"),
        (Refused(), "Retrying", "the batch is too large for the function"),
        (NotInvoked(throttled=False, detail="connection refused"), "Blocked", "connection refused"),
    ],
)
def test_a_failing_function_is_retried_and_an_absent_one_blocks(
    outcome: Outcome, state: str, error: str | None
) -> None:
    assert after(ended(outcome)) == ShardFacts(state, 0, error)


def test_attempts_are_those_that_count() -> None:
    failed = ended(Failed(FailureKind.FUNCTION_ERROR, "Unhandled", detail="boom"))
    assert after(failed, Waiting("s", BATCH, 1.0, 3)) == ShardFacts("Retrying", 3, "boom")


@pytest.mark.parametrize(
    "outcome",
    [NotInvoked(throttled=False, detail="away"), Failed(FailureKind.PARTIAL, None), PartiallyFailed(1), Refused()],
)
def test_another_failure_leaves_the_attempts_as_they_are(outcome: Outcome) -> None:
    facts = after(Waiting("s", BATCH, 1.0, 3), ended(outcome))
    assert facts is not None
    assert facts.attempts == 3


def test_success_clears_everything() -> None:
    failed = ended(Failed(FailureKind.FUNCTION_ERROR, "Unhandled", detail="boom"))
    assert after(failed, Waiting("s", BATCH, 1.0, 3), ended(Succeeded())) == ShardFacts()


def test_a_destination_that_does_not_take_a_record_blocks_until_it_does() -> None:
    discard = Discard(BATCH, Condition.RETRY_ATTEMPTS_EXHAUSTED, 1, None, BATCH, 0.0)
    failed = DeliveryFailed("s", discard, Reason.NOT_FOUND, "no such queue")
    assert after(failed) == ShardFacts("Blocked", 0, "NotFound: no such queue")
    assert after(Waiting("s", BATCH, 1.0, 3), failed) == ShardFacts("Blocked", 3, "NotFound: no such queue")
    assert after(failed, DiscardDelivered("s", discard, "r")) == ShardFacts()


@pytest.mark.parametrize("end", [ShardFinished("s"), ShardStopped("s")])
def test_a_shard_that_is_not_read_is_not_told_of(end: Event) -> None:
    assert after(end) is None
    progress = Progress()
    progress(end)
    assert progress.facts == {}


def test_records_that_are_gone_hold_up_nothing() -> None:
    discard = Discard(BATCH, Condition.RETRY_ATTEMPTS_EXHAUSTED, 1, None, BATCH, 0.0)
    failed = DeliveryFailed("s", discard, Reason.NOT_FOUND, "no such queue")
    assert after(failed, RecordsDropped("s", discard, delivery_failed=True)) == ShardFacts()


def test_each_shard_is_told_of_by_itself() -> None:
    progress = Progress()
    progress(Waiting("s", BATCH, 1.0, 3))
    progress(ShardStarted("t", None))
    assert progress.facts == {"s": ShardFacts(attempts=3), "t": ShardFacts()}


def test_what_says_nothing_of_a_shards_state_changes_nothing() -> None:
    assert after(Waiting("s", BATCH, 1.0, 3), RecordsPolled("s", 1, 0.0)) == ShardFacts(attempts=3)
