"""The operator on a real API server, run on the host: children, roll-out, repair, deletion, conditions, idempotence."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING, Any

import pytest
import pytest_asyncio

from headrace.cluster import ClusterError
from headrace.control.app import OperatorSettings, run_operator
from headrace.control.desired import PollerSettings
from headrace.control.observe import CHILDREN
from headrace.heartbeat import Heartbeat, ReportedCondition, lease, lease_name
from headrace.resources import (
    CONFIG_MAP,
    DEPLOYMENT,
    EVENT_SOURCE_MAPPING,
    LEASE,
    POD_DISRUPTION_BUDGET,
    POD_DISRUPTION_BUDGET_BETA,
    ROLE,
    SERVICE_ACCOUNT,
    MappingRef,
    ref_of,
)
from tests.support import clusters
from tests.support.clusters import eventually

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from headrace.cluster import Body, Cluster
    from headrace.resources import Kind

pytestmark = [
    pytest.mark.cluster,
    pytest.mark.filterwarnings("default"),  # kopf's own are not ours to fail on
]

WAITING = ("Pending", "PodsUnschedulable", "ImageUnavailable")
"""Of a mapping whose pods do not run yet; without a node they never do, and a node has no such image."""


class Site:
    """A namespace, and an operator that serves it."""

    def __init__(self, api: Cluster, namespace: str) -> None:
        self.api = api
        self.namespace = namespace

    @asynccontextmanager
    async def operator(self) -> AsyncIterator[None]:
        stop = asyncio.Event()
        settings = OperatorSettings(PollerSettings("headrace:test"), namespaces=(self.namespace,))
        task = asyncio.create_task(run_operator(settings, stop))
        try:
            yield
        finally:
            stop.set()
            await asyncio.wait_for(task, 20)

    async def apply(self, name: str = "orders", **spec: Any) -> MappingRef:
        body = clusters.mapping(self.namespace, name, **spec)
        return ref_of(await self.api.create(EVENT_SOURCE_MAPPING, body))

    async def edit(self, ref: MappingRef, **spec: Any) -> Body:
        return await self.api.merge(EVENT_SOURCE_MAPPING, self.namespace, ref.name, {"spec": spec})

    async def mapping(self, ref: MappingRef) -> Body:
        body = await self.api.find(EVENT_SOURCE_MAPPING, self.namespace, ref.name)
        assert body is not None
        return body

    async def child(self, ref: MappingRef, kind: Kind) -> Body:
        body: Body = await eventually(lambda: self.api.find(kind, self.namespace, ref.child_name), f"a {kind.kind}")
        return body

    async def condition(self, ref: MappingRef, kind: str, *reasons: str) -> Body:
        async def found() -> Body | None:
            conditions = (await self.mapping(ref)).get("status", {}).get("conditions", [])
            return next((each for each in conditions if each["type"] == kind and each["reason"] in reasons), None)

        body: Body = await eventually(found, f"condition {kind} with reason {' or '.join(reasons)}")
        return body

    async def state(self, ref: MappingRef, state: str) -> Body:
        async def reached() -> Body | None:
            status: Body = (await self.mapping(ref)).get("status", {})
            return status if status.get("state") == state else None

        status: Body = await eventually(reached, f"state {state}")
        return status

    async def beat(self, ref: MappingRef, renewed: str, heartbeat: Heartbeat) -> None:
        body = lease(ref, heartbeat, renewed)
        there = await self.api.find(LEASE, self.namespace, lease_name(ref, heartbeat.identity))
        if there is None:
            await self.api.create(LEASE, body)
        else:
            await self.api.merge(LEASE, self.namespace, there["metadata"]["name"], body)

    async def versions(self, ref: MappingRef) -> list[str]:
        bodies = [await self.child(ref, kind) for kind in CHILDREN] + [await self.mapping(ref)]
        return [body["metadata"]["resourceVersion"] for body in bodies]


@pytest_asyncio.fixture
async def site() -> AsyncIterator[Site]:
    async with AsyncExitStack() as stack:
        api = await stack.enter_async_context(clusters.cluster())
        yield Site(api, await stack.enter_async_context(clusters.namespace(api)))


async def test_a_mapping_gets_its_children_all_owned_by_it(site: Site) -> None:
    async with site.operator():
        ref = await site.apply()
        for kind in CHILDREN:
            child = await site.child(ref, kind)
            assert [owner["uid"] for owner in child["metadata"]["ownerReferences"]] == [ref.uid]
        status = await site.state(ref, "Creating")
        assert status["observedGeneration"] == 1
        assert (await site.condition(ref, "Ready", *WAITING))["status"] == "False"


async def test_no_mark_is_left_on_the_mapping_itself(site: Site) -> None:
    async with site.operator():
        ref = await site.apply()
        await site.child(ref, DEPLOYMENT)
        metadata = (await site.mapping(ref))["metadata"]
        assert "finalizers" not in metadata
        assert "annotations" not in metadata


async def test_an_edit_that_pods_follow_themselves_replaces_none(site: Site) -> None:
    async with site.operator():
        ref = await site.apply()
        before = (await site.child(ref, DEPLOYMENT))["spec"]["template"]
        await site.edit(ref, batchSize=7)

        async def told() -> bool:
            return "batchSize: 7" in (await site.child(ref, CONFIG_MAP))["data"]["mapping.yaml"]

        await eventually(told, "the new spec in the ConfigMap")
        assert (await site.child(ref, DEPLOYMENT))["spec"]["template"] == before
        await site.edit(ref, poller={"image": "other:1"})

        async def replaced() -> bool:
            return bool((await site.child(ref, DEPLOYMENT))["spec"]["template"] != before)

        await eventually(replaced, "another template")


async def test_a_budget_of_the_kind_that_the_server_knows_is_made(site: Site) -> None:
    served = await site.api.versions("policy")
    kind = POD_DISRUPTION_BUDGET if "v1" in served else POD_DISRUPTION_BUDGET_BETA
    async with site.operator():
        ref = await site.apply()
        assert (await site.child(ref, kind))["spec"]["maxUnavailable"] == 1
    assert await site.api.versions("nothing.example.org") == frozenset()


async def test_pods_are_as_many_as_the_reported_shards_need(site: Site) -> None:
    async with site.operator():
        ref = await site.apply(poller={"shardsPerReplica": 2, "maxReplicas": 3})
        await site.beat(ref, "2026-01-01T00:00:00.000000Z", Heartbeat("a", 1, shards_ready=9))

        async def scaled() -> bool:
            return bool((await site.child(ref, DEPLOYMENT))["spec"]["replicas"] == 3)

        await eventually(scaled, "three pods")


async def test_an_account_that_is_not_there_is_told_and_then_not(site: Site) -> None:
    async with site.operator():
        ref = await site.apply(poller={"serviceAccountName": "theirs"})
        assert "theirs" in (await site.condition(ref, "Ready", "ServiceAccountMissing"))["message"]
        metadata = {"name": "theirs", "namespace": site.namespace}
        await site.api.create(SERVICE_ACCOUNT, {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": metadata})
        await site.edit(ref, batchSize=7)
        await site.condition(ref, "Ready", *WAITING)


async def test_of_two_mappings_of_one_source_and_function_one_is_refused_until_the_other_goes(site: Site) -> None:
    arn = "arn:aws:kinesis:eu-west-1:123456789012:stream/shared"
    async with site.operator():
        first = await site.apply("first", eventSourceArn=arn)
        await site.condition(first, "Ready", *WAITING)
        second = await site.apply("second", eventSourceArn=arn)
        await site.condition(second, "Ready", "DuplicateMapping")
        await site.api.delete(EVENT_SOURCE_MAPPING, await site.mapping(first))
        await site.condition(second, "Ready", *WAITING)


async def test_disabling_scales_to_zero_and_a_setting_taken_back_is_taken_away(site: Site) -> None:
    async with site.operator():
        ref = await site.apply(poller={"nodeSelector": {"disk": "fast"}})
        assert (await site.child(ref, DEPLOYMENT))["spec"]["template"]["spec"]["nodeSelector"] == {"disk": "fast"}
        await site.edit(ref, enabled=False, poller=None)

        async def settled() -> bool:
            spec = (await site.child(ref, DEPLOYMENT))["spec"]
            return spec["replicas"] == 0 and "nodeSelector" not in spec["template"]["spec"]

        await eventually(settled, "no replicas, no node selector")
        await site.state(ref, "Disabled")
        assert (await site.condition(ref, "Ready", "Disabled"))["status"] == "False"


async def test_a_mapping_that_begins_disabled_becomes_disabled(site: Site) -> None:
    async with site.operator():
        ref = await site.apply(enabled=False)
        await site.state(ref, "Disabled")


@pytest.mark.parametrize("kind", CHILDREN, ids=lambda kind: kind.plural)
async def test_a_deleted_child_comes_back(site: Site, kind: Kind) -> None:
    async with site.operator():
        ref = await site.apply()
        child = await site.child(ref, kind)
        await site.api.delete(kind, child)

        async def back() -> bool:
            there = await site.api.find(kind, site.namespace, ref.child_name)
            return there is not None and there["metadata"]["uid"] != child["metadata"]["uid"]

        await eventually(back, f"another {kind.kind}")


@pytest.mark.parametrize(
    ("kind", "patch"),
    [
        (DEPLOYMENT, {"spec": {"replicas": 0}}),
        (DEPLOYMENT, {"spec": {"template": {"spec": {"containers": [{"name": "other", "image": "x"}]}}}}),
        (CONFIG_MAP, {"data": {"mapping.yaml": "nonsense"}}),
        (ROLE, {"rules": []}),
        (DEPLOYMENT, {"metadata": {"ownerReferences": None}}),
        (CONFIG_MAP, {"metadata": {"labels": None}}),
        (SERVICE_ACCOUNT, {"metadata": {"labels": None}}),
    ],
)
async def test_a_hand_changed_child_is_put_right(site: Site, kind: Kind, patch: Body) -> None:
    async with site.operator():
        ref = await site.apply()
        before = await site.child(ref, kind)
        await site.condition(ref, "Progressing", "RollingOut")
        await site.api.merge(kind, site.namespace, ref.child_name, patch)

        async def right() -> bool:
            after = await site.child(ref, kind)
            told = [
                {key: body[key] for key in ("spec", "data", "rules") if key in body}
                | {key: body["metadata"].get(key) for key in ("labels", "ownerReferences")}
                for body in (before, after)
            ]
            return told[0] == told[1]

        await eventually(right, "as it was before")


async def test_labels_and_annotations_of_others_stay(site: Site) -> None:
    async with site.operator():
        ref = await site.apply()
        await site.child(ref, DEPLOYMENT)
        extra = {"metadata": {"labels": {"team": "x"}, "annotations": {"note": "y"}}, "spec": {"replicas": 0}}
        await site.api.merge(DEPLOYMENT, site.namespace, ref.child_name, extra)

        async def right() -> bool:
            deployment = await site.child(ref, DEPLOYMENT)
            assert deployment["metadata"]["labels"]["team"] == "x"
            assert deployment["metadata"]["annotations"]["note"] == "y"
            return bool(deployment["spec"]["replicas"] == 1)

        await eventually(right, "one replica")


async def test_naming_a_service_account_takes_the_own_one_away(site: Site) -> None:
    async with site.operator():
        ref = await site.apply()
        await site.child(ref, SERVICE_ACCOUNT)
        await site.edit(ref, poller={"serviceAccountName": "chosen"})

        async def gone() -> bool:
            return await site.api.find(SERVICE_ACCOUNT, site.namespace, ref.child_name) is None

        await eventually(gone, "no ServiceAccount of its own")
        deployment = await site.child(ref, DEPLOYMENT)
        assert deployment["spec"]["template"]["spec"]["serviceAccountName"] == "chosen"


async def test_a_foreign_object_of_the_same_name_is_left_alone_and_told(site: Site) -> None:
    ref = await site.apply()
    metadata = {"name": ref.child_name, "namespace": site.namespace}
    await site.api.create(
        CONFIG_MAP, {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": {"a": "b"}}
    )
    async with site.operator():
        condition = await site.condition(ref, "Ready", "NameConflict")
        assert "ConfigMap" in condition["message"]
        assert (await site.child(ref, CONFIG_MAP))["data"] == {"a": "b"}


async def test_deletion_takes_everything_along_while_the_operator_is_down(site: Site) -> None:
    async with site.operator():
        ref = await site.apply()
        for kind in CHILDREN:
            await site.child(ref, kind)
    await site.api.delete(EVENT_SOURCE_MAPPING, await site.mapping(ref))

    async def gone() -> bool:
        return not any([await site.api.find(kind, site.namespace, ref.child_name) for kind in CHILDREN])

    await eventually(gone, "no children", within=60)


async def test_an_invalid_mapping_is_told_and_its_children_stay(site: Site) -> None:
    async with site.operator():
        ref = await site.apply()
        await site.child(ref, DEPLOYMENT)
        try:
            await site.edit(ref, startingPosition="AT_TIMESTAMP")
        except ClusterError as error:
            if error.status != 422:
                raise
            return  # a server with CEL refuses it at once, which is as good
        condition = await site.condition(ref, "Ready", "InvalidSpec")
        assert "startingPositionTimestamp" in condition["message"]
        assert (await site.child(ref, DEPLOYMENT))["spec"]["replicas"] == 1
        await site.edit(ref, startingPosition="LATEST")  # valid, and another than it was made with
        await eventually_says(site, ref, "spec.startingPosition: cannot be changed")
        await site.edit(ref, startingPosition="TRIM_HORIZON")
        await site.condition(ref, "Ready", *WAITING)


async def eventually_says(site: Site, ref: MappingRef, sentence: str) -> None:
    async with asyncio.timeout(20):
        while sentence not in (await site.condition(ref, "Ready", "InvalidSpec"))["message"]:
            await asyncio.sleep(0.1)


async def test_what_is_not_supported_yet_starts_nothing(site: Site) -> None:
    async with site.operator():
        ref = await site.apply(tags={"a": "b"})
        condition = await site.condition(ref, "Ready", "NotSupportedYet")
        assert "tags" in condition["message"]
        assert await site.api.find(DEPLOYMENT, site.namespace, ref.child_name) is None


async def test_twenty_mappings_at_once(site: Site) -> None:
    async with site.operator():
        refs = await asyncio.gather(*(site.apply(f"orders-{number}") for number in range(20)))
        for ref in refs:
            await site.child(ref, DEPLOYMENT)
            await site.condition(ref, "Ready", *WAITING)


async def test_a_restart_writes_nothing(site: Site) -> None:
    async with site.operator():
        ref = await site.apply(poller={"resources": {"requests": {"cpu": "0.5", "memory": "1024Mi"}}})
        await site.condition(ref, "Progressing", "RollingOut")
        await asyncio.sleep(3)
        before = await site.versions(ref)
    async with site.operator():
        await asyncio.sleep(4)
        assert await site.versions(ref) == before


async def test_what_a_poller_reports_reaches_the_status_and_goes_with_it(site: Site) -> None:
    good = ReportedCondition("SourceReachable", "True", "Reachable", "the stream answers")
    bad = ReportedCondition("SourceReachable", "False", "NotFound", "no such stream")
    async with site.operator():
        ref = await site.apply()
        await site.beat(ref, "2026-01-01T00:00:00.000000Z", Heartbeat("a", 1, (good,), "OK", 4, 8, 1))
        status = await site.state(ref, "Enabled")
        told = (
            status["pollers"],
            status["iteratorAgeSeconds"],
            status["shards"]["total"],
            status["lastProcessingResult"],
        )
        assert told == (1, 4, 8, "OK")
        assert (await site.condition(ref, "Ready", "Ready"))["status"] == "True"
        await site.beat(ref, "2026-01-01T00:00:02.000000Z", Heartbeat("a", 1, (bad,), "OK"))
        await site.condition(ref, "Ready", "NotFound")

        async def dead() -> bool:
            return bool((await site.mapping(ref))["status"]["pollers"] == 0)

        await eventually(dead, "a heartbeat that is not renewed does not count")
        await site.condition(ref, "SourceReachable", "Pending")
        assert (await site.mapping(ref))["status"]["state"] == "Enabled"
