"""From `helm install` to a failure record, on a cluster with a node: what users are promised, seen from outside.

The tests run in this order; the last one uninstalls the chart.
"""

from __future__ import annotations

import asyncio
import json
import re
import signal
import time
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pytest

from headrace.resources import API_VERSION, LABEL_MAPPING_UID
from tests.e2e import machines
from tests.e2e.installation import CRDS, CREDENTIALS, Release, Shop
from tests.e2e.kubectl import apply, eventually, find, kubectl, select
from tests.support import aws
from tests.support.aws import Queue, Stream, make_queue, make_stream

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Sequence

pytestmark = [pytest.mark.node, pytest.mark.timeout(900)]

Body = dict[str, Any]
KINDS = (
    "deployments,replicasets,pods,serviceaccounts,roles,rolebindings,configmaps,leases.coordination.k8s.io,shardleases"
)
BEFORE_THE_CRASH = 2.5
"""Seconds: checkpoints are written at most one a second while records flow; the rest is for slow machines."""


@dataclass
class Mapping:
    """A mapping in the cluster, and what the sample function got from it."""

    shop: Shop
    name: str
    stream: Stream
    queue: Queue

    def apply(self, **spec: Any) -> None:
        apply(self.manifest(**spec), namespace=self.shop.namespace)

    def manifest(self, **spec: Any) -> Body:
        wanted = {
            "eventSourceArn": self.stream.arn,
            "function": {"url": self.shop.function_url, "protocol": "http", "timeoutSeconds": 10},
            "startingPosition": "TRIM_HORIZON",
            "batchSize": 10,
            "maximumRetryAttempts": 2,
            "retryBackoff": {"initialSeconds": 0.1},
            "functionResponseTypes": ["ReportBatchItemFailures"],
            "bisectBatchOnFunctionError": True,
            "destinationConfig": {"onFailure": {"destination": self.queue.arn}},
            "aws": {"endpointUrl": self.shop.aws, "credentials": {"secretRef": {"name": CREDENTIALS}}},
        }
        return {
            "apiVersion": API_VERSION,
            "kind": "EventSourceMapping",
            "metadata": {"name": self.name},
            "spec": wanted | spec,
        }

    @property
    def body(self) -> Body:
        return find("esm", self.name, self.shop.namespace) or {}

    @property
    def uid(self) -> str:
        return str(self.body["metadata"]["uid"])

    def children(self, kinds: str = KINDS, uid: str | None = None) -> list[Body]:
        return select(kinds, self.shop.namespace, f"{LABEL_MAPPING_UID}={uid or self.uid}")

    def condition(self, name: str) -> str | None:
        found = self.body.get("status", {}).get("conditions", [])
        return next((each["status"] for each in found if each["type"] == name), None)

    def is_ready(self) -> bool:
        return self.body.get("status", {}).get("state") == "Enabled" and self.condition("Ready") == "True"

    async def ready(self) -> None:
        await eventually(self.is_ready, f"{self.name} is Enabled and Ready")

    def calls(self) -> list[Body]:
        """The calls so far, in order."""
        path = f"/api/v1/namespaces/{self.shop.namespace}/services/orders:http/proxy/received"
        calls = json.loads(kubectl("get", "--raw", path))
        return [call for call in calls if call["mapping"] == f"{self.shop.namespace}/{self.name}"]

    def sequence_numbers(self) -> list[str]:
        """Of every record of every call, in order."""
        return [number for call in self.calls() for number in numbers(call)]

    async def arrived(self, expected: Sequence[str]) -> None:
        await eventually(
            lambda: set(expected) <= set(self.sequence_numbers()), f"{len(expected)} records arrive from {self.name}"
        )


def numbers(call: Body) -> list[str]:
    return [record["kinesis"]["sequenceNumber"] for record in call["records"]]


@pytest.fixture
async def mapping(shop: Shop, kinesis: Any, sqs: Any, request: pytest.FixtureRequest) -> AsyncIterator[Mapping]:
    """Not applied yet; gone after the test."""
    stream = await make_stream(kinesis, shards=2)
    made = Mapping(shop, stream.name, stream, await make_queue(sqs))
    yield made
    kubectl("delete", "esm", made.name, "--namespace", shop.namespace, "--ignore-not-found")


async def put(stream: Stream, count: int) -> list[str]:
    """Good records over many keys, so that both shards get some; their sequence numbers."""
    before = len(stream.numbers)
    for number in range(count):
        await stream.put(json.dumps({"order": number}), key=f"customer-{number}")
    return stream.numbers[before:]


@asynccontextmanager
async def flowing(stream: Stream, pause: float = 0.03) -> AsyncIterator[None]:
    """Records are written all the time."""

    async def write() -> None:
        while True:
            await put(stream, 2)
            await asyncio.sleep(pause)

    writing = asyncio.create_task(write())
    try:
        yield
    finally:
        writing.cancel()
        await asyncio.gather(writing, return_exceptions=True)


async def test_good_records_arrive_and_a_poison_record_ends_in_the_queue_with_all_that_is_told_of_it(
    mapping: Mapping,
) -> None:
    mapping.apply()
    good = await put(mapping.stream, 12)
    await mapping.stream.put("no JSON", key="customer-1")
    poison = mapping.stream.numbers[-1]
    good += await put(mapping.stream, 12)

    await mapping.arrived(good)
    (told,) = await mapping.queue.take(seconds=60)

    alone = [call for call in mapping.calls() if numbers(call) == [poison]]
    (record,) = alone[0]["records"]
    assert [call["attempt"] for call in alone] == ["1", "2", "3"]
    assert {call["requestId"] for call in alone} == {told["requestContext"]["requestId"]}
    arrival = instant(record["kinesis"]["approximateArrivalTimestamp"])
    account = mapping.stream.arn.split(":")[4]
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", told.pop("timestamp"))
    assert told == {
        "requestContext": {
            "requestId": alone[0]["requestId"],
            "functionArn": f"arn:aws:lambda:{aws.REGION}:{account}:function:{mapping.name}",
            "condition": "RetryAttemptsExhausted",
            "approximateInvokeCount": 3,
        },
        "responseContext": {"statusCode": 200, "executedVersion": "$LATEST", "functionError": None},
        "version": "1.0",
        "KinesisBatchInfo": {
            "shardId": alone[0]["shard"],
            "startSequenceNumber": poison,
            "endSequenceNumber": poison,
            "approximateArrivalOfFirstRecord": arrival,
            "approximateArrivalOfLastRecord": arrival,
            "batchSize": 1,
            "streamArn": mapping.stream.arn,
        },
    }
    assert await mapping.queue.drain() == []


def instant(epoch_seconds: float) -> str:
    moment = datetime.fromtimestamp(round(epoch_seconds, 3), UTC)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


async def test_kubectl_get_shows_a_running_mapping_and_its_shards(mapping: Mapping) -> None:
    mapping.apply()
    await mapping.arrived(await put(mapping.stream, 6))
    await mapping.ready()

    await eventually(lambda: mapping.body["status"]["shards"]["total"] == 2, "both shards are counted")
    await eventually(lambda: mapping.body["status"]["lastProcessingResult"] == "OK", "the last result is told")
    shown = kubectl("get", "esm", mapping.name, "--namespace", mapping.shop.namespace, "-o", "wide")
    titles, line = shown.strip().split("\n")
    assert {"NAME", "STATE", "SHARDS", "POLLERS", "READY"} <= set(titles.split())
    assert {mapping.name, mapping.stream.arn, "Enabled", "True", "OK"} <= set(line.split())
    shards = kubectl("get", "shl", "--namespace", mapping.shop.namespace, "-l", f"{LABEL_MAPPING_UID}={mapping.uid}")
    assert shards.count("Held") == 2


async def test_a_poller_that_is_deleted_by_force_loses_nothing_and_repeats_only_what_was_after_its_checkpoint(
    mapping: Mapping,
) -> None:
    def delete() -> None:
        (pod,) = mapping.children("pods")
        name, where = pod["metadata"]["name"], mapping.shop.namespace
        kubectl("delete", "pod", name, "--namespace", where, "--grace-period=0", "--force")

    await assert_crash_is_survived(mapping, delete)


async def test_a_poller_whose_process_is_killed_loses_nothing_and_repeats_only_what_was_after_its_checkpoint(
    mapping: Mapping,
) -> None:
    def kill() -> None:
        found = machines.pollers(mapping.shop.namespace, mapping.name)
        if not found:
            pytest.skip("the node's processes are not to be seen from here")
        for pid in found.values():
            machines.send(pid, signal.SIGKILL)

    await assert_crash_is_survived(mapping, kill)


async def assert_crash_is_survived(mapping: Mapping, crash: Callable[[], None]) -> None:
    mapping.apply()
    await mapping.arrived(await put(mapping.stream, 2))
    async with flowing(mapping.stream):
        await asyncio.sleep(4)
        before = time.time()
        await asyncio.to_thread(crash)
        await asyncio.sleep(4)
    await mapping.arrived(mapping.stream.numbers)
    calls = mapping.calls()

    first: dict[str, float] = {}
    for call in calls:
        for number in numbers(call):
            again = first.setdefault(number, call["at"])
            assert again == call["at"] or again > before - BEFORE_THE_CRASH, f"{number} was checkpointed and came again"
    assert min(call["at"] for call in calls) < before < max(call["at"] for call in calls)
    for shard in {call["shard"] for call in calls}:
        of_shard = [number for call in calls if call["shard"] == shard for number in numbers(call)]
        fresh = [int(number) for number in dict.fromkeys(of_shard)]
        assert fresh == sorted(fresh), f"{shard} came out of order"
    await mapping.ready()
    assert await mapping.queue.drain() == []


async def test_a_disabled_mapping_has_no_pods_keeps_its_checkpoints_and_goes_on_behind_them(mapping: Mapping) -> None:
    mapping.apply()
    await mapping.arrived(await put(mapping.stream, 10))
    await mapping.ready()

    mapping.apply(enabled=False)
    await eventually(lambda: not mapping.children("pods"), "the pods are gone", 90)
    await eventually(lambda: mapping.body["status"]["state"] == "Disabled", "the mapping is Disabled")
    leases = mapping.children("shardleases")
    assert len(leases) == 2
    assert {str(lease["status"].get("sequenceNumber")) for lease in leases} <= set(mapping.stream.numbers)
    later = await put(mapping.stream, 10)

    mapping.apply(enabled=True)
    await mapping.arrived(later)
    await mapping.ready()
    assert sorted(mapping.sequence_numbers()) == sorted(mapping.stream.numbers), "each record came once"


async def test_a_child_changed_or_deleted_by_hand_comes_back(mapping: Mapping) -> None:
    mapping.apply()
    await mapping.ready()
    (deployment,) = mapping.children("deployments")
    name, where = deployment["metadata"]["name"], ("--namespace", mapping.shop.namespace)

    kubectl("delete", "configmap", name, *where)
    kubectl("set", "image", f"deployment/{name}", "poller=busybox:1", *where)

    def restored() -> bool:
        (again,) = mapping.children("deployments")
        pod = again["spec"]["template"]["spec"]
        return bool(pod == deployment["spec"]["template"]["spec"] and mapping.children("configmaps"))

    await eventually(restored, "ConfigMap and image are as they were")
    await mapping.arrived(await put(mapping.stream, 4))


async def test_a_deleted_mapping_takes_everything_with_it_and_holds_nothing_up(mapping: Mapping) -> None:
    mapping.apply()
    await mapping.arrived(await put(mapping.stream, 4))
    await mapping.ready()
    uid = mapping.uid
    assert "finalizers" not in mapping.body["metadata"]
    made = {child["kind"] for child in mapping.children()}
    assert {"Deployment", "Pod", "ServiceAccount", "Role", "RoleBinding", "ConfigMap", "Lease", "ShardLease"} <= made

    kubectl("delete", "esm", mapping.name, "--namespace", mapping.shop.namespace, seconds=20)

    await eventually(lambda: not mapping.children(uid=uid), "nothing of it is left", 120)


async def test_with_named_namespaces_the_operator_needs_no_right_in_the_cluster(
    release: Release, mapping: Mapping
) -> None:
    release.upgrade(f"watchNamespaces={{{mapping.shop.namespace}}}")

    assert not select("clusterroles,clusterrolebindings", None, release.selector)
    mapping.apply()
    await mapping.arrived(await put(mapping.stream, 4))
    await mapping.ready()


async def test_without_the_operator_records_flow_on_and_mappings_can_be_deleted(
    release: Release, mapping: Mapping
) -> None:
    mapping.apply()
    await mapping.arrived(await put(mapping.stream, 4))
    await mapping.ready()
    uid = mapping.uid

    release.uninstall()

    assert not select("clusterroles,clusterrolebindings", None, release.selector)
    assert find("deployment", release.name, release.namespace) is None
    assert all(find("crd", name) for name in CRDS)
    await mapping.arrived(await put(mapping.stream, 4))
    kubectl("delete", "esm", mapping.name, "--namespace", mapping.shop.namespace, seconds=20)
    await eventually(lambda: not mapping.children(uid=uid), "nothing of it is left", 120)
