"""What a poller's heartbeat tells of its shards and of its store."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
import yaml

from headrace.cluster import Body, ClusterError, ObjectNotFound
from headrace.errors import StoreError
from headrace.heartbeat import Heartbeat
from headrace.poller import Poller, PollerSettings, _Running
from headrace.records import Holder, Shard
from headrace.resources import EVENT_SOURCE_MAPPING, SHARD_LEASE, Kind
from headrace.spec import parse_mapping
from headrace.stream.aws import AwsSettings
from headrace.stream.events import ShardsListed
from headrace.stream.progress import ShardFacts
from headrace.stream.stores.kubernetes import KubernetesStore
from headrace.stuck import StuckShard
from tests.support import clusters
from tests.support.fake_cluster import FakeCluster

SHARDS = [Shard(f"s{number}") for number in range(3)]


class Denying(FakeCluster):
    denied = False

    async def replace(self, kind: Kind, body: Body) -> Body:
        if self.denied:
            raise ClusterError("may not write", 403)
        return await super().replace(kind, body)


async def working(cluster: FakeCluster) -> tuple[Poller, KubernetesStore]:
    """A poller that holds every shard."""
    body = await cluster.create(EVENT_SOURCE_MAPPING, clusters.mapping("shop", "orders"))
    poller = Poller(cluster, PollerSettings("shop", "orders", "pod-a", AwsSettings()), body, asyncio.Event())
    poller._membership.holder = Holder("pod-a", "1")
    store = await poller._store_of(parse_mapping(body))
    poller._running = _Running(store)
    await store.load(SHARDS)
    for shard in SHARDS:
        await store.take(shard.shard_id)
    return poller, store


def checkpoints(beat: Heartbeat) -> tuple[str, str]:
    (found,) = [(one.status, one.reason) for one in beat.conditions if one.type == "CheckpointsReachable"]
    return found


async def test_the_worst_of_the_stuck_shards_is_told_and_how_many_there_are() -> None:
    poller, store = await working(FakeCluster())
    assert (poller._report().shards_stuck, poller._report().stuck) == (0, None)
    store._clock = lambda: 4e9  # every report is due
    for shard, state, since in (("s0", "Retrying", 10.0), ("s1", "Blocked", 20.0), ("s2", "Blocked", 30.0)):
        facts = ShardFacts(state, 3, "no such queue", stuck_since=since, stuck_on="77")
        await store.report_shard(shard, facts)
    told = poller._report()
    assert told.shards_stuck == 3
    assert told.stuck == StuckShard("s1", "Blocked", "1970-01-01T00:00:20.000Z", "77", 3, "no such queue")


async def test_what_nobody_holds_is_told_as_it_was_seen() -> None:
    poller, _ = await working(FakeCluster())
    assert poller._running is not None
    poller._running.health(ShardsListed(5, 0, ("s3", "s4")))
    told = poller._report()
    assert (told.shards_unowned, told.unowned) == (2, ("s3", "s4"))


async def test_leases_that_cannot_be_won_anew_are_told() -> None:
    cluster = Denying()
    poller, _ = await working(cluster)
    cluster.denied = True
    with pytest.raises(StoreError):
        await poller._regain(Holder("pod-a", "another life"))
    assert checkpoints(poller._report()) == ("False", "ApiError")


async def test_a_kind_that_the_server_does_not_serve_is_a_store_that_fails_and_no_lost_lease() -> None:
    class Bare(FakeCluster):
        async def select(self, kind: Kind, namespace: str | None, selector: str = "") -> list[Body]:
            if kind == SHARD_LEASE:
                raise ObjectNotFound("no such path", 404)
            return await super().select(kind, namespace, selector)

    with pytest.raises(StoreError, match="no such path; apply the CRDs"):
        await working(Bare())


def mapping_of(poller: Poller) -> tuple[str | None, int | None]:
    mapping = poller._mapping
    return (mapping.spec.function.url, mapping.metadata.generation) if mapping is not None else (None, None)


async def test_a_pod_that_starts_while_the_spec_is_not_valid_works_by_what_was(tmp_path: Path) -> None:
    cluster = FakeCluster()
    good = clusters.mapping("shop", "orders", function={"url": "http://good"})
    file = tmp_path / "mapping.yaml"
    file.write_text(yaml.safe_dump({"spec": good["spec"]}))
    body = await cluster.create(EVENT_SOURCE_MAPPING, good)
    settings = PollerSettings("shop", "orders", "pod-a", AwsSettings(), last_valid=file)

    def started(**spec: Any) -> tuple[str | None, int | None]:
        changed = body | {"metadata": body["metadata"] | {"generation": 7}, "spec": body["spec"] | spec}
        return mapping_of(Poller(cluster, settings, changed, asyncio.Event()))

    assert started(function={"url": "http://new"}) == ("http://new", 7)
    assert started(function={"url": "not a URL"}) == ("http://good", 0)
    assert started(tags={"a": "b"}) == ("http://good", 0)
    assert started(startingPosition="LATEST") == ("http://good", 0)
    file.write_text("edited: by hand")
    assert started(function={"url": "not a URL"}) == (None, None)
    file.unlink()
    assert started(function={"url": "not a URL"}) == (None, None)
    assert started(function={"url": "http://new"}) == ("http://new", 7)


async def test_a_running_poller_does_not_follow_what_cannot_be_changed() -> None:
    poller, _ = await working(FakeCluster())
    before = mapping_of(poller)
    body = clusters.mapping("shop", "orders", startingPosition="LATEST")
    body["metadata"] |= {"uid": "u", "generation": 8}
    poller._take(body)
    assert mapping_of(poller) == before
