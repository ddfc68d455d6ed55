"""What the operator's gauges say of mappings, above all of shards that nobody reads."""

from __future__ import annotations

from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from headrace.cluster import Body
from headrace.control.fleet_metrics import FleetMetrics, unowned
from headrace.control.observe import Observed
from headrace.heartbeat import Heartbeat

MAPPING: Body = {"metadata": {"name": "orders", "namespace": "shop", "uid": "u"}}
LABELS = {"namespace": "shop", "mapping": "orders"}
STATUS: Body = {"pollers": 1, "shards": {"total": 3, "assigned": 1, "blocked": 0}}


def lease(shard: str, *parents: str, made: str | None = None, **status: Any) -> Body:
    spec: Body = {"shardId": shard, "parents": list(parents)}
    return {"spec": spec | ({"streamCreatedAt": made} if made else {}), "status": status}


def seen(*leases: Body) -> Observed:
    return Observed(MAPPING, {}, (Heartbeat("a", 1, shards_held=1),), leases)


@pytest.mark.parametrize(
    ("leases", "expected"),
    [
        ((lease("1", holder="a"),), ()),
        ((lease("1", holder="dead"), lease("0")), ("0", "1")),
        ((lease("1", finished=True),), ()),
        ((lease("1", holder="a"), lease("2", "1")), ()),
        ((lease("1", finished=True), lease("2", "1")), ("2",)),
        ((lease("2", "forgotten"),), ("2",)),
        ((lease("1", made="2026-01-01T00:00:00Z"), lease("2", made="2026-01-02T00:00:00Z", holder="a")), ()),
        (({"spec": None, "status": None},), ("None",)),
    ],
    ids=[
        "held", "dead or no holder", "finished", "waits for its parent", "parent finished", "parent forgotten",
        "former stream", "broken by hand",
    ],
)  # fmt: skip
def test_a_shard_is_unowned_when_it_could_be_read_and_nobody_alive_holds_it(
    leases: tuple[Body, ...], expected: tuple[str, ...]
) -> None:
    assert unowned(seen(*leases)) == expected


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
    assert registry.get_sample_value("headrace_poller_shards", LABELS | {"poller": "a"}) == 1
    assert registry.get_sample_value("headrace_shard_unowned", LABELS | {"shard": "2"}) == 1
    assert registry.get_sample_value("headrace_shard_unowned", LABELS | {"shard": "1"}) is None


def test_a_disabled_mappings_shards_are_nobodys_on_purpose() -> None:
    registry, metrics = fleet()
    metrics.saw(seen(lease("2")), STATUS, enabled=False)

    assert registry.get_sample_value("headrace_mapping_enabled", LABELS) == 0
    assert registry.get_sample_value("headrace_shard_unowned", LABELS | {"shard": "2"}) is None


@pytest.mark.parametrize("leave", [lambda metrics: metrics.forget(("shop", "orders")), FleetMetrics.clear])
def test_nothing_is_told_of_what_is_gone_or_led_by_another(leave: Any) -> None:
    registry, metrics = fleet()
    metrics.saw(seen(), STATUS, enabled=True)
    leave(metrics)

    assert registry.get_sample_value("headrace_mapping_enabled", LABELS) is None
