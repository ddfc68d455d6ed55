"""Operator and poller with nothing but the rights of their roles: the chart's, and the one the operator makes."""

from __future__ import annotations

import subprocess
from contextlib import AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING, Any

import pytest
import pytest_asyncio
import yaml
from aiohttp import web

from headrace.resources import (
    EVENT_SOURCE_MAPPING,
    ROLE,
    ROLE_BINDING,
    SERVICE_ACCOUNT,
    SHARD_LEASE,
    WINDOW_STATE,
    ref_of,
)
from tests.support import clusters
from tests.support.aws import make_stream
from tests.support.clusters import eventually
from tests.support.headrace import Running, headrace, long_window
from tests.support.servers import ROOT

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from headrace.cluster import Body, Cluster
    from headrace.resources import MappingRef
    from tests.support.function import RecordingFunction

pytestmark = pytest.mark.cluster

HELM = ROOT / ".venv" / "helm" / "helm"


class Site:
    """A namespace with the chart's account and role in it."""

    def __init__(self, api: Cluster, namespace: str, folder: Path) -> None:
        self.api = api
        self.namespace = namespace
        self._folder = folder

    async def install_rights(self) -> str:
        """Makes what the chart has of accounts, roles and bindings; gives the account's name."""
        kinds = {kind.kind: kind for kind in (SERVICE_ACCOUNT, ROLE, ROLE_BINDING)}
        wanted = [document for document in rendered(self.namespace) if document["kind"] in kinds]
        for document in wanted:
            document["metadata"].setdefault("namespace", self.namespace)
            await self.api.create(kinds[document["kind"]], document)
        return next(str(each["metadata"]["name"]) for each in wanted if each["kind"] == "ServiceAccount")

    async def kubeconfig(self, account: str) -> Path:
        """A kubeconfig of a service account."""
        path = SERVICE_ACCOUNT.path(self.namespace, account, "token")
        request = {
            "apiVersion": "authentication.k8s.io/v1",
            "kind": "TokenRequest",
            "spec": {"expirationSeconds": 3600},
        }
        token = (await clusters.call(self.api, "POST", path, request))["status"]["token"]
        file = self._folder / f"{account}.yaml"
        file.write_text(yaml.safe_dump(clusters.kubeconfig_with(token)))
        return file

    @asynccontextmanager
    async def started(self, account: str, *command: str) -> AsyncIterator[Running]:
        environment = {"KUBECONFIG": str(await self.kubeconfig(account))}
        async with headrace(*command, "--log-format", "json", environment=environment) as running:
            yield running


@pytest_asyncio.fixture
async def site(tmp_path: Path) -> AsyncIterator[Site]:
    if not HELM.exists():
        pytest.skip("helm is not there: make .venv/helm.stamp")
    async with AsyncExitStack() as stack:
        api = await stack.enter_async_context(clusters.cluster())
        yield Site(api, await stack.enter_async_context(clusters.namespace(api)), tmp_path)


def rendered(namespace: str) -> list[Body]:
    """The chart's documents for an operator that serves one namespace."""
    values = ["--namespace", namespace, "--set", f"watchNamespaces={{{namespace}}}"]
    command = [str(HELM), "template", "headrace", str(ROOT / "charts" / "headrace"), *values]
    text = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    return [document for document in yaml.safe_load_all(text) if document]


async def only_newest_state(api: Cluster, ref: MappingRef) -> bool:
    (lease,) = await api.select(SHARD_LEASE, ref.namespace, ref.selector)
    states = await api.select(WINDOW_STATE, ref.namespace, ref.selector)
    named = lease["status"].get("window", {}).get("state")
    return bool(states) and [state["metadata"]["name"] for state in states] == named


def refusals(running: Running) -> list[Body]:
    return [entry for entry in running.log if "forbidden" in str(entry)]


async def test_the_rights_of_both_are_enough_and_records_flow(
    site: Site, ministack: str, kinesis: Any, function: RecordingFunction
) -> None:
    """With tumbling windows, so that their states are written and deleted too."""
    stream = await make_stream(kinesis)
    function.answer = lambda _: web.json_response({"state": {}})
    await stream.put("a", "b")
    said = {
        "eventSourceArn": stream.arn,
        "function": {"url": function.url, "timeoutSeconds": 5},
        "aws": {"endpointUrl": ministack},
        "tumblingWindowInSeconds": long_window(),
        "batchSize": 1,
    }
    election = (
        "--leader-election",
        "--leader-election-namespace",
        site.namespace,
        "--leader-election-lease",
        "headrace",
    )
    account = await site.install_rights()
    async with site.started(account, "operator", "--namespace", site.namespace, *election) as operator:
        ref = ref_of(await site.api.create(EVENT_SOURCE_MAPPING, clusters.mapping(site.namespace, "orders", **said)))
        await eventually(
            lambda: site.api.find(ROLE_BINDING, site.namespace, ref.child_name),
            "a binding made with the chart's rights",
        )
        where = f"{site.namespace}/orders"
        async with site.started(ref.child_name, "poller", "--mapping", where, "--identity", "a") as poller:
            await function.until(lambda: function.seen == [["a"], ["b"]])

            async def enabled() -> bool:
                body = await site.api.find(EVENT_SOURCE_MAPPING, site.namespace, "orders")
                status: Body = (body or {}).get("status", {})
                return status.get("state") == "Enabled" and status.get("lastProcessingResult") == "OK"

            await eventually(enabled, "the status tells what the poller reports")
            await eventually(lambda: only_newest_state(site.api, ref), "the window's newest state, and no other")
            assert await poller.stop() == 0
        assert await operator.stop() == 0
    assert refusals(operator) == []
    assert refusals(poller) == []
