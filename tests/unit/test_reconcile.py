"""One look at a mapping, on an API server in memory."""

from __future__ import annotations

import time
from typing import Any

import pytest

from headrace.cluster import Body, ClusterError
from headrace.control.desired import PollerSettings
from headrace.control.observe import CHILDREN
from headrace.control.reconcile import NotApplied, Reconciler
from headrace.control.workqueue import Scope
from headrace.liveness import Liveness
from headrace.resources import CONFIG_MAP, DEPLOYMENT, EVENT_SOURCE_MAPPING, ROLE, Kind, MappingRef, ref_of
from tests.support import clusters
from tests.support.fake_cluster import FakeCluster


class Refusing(FakeCluster):
    """Refuses to make one kind."""

    refused: Kind | None = None

    async def create(self, kind: Kind, body: Body) -> Body:
        if kind == self.refused:
            raise ClusterError("roles is forbidden", 403)
        return await super().create(kind, body)


class Bench:
    def __init__(self) -> None:
        self.cluster = Refusing()
        self.reconcile = Reconciler(self.cluster, Liveness(time.monotonic), PollerSettings("headrace:1"))

    async def apply(self, **spec: Any) -> MappingRef:
        return ref_of(await self.cluster.create(EVENT_SOURCE_MAPPING, clusters.mapping("shop", "orders", **spec)))

    async def look(self, scope: Scope = Scope.ALL) -> bool:
        return await self.reconcile(("shop", "orders"), scope)

    def status(self) -> Body:
        status: Body = self.cluster.objects[EVENT_SOURCE_MAPPING, "shop", "orders"]["status"]
        return status

    def ready(self) -> Body:
        found: Body = next(each for each in self.status()["conditions"] if each["type"] == "Ready")
        return found


@pytest.fixture
def bench() -> Bench:
    return Bench()


async def test_a_mapping_that_is_not_there_is_told_apart(bench: Bench) -> None:
    assert await bench.look() is False


async def test_the_second_look_writes_nothing(bench: Bench) -> None:
    ref = await bench.apply()
    assert await bench.look() is True
    assert all((kind, "shop", ref.child_name) in bench.cluster.objects for kind in CHILDREN)
    before = {key: body["metadata"]["resourceVersion"] for key, body in bench.cluster.objects.items()}
    await bench.look()
    await bench.look(Scope.STATUS)
    assert {key: body["metadata"]["resourceVersion"] for key, body in bench.cluster.objects.items()} == before


async def test_a_look_at_the_status_alone_makes_no_children(bench: Bench) -> None:
    ref = await bench.apply()
    await bench.look(Scope.STATUS)
    assert (DEPLOYMENT, "shop", ref.child_name) not in bench.cluster.objects


async def test_what_the_api_refuses_is_told_and_tried_again(bench: Bench) -> None:
    await bench.apply()
    bench.cluster.refused = ROLE
    with pytest.raises(NotApplied, match="forbidden"):
        await bench.look()
    assert bench.ready()["reason"] == "ApiError"
    bench.cluster.refused = None
    await bench.look()
    assert bench.ready()["reason"] == "Pending"


async def test_a_mapping_under_deletion_gets_nothing_any_more(bench: Bench) -> None:
    ref = await bench.apply()
    bench.cluster.objects[EVENT_SOURCE_MAPPING, "shop", "orders"]["metadata"]["deletionTimestamp"] = (
        "2026-01-01T00:00:00Z"
    )
    await bench.look()
    assert (CONFIG_MAP, "shop", ref.child_name) not in bench.cluster.objects
    assert bench.status()["state"] == "Deleting"


@pytest.mark.parametrize("spec", [{"nonsense": 1}, {"batchSize": "many"}, {"function": None}, {"enabled": "no"}])
async def test_a_spec_that_no_server_checked_is_a_condition_and_no_crash(bench: Bench, spec: Body) -> None:
    await bench.apply(**spec)
    await bench.look()
    assert bench.ready()["reason"] == "InvalidSpec"
