"""What shows of a mapping's work (contract A.4, design: conditions)."""

from __future__ import annotations

from dataclasses import replace

import pytest

from headrace.errors import Reason, StoreError
from headrace.stream import health
from headrace.stream.classify import Failed, FailureKind, NotInvoked, Outcome, PartiallyFailed, Refused, Succeeded
from headrace.stream.events import (
    CallEnded,
    Checkpointed,
    ConditionObserved,
    ConditionType,
    DeliveryFailed,
    DiscardDelivered,
    Event,
    Faulted,
    Pending,
    QueueSeen,
    RecordsDropped,
    RecordsPolled,
    ShardFinished,
    ShardsListed,
    ShardStarted,
    ShardStopped,
    Waiting,
)
from headrace.stream.health import OF_QUEUES, Health
from headrace.stream.retry import Condition, Discard
from tests.support.records import records

DISCARD = Discard(records(1), Condition.RETRY_ATTEMPTS_EXHAUSTED, 1, None, records(1), 0.0)


def listed(*shards: str, waiting: int = 0) -> Health:
    watched = Health()
    watched(ConditionObserved(ConditionType.SOURCE_REACHABLE, holds=True, reason=Reason.REACHABLE, message=""))
    for shard in shards:
        watched(ShardStarted(shard, None))
    watched(ShardsListed(len(shards) + waiting, waiting))
    return watched


def called(outcome: Outcome, *, sent: bool = True, shard: str = "a") -> CallEnded:
    return CallEnded(shard, records(1, 2), 1, "id", outcome, 0.1, sent)


def told(watched: Health, kind: str) -> tuple[str, str]:
    (found,) = [(one.status, one.reason) for one in watched.report(0.0).conditions if one.type == kind]
    return found


def source(reason: Reason, shard: str | None = None) -> ConditionObserved:
    holds = reason is Reason.REACHABLE
    return ConditionObserved(ConditionType.SOURCE_REACHABLE, holds, reason, "", shard)


def unwritten(shard: str, reason: Reason = Reason.ACCESS_DENIED) -> Faulted:
    return Faulted(f"checkpoint of {shard}", StoreError(reason, "denied"), 1.0, shard)


def test_idle_means_every_shard_at_its_tip_and_nothing_pending() -> None:
    watched = listed("a", "b")
    assert not watched.idle
    watched(Pending("a", None, at_tip=True))
    assert not watched.idle
    watched(Pending("b", None, at_tip=True))
    assert watched.idle
    watched(Pending("b", 5.0, at_tip=True))
    assert not watched.idle


def test_a_source_that_was_never_listed_or_is_away_is_not_idle() -> None:
    assert not Health().idle
    watched = listed("a")
    watched(Pending("a", None, at_tip=True))
    watched(ConditionObserved(ConditionType.SOURCE_REACHABLE, holds=False, reason=Reason.UNREACHABLE, message=""))
    assert not watched.idle


def test_a_finished_shard_leaves_no_idleness_before_its_children_are_listed() -> None:
    watched = listed("a")
    watched(Pending("a", None, at_tip=True))
    watched(ShardFinished("a"))
    assert not watched.idle
    watched(ShardsListed(2, 2))
    assert not watched.idle


def test_the_iterator_age_is_that_of_the_oldest_undecided_record_else_of_the_reading() -> None:
    watched = listed("a")
    watched(RecordsPolled("a", 0, 7.0))
    assert watched.iterator_age("a", 100.0) == 7.0
    watched(Pending("a", 40.0, at_tip=False))
    assert watched.iterator_age("a", 100.0) == 60.0
    assert watched.report(100.0).iterator_age_seconds == 60.0


def test_the_last_processing_result_is_in_lambdas_words() -> None:
    watched = listed("a")
    assert watched.last_processing_result == "No records processed"
    for outcome, result in (
        (Succeeded(), "OK"),
        (PartiallyFailed(1), "OK"),
        (Failed(FailureKind.PARTIAL, None), "OK"),
        (Failed(FailureKind.FUNCTION_ERROR, "Unhandled"), "PROBLEM: Function call failed"),
        (Failed(FailureKind.INVALID_RESPONSE, None), health.INVALID_SEQUENCE),
        (Succeeded(), "OK"),
        (Failed(FailureKind.MISSING_STATE, None), "PROBLEM: Function call failed"),
        (Succeeded(), "OK"),
        (Refused(), "PROBLEM: Function call failed"),
        (NotInvoked(False, "HTTP 503"), "PROBLEM: HTTP 503"),
    ):
        watched(called(outcome))
        assert watched.last_processing_result == watched.report(0.0).last_processing_result == result


def test_the_function_is_reachable_when_it_answers_even_with_an_error() -> None:
    watched = listed("a")

    def status() -> str:
        return next(one.status for one in watched.report(0.0).conditions if one.type == "FunctionReachable")

    assert status() == "Unknown"
    for outcome, expected in (
        (NotInvoked(throttled=False, detail="refused"), "False"),
        (NotInvoked(throttled=True, detail="429"), "True"),
        (Failed(FailureKind.FUNCTION_ERROR, "Unhandled"), "True"),
        (Succeeded(), "True"),
    ):
        watched(called(outcome))
        assert status() == expected


def test_what_is_known_is_told_with_reason_and_message_and_the_rest_is_unknown() -> None:
    def everything() -> dict[str, tuple[str, str, str]]:
        return {one.type: (one.status, one.reason, one.message) for one in watched.report(0.0).conditions}

    watched = Health()
    unknown = ("Unknown", "Pending", "not tried yet")
    assert everything() == dict.fromkeys(set(ConditionType) - OF_QUEUES, unknown)
    watched(ConditionObserved(ConditionType.SOURCE_REACHABLE, False, Reason.NOT_FOUND, "no such stream"))
    assert everything()["SourceReachable"] == ("False", "NotFound", "no such stream")
    watched(called(NotInvoked(throttled=False, detail="refused")))
    away = "refused: check the address and that it is running"
    assert everything()["FunctionReachable"] == ("False", "Unreachable", away)
    watched(called(NotInvoked(throttled=True, detail="HTTP 429")))
    assert everything()["FunctionReachable"] == ("True", "Throttled", "HTTP 429: it answers that it is busy")
    watched(called(Succeeded()))
    assert everything()["FunctionReachable"] == ("True", "Reachable", "the function answers")
    watched(DeliveryFailed("a", DISCARD, Reason.ACCESS_DENIED, "not allowed"))
    assert everything()["DestinationReachable"] == ("False", "AccessDenied", "not allowed")
    watched(DiscardDelivered("a", DISCARD, "id"))
    assert everything()["DestinationReachable"] == ("True", "Reachable", "took a failure record")


@pytest.mark.parametrize(
    ("status", "advice"),
    [
        (None, "check the address and that it is running"),
        (404, "check the address and that it is running"),
        (403, "the call is refused; check who may call the function, and the headers that spec.function sends"),
        (500, "what serves the function, or stands before it, answers and fails; its own log says why"),
        (504, "what serves the function, or stands before it, answers and fails; its own log says why"),
    ],
)
def test_what_to_do_about_a_function_that_did_not_run_follows_from_who_answered(
    status: int | None, advice: str
) -> None:
    watched = Health()
    watched(called(NotInvoked(throttled=False, detail="no", status=status)))
    (told,) = [one.message for one in watched.report(0.0).conditions if one.type == "FunctionReachable"]
    assert told == f"no: {advice}"


def test_an_event_that_was_not_sent_says_nothing_of_the_function() -> None:
    watched = listed("a")
    watched(called(Refused(), sent=False))
    assert watched.last_processing_result == "PROBLEM: Function call failed"
    assert [one.status for one in watched.report(0.0).conditions if one.type == "FunctionReachable"] == ["Unknown"]


def test_a_mapping_is_ready_once_its_source_was_listed() -> None:
    watched = Health()
    assert not watched.ready
    assert watched.report(0.0).shards_total is None
    watched(ShardsListed(3, 1))
    assert watched.ready
    assert watched.report(0.0).shards_total == 3


def test_an_open_tumbling_window_is_work_to_do() -> None:
    watched = listed("a")
    watched(Pending("a", None, at_tip=True, window_open=True))
    assert not watched.idle
    watched(Pending("a", None, at_tip=True))
    assert watched.idle


def test_children_that_wait_for_their_parents_are_work_to_do() -> None:
    watched = listed(waiting=1)
    assert not watched.idle
    watched(ShardsListed(0, 0))
    assert watched.idle


def test_a_shard_that_is_read_again_begins_with_nothing_known() -> None:
    watched = listed("a")
    watched(Pending("a", 5.0, at_tip=True))
    watched(ShardStarted("a", None))
    assert watched.iterator_age("a", 100.0) == 0.0
    assert not watched.idle


@pytest.mark.parametrize("end", [ShardFinished("a"), ShardStopped("a")])
def test_the_worst_shard_tells_the_iterator_age_while_it_is_read(end: Event) -> None:
    watched = listed("a", "b")
    watched(RecordsPolled("a", 1, 7.0))
    watched(RecordsPolled("b", 1, 3.0))
    assert watched.report(0.0).iterator_age_seconds == 7.0
    watched(end)
    assert watched.report(0.0).iterator_age_seconds == 3.0
    assert watched.iterator_age("a", 0.0) == 0.0
    watched(ShardFinished("b"))
    assert watched.report(0.0).iterator_age_seconds is None


def test_a_record_from_the_future_has_no_negative_age() -> None:
    watched = listed("a")
    watched(Pending("a", 100.0, at_tip=False))
    assert watched.iterator_age("a", 99.0) == 0.0
    assert watched.iterator_age("a", 100.5) == 0.5


def paused(watched: Health, times: int, lane: int = 0, shard: str = "a") -> None:
    for attempt in range(times):
        watched(Waiting(shard, records(1), 1.0, attempt, lane))


def blocked(watched: Health) -> int:
    return watched.report(0.0).shards_blocked


def test_a_shard_that_pauses_again_and_again_is_blocked() -> None:
    watched = listed("a", "b")
    paused(watched, 2)
    assert blocked(watched) == 0
    paused(watched, 1)
    assert blocked(watched) == 1
    paused(watched, 4, shard="b")
    assert blocked(watched) == 2


@pytest.mark.parametrize(
    "progress",
    [
        CallEnded("a", records(1, 2), 1, "id", Succeeded(), 0.1, lane=1),
        CallEnded("a", records(1, 2), 1, "id", PartiallyFailed(1), 0.1, lane=1),
        DiscardDelivered("a", DISCARD, "id", lane=1),
        RecordsDropped("a", DISCARD, delivery_failed=False, lane=1),
    ],
    ids=lambda event: type(event).__name__,
)
def test_a_lane_that_gets_on_is_not_blocked_any_more(progress: Event) -> None:
    watched = listed("a")
    watched(progress)
    paused(watched, 3, lane=1)
    watched(replace(progress, lane=0))  # type: ignore[arg-type]
    assert blocked(watched) == 1
    watched(progress)
    assert blocked(watched) == 0
    paused(watched, 2, lane=1)
    assert blocked(watched) == 0


@pytest.mark.parametrize(
    "outcome",
    [
        Failed(FailureKind.PARTIAL, None),
        Failed(FailureKind.FUNCTION_ERROR, "Unhandled"),
        Failed(FailureKind.INVALID_RESPONSE, None),
        Failed(FailureKind.MISSING_STATE, None),
        Refused(),
        NotInvoked(throttled=True, detail="HTTP 429"),
    ],
)
def test_a_failure_is_no_progress(outcome: Outcome) -> None:
    """One that the function tells by its first record neither, though its answer is a valid one."""
    watched = listed("a")
    for _ in range(3):
        watched(called(outcome))
        paused(watched, 1)
    assert blocked(watched) == 1


ENDS = [ShardStopped("a"), ShardFinished("a")]


@pytest.mark.parametrize("end", ENDS)
@pytest.mark.parametrize(
    ("met", "kind"),
    [
        (source(Reason.ACCESS_DENIED, "a"), "SourceReachable"),
        (called(NotInvoked(throttled=False, detail="refused")), "FunctionReachable"),
        (DeliveryFailed("a", DISCARD, Reason.ACCESS_DENIED, "not allowed"), "DestinationReachable"),
        (unwritten("a"), "CheckpointsReachable"),
    ],
    ids=["source", "function", "destination", "checkpoints"],
)
def test_what_failed_with_a_shard_is_told_while_the_shard_is_read_here(met: Event, kind: str, end: Event) -> None:
    watched = Health()
    watched(ShardStarted("a", None))
    watched(ShardStarted("b", None))
    watched(met)
    assert told(watched, kind)[0] == "False"
    watched(end)
    assert told(watched, kind) == ("Unknown", "Pending")


@pytest.mark.parametrize("end", ENDS)
def test_what_was_met_with_the_shards_that_stay_is_told_again(end: Event) -> None:
    watched = listed("a", "b")
    watched(called(Succeeded(), shard="b"))
    watched(called(NotInvoked(throttled=False, detail="refused")))
    assert told(watched, "FunctionReachable") == ("False", "Unreachable")
    assert watched.report(0.0).last_processing_result == "PROBLEM: refused"
    watched(end)
    assert told(watched, "FunctionReachable") == ("True", "Reachable")
    assert watched.report(0.0).last_processing_result == "OK"
    watched(ShardStopped("b"))
    assert told(watched, "FunctionReachable") == ("Unknown", "Pending")
    assert watched.report(0.0).last_processing_result == "No records processed"


def test_of_function_and_destination_the_last_experience_counts_whichever_shards_it_was() -> None:
    watched = listed("a", "b")
    for outcome, shard, status in (
        (NotInvoked(throttled=False, detail="refused"), "a", "False"),
        (Succeeded(), "b", "True"),
        (NotInvoked(throttled=False, detail="refused"), "a", "False"),
    ):
        watched(called(outcome, shard=shard))
        assert told(watched, "FunctionReachable")[0] == status
    watched(DeliveryFailed("a", DISCARD, Reason.ACCESS_DENIED, "not allowed"))
    watched(DiscardDelivered("b", DISCARD, "id"))
    assert told(watched, "DestinationReachable")[0] == "True"


def test_a_shard_that_cannot_be_read_is_told_whatever_the_listing_and_other_shards_say() -> None:
    watched = listed("a", "b")
    watched(source(Reason.ACCESS_DENIED, "a"))
    watched(source(Reason.REACHABLE, "b"))
    watched(source(Reason.REACHABLE))
    assert told(watched, "SourceReachable") == ("False", "AccessDenied")
    watched(source(Reason.UNREACHABLE, "b"))
    assert told(watched, "SourceReachable") == ("False", "Unreachable")
    watched(source(Reason.REACHABLE, "b"))
    watched(source(Reason.REACHABLE, "a"))
    assert told(watched, "SourceReachable") == ("True", "Reachable")


def test_a_stream_that_cannot_be_listed_is_told_without_any_shard() -> None:
    watched = listed("a")
    watched(source(Reason.REACHABLE, "a"))
    watched(source(Reason.NOT_FOUND))
    watched(ShardStopped("a"))
    assert told(watched, "SourceReachable") == ("False", "NotFound")
    watched(source(Reason.REACHABLE))
    assert told(watched, "SourceReachable") == ("True", "Reachable")


def test_checkpoints_that_cannot_be_written_are_told_until_each_shards_is() -> None:
    watched = listed("a", "b")
    watched(Checkpointed("a", "1"))
    assert told(watched, "CheckpointsReachable") == ("True", "Reachable")
    watched(unwritten("a"))
    watched(unwritten("b", Reason.UNREACHABLE))
    watched(ConditionObserved(ConditionType.CHECKPOINTS_REACHABLE, True, Reason.REACHABLE, "leases were read"))
    assert told(watched, "CheckpointsReachable") == ("False", "Unreachable")
    watched(Checkpointed("b", "1"))
    assert told(watched, "CheckpointsReachable") == ("False", "AccessDenied")
    watched(Checkpointed("a", "2"))
    assert told(watched, "CheckpointsReachable") == ("True", "Reachable")


def test_a_store_that_asks_for_patience_is_there() -> None:
    watched = listed("a")
    watched(unwritten("a", Reason.THROTTLED))
    assert told(watched, "CheckpointsReachable") == ("True", "Throttled")


@pytest.mark.parametrize("error", [RuntimeError("a bug"), StoreError(Reason.API_ERROR, "not given back")])
def test_a_fault_of_another_kind_or_of_no_held_shard_says_nothing_of_checkpoints(error: Exception) -> None:
    watched = listed("a")
    watched(Faulted("giving back a", error, 0.0, "a" if isinstance(error, RuntimeError) else None))
    assert told(watched, "CheckpointsReachable") == ("Unknown", "Pending")


def test_a_lease_that_is_broken_says_nothing_of_the_store() -> None:
    watched = listed("a", "b")
    watched(Checkpointed("b", "1"))
    watched(unwritten("a", Reason.LEASE_BROKEN))
    assert told(watched, "CheckpointsReachable") == ("True", "Reachable")


def test_the_shards_that_nobody_holds_are_those_of_the_last_look() -> None:
    watched = Health()
    assert watched.report(0.0).unowned == ()
    watched(ShardsListed(3, 0, ("a", "b")))
    assert watched.report(0.0).unowned == ("a", "b")
    watched(ShardsListed(3, 0))
    assert watched.report(0.0).unowned == ()


def test_lanes_that_pause_in_turn_do_not_add_up() -> None:
    watched = listed("a")
    paused(watched, 2, lane=0)
    paused(watched, 2, lane=1)
    assert blocked(watched) == 0


def test_a_queue_tells_its_advice_and_the_age_of_its_oldest_message_and_neither_shards_nor_a_last_result() -> None:
    watched = Health()
    watched(QueueSeen("queue", 3))
    watched(ShardsListed(1, 0))
    watched(ShardStarted("queue", None))
    watched(ConditionObserved(ConditionType.DEAD_LETTER_QUEUE, False, Reason.NO_DEAD_LETTER_QUEUE, "no redrive policy"))
    watched(Pending("queue", 10.0, at_tip=False))
    for _ in range(health.BLOCKED_AFTER):
        watched(Waiting("queue", (), 1.0, 0))
    watched(CallEnded("queue", (), 1, "id", Failed(FailureKind.FUNCTION_ERROR, None), 0.1))
    report = watched.report(15.0)
    assert {one.type for one in report.conditions if one.status != "Unknown"} == {
        "DeadLetterQueue",
        "FunctionReachable",
    }
    assert told(watched, "DeadLetterQueue") == ("False", "NoDeadLetterQueue")
    assert (report.last_processing_result, report.iterator_age_seconds) == (None, 5.0)
    assert (report.shards_total, report.shards_ready, report.shards_blocked, report.unowned) == (None, None, 0, ())


def test_a_queue_is_idle_once_it_was_asked_and_nothing_is_held() -> None:
    watched = Health()
    for event in (QueueSeen("queue", 0), ShardsListed(1, 0), ShardStarted("queue", None)):
        watched(event)
    watched(ConditionObserved(ConditionType.SOURCE_REACHABLE, True, Reason.REACHABLE, ""))
    assert not watched.idle
    for oldest, idle in ((1.0, False), (None, True)):
        watched(Pending("queue", oldest, at_tip=oldest is None))
        assert watched.idle is idle
