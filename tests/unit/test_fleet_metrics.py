"""What the operator's gauges say of mappings, above all of shards that nobody reads."""

from __future__ import annotations

from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from headrace.cluster import Body
from headrace.control.fleet_metrics import FleetMetrics
from headrace.control.observe import Observed
from headrace.heartbeat import Heartbeat

ARN = "arn:aws:kinesis:eu-west-1:123456789012:stream/orders"
METADATA: Body = {"name": "orders", "namespace": "shop", "uid": "u"}
MAPPING: Body = {"metadata": METADATA, "spec": {"eventSourceArn": ARN}}
IN_A_TABLE: Body = {"metadata": METADATA, "spec": {"eventSourceArn": ARN, "poller": {"checkpointTable": "headrace"}}}
LABELS = {"namespace": "shop", "mapping": "orders"}
STATUS: Body = {"pollers": 1, "shards": {"total": 3, "assigned": 1, "blocked": 0}}


def lease(shard: str, *parents: str, made: str | None = None, source: str = ARN, **status: Any) -> Body:
    spec: Body = {"shardId": shard, "parents": list(parents), "eventSourceArn": source}
    held = {"incarnation": "1"} if "holder" in status else {}
    return {"spec": spec | ({"streamCreatedAt": made} if made else {}), "status": held | status}


def seen(*leases: Body) -> Observed:
    return Observed(MAPPING, {}, (Heartbeat("a", 1, shards_held=1, incarnation="1"),), leases)


def fleet() -> tuple[CollectorRegistry, FleetMetrics]:
    registry, metrics = CollectorRegistry(), FleetMetrics()
    registry.register(metrics)
    return registry, metrics


def test_the_gauges_tell_the_last_look() -> None:
    registry, metrics = fleet()
    metrics.saw(seen(lease("1", holder="a"), lease("2")), STATUS, enabled=True)

    assert registry.get_sample_value("headrace_mapping_enabled", LABELS) == 1
    assert registry.get_sample_value("headrace_pollers", LABELS) == 1
    assert registry.get_sample_value("headrace_shards", LABELS | {"state": "total"}) == 3
    assert registry.get_sample_value("headrace_shards", LABELS | {"state": "assigned"}) == 1
    assert registry.get_sample_value("headrace_shards", LABELS | {"state": "unowned"}) == 1
    assert registry.get_sample_value("headrace_poller_shards", LABELS | {"poller": "a"}) == 1
    assert registry.get_sample_value("headrace_shard_unowned", LABELS | {"shard": "2"}) == 1
    assert registry.get_sample_value("headrace_shard_unowned", LABELS | {"shard": "1"}) is None


def test_a_disabled_mappings_shards_are_nobodys_on_purpose() -> None:
    registry, metrics = fleet()
    metrics.saw(seen(lease("2")), STATUS, enabled=False)

    assert registry.get_sample_value("headrace_mapping_enabled", LABELS) == 0
    assert registry.get_sample_value("headrace_shards", LABELS | {"state": "unowned"}) == 0
    assert registry.get_sample_value("headrace_shard_unowned", LABELS | {"shard": "2"}) is None


def test_with_a_table_shards_that_nobody_reads_are_those_that_pollers_name() -> None:
    registry, metrics = fleet()
    beat = Heartbeat("a", 1, shards_ready=20, shards_held=1, shards_unowned=19, unowned=("2", "3"))
    metrics.saw(Observed(IN_A_TABLE, {}, (beat,), (lease("left over"),)), STATUS, enabled=True)

    assert registry.get_sample_value("headrace_shards", LABELS | {"state": "unowned"}) == 19
    for shard, told in (("2", 1), ("3", 1), ("left over", None)):
        assert registry.get_sample_value("headrace_shard_unowned", LABELS | {"shard": shard}) == told


def test_a_queue_tells_of_its_pollers_and_of_no_shards_at_all() -> None:
    registry, metrics = fleet()
    metrics.saw(seen(), STATUS | {"shards": None}, enabled=True)

    told = {sample.name for family in registry.collect() for sample in family.samples}
    assert told == {"headrace_mapping_enabled", "headrace_pollers"}


@pytest.mark.parametrize("leave", [lambda metrics: metrics.forget(("shop", "orders")), FleetMetrics.clear])
def test_nothing_is_told_of_what_is_gone_or_led_by_another(leave: Any) -> None:
    registry, metrics = fleet()
    metrics.saw(seen(), STATUS, enabled=True)
    leave(metrics)

    assert registry.get_sample_value("headrace_mapping_enabled", LABELS) is None
