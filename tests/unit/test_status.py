"""What a mapping's status says: states, conditions, times, figures."""

from __future__ import annotations

from dataclasses import astuple, replace
from typing import TYPE_CHECKING, Any

import pytest

from headrace.control.announcing import notices
from headrace.control.observe import Observed
from headrace.control.status import patch_of, status_of
from headrace.control.trouble import Problem
from headrace.errors import Reason
from headrace.heartbeat import Heartbeat, ReportedCondition
from headrace.resources import DEPLOYMENT
from headrace.stream.classify import NotInvoked, Succeeded
from headrace.stream.events import CallEnded, ConditionObserved, ConditionType, ShardStarted, ShardStopped
from headrace.stream.health import Health

if TYPE_CHECKING:
    from headrace.cluster import Body

NOW, LATER = "2026-01-01T00:00:00Z", "2026-01-01T00:01:00Z"
REACHED = ReportedCondition("SourceReachable", "True", "Reachable", "the stream answers")
MISSING = ReportedCondition("SourceReachable", "False", "NotFound", "there is no such stream")
NO_FUNCTION = ReportedCondition("FunctionReachable", "False", "Unreachable", "connection refused")
NO_TABLE = ReportedCondition(
    "CheckpointsReachable", "False", "NotFound", "DynamoDB table t, query: gone; make the table"
)
REFUSED = ReportedCondition("CheckpointsReachable", "False", "ApiError", "the Kubernetes API answered 403")
NO_QUEUE = ReportedCondition("DestinationReachable", "False", "NotFound", "there is no such queue")
SCALED_DOWN: Body = {
    "metadata": {"generation": 3},
    "spec": {"replicas": 0},
    "status": {"observedGeneration": 3},
}


def beat(generation: int = 2, *conditions: ReportedCondition, **more: Any) -> Heartbeat:
    return Heartbeat(more.pop("identity", "a"), generation, conditions or (REACHED,), **more)


def observed(*beats: Heartbeat, previous: Body | None = None, generation: int = 2, **more: Any) -> Observed:
    metadata = {"namespace": "shop", "name": "orders", "uid": "0a1b2c3d-1", "generation": generation}
    mapping = {"metadata": metadata | more.pop("metadata", {})} | ({"status": previous} if previous else {})
    return Observed(mapping, more.pop("children", {}), beats, more.pop("shards", ()))


def told(seen: Observed, *, enabled: bool = True, problem: Problem | None = None, now: str = NOW) -> Body:
    return status_of(seen, enabled, problem, now)


def condition(status: Body, kind: str) -> Body:
    found: Body = next(each for each in status["conditions"] if each["type"] == kind)
    return found


def brief(status: Body, kind: str) -> tuple[str, str]:
    found = condition(status, kind)
    return found["status"], found["reason"]


@pytest.mark.parametrize(
    ("before", "enabled", "follows", "after"),
    [
        (None, True, False, "Creating"),
        (None, True, True, "Enabled"),
        (None, False, False, "Creating"),
        (None, False, True, "Disabled"),
        ("Creating", True, False, "Creating"),
        ("Creating", True, True, "Enabled"),
        ("Creating", False, True, "Disabled"),
        ("Enabled", True, False, "Updating"),
        ("Enabled", True, True, "Enabled"),
        ("Enabled", False, False, "Disabling"),
        ("Enabled", False, True, "Disabled"),
        ("Disabled", True, False, "Enabling"),
        ("Disabled", False, False, "Updating"),
        ("Updating", True, False, "Updating"),
        ("Updating", True, True, "Enabled"),
        ("Disabling", True, False, "Enabling"),
        ("Enabling", False, False, "Disabling"),
        ("Enabling", False, True, "Disabled"),
    ],
)
def test_states_follow_the_spec_as_aws_has_them(before: str | None, enabled: bool, follows: bool, after: str) -> None:
    beats = [beat()] if enabled and follows else []
    children = {DEPLOYMENT: SCALED_DOWN} if not enabled and follows else {}
    previous = {"state": before, "observedGeneration": 1} if before else None
    assert told(observed(*beats, previous=previous, children=children), enabled=enabled)["state"] == after


@pytest.mark.parametrize("reason", [Reason.INVALID_SPEC, Reason.NOT_SUPPORTED_YET])
@pytest.mark.parametrize(
    ("before", "enabled", "runs", "after"),
    [
        (None, True, False, "Creating"),
        ("Creating", True, False, "Creating"),
        ("Creating", True, True, "Enabled"),
        ("Enabled", True, True, "Enabled"),
        ("Enabled", True, False, "Enabled"),
        ("Updating", True, True, "Enabled"),
        ("Enabling", True, False, "Enabling"),
        ("Disabling", False, False, "Disabling"),
        ("Disabling", False, True, "Disabled"),
        ("Disabled", False, True, "Disabled"),
    ],
)
def test_a_spec_that_cannot_be_run_leaves_the_state_that_of_what_runs(
    before: str | None, enabled: bool, runs: bool, after: str, reason: Reason
) -> None:
    """Pollers follow an older spec then: generation 1 of 2, or 0 when they have begun with it."""
    beats = [beat(1), beat(0, identity="b")] if enabled and runs else []
    children = {DEPLOYMENT: SCALED_DOWN} if not enabled and runs else {}
    for seen_before in (1, 2):
        previous = {"state": before, "observedGeneration": seen_before} if before else None
        seen = observed(*beats, previous=previous, children=children)
        assert told(seen, enabled=enabled, problem=Problem(reason, "…"))["state"] == after


def test_a_spec_that_was_mended_is_an_update() -> None:
    previous = {"state": "Enabled", "observedGeneration": 2}
    assert told(observed(beat(1), previous=previous, generation=3))["state"] == "Updating"


@pytest.mark.parametrize(
    ("function", "name"),
    [
        ({"service": {"name": "fulfil", "port": 80}}, "fulfil"),
        ({"url": "http://orders.shop.svc:8080/invoke?x=/y@z"}, "orders.shop.svc:8080"),
        ({"url": "https://me:secret@api.example.com"}, "api.example.com"),
        ({"url": "https://api.example.com?key=1"}, "api.example.com"),
        ({"url": "no url"}, None),
        ({}, None),
        (None, None),
    ],
)
def test_a_function_has_a_name_for_the_column_whichever_way_it_is_given(
    function: Body | None, name: str | None
) -> None:
    mapping = observed().mapping | {"spec": {"function": function}}
    assert told(Observed(mapping, {}))["function"] == name


def test_a_poller_that_dies_does_not_change_the_state() -> None:
    previous = {"state": "Enabled", "observedGeneration": 2}
    status = told(observed(previous=previous))
    assert status["state"] == "Enabled"
    assert brief(status, "Ready") == ("False", "Pending")


def test_a_poller_of_the_spec_before_does_not_make_the_mapping_enabled() -> None:
    previous = {"state": "Enabled", "observedGeneration": 1}
    assert told(observed(beat(1), previous=previous))["state"] == "Updating"


def test_a_mapping_is_disabled_only_once_its_pods_are_gone() -> None:
    running = {**SCALED_DOWN, "status": {"observedGeneration": 3, "replicas": 1}}
    previous = {"state": "Enabled", "observedGeneration": 1}
    assert told(observed(previous=previous, children={DEPLOYMENT: running}), enabled=False)["state"] == "Disabling"


def test_a_mapping_that_is_being_deleted_says_so() -> None:
    assert told(observed(metadata={"deletionTimestamp": NOW}))["state"] == "Deleting"


@pytest.mark.parametrize(
    ("conditions", "ready"),
    [
        ((REACHED,), ("True", "Ready")),
        ((MISSING,), ("False", "NotFound")),
        ((REACHED, NO_FUNCTION), ("False", "Unreachable")),
        ((REACHED, NO_QUEUE), ("True", "Ready")),
        ((NO_TABLE,), ("False", "NotFound")),
        ((REACHED, NO_TABLE), ("False", "NotFound")),
        ((REACHED, REFUSED), ("False", "ApiError")),
    ],
)
def test_ready_means_that_records_flow(conditions: tuple[ReportedCondition, ...], ready: tuple[str, str]) -> None:
    assert brief(told(observed(beat(2, *conditions))), "Ready") == ready


def test_what_fails_for_one_poller_fails() -> None:
    status = told(observed(beat(2, REACHED), beat(2, MISSING, identity="b")))
    assert brief(status, "SourceReachable") == ("False", "NotFound")


def test_without_pollers_nothing_is_known_of_the_world() -> None:
    status = told(observed())
    for kind in ("SourceReachable", "FunctionReachable", "DestinationReachable", "CheckpointsReachable"):
        assert brief(status, kind) == ("Unknown", "Pending")


def test_checkpoints_that_cannot_be_reached_say_what_to_do_and_are_an_event_once_and_again_when_they_can() -> None:
    away = told(observed(beat(2, NO_TABLE)))
    assert condition(away, "CheckpointsReachable")["message"] == NO_TABLE.message
    assert condition(told(observed(beat(2, REFUSED))), "Ready")["message"] == (
        "the Kubernetes API answered 403; it is tried again: if it lasts, mend what the server names"
    )
    back = told(observed(beat(2, REACHED, replace(NO_TABLE, status="True", reason="Reachable", message="it answers"))))
    assert brief(back, "Ready") == ("True", "Ready")
    events = [
        [(each.type, each.reason) for each in notices(*both)] for both in (({}, away), (away, away), (away, back))
    ]
    assert events == [[("Warning", "NotFound")], [], [("Normal", "Reachable"), ("Normal", "Ready")]]


def test_a_mapping_is_ready_again_once_the_shard_that_failed_is_read_by_a_poller_that_succeeds() -> None:
    giver, taker = Health(), Health()
    for health in (giver, taker):
        health(ConditionObserved(ConditionType.SOURCE_REACHABLE, True, Reason.REACHABLE, "it answers"))

    def ready() -> tuple[str, str]:
        beats = []
        for identity, health in (("a", giver), ("b", taker)):
            said = [ReportedCondition(*astuple(one)) for one in health.report(0.0).conditions]
            result = health.report(0.0).last_processing_result
            beats.append(beat(2, *said, identity=identity, last_processing_result=result))
        status = told(observed(*beats))
        return brief(status, "Ready")[1], status["lastProcessingResult"]

    giver(ShardStarted("s1", None))
    giver(ShardStarted("s2", None))
    giver(CallEnded("s1", (), 1, "id", NotInvoked(throttled=False, detail="refused"), 0.1))
    assert ready() == ("Unreachable", "PROBLEM: refused")
    giver(ShardStopped("s1"))
    taker(ShardStarted("s1", None))
    taker(CallEnded("s1", (), 1, "id", Succeeded(), 0.1))
    assert ready() == ("Ready", "OK")


def test_a_deployment_that_cannot_make_pods_is_quoted() -> None:
    failure = {"type": "ReplicaFailure", "status": "True", "message": "exceeded quota"}
    deployment = {"metadata": {"generation": 1}, "spec": {"replicas": 1}, "status": {"conditions": [failure]}}
    assert "exceeded quota" in condition(told(observed(children={DEPLOYMENT: deployment})), "Ready")["message"]


def test_a_problem_is_told_with_its_reason_and_sentence() -> None:
    status = told(observed(), problem=Problem(Reason.INVALID_SPEC, "spec.batchSize: must be …"))
    assert brief(status, "Ready") == ("False", "InvalidSpec")
    assert brief(status, "Progressing") == ("False", "InvalidSpec")
    assert "batchSize" in condition(status, "Ready")["message"]


def test_progressing_ends_when_what_runs_is_what_is_asked_for() -> None:
    assert brief(told(observed()), "Progressing") == ("True", "RollingOut")
    assert brief(told(observed(beat())), "Progressing") == ("False", "Reconciled")


def test_a_transition_time_stays_until_the_status_changes() -> None:
    first = told(observed(beat()), now=NOW)
    same = told(observed(beat(), previous=first), now=LATER)
    assert condition(same, "Ready")["lastTransitionTime"] == NOW
    other = told(observed(beat(2, MISSING), previous=same), now=LATER)
    assert condition(other, "Ready")["lastTransitionTime"] == LATER


def test_an_unchanged_status_needs_no_write() -> None:
    first = told(observed(beat(iterator_age_seconds=0)))
    previous = {key: value for key, value in first.items() if value is not None}
    assert patch_of(previous, told(observed(beat(iterator_age_seconds=0), previous=previous), now=LATER)) == {}


def test_a_figure_that_is_not_known_any_more_is_taken_away() -> None:
    first = told(observed(beat(iterator_age_seconds=4)))
    assert first["iteratorAgeSeconds"] == 4
    assert patch_of(first, told(observed(previous=first)))["iteratorAgeSeconds"] is None


def test_shards_are_folded_from_reports_and_leases() -> None:
    shards = (
        {"status": {"holder": "a", "state": "Held"}},
        {"status": {"holder": "dead", "state": "Blocked"}},
        {"status": {"state": "Finished", "finished": True}},
    )
    status = told(observed(beat(2, shards_total=8, shards_blocked=3), shards=shards))
    assert status["shards"] == {"total": 8, "assigned": 1, "blocked": 3}
    assert told(observed(shards=shards))["shards"] == {"total": 2, "assigned": 0, "blocked": 1}
    assert told(observed(shards=(*shards, shards[0])))["shards"] == {"total": 3, "assigned": 0, "blocked": 1}


def test_the_worst_result_and_the_oldest_record_count() -> None:
    status = told(
        observed(
            beat(2, last_processing_result="OK", iterator_age_seconds=1),
            beat(2, identity="b", last_processing_result="PROBLEM: Function call failed", iterator_age_seconds=9),
            beat(2, identity="c", last_processing_result="No records processed"),
        )
    )
    assert status["lastProcessingResult"] == "PROBLEM: Function call failed"
    assert status["iteratorAgeSeconds"] == 9
    assert status["pollers"] == 3


def test_the_last_result_outlives_its_poller() -> None:
    previous = {"lastProcessingResult": "OK"}
    assert told(observed(previous=previous))["lastProcessingResult"] == "OK"
    assert told(observed())["lastProcessingResult"] == "No records processed"
