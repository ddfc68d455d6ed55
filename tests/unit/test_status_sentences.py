"""A mapping's status, word by word: what a user reads, and scripts compare, in the states that a mapping comes to."""

from __future__ import annotations

from typing import Any

import pytest

from headrace.control.announcing import notices
from headrace.control.observe import Observed
from headrace.control.status import status_of
from headrace.control.trouble import Problem
from headrace.errors import Reason
from headrace.heartbeat import Heartbeat, ReportedCondition
from headrace.resources import DEPLOYMENT
from tests.support.mappings import SQS

NOW = "2026-01-01T00:00:00Z"
NOT_REPORTED = ("Unknown", "Pending", "no poller has reported it yet")
NOT_TRIED = ("Unknown", "Disabled", "spec.enabled is false, so nothing is tried")
NOT_LISTED = ("Unknown", "Pending", "no poller has listed the shards yet")
ROLLING = ("True", "RollingOut", "pollers are being brought to the newest spec")
RECONCILED = ("False", "Reconciled", "what runs is what the spec asks for")
READ = ReportedCondition("SourceReachable", "True", "Reachable", "it answers")
KINDS = ("Ready", "SourceReachable", "FunctionReachable", "DestinationReachable", "CheckpointsReachable")
CRASHED = {
    "metadata": {"name": "p"},
    "status": {"containerStatuses": [{"state": {"terminated": {"reason": "Error", "exitCode": 2}}}]},
}


def seen(*beats: Heartbeat, status: dict[str, Any] | None = None, **more: Any) -> Observed:
    metadata = {"namespace": "shop", "name": "orders", "uid": "0a1b2c3d-1", "generation": 7}
    mapping = {"metadata": metadata, "spec": more.pop("spec", {}), "status": status or {}}
    return Observed(mapping, more.pop("children", {}), beats, more.pop("leases", ()), more.pop("pods", ()))


def beat(*conditions: ReportedCondition, **more: Any) -> Heartbeat:
    return Heartbeat("a", 7, conditions or (READ,), **more)


def said(observed: Observed, *, enabled: bool = True, problem: Problem | None = None) -> dict[str, tuple[str, ...]]:
    conditions = status_of(observed, enabled, problem, NOW)["conditions"]
    return {one["type"]: (one["status"], one["reason"], one["message"]) for one in conditions}


def test_the_status_of_a_mapping_that_works_is_complete() -> None:
    conditions = {
        "Ready": ("True", "Ready", "records are read and handed to the function"),
        "SourceReachable": ("True", "Reachable", "it answers"),
        "FunctionReachable": NOT_REPORTED,
        "DestinationReachable": NOT_REPORTED,
        "CheckpointsReachable": NOT_REPORTED,
        "ShardsAssigned": ("True", "ShardsAssigned", "each of the 4 shards that can be read has a poller"),
        "Progressing": RECONCILED,
    }
    spec = {"function": {"service": {"name": "fulfil", "port": 80}}}
    observed = seen(beat(shards_total=5, shards_ready=4, shards_held=4, iterator_age_seconds=0), spec=spec)
    assert status_of(observed, True, None, NOW) == {
        "state": "Enabled",
        "stateTransitionReason": "User action",
        "lastProcessingResult": "No records processed",
        "conditions": [
            {
                "type": kind,
                "status": status,
                "reason": reason,
                "message": message,
                "lastTransitionTime": NOW,
                "observedGeneration": 7,
            }
            for kind, (status, reason, message) in conditions.items()
        ],
        "shards": {"total": 5, "assigned": 4, "blocked": 0},
        "pollers": 1,
        "function": "fulfil",
        "iteratorAgeSeconds": 0,
        "observedGeneration": 7,
    }


def test_before_any_poller_is_there_the_deployment_is_named() -> None:
    waiting = "no poller is running yet; see the pods of Deployment orders-0a1b2c3d if it lasts"
    assert said(seen()) == dict.fromkeys(KINDS, NOT_REPORTED) | {
        "Ready": ("False", "Pending", waiting),
        "ShardsAssigned": NOT_LISTED,
        "Progressing": ROLLING,
    }


@pytest.mark.parametrize("gone", [False, True], ids=["pods end", "pods are gone"])
def test_a_disabled_mapping_says_so_in_every_condition(gone: bool) -> None:
    deployment = {"metadata": {"generation": 2}, "spec": {"replicas": 0}, "status": {"observedGeneration": 2}}
    observed = seen(children={DEPLOYMENT: deployment} if gone else {}, status={"state": "Enabled"})
    assert said(observed, enabled=False) == dict.fromkeys(KINDS, NOT_TRIED) | {
        "Ready": ("False", "Disabled", "spec.enabled is false; checkpoints are kept"),
        "ShardsAssigned": ("Unknown", "Disabled", "spec.enabled is false, so no shard is read"),
        "Progressing": RECONCILED if gone else ROLLING,
    }


def test_a_deployment_that_still_asks_for_pods_is_not_disabled_though_it_has_none() -> None:
    deployment = {"metadata": {"generation": 2}, "spec": {"replicas": 3}, "status": {"observedGeneration": 2}}
    observed = seen(children={DEPLOYMENT: deployment}, status={"state": "Enabled"})
    assert status_of(observed, False, None, NOW)["state"] == "Disabling"


def test_a_mapping_that_cannot_be_brought_to_its_spec_is_not_enabled() -> None:
    problem = Problem(Reason.INVALID_SPEC, "spec.batchSize: must be …")
    assert status_of(seen(beat()), True, problem, NOW)["state"] == "Creating"
    assert said(seen(beat()), problem=problem)["Ready"] == ("False", "InvalidSpec", problem.message)
    assert said(seen(beat()), problem=problem)["Progressing"] == ("False", "InvalidSpec", problem.message)


def test_a_source_that_was_not_read_yet_is_no_mapping_that_is_ready() -> None:
    unknown = ReportedCondition("SourceReachable", "Unknown", "Starting", "the first read is on its way")
    told = said(seen(beat(unknown)))
    assert told["SourceReachable"] == ("Unknown", "Starting", "the first read is on its way")
    assert told["Ready"] == ("False", "Pending", "the source was not read yet")


@pytest.mark.parametrize(
    ("service", "where"),
    [
        ({"name": "orders", "port": 8080}, "Service shop/orders, port 8080: "),
        ({"name": "orders", "port": 80, "namespace": "theirs"}, "Service theirs/orders, port 80: "),
        (None, ""),
    ],
)
def test_a_function_that_is_a_service_is_named_where_it_does_not_answer(
    service: dict[str, Any] | None, where: str
) -> None:
    """A Service that does not exist looks like one that is away."""
    refused = ReportedCondition("FunctionReachable", "False", "Unreachable", "connection refused")
    away = ReportedCondition("SourceReachable", "False", "Unreachable", "timed out")
    function = {"service": service} if service else {"url": "http://x"}
    told = said(seen(beat(READ, refused), spec={"function": function}))
    assert told["FunctionReachable"] == ("False", "Unreachable", f"{where}connection refused")
    assert told["Ready"] == told["FunctionReachable"]
    assert said(seen(beat(away), spec={"function": function}))["SourceReachable"][2] == "timed out"


def test_a_mapping_that_is_ready_tells_which_shards_are_stuck_all_the_same() -> None:
    status = {"state": "Blocked", "stuckSince": NOW, "stuckOn": "77", "attempts": 5, "lastError": "no such queue"}
    told = said(seen(beat(), leases=({"spec": {"shardId": "s1"}, "status": status},)))
    stuck = f"s1 is blocked since {NOW} on record 77 after 5 failed calls: no such queue"
    assert told["Ready"] == ("True", "Ready", f"records are read and handed to the function, except that {stuck}")


def test_a_pod_that_fails_beside_one_that_works_holds_up_the_newest_spec_only() -> None:
    crashed = "pod p ended (Error, exit code 2) and was restarted 0 times; see kubectl logs --previous p"
    told = said(seen(beat(), pods=(CRASHED,)))
    assert told["Ready"][:2] == ("True", "Ready")
    assert told["Progressing"] == ("False", "PodsCrashing", crashed)
    alone = said(seen(pods=(CRASHED,)))
    assert alone["Ready"] == ("False", "PodsCrashing", f"no poller is running: {crashed}")
    assert alone["Progressing"] == ROLLING


def test_a_condition_that_was_never_dated_is_dated_now() -> None:
    before = {"conditions": [{"type": "Ready", "status": "True"}]}
    conditions = status_of(seen(beat(), status=before), True, None, NOW)["conditions"]
    assert {one["lastTransitionTime"] for one in conditions} == {NOW}


def test_whatever_is_not_ok_is_worse_than_what_is() -> None:
    beats = [beat(last_processing_result=result) for result in ("A failure", "OK", "B failure")]
    assert status_of(seen(*beats), True, None, NOW)["lastProcessingResult"] == "B failure"
    assert status_of(seen(*beats[:2]), True, None, NOW)["lastProcessingResult"] == "A failure"


def test_a_queue_has_its_own_conditions_and_nothing_of_shards_and_advice_keeps_nothing_from_being_ready() -> None:
    advice = ReportedCondition("DeadLetterQueue", "False", "NoDeadLetterQueue", "give it one")
    observed = seen(beat(READ, advice), spec={"eventSourceArn": SQS})
    told = said(observed)
    assert list(told) == [
        "Ready", "SourceReachable", "FunctionReachable", "DeadLetterQueue", "VisibilityTimeout", "Progressing",
    ]  # fmt: skip
    assert told["DeadLetterQueue"] == ("False", "NoDeadLetterQueue", "give it one")
    assert told["Ready"][0] == "True"
    status = status_of(observed, True, None, NOW)
    assert (status["shards"], status["lastProcessingResult"]) == (None, None)


def test_a_queues_state_is_told_in_lambdas_words_for_queues() -> None:
    queue = {"eventSourceArn": SQS}
    assert status_of(seen(beat(), spec=queue), True, None, NOW)["stateTransitionReason"] == "USER_INITIATED"
    created_disabled = seen(spec=queue)
    assert status_of(created_disabled, False, None, NOW)["state"] == "Disabled", "at once (contract A.4)"
    assert said(created_disabled, enabled=False)["Ready"] == (
        "False", "Disabled", "spec.enabled is false; messages wait in the queue",
    )  # fmt: skip
    assert status_of(seen(), False, None, NOW)["state"] == "Creating", "of a stream not before its pods are gone"


def test_a_visibility_timeout_that_is_too_short_is_worth_an_event_and_a_queue_without_dead_letters_is_not() -> None:
    short = ReportedCondition("VisibilityTimeout", "False", "VisibilityTooShort", "30 s are shorter than 60 s")
    advice = ReportedCondition("DeadLetterQueue", "False", "NoDeadLetterQueue", "give it one")
    status = status_of(seen(beat(READ, advice, short), spec={"eventSourceArn": SQS}), True, None, NOW)
    assert [one.message for one in notices({}, status)] == ["VisibilityTimeout: 30 s are shorter than 60 s"]
