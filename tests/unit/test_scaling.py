"""How many pods there are: from the shards that can be read, never from a silence."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from headrace.control.observe import Observed
from headrace.control.scaling import current_leases, is_held, ready_shards, replicas
from headrace.heartbeat import Heartbeat
from headrace.resources import DEPLOYMENT
from headrace.spec import EventSourceMappingSpec, parse_mapping
from tests.support.mappings import KINESIS, SQS, manifest

if TYPE_CHECKING:
    from headrace.cluster import Body


def spec(**properties: Any) -> EventSourceMappingSpec:
    return parse_mapping(manifest(**properties)).spec


def beat(ready: int | None, identity: str = "a", incarnation: str = "") -> Heartbeat:
    return Heartbeat(identity, 1, shards_ready=ready, incarnation=incarnation)


def lease(state: str = "Held", **more: Any) -> Body:
    return {"spec": {"eventSourceArn": KINESIS} | more.pop("spec", {}), "status": {"state": state} | more}


def seen(*beats: Heartbeat, leases: tuple[Body, ...] = (), now: int | None = None) -> Observed:
    children = {} if now is None else {DEPLOYMENT: {"spec": {"replicas": now}}}
    return Observed({"spec": {"eventSourceArn": KINESIS}}, children, beats, leases)


@pytest.mark.parametrize(
    ("ready", "per_pod", "least", "most", "expected"),
    [
        (0, 16, 1, 10, 1),
        (16, 16, 1, 10, 1),
        (17, 16, 1, 10, 2),
        (8, 1, 1, 10, 8),
        (8, 3, 1, 10, 3),
        (1000, 16, 1, 10, 10),
        (1, 16, 3, 10, 3),
        (40, 16, 3, 10, 3),
        (64, 16, 3, 10, 4),
    ],
)
def test_pods_are_as_many_as_shards_need_within_the_bounds(
    ready: int, per_pod: int, least: int, most: int, expected: int
) -> None:
    poller = {"shardsPerReplica": per_pod, "minReplicas": least, "maxReplicas": most}
    assert replicas(spec(poller=poller), seen(beat(ready))) == expected


def test_disabled_means_no_pod_whatever_there_is_to_read() -> None:
    assert replicas(spec(enabled=False, poller={"minReplicas": 2}), seen(beat(40), now=3)) == 0


def test_the_poller_that_knows_the_most_shards_is_believed() -> None:
    assert ready_shards(seen(beat(3), beat(8, "b"), beat(None, "c"))) == 8


def test_without_a_report_the_leases_tell_how_many_can_be_read() -> None:
    shards = (("1", "Held", ()), ("2", "Available", ()), ("3", "Waiting", ("1",)), ("4", "Waiting", ("forgotten",)))
    leases = tuple(lease(state, spec={"shardId": one, "parents": parents}) for one, state, parents in shards)
    assert ready_shards(seen(beat(None), leases=(*leases, lease("Finished", finished=True)))) == 3


def test_leases_of_which_none_can_be_read_are_no_silence() -> None:
    assert ready_shards(seen(leases=(lease("Finished", finished=True),))) == 0
    assert ready_shards(seen()) is None


def test_what_lies_in_the_cluster_does_not_count_where_the_checkpoints_are_in_a_table() -> None:
    mapping = {"spec": {"eventSourceArn": KINESIS, "poller": {"checkpointTable": "headrace"}}}
    assert current_leases(Observed(mapping, {}, (), (lease(),))) == ()


@pytest.mark.parametrize(("now", "expected"), [(None, 2), (0, 2), (4, 4), (50, 10)])
def test_a_moment_without_any_report_changes_no_number_of_pods(now: int | None, expected: int) -> None:
    assert replicas(spec(poller={"minReplicas": 2}), seen(now=now)) == expected


def test_leases_of_another_stream_or_a_former_one_of_its_name_do_not_count() -> None:
    old, new = "2026-01-01T00:00:00.000Z", "2026-01-02T00:00:00.000Z"
    current = lease(spec={"streamCreatedAt": new})
    unmarked = lease(spec={})
    leases = (lease(spec={"streamCreatedAt": old}), current, unmarked, lease(spec={"eventSourceArn": "other"}))
    assert current_leases(seen(leases=leases)) == (current, unmarked)


@pytest.mark.parametrize(
    ("holder", "life", "held"), [("a", "1", True), ("a", "0", False), ("b", "1", False), (None, None, False)]
)
def test_a_shard_is_held_by_the_life_that_took_it(holder: str | None, life: str | None, held: bool) -> None:
    assert is_held({"status": {"holder": holder, "incarnation": life}}, (beat(1, "a", "1"),)) is held


def test_a_poller_that_tells_no_incarnation_is_known_by_its_name() -> None:
    assert is_held({"status": {"holder": "a", "incarnation": "1"}}, (beat(1, "a"),))


# ---- queues


def told(*backlogs: int | None, now: int | None = None) -> Observed:
    beats = tuple(Heartbeat(f"p{number}", 1, backlog=one) for number, one in enumerate(backlogs))
    return replace(seen(*beats, now=now), mapping={"spec": {"eventSourceArn": SQS}})


@pytest.mark.parametrize(
    ("backlogs", "expected"),
    [((0,), 1), ((1_000,), 1), ((1_001,), 2), ((4_500, 200, None), 5), ((1_000_000,), 8)],
)
def test_pods_of_a_queue_are_as_many_as_its_backlog_needs_within_the_bounds(
    backlogs: tuple[int | None, ...], expected: int
) -> None:
    queue = parse_mapping(manifest("sqs", poller={"maxReplicas": 8})).spec
    assert replicas(queue, told(*backlogs, now=3)) == expected


def test_while_nobody_tells_of_a_backlog_the_pods_of_a_queue_stay() -> None:
    queue = parse_mapping(manifest("fifo")).spec
    assert replicas(queue, told(None, now=3)) == 3
    assert replicas(queue, told(now=0)) == 1


def test_a_queue_has_no_more_pods_than_calls() -> None:
    limits: list[dict[str, object]] = [
        {"scalingConfig": {"maximumConcurrency": 2}},
        {"scalingConfig": {"maximumConcurrency": 2}, "poller": {"minReplicas": 3}},
        {"provisionedPollerConfig": {"maximumPollers": 2}, "poller": {"minReplicas": 30, "maxReplicas": 40}},
    ]
    least = [replicas(parse_mapping(manifest("sqs", **one)).spec, told(90_000)) for one in limits]
    assert least == [2, 2, 20]
    assert replicas(parse_mapping(manifest("sqs", **limits[0])).spec, told(None, now=7)) == 2


@pytest.mark.parametrize(
    ("pollers", "poller", "expected"),
    [
        ({"maximumPollers": 20}, {}, 2),
        ({"minimumPollers": 5}, {}, 5),
        ({"minimumPollers": 5}, {"minReplicas": 7}, 7),
        ({"minimumPollers": 50}, {}, 10),
    ],
)
@pytest.mark.parametrize("backlog", [0, None, 1_000_000])
def test_a_queue_in_provisioned_mode_has_its_least_pollers_whatever_there_is_to_do(
    pollers: dict[str, int], poller: dict[str, int], expected: int, backlog: int | None
) -> None:
    queue = parse_mapping(manifest("sqs", provisionedPollerConfig=pollers, poller=poller)).spec
    assert replicas(queue, told(backlog, now=3)) == expected
