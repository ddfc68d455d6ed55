"""What a ShardLease tells of its shard."""

from __future__ import annotations

import pytest

from headrace.errors import Reason
from headrace.records import Head, LaneProgress, Record
from headrace.stream.classify import Failed, FailureKind, NotInvoked, Outcome, PartiallyFailed, Refused, Succeeded
from headrace.stream.events import (
    CallEnded,
    DeliveryFailed,
    DiscardDelivered,
    Event,
    Pending,
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
LONGER = (*BATCH, Record("2", 0.0, "k", b"{}"))
NOW = 50.0
GOOD = ShardFacts()


def stuck(state: str, attempts: int = 0, error: str | None = None, on: str | None = "1") -> ShardFacts:
    return ShardFacts(state, attempts, error, stuck_since=NOW, stuck_on=on)


def ended(outcome: Outcome) -> CallEnded:
    return CallEnded("s", BATCH, 1, "r", outcome, 0.1)


def after(*events: object) -> ShardFacts | None:
    progress = Progress(lambda: NOW)
    progress(ShardStarted("s", None))
    for event in events:
        progress(event)  # type: ignore[arg-type]
    return progress.facts.get("s")


@pytest.mark.parametrize(
    ("outcome", "state", "error"),
    [
        (Failed(FailureKind.FUNCTION_ERROR, "Unhandled", detail="boom"), "Retrying", "boom"),
        (Failed(FailureKind.FUNCTION_ERROR, "Unhandled"), "Retrying", "FunctionError"),
        (PartiallyFailed(0), "Retrying", "a part of the batch failed"),
        (Refused(), "Retrying", "the batch is too large for the function"),
        (NotInvoked(throttled=False, detail="connection refused"), "Blocked", "connection refused"),
    ],
)
def test_a_failing_function_is_retried_and_an_absent_one_blocks(outcome: Outcome, state: str, error: str) -> None:
    assert after(ended(outcome)) == stuck(state, 0, error)


def test_attempts_are_those_that_count() -> None:
    failed = ended(Failed(FailureKind.FUNCTION_ERROR, "Unhandled", detail="boom"))
    assert after(failed, Waiting("s", BATCH, 1.0, 3)) == stuck("Retrying", 3, "boom")


@pytest.mark.parametrize(
    "outcome",
    [NotInvoked(throttled=False, detail="away"), Failed(FailureKind.PARTIAL, None), PartiallyFailed(0), Refused()],
)
def test_another_failure_leaves_the_attempts_as_they_are(outcome: Outcome) -> None:
    facts = after(Waiting("s", BATCH, 1.0, 3), ended(outcome))
    assert facts is not None
    assert facts.attempts == 3


def test_success_clears_everything() -> None:
    failed = ended(Failed(FailureKind.FUNCTION_ERROR, "Unhandled", detail="boom"))
    assert after(failed, Waiting("s", BATCH, 1.0, 3), ended(Succeeded())) == GOOD


def test_a_destination_that_does_not_take_a_record_blocks_until_it_does() -> None:
    discard = Discard(BATCH, Condition.RETRY_ATTEMPTS_EXHAUSTED, 1, None, BATCH, 0.0)
    failed = DeliveryFailed("s", discard, Reason.NOT_FOUND, "no such queue")
    assert after(failed) == stuck("Blocked", 0, "NotFound: no such queue")
    assert after(Waiting("s", BATCH, 1.0, 3), failed) == stuck("Blocked", 3, "NotFound: no such queue")
    assert after(failed, DiscardDelivered("s", discard, "r")) == GOOD


@pytest.mark.parametrize("end", [ShardFinished("s"), ShardStopped("s")])
def test_a_shard_that_is_not_read_is_not_told_of(end: Event) -> None:
    assert after(end) is None
    progress = Progress(lambda: NOW)
    progress(end)
    assert progress.facts == {}


def test_records_that_are_gone_hold_up_nothing() -> None:
    discard = Discard(BATCH, Condition.RETRY_ATTEMPTS_EXHAUSTED, 1, None, BATCH, 0.0)
    failed = DeliveryFailed("s", discard, Reason.NOT_FOUND, "no such queue")
    assert after(failed, RecordsDropped("s", discard, delivery_failed=True)) == GOOD


def test_each_shard_is_told_of_by_itself() -> None:
    progress = Progress(lambda: NOW)
    progress(Waiting("s", BATCH, 1.0, 3))
    progress(ShardStarted("t", None))
    assert progress.facts == {"s": stuck("Retrying", 3), "t": ShardFacts(fresh=True)}


def test_what_says_nothing_of_a_shards_state_changes_nothing() -> None:
    assert after(Waiting("s", BATCH, 1.0, 3), RecordsPolled("s", 1, 0.0)) == stuck("Retrying", 3)


class Clock:
    now = NOW

    def __call__(self) -> float:
        return self.now


def failed(batch: tuple[Record, ...], lane: int = 0, outcome: Outcome | None = None) -> CallEnded:
    return CallEnded("s", batch, 1, "r", outcome or Failed(FailureKind.FUNCTION_ERROR, "Unhandled"), 0.1, lane=lane)


def test_a_record_is_stuck_since_its_first_failure_and_the_next_one_since_its_own() -> None:
    clock = Clock()
    progress = Progress(clock)
    progress(failed(BATCH))
    clock.now = 60.0
    progress(failed(BATCH))
    assert (progress.facts["s"].stuck_since, progress.facts["s"].stuck_on) == (NOW, "1")
    progress(failed(LONGER, outcome=PartiallyFailed(1)))
    assert (progress.facts["s"].stuck_since, progress.facts["s"].stuck_on) == (60.0, "2")


def test_the_final_call_of_a_window_is_stuck_on_no_record() -> None:
    assert after(failed(())) == stuck("Retrying", 0, "FunctionError", None)


def test_a_lane_that_gets_ahead_hides_no_other_that_is_stuck() -> None:
    clock = Clock()
    progress = Progress(clock)
    progress(failed(BATCH, 1))
    clock.now = 60.0
    progress(failed(LONGER[1:], 2))
    progress(failed(LONGER, 3, Succeeded()))
    assert (progress.facts["s"].state, progress.facts["s"].stuck_on) == ("Retrying", "1")
    progress(failed(LONGER[1:], 2, NotInvoked(throttled=False, detail="away")))
    assert (progress.facts["s"].state, progress.facts["s"].stuck_on) == ("Blocked", "2")
    progress(failed(BATCH, 1, Succeeded()))
    progress(failed(LONGER[1:], 2, Succeeded()))
    assert progress.facts["s"] == GOOD


def test_a_shard_without_an_undecided_record_is_stuck_on_none() -> None:
    assert after(failed(BATCH), Pending("s", None, at_tip=True)) == GOOD
    for pending in (
        Pending("s", 1.0, at_tip=True),
        Pending("s", None, at_tip=False),  # nothing was read yet
        Pending("s", None, at_tip=True, window_open=True),  # its final call has no records
    ):
        assert after(failed(BATCH), pending) == stuck("Retrying", 0, "FunctionError")


def test_a_shard_that_moves_is_stuck_on_what_it_was_stuck_on_until_its_lanes_get_ahead() -> None:
    former = (
        LaneProgress(2, 0, head=Head("7", "9", 3, 4)),
        LaneProgress(2, 1, head=Head("8", "8", 1, 2)),
    )
    begun = ShardStarted("s", "6", former)
    assert after(begun) == stuck("Retrying", 4, None, "7")
    assert after(begun, failed(BATCH, 2, Succeeded())) == stuck("Retrying", 4, None, "7")
    assert after(begun, failed(BATCH, 0, Succeeded())) == stuck("Retrying", 2, None, "8")
    assert after(begun, failed(BATCH, 0, Succeeded()), failed(BATCH, 1, Succeeded())) == GOOD


def test_the_final_call_of_a_window_is_stuck_on_no_record_after_a_move_either() -> None:
    former = (LaneProgress(1, 0, head=Head("7", "7", 0, 4)),)
    assert after(ShardStarted("s", "9", former)) == stuck("Retrying", 4, None, None)


def test_a_shard_that_starts_again_has_shown_nothing_yet() -> None:
    assert after(failed(BATCH), ShardStarted("s", None)) == ShardFacts(fresh=True)
