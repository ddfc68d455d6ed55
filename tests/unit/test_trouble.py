"""Why pollers do not run, who reads which shard, who was first: what the status says of bad input."""

from __future__ import annotations

import uuid
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pytest

from headrace.control.announcing import notices
from headrace.control.observe import Observed
from headrace.control.shards import assignment, stuck
from headrace.control.trouble import GRACE, look_again, trouble
from headrace.control.twins import as_it_runs, is_followed, is_settled, twin
from headrace.errors import Reason
from headrace.heartbeat import Heartbeat
from headrace.resources import DEPLOYMENT
from headrace.spec import parse_mapping
from tests.support.mappings import manifest

if TYPE_CHECKING:
    from headrace.cluster import Body

METADATA: Body = {"namespace": "shop", "name": "orders", "uid": "0a1b2c3d-1", "generation": 1}


def pod(state: Body | None = None, **container: Any) -> Body:
    status = {"containerStatuses": [{"image": "i:1", "state": state or {}, **container}]}
    return {"metadata": {"name": "p"}, "status": status}


def seen(*pods: Body, beats: tuple[Heartbeat, ...] = (), leases: tuple[Body, ...] = (), **more: Any) -> Observed:
    return Observed({"metadata": METADATA}, more.pop("children", {}), beats, leases, pods, **more)


UNSCHEDULED: Body = {
    "metadata": {"name": "p"},
    "status": {"conditions": [{"type": "PodScheduled", "reason": "Unschedulable", "message": "0/1 nodes"}]},
}


@pytest.mark.parametrize(
    ("found", "reason", "words"),
    [
        (pod({"waiting": {"reason": "ImagePullBackOff", "message": "denied"}}), Reason.IMAGE_UNAVAILABLE, "denied"),
        (
            pod({"waiting": {"reason": "CreateContainerConfigError", "message": "no secret keys"}}),
            Reason.PODS_MISCONFIGURED,
            "no secret keys",
        ),
        (
            pod(
                {"waiting": {"reason": "CrashLoopBackOff"}},
                restartCount=4,
                lastState={"terminated": {"reason": "OOMKilled", "exitCode": 137}},
            ),
            Reason.PODS_CRASHING,
            "OOMKilled, exit code 137",
        ),
        (pod({"terminated": {"reason": "Error", "exitCode": 2}}), Reason.PODS_CRASHING, "exit code 2"),
        (pod({"running": {}}, ready=False), Reason.PODS_SILENT, "kubectl logs p"),
        (UNSCHEDULED, Reason.PODS_UNSCHEDULABLE, "0/1 nodes"),
    ],
)
def test_a_pod_says_why_it_does_not_work(found: Body, reason: Reason, words: str) -> None:
    problem = trouble(seen(found))
    assert problem is not None
    assert problem.reason is reason
    assert words in problem.message


STARTED = datetime(2026, 1, 1, tzinfo=UTC).timestamp()


def starting(**more: Any) -> Body:
    return pod({"running": {"startedAt": "2026-01-01T00:00:00Z"}}, ready=False, **more)


@pytest.mark.parametrize("age", [-5, 0, 3, GRACE - 1])
def test_a_pod_that_has_only_just_started_is_not_silent_yet(age: float) -> None:
    young = seen(starting(), at=STARTED + age)
    assert trouble(young) is None
    assert look_again(young) == GRACE - age


def test_a_pod_without_a_heartbeat_is_silent_when_the_grace_is_over() -> None:
    old = seen(starting(), at=STARTED + GRACE)
    problem = trouble(old)
    assert problem is not None
    assert problem.reason is Reason.PODS_SILENT
    assert look_again(old) is None


def test_the_next_look_is_when_the_first_of_several_pods_would_be_silent() -> None:
    younger = pod({"running": {"startedAt": "2026-01-01T00:00:07Z"}}, ready=False)
    assert look_again(seen(younger, starting(), at=STARTED + 8)) == GRACE - 8


def test_a_pod_that_is_ready_or_deleted_needs_no_later_look() -> None:
    ready, deleted = starting(), starting()
    ready["status"]["containerStatuses"][0]["ready"] = True
    deleted["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:01Z"
    assert look_again(seen(ready, deleted, at=STARTED + 2)) is None


def test_clocks_that_differ_by_more_than_the_grace_hide_no_silence() -> None:
    assert trouble(seen(starting(), at=STARTED - 3600)) is not None


@pytest.mark.parametrize(
    ("found", "message"),
    [
        (
            pod({"waiting": {"reason": "ErrImagePull"}}),
            "pod p: image i:1 cannot be had (ErrImagePull): no more is told; see spec.poller.image and imagePullSecrets",
        ),
        (
            pod({"terminated": {"exitCode": 2}}, restartCount=3),
            "pod p ended (Ended, exit code 2) and was restarted 3 times; see kubectl logs --previous p",
        ),
        (
            pod({"terminated": {"exitCode": 2}}),
            "pod p ended (Ended, exit code 2) and was restarted 0 times; see kubectl logs --previous p",
        ),
    ],
)
def test_what_a_pod_does_not_say_is_not_made_up(found: Body, message: str) -> None:
    problem = trouble(seen(found))
    assert problem is not None
    assert problem.message == message


def test_a_deployment_is_quoted_only_while_it_cannot_make_pods() -> None:
    over = {"type": "ReplicaFailure", "status": "False", "message": "was over quota"}
    makes = {"type": "Progressing", "status": "True", "message": "makes pods"}
    refused = {"type": "ReplicaFailure", "status": "True", "message": "over quota"}

    def said(*conditions: Body) -> str | None:
        problem = trouble(seen(children={DEPLOYMENT: {"status": {"conditions": conditions}}}))
        return None if problem is None else problem.message

    assert said(over, makes) is None
    assert said(makes, refused) == "Deployment orders-0a1b2c3d may not make pods: over quota"


def test_what_starts_or_ends_in_peace_is_no_trouble() -> None:
    ending = pod({"terminated": {"exitCode": 1}})
    ending["metadata"]["deletionTimestamp"] = "now"
    creating = pod({"waiting": {"reason": "ContainerCreating"}})
    working = pod({"running": {}}, ready=True, lastState={"terminated": {"exitCode": 1}})
    assert trouble(seen(ending, creating, working)) is None


def test_the_plainest_cause_is_told_first() -> None:
    image = pod({"waiting": {"reason": "ErrImagePull"}})
    problem = trouble(seen(UNSCHEDULED, image))
    assert problem is not None
    assert problem.reason is Reason.IMAGE_UNAVAILABLE


def test_an_account_that_is_not_there_is_named() -> None:
    problem = trouble(seen(missing_account="theirs"))
    assert problem is not None
    assert problem.reason is Reason.SERVICE_ACCOUNT_MISSING
    assert problem.message == (
        "spec.poller.serviceAccountName: there is no ServiceAccount theirs in this namespace; make it, or name another"
    )
    assert "theirs" in problem.message


def test_a_deployment_that_may_not_make_pods_is_quoted() -> None:
    failure = {"type": "ReplicaFailure", "status": "True", "message": "exceeded quota"}
    problem = trouble(seen(children={DEPLOYMENT: {"status": {"conditions": [failure]}}}))
    assert problem is not None
    assert problem.reason is Reason.PODS_REFUSED
    assert "exceeded quota" in problem.message


# Shards


def lease(shard: str, holder: str | None = None, state: str = "Held", *parents: str, **more: Any) -> Body:
    status = {"state": state, "holder": holder, "incarnation": "1"} | more
    return {"spec": {"shardId": shard, "parents": list(parents)}, "status": status}


def beat(identity: str = "a", **more: Any) -> Heartbeat:
    return Heartbeat(identity, 1, incarnation=more.pop("incarnation", "1"), **more)


def test_shards_are_assigned_when_each_that_can_be_read_has_a_live_holder() -> None:
    leases = (lease("1", "a"), lease("2", None, "Waiting", "1"), lease("3", state="Finished", finished=True))
    assert assignment(seen(beats=(beat(),), leases=leases))[:2] == ("True", Reason.SHARDS_ASSIGNED)


@pytest.mark.parametrize("beats", [(), (beat("b"),), (beat(incarnation="2"),)])
def test_a_shard_whose_holder_is_gone_is_named(beats: tuple[Heartbeat, ...]) -> None:
    status, reason, message = assignment(seen(beats=beats, leases=(lease("shard-1", "a"),)))
    assert (status, reason) == ("False", Reason.SHARDS_UNASSIGNED)
    assert "1 of 1 shards are read by nobody: shard-1" in message


def test_without_lease_objects_the_reports_tell() -> None:
    assert assignment(seen())[0] == "Unknown"
    assert assignment(seen(beats=(beat(),)))[0] == "Unknown"
    two = (beat(shards_ready=4, shards_held=2), beat("b", shards_ready=4, shards_held=2))
    assert assignment(seen(beats=two))[0] == "True"
    assert assignment(seen(beats=two[:1]))[2].startswith("2 of 4 shards")


def test_a_stuck_shard_is_told_with_time_record_attempts_and_error() -> None:
    one = lease("s1", "a", "Blocked", stuckSince="T", stuckOn="77", attempts=5, lastError="no such queue")
    assert stuck(seen(leases=(one, lease("s2", "a")))) == (
        "s1 is blocked since T on record 77 after 5 failed calls: no such queue"
    )
    many = tuple(lease(f"s{number}", "a", "Retrying") for number in range(5))
    assert stuck(seen(leases=many)).endswith("; and 2 more")


# Twins


def mapping(name: str, created: str, *, settled: bool = False, refused: bool = False, **spec: Any) -> Body:
    body = manifest(**spec)
    body["metadata"] = {
        "namespace": "shop",
        "name": name,
        "uid": str(uuid.uuid5(uuid.NAMESPACE_DNS, name)),
        "generation": 1,
    }
    body["metadata"]["creationTimestamp"] = created
    ready = {"type": "Ready", "reason": "DuplicateMapping" if refused else "Ready", "message": "twin"}
    if settled or refused:
        body["status"] = {"observedGeneration": 1, "conditions": [ready]}
    return body


def judged(body: Body, *others: Body) -> bool:
    return twin(parse_mapping(body), body, others) is not None


OLD, NEW = "2026-01-01T00:00:00Z", "2026-01-02T00:00:00Z"


def test_of_two_new_twins_the_younger_is_refused() -> None:
    old, new = mapping("old", OLD), mapping("new", NEW)
    assert (judged(new, old, new), judged(old, old, new)) == (True, False)
    same = mapping("a", OLD), mapping("b", OLD)
    assert judged(*same) is not judged(*reversed(same))


def test_one_that_runs_is_not_displaced_by_an_older_one_that_was_edited() -> None:
    assert judged(mapping("old", OLD), mapping("new", NEW, settled=True))


def test_one_that_was_refused_refuses_nobody_and_is_compared_again() -> None:
    refused = mapping("old", OLD, refused=True)
    assert not judged(mapping("new", NEW), refused)
    assert not is_settled(refused)
    assert is_settled(mapping("old", OLD, settled=True))


def test_another_function_or_a_broken_mapping_is_no_twin() -> None:
    other = mapping("old", OLD, function={"url": "http://other/"})
    broken = mapping("old", OLD, nonsense=1)
    assert not judged(mapping("new", NEW), other, broken)


def told_of(reason: Reason, *, seen: int = 1, generation: int = 1, **spec: Any) -> Body:
    ready = {"type": "Ready", "status": "False", "reason": reason}
    body = mapping("old", OLD, **spec)
    body["metadata"]["generation"] = generation
    return body | {"status": {"observedGeneration": seen, "conditions": [ready]}}


@pytest.mark.parametrize(
    ("body", "followed"),
    [
        (mapping("old", OLD), True),
        (told_of(Reason.READY), True),
        (told_of(Reason.INVALID_SPEC, nonsense=1), False),
        (told_of(Reason.NOT_SUPPORTED_YET), False),
        (told_of(Reason.READY, generation=2), True),
        (told_of(Reason.READY, generation=2, nonsense=1), False),
    ],
    ids=["new", "ready", "invalid", "not supported", "edited", "edited to be invalid"],
)
def test_pods_go_by_a_spec_unless_it_was_refused_or_cannot_be_read(body: Body, followed: bool) -> None:
    assert is_followed(body) is followed


LAST = {"data": {"mapping.yaml": "spec: {eventSourceArn: here}"}}
PODS = {"spec": {"replicas": 1}}


def test_a_mapping_with_pods_runs_as_its_config_map_says() -> None:
    body = told_of(Reason.INVALID_SPEC, nonsense=1)
    running = as_it_runs(body, LAST, PODS)
    assert running == body | {"spec": {"eventSourceArn": "here"}}


@pytest.mark.parametrize(
    ("config_map", "deployment"), [(None, PODS), (LAST, None), (LAST, {"spec": {"replicas": 0}}), ({}, PODS)]
)
def test_a_mapping_that_never_was_valid_or_has_no_pods_runs_as_nothing(
    config_map: Body | None, deployment: Body | None
) -> None:
    assert as_it_runs(told_of(Reason.INVALID_SPEC), config_map, deployment) is None


# Events


def status(kind: str, value: str, reason: str) -> Body:
    return {"conditions": [{"type": kind, "status": value, "reason": reason, "message": "words"}]}


def told(before: Body, after: Body) -> list[tuple[str, str, str]]:
    return [(each.type, each.reason, each.message) for each in notices(before, after)]


def test_a_new_reason_is_a_warning_and_its_end_a_note() -> None:
    bad, good = status("Ready", "False", "ImageUnavailable"), status("Ready", "True", "Ready")
    assert told({}, bad) == [("Warning", "ImageUnavailable", "Ready: words")]
    assert told(bad, bad) == []
    assert told(bad, good) == [("Normal", "Ready", "Ready: words")]


@pytest.mark.parametrize("reason", ["Pending", "Disabled", "RollingOut", "Reconciled", "OfAnotherVersion"])
def test_what_is_expected_or_unknown_is_no_event(reason: str) -> None:
    assert told({}, status("Ready", "False", reason)) == []
    assert told(status("Ready", "False", "Pending"), status("Ready", "True", "Ready")) == []


def test_what_two_conditions_say_is_told_once() -> None:
    both: Body = {"conditions": []}
    for kind in ("Ready", "SourceReachable"):
        both["conditions"] += status(kind, "False", "NotFound")["conditions"]
    assert told({}, both) == [("Warning", "NotFound", "SourceReachable: words")]
