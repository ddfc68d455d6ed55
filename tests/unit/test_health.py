"""What shows of a mapping's work (contract A.4, design: conditions)."""

from __future__ import annotations

from headrace.errors import Reason
from headrace.stream import health
from headrace.stream.classify import Failed, FailureKind, NotInvoked, Outcome, PartiallyFailed, Succeeded
from headrace.stream.events import (
    CallEnded,
    ConditionObserved,
    ConditionType,
    Pending,
    RecordsPolled,
    ShardFinished,
    ShardsListed,
    ShardStarted,
    Waiting,
)
from headrace.stream.health import Health
from tests.support.records import records


def listed(*shards: str, waiting: int = 0) -> Health:
    watched = Health()
    watched(ConditionObserved(ConditionType.SOURCE_REACHABLE, holds=True, reason=Reason.REACHABLE, message=""))
    for shard in shards:
        watched(ShardStarted(shard, None))
    watched(ShardsListed(len(shards) + waiting, waiting))
    return watched


def called(outcome: Outcome, *, sent: bool = True) -> CallEnded:
    return CallEnded("a", records(1, 2), 1, "id", outcome, 0.1, sent)


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
        (NotInvoked(False, "HTTP 503"), "PROBLEM: HTTP 503"),
    ):
        watched(called(outcome))
        assert watched.last_processing_result == result


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


def test_a_shard_that_pauses_again_and_again_is_blocked_until_it_gets_on() -> None:
    watched = listed("a")
    for attempt in range(3):
        assert watched.report(0.0).shards_blocked == 0
        watched(Waiting("a", records(1), 1.0, attempt))
    assert watched.report(0.0).shards_blocked == 1
    watched(called(Succeeded()))
    assert watched.report(0.0).shards_blocked == 0
