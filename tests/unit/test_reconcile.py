"""One look at a mapping, on an API server in memory."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from headrace.cluster import Body, ClusterError, Conflict
from headrace.control.desired import PollerSettings
from headrace.control.observe import CHILDREN
from headrace.control.reconcile import NotApplied, Reconciler
from headrace.control.workqueue import Looked, Scope
from headrace.heartbeat import Heartbeat, lease
from headrace.liveness import Liveness
from headrace.resources import (
    CONFIG_MAP,
    DEPLOYMENT,
    EVENT,
    EVENT_SOURCE_MAPPING,
    LEASE,
    POD,
    POD_DISRUPTION_BUDGET,
    POD_DISRUPTION_BUDGET_BETA,
    ROLE,
    SERVICE_ACCOUNT,
    Kind,
    MappingRef,
    ref_of,
)
from tests.support import clusters
from tests.support.fake_cluster import FakeCluster

ARN = "arn:aws:kinesis:eu-west-1:123456789012:stream"


class Refusing(FakeCluster):
    """Refuses to make one kind."""

    refused: Kind | None = None
    causes: frozenset[str] = frozenset()

    async def create(self, kind: Kind, body: Body) -> Body:
        if kind == self.refused:
            raise ClusterError("roles is forbidden", 403, self.causes)
        return await super().create(kind, body)


class Bench:
    def __init__(self) -> None:
        self.cluster = Refusing()
        self.reconcile = Reconciler(self.cluster, Liveness(time.monotonic), PollerSettings("headrace:1"))

    async def apply(self, **spec: Any) -> MappingRef:
        return ref_of(await self.cluster.create(EVENT_SOURCE_MAPPING, clusters.mapping("shop", "orders", **spec)))

    async def look(self, scope: Scope = Scope.ALL) -> Looked:
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
    assert await bench.look() == Looked(there=False)


async def test_the_second_look_writes_nothing(bench: Bench) -> None:
    ref = await bench.apply()
    assert await bench.look() == Looked()
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


def beat(ref: MappingRef, ready: int) -> Body:
    return lease(ref, Heartbeat("a", 1, shards_ready=ready), "2026-01-01T00:00:00.000000Z")


async def test_a_report_of_more_shards_makes_more_pods_without_any_other_event(bench: Bench) -> None:
    ref = await bench.apply(poller={"shardsPerReplica": 2})
    await bench.look()
    await bench.cluster.create(LEASE, beat(ref, 7))
    await bench.look(Scope.STATUS)
    assert bench.cluster.objects[DEPLOYMENT, "shop", ref.child_name]["spec"]["replicas"] == 4


@pytest.mark.parametrize(
    ("served", "kind"),
    [({"v1", "v1beta1"}, POD_DISRUPTION_BUDGET), ({"v1beta1"}, POD_DISRUPTION_BUDGET_BETA), (set(), None)],
)
async def test_a_budget_is_made_of_the_kind_that_is_served(bench: Bench, served: set[str], kind: Kind | None) -> None:
    bench.cluster.groups["policy"] = frozenset(served)
    await bench.apply()
    await bench.look()
    made = {of for of, _, _ in bench.cluster.objects} & {POD_DISRUPTION_BUDGET, POD_DISRUPTION_BUDGET_BETA}
    assert made == ({kind} if kind else set())


async def test_a_namespace_that_is_being_deleted_is_told_and_not_tried_again(bench: Bench) -> None:
    await bench.apply()
    bench.cluster.refused, bench.cluster.causes = ROLE, frozenset({"NamespaceTerminating"})
    assert await bench.look() == Looked()
    assert bench.ready()["reason"] == "NamespaceTerminating"


async def test_a_twin_has_no_pods_until_the_other_is_gone(bench: Bench) -> None:
    first = clusters.mapping("shop", "first", eventSourceArn=f"{ARN}/orders")
    await bench.cluster.create(EVENT_SOURCE_MAPPING, first)
    await bench.reconcile(("shop", "first"), Scope.ALL)
    ref = await bench.apply()
    with pytest.raises(NotApplied, match="already exists"):
        await bench.look()
    assert bench.ready()["reason"] == "DuplicateMapping"
    await bench.look(Scope.STATUS)
    assert bench.ready()["reason"] == "DuplicateMapping"
    assert bench.cluster.objects[DEPLOYMENT, "shop", ref.child_name]["spec"]["replicas"] == 0
    del bench.cluster.objects[EVENT_SOURCE_MAPPING, "shop", "first"]
    await bench.look()
    assert bench.ready()["reason"] == "Pending"
    assert bench.cluster.objects[DEPLOYMENT, "shop", ref.child_name]["spec"]["replicas"] == 1


async def test_a_twin_whose_spec_is_broken_at_present_counts_as_its_pods_go_on(bench: Bench) -> None:
    first = clusters.mapping("shop", "first", eventSourceArn=f"{ARN}/orders")
    await bench.cluster.create(EVENT_SOURCE_MAPPING, first)
    await bench.reconcile(("shop", "first"), Scope.ALL)
    broken = {"spec": {"batchSize": "many", "function": {"url": "http://elsewhere/"}}}
    await bench.cluster.merge(EVENT_SOURCE_MAPPING, "shop", "first", broken)
    await bench.reconcile(("shop", "first"), Scope.ALL)
    await bench.apply()
    with pytest.raises(NotApplied, match="already exists"):
        await bench.look()
    assert bench.ready()["reason"] == "DuplicateMapping"


async def test_a_refused_twin_whose_spec_is_broken_later_refuses_nobody(bench: Bench) -> None:
    ref = await bench.apply()
    await bench.look()
    await bench.cluster.create(EVENT_SOURCE_MAPPING, clusters.mapping("shop", "second", eventSourceArn=f"{ARN}/orders"))
    with pytest.raises(NotApplied, match="already exists"):
        await bench.reconcile(("shop", "second"), Scope.ALL)
    await bench.cluster.merge(EVENT_SOURCE_MAPPING, "shop", "second", {"spec": {"batchSize": "many"}})
    await bench.reconcile(("shop", "second"), Scope.ALL)
    await bench.cluster.merge(EVENT_SOURCE_MAPPING, "shop", "orders", {"spec": {"batchSize": 7}})
    await bench.look()
    assert bench.ready()["reason"] == "Pending"
    assert bench.cluster.objects[DEPLOYMENT, "shop", ref.child_name]["spec"]["replicas"] == 1


async def test_trouble_is_an_event_once_and_recovers(bench: Bench) -> None:
    ref = await bench.apply(poller={"serviceAccountName": "theirs"})
    await bench.look()
    await bench.look()
    await bench.look(Scope.STATUS)
    assert bench.ready()["reason"] == "ServiceAccountMissing"
    (event,) = [body for (kind, _, _), body in bench.cluster.objects.items() if kind == EVENT]
    assert (event["reason"], event["type"]) == ("ServiceAccountMissing", "Warning")
    assert event["involvedObject"]["uid"] == ref.uid
    account = {"metadata": {"namespace": "shop", "name": "theirs"}}
    await bench.cluster.create(SERVICE_ACCOUNT, account)
    await bench.look(Scope.STATUS)
    assert bench.ready()["reason"] == "Pending"


async def test_a_spec_that_cannot_be_run_leaves_enabled_what_runs(bench: Bench) -> None:
    ref = await bench.apply(enabled=True)
    await bench.look()
    body = lease(ref, Heartbeat("a", 1), "2026-01-01T00:00:00.000000Z")
    await bench.cluster.create(LEASE, body)
    await bench.look(Scope.STATUS)
    assert bench.status()["state"] == "Enabled"
    broken = {"spec": {"enabled": False, "batchSize": "many"}}
    await bench.cluster.merge(EVENT_SOURCE_MAPPING, "shop", "orders", broken)
    await bench.look()
    assert bench.ready()["reason"] == "InvalidSpec"
    assert bench.status()["state"] == "Enabled"
    function = next(each for each in bench.status()["conditions"] if each["type"] == "FunctionReachable")
    assert function["reason"] == "Pending", "not Disabled: pods go on"


def starting(ref: MappingRef, seconds: float) -> Body:
    """A pod of which the container was started so long ago, and which is not ready."""
    started = (datetime.now(UTC) - timedelta(seconds=seconds)).strftime("%Y-%m-%dT%H:%M:%SZ")
    container = {"image": "i:1", "state": {"running": {"startedAt": started}}, "ready": False}
    return {"metadata": ref.metadata("p"), "status": {"containerStatuses": [container]}}


async def test_an_ordinary_start_is_no_warning_and_silence_is_looked_for_later(bench: Bench) -> None:
    ref = await bench.apply()
    await bench.look()
    await bench.cluster.create(POD, starting(ref, 3))
    looked = await bench.look(Scope.STATUS)
    assert looked.again is not None
    assert 10 < looked.again < 20
    assert bench.ready()["reason"] == "Pending"
    assert not [kind for kind, _, _ in bench.cluster.objects if kind == EVENT]
    await bench.cluster.replace(POD, starting(ref, 30))
    assert await bench.look(Scope.STATUS) == Looked()
    assert bench.ready()["reason"] == "PodsSilent"


async def test_what_cannot_be_changed_is_told_where_no_server_has_refused_it_and_changes_nothing(bench: Bench) -> None:
    ref = await bench.apply(poller={"checkpointTable": "headrace"})
    await bench.look()
    before = await bench.cluster.find(CONFIG_MAP, "shop", ref.child_name)
    patch = {"spec": {"poller": {"checkpointTable": None}, "startingPosition": "LATEST"}}
    await bench.cluster.merge(EVENT_SOURCE_MAPPING, "shop", "orders", patch)
    for scope in (Scope.ALL, Scope.STATUS):
        await bench.look(scope)
        assert (bench.ready()["status"], bench.ready()["reason"]) == ("False", "InvalidSpec")
        assert "spec.poller.checkpointTable: cannot be changed" in bench.ready()["message"]
        assert "spec.startingPosition: cannot be changed" in bench.ready()["message"]
    assert await bench.cluster.find(CONFIG_MAP, "shop", ref.child_name) == before
    back = {"spec": {"poller": {"checkpointTable": "headrace"}, "startingPosition": "TRIM_HORIZON"}}
    await bench.cluster.merge(EVENT_SOURCE_MAPPING, "shop", "orders", back)
    await bench.look()
    assert bench.ready()["reason"] != "InvalidSpec"


async def test_somebody_quicker_is_no_trouble_of_the_mapping(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    ref = await bench.apply()
    await bench.look()
    status = bench.status()

    async def quicker(*_: Any) -> Body:
        raise Conflict("please apply your changes to the latest version", 409)

    patch = {"spec": {"poller": {"minReplicas": 2}}}
    await bench.cluster.merge(EVENT_SOURCE_MAPPING, "shop", "orders", patch)
    with monkeypatch.context() as one:
        one.setattr(bench.cluster, "replace", quicker)
        with pytest.raises(Conflict):
            await bench.look()
    assert bench.status() == status
    await bench.look()
    deployment = await bench.cluster.find(DEPLOYMENT, "shop", ref.child_name)
    assert deployment is not None
    assert deployment["spec"]["replicas"] == 2
