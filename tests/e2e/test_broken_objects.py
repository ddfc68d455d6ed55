"""Objects that are broken: a condition and an Event say so, the operator goes on, and mending is all it takes.

All the broken mappings are made at once, so that the tests, one of each, wait at the same time.
"""

from __future__ import annotations

import asyncio
import json
import re
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest

from headrace.resources import LABEL_MAPPING_UID, LEASE, ROLE_BINDING, SHARD_LEASE, ref_of
from tests.e2e.fleet import credentials, manifest
from tests.e2e.installation import Release, Shop, namespace
from tests.e2e.kubectl import apply, find, kubectl, select, wait_until
from tests.support import aws
from tests.support.aws import Stream, make_stream
from tests.support.function import RecordingFunction, fails_on

if TYPE_CHECKING:
    from collections.abc import Iterator

    from headrace.cluster import Body
    from headrace.resources import MappingRef

pytestmark = [pytest.mark.node, pytest.mark.timeout(300)]

BROKEN: dict[str, dict[str, Any]] = {
    "account": {"poller": {"serviceAccountName": "nobody"}},
    "image": {"poller": {"image": "127.0.0.1:9/headrace:absent"}},
    "crash": {"poller": {"env": [{"name": "PYTHONHOME", "value": "/absent"}]}},
    "memory": {"poller": {"resources": {"limits": {"memory": "24Mi"}}}},
    "service": {"function": {"service": {"name": "absent", "port": 80}, "timeoutSeconds": 5}},
    "twin": {},
    "rights": {},
    "edited": {},
}
"""What is wrong with each from the beginning; the last three are broken later."""


@dataclass
class Broken:
    """The namespace with the broken mappings."""

    shop: Shop
    where: str
    streams: dict[str, Stream]

    @property
    def namespace(self) -> str:
        return self.where

    def apply(self, name: str, stream: str | None = None, namespace: str | None = None, **spec: Any) -> None:
        arn = self.streams[stream or name].arn
        body = manifest(name, arn, self.shop.function_url, self.shop.aws)
        body["spec"] |= {"function": {"url": self.shop.function_url, "protocol": "http"}} | spec
        apply(credentials(), body, namespace=namespace or self.where)

    def ref(self, name: str) -> MappingRef:
        return ref_of(find("esm", name, self.where) or {})

    def condition(self, name: str, kind: str, namespace: str | None = None) -> Body:
        status = (find("esm", name, namespace or self.where) or {}).get("status", {})
        return next((each for each in status.get("conditions", ()) if each["type"] == kind), {})

    def says(self, name: str, reason: str, kind: str = "Ready", namespace: str | None = None) -> str:
        """Waits for a condition that is False for a reason, and an Event of that reason; the condition's sentence."""

        def holds() -> bool:
            found = self.condition(name, kind, namespace)
            return (found.get("status"), found.get("reason")) == ("False", reason)

        wait_until(holds, f"{name}: {kind} is False, {reason}", 90)
        self.event(name, reason, namespace)
        return str(self.condition(name, kind, namespace)["message"])

    def event(self, name: str, reason: str, namespace: str | None = None) -> str:
        """Waits for an Event on a mapping; its sentence."""

        def found() -> list[Body]:
            selected = f"involvedObject.name={name},reason={reason}"
            where = ("--namespace", namespace or self.where)
            events = json.loads(kubectl("get", "events", *where, "--field-selector", selected, "-o", "json"))
            return list(events["items"])

        return str(wait_until(found, f"{name}: an Event {reason}", 30)[0]["message"])

    def ready(self, name: str, seconds: float = 90.0, namespace: str | None = None) -> None:
        def holds() -> bool:
            return self.condition(name, "Ready", namespace).get("status") == "True"

        wait_until(holds, f"{name} is Ready", seconds)

    def recovers(self, name: str, seconds: float = 90.0, namespace: str | None = None) -> None:
        self.ready(name, seconds, namespace)
        kubectl("delete", "esm", name, "--namespace", namespace or self.where)


@pytest.fixture(scope="module")
def broken(shop: Shop, ministack: str) -> Iterator[Broken]:
    names = (*BROKEN, "quota", "ending")
    streams = asyncio.run(made(ministack, *names))
    with namespace("broken") as where:
        found = Broken(shop, where, streams)
        for name, spec in BROKEN.items():
            found.apply(name, **spec)
        yield found
        kubectl("delete", "esm", "--all", "--namespace", where)


async def made(endpoint: str, *names: str) -> dict[str, Stream]:
    """A stream with a good record for each name."""
    async with aws.client("kinesis", endpoint) as kinesis:
        streams = {name: await make_stream(kinesis) for name in names}
        for stream in streams.values():
            await stream.put(json.dumps({"order": 1}))
        return streams


def test_a_mapping_whose_service_account_is_missing_says_so_and_starts_once_it_is_made(broken: Broken) -> None:
    assert "nobody" in broken.says("account", "ServiceAccountMissing")
    apply({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "nobody"}}, namespace=broken.where)
    broken.recovers("account")


def test_a_service_that_is_not_there_is_named_by_function_reachable(broken: Broken) -> None:
    told = broken.says("service", "Unreachable", "FunctionReachable")
    assert f"Service {broken.where}/absent, port 80" in told
    broken.apply("service")
    broken.recovers("service")


def test_an_image_that_cannot_be_pulled_is_told_and_another_is_taken_at_once(broken: Broken) -> None:
    assert "127.0.0.1:9/headrace:absent" in broken.says("image", "ImageUnavailable")
    broken.apply("image")
    broken.recovers("image")


@pytest.mark.parametrize(("name", "ended"), [("crash", "exit code 1"), ("memory", "exit code 137")])
def test_a_poller_that_crashes_again_and_again_is_told_with_how_it_ended(broken: Broken, name: str, ended: str) -> None:
    assert ended in broken.says(name, "PodsCrashing")
    broken.apply(name)
    broken.recovers(name)


def test_a_quota_that_takes_no_pod_is_told_and_pods_come_once_it_is_raised(broken: Broken) -> None:
    quota = {"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "none"}, "spec": {"hard": {"pods": "0"}}}
    with namespace("quota") as where:
        apply(quota, namespace=where)
        full = lambda: (find("resourcequota", "none", where) or {}).get("status", {}).get("hard")  # noqa: E731
        wait_until(full, "the quota is in force")
        broken.apply("quota", namespace=where)
        assert "exceeded quota: none" in broken.says("quota", "PodsRefused", namespace=where)
        kubectl("delete", "resourcequota", "none", "--namespace", where)
        broken.recovers("quota", namespace=where)


def test_a_poller_without_rights_because_its_binding_is_somebody_elses_comes_back_when_that_is_gone(
    broken: Broken,
) -> None:
    ref = broken.ref("rights")
    broken.ready("rights")
    other = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "somebody"}, "data": {}}
    apply(other, namespace=broken.where)
    uid = (find("configmap", "somebody", broken.where) or {})["metadata"]["uid"]
    owner = {"apiVersion": "v1", "kind": "ConfigMap", "name": "somebody", "uid": uid}
    change = {"metadata": {"ownerReferences": [owner]}, "subjects": []}
    what = (ROLE_BINDING.plural, ref.child_name, "--namespace", broken.where)
    kubectl("patch", *what, "--type=merge", "-p", json.dumps(change))
    assert f"RoleBinding {ref.child_name}" in broken.says("rights", "NameConflict")

    def silent() -> bool:
        found: Body = find("esm", "rights", broken.where) or {}
        return bool(found["status"]["pollers"] == 0)

    wait_until(silent, "the poller may not beat any more")
    kubectl("delete", *what)
    broken.recovers("rights")


def test_the_second_of_two_mappings_of_one_source_and_function_waits_until_the_first_is_gone(broken: Broken) -> None:
    broken.ready("twin")
    broken.apply("twin-later", stream="twin")
    assert "twin" in broken.says("twin-later", "DuplicateMapping")
    kubectl("delete", "esm", "twin", "--namespace", broken.where)
    broken.recovers("twin-later", 120)


def test_a_namespace_that_is_being_deleted_takes_its_mappings_with_it(broken: Broken) -> None:
    with namespace("ending") as where:
        broken.apply("ending", namespace=where)
        wait_until(lambda: select("deployments", where), "the mapping has a Deployment")
    wait_until(lambda: find("namespace", where) is None, "the namespace is gone", 120)


def test_a_lease_edited_and_a_heartbeat_deleted_by_hand_are_put_right(broken: Broken) -> None:
    broken.ready("edited")
    selector = f"{LABEL_MAPPING_UID}={broken.ref('edited').uid}"
    (pod,) = select("pods", broken.where, selector)
    (lease,) = select(SHARD_LEASE.plural, broken.where, selector)
    name = lease["metadata"]["name"]
    edit = json.dumps({"status": {"holder": "nobody", "incarnation": "none"}})
    kubectl("patch", "shl", name, "--namespace", broken.where, "--type=merge", "-p", edit)
    assert lease["spec"]["shardId"] in broken.event("edited", "ShardLost")

    def held() -> bool:
        found: Body = find("shl", name, broken.where) or {}
        return bool(found["status"].get("holder") == pod["metadata"]["name"])

    wait_until(held, "the poller has its shard again", 30)

    def beats() -> list[str]:
        leases = select(f"{LEASE.plural}.coordination.k8s.io", broken.where, selector)
        return [one["metadata"]["uid"] for one in leases]

    before = beats()
    kubectl("delete", "lease", "-l", selector, "--namespace", broken.where)
    wait_until(lambda: beats() not in ([], before), "the heartbeat is made again")
    assert held()
    (after,) = select("pods", broken.where, selector)
    assert after["metadata"]["uid"] == pod["metadata"]["uid"]
    assert after["status"]["containerStatuses"][0]["restartCount"] == 0
    broken.recovers("edited")


async def test_kubectl_get_says_which_shard_is_stuck_since_when_on_which_record_with_which_error(
    broken: Broken, ministack: str, kinesis: Any, function: RecordingFunction
) -> None:
    function.answer = fails_on("poison")
    stream = await make_stream(kinesis, shards=2)
    body = manifest("stuck", stream.arn, function.url, ministack, batchSize=1)
    apply(credentials(), body, namespace=broken.where)
    await stream.put("good", "poison")
    began = time.monotonic()

    def stuck() -> dict[str, str]:
        told = table("shl", broken.where, "MAPPING", "stuck")
        return next((row for row in told if int(row["ATTEMPTS"] or 0) > 2 and row["CHECKPOINT"]), {})

    row = await asyncio.to_thread(wait_until, stuck, "a shard shows as stuck")
    good, poison = stream.numbers
    assert row["STATE"] == "Retrying"
    assert row["SHARD"] == function.calls[-1].headers["Headrace-Shard"]
    assert (row["RECORD"], row["CHECKPOINT"]) == (poison, good)
    assert "boom" in row["ERROR"]
    assert 0 <= int(row["SINCE"].removesuffix("s")) <= time.monotonic() - began
    others = [one for one in table("shl", broken.where, "MAPPING", "stuck") if one["SHARD"] != row["SHARD"]]
    assert [(one["STATE"], one["SINCE"], one["RECORD"]) for one in others] == [("Held", "", "")]

    def named() -> str:
        sentence = str(broken.condition("stuck", "Ready").get("message"))
        return sentence if row["SHARD"] in sentence else ""

    sentence = await asyncio.to_thread(wait_until, named, "the mapping names the shard")
    assert poison in sentence
    assert "boom" in sentence
    (mapping,) = table("esm", broken.where, "NAME", "stuck")
    assert (mapping["SHARDS"], mapping["ASSIGNED"], mapping["READY"]) == ("2", "2", "True")
    function.answer = fails_on()
    await asyncio.to_thread(broken.recovers, "stuck")


def table(kind: str, where: str, title: str, value: str) -> list[dict[str, str]]:
    """Rows as kubectl prints them, cells by their titles, of those in which a column has a value."""
    titles, *lines = kubectl("get", kind, "--namespace", where, "-o", "wide").rstrip("\n").split("\n")
    found = list(re.finditer(r"\S+", titles))
    starts = [one.start() for one in found]
    cut = list(zip([one[0] for one in found], starts, [*starts[1:], None], strict=False))
    rows = [{word: line[start:end].strip() for word, start, end in cut} for line in lines]
    return [row for row in rows if row[title] == value]


def test_the_operator_was_never_restarted_by_any_of_it(broken: Broken, release: Release) -> None:
    """The last of this file."""
    for pod in release.pods():
        name = pod["metadata"]["name"]
        assert [each["restartCount"] for each in pod["status"]["containerStatuses"]] == [0], name
        assert "Traceback" not in kubectl("logs", name, "--namespace", release.namespace)
