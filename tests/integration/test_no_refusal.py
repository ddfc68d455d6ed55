"""What operator and pollers do and must not be able to do, by the API server's own answers.

The roles are the chart's and the operator's, the arguments the chart's own; every answer goes through a proxy that
writes it down.
"""

from __future__ import annotations

from contextlib import AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING, Any

import aiohttp
import pytest
import yaml
from aiohttp import web

from headrace.resources import DEPLOYMENT, EVENT_SOURCE_MAPPING, ROLE_BINDING, SERVICE_ACCOUNT, ref_of
from tests.integration.test_rights import HELM, Site, rendered
from tests.support import clusters
from tests.support.api_proxy import ApiProxy, proxied
from tests.support.aws import make_stream
from tests.support.clusters import eventually
from tests.support.headrace import Running, headrace, long_window

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from headrace.cluster import Body
    from headrace.resources import MappingRef
    from tests.support.function import RecordingFunction

pytestmark = pytest.mark.cluster


@pytest.fixture
async def site(tmp_path: Path) -> AsyncIterator[Site]:
    if not HELM.exists():
        pytest.skip("helm is not there: make .venv/helm.stamp")
    async with AsyncExitStack() as stack:
        api = await stack.enter_async_context(clusters.cluster())
        yield Site(api, await stack.enter_async_context(clusters.namespace(api)), tmp_path)


@asynccontextmanager
async def started(site: Site, proxy: ApiProxy, account: str, *command: str) -> AsyncIterator[Running]:
    """`headrace` under an account, seeing the API server through the proxy."""
    file = await site.kubeconfig(account)
    token = yaml.safe_load(file.read_text())["users"][0]["user"]["token"]
    file.write_text(yaml.safe_dump(proxy.kubeconfig(token)))
    environment = {"KUBECONFIG": str(file), "POD_NAME": f"{account}-0", "POD_NAMESPACE": site.namespace}
    async with headrace(*command, environment=environment) as running:
        yield running


def operators_arguments(namespace: str) -> list[str]:
    """As the chart says them, on a port that nobody else has."""
    (deployment,) = (each for each in rendered(namespace) if each["kind"] == "Deployment")
    told = deployment["spec"]["template"]["spec"]["containers"][0]["args"]
    names = {"$(POD_NAME)": "operator-0", "$(POD_NAMESPACE)": namespace}
    arguments = [names.get(each, each) for each in told if not each.startswith("--metrics-port")]
    return [each.replace("$(POD_NAME)", "operator-0").replace("$(POD_NAMESPACE)", namespace) for each in arguments]


async def test_neither_is_ever_refused_through_a_mappings_whole_life(
    site: Site, ministack: str, kinesis: Any, function: RecordingFunction
) -> None:
    """Made, read with windows by two pollers one after the other, changed, disabled, another account, made anew."""
    stream = await make_stream(kinesis)
    function.answer = lambda _: web.json_response({"state": {}})
    await stream.put("a")
    said = {
        "eventSourceArn": stream.arn,
        "function": {"url": function.url, "timeoutSeconds": 5},
        "aws": {"endpointUrl": ministack},
        "tumblingWindowInSeconds": long_window(),
        "batchSize": 1,
    }
    where = f"{site.namespace}/orders"
    async with proxied() as proxy:
        account = await site.install_rights()
        async with started(site, proxy, account, *operators_arguments(site.namespace)) as operator:
            ref = await made(site, said)
            for identity, record in (("first", "b"), ("second", "c")):
                await stream.put(record)
                arguments = ("poller", "--mapping", where, "--identity", identity)
                async with started(site, proxy, ref.child_name, *arguments) as poller:
                    await function.until(lambda: [record] in function.seen)
                    await eventually(lambda: has(proxy, "PUT", "/shardleases/"), "a lease is written")
                    assert await poller.stop() == 0
            await change(site, {"spec": {"maximumRetryAttempts": 3}})
            await change(site, {"spec": {"enabled": False}})
            await eventually(lambda: replicas(site, ref, 0), "disabled: no pods")
            await change(site, {"spec": {"enabled": True, "poller": {"serviceAccountName": "theirs"}}})
            await eventually(lambda: account_gone(site, ref), "its own account is deleted")
            body = await site.api.find(EVENT_SOURCE_MAPPING, site.namespace, "orders")
            assert body is not None
            await site.api.delete(EVENT_SOURCE_MAPPING, body)
            assert (await made(site, said)).uid != ref.uid
            assert await operator.stop() == 0
        assert proxy.refused == []
        assert has_all(proxy, "GET", "POST", "PUT", "PATCH", "DELETE")


async def made(site: Site, said: Body) -> MappingRef:
    ref = ref_of(await site.api.create(EVENT_SOURCE_MAPPING, clusters.mapping(site.namespace, "orders", **said)))
    await eventually(lambda: site.api.find(DEPLOYMENT, site.namespace, ref.child_name), "a Deployment")
    await eventually(lambda: site.api.find(ROLE_BINDING, site.namespace, ref.child_name), "a binding")
    return ref


async def change(site: Site, patch: Body) -> None:
    await site.api.merge(EVENT_SOURCE_MAPPING, site.namespace, "orders", patch)


async def replicas(site: Site, ref: MappingRef, wanted: int) -> bool:
    body = await site.api.find(DEPLOYMENT, site.namespace, ref.child_name)
    return body is not None and body["spec"]["replicas"] == wanted


async def account_gone(site: Site, ref: MappingRef) -> bool:
    return await site.api.find(SERVICE_ACCOUNT, site.namespace, ref.child_name) is None


async def has(proxy: ApiProxy, method: str, path: str) -> bool:
    return any(one == method and path in where for one, where, _ in proxy.answers)


def has_all(proxy: ApiProxy, *methods: str) -> bool:
    return set(methods) <= {method for method, _, status in proxy.answers if status < 300}


async def test_the_proxy_tells_a_refusal(site: Site) -> None:
    async with proxied() as proxy:
        account = await site.install_rights()
        async with started(site, proxy, account, "operator", "--namespace", "kube-system") as operator:
            await operator.until(lambda: proxy.refused)


HEADRACE, RBAC, CORE, LEASES = "headrace.dev", "rbac.authorization.k8s.io", "", "coordination.k8s.io"
WRITES = ("create", "update", "patch", "delete", "deletecollection")
FORBIDDEN: list[tuple[str, str, str, tuple[str, ...]]] = [
    ("both", CORE, "secrets", ("get", "list", "watch", *WRITES)),
    ("both", CORE, "pods", ("create", "delete", "get")),
    ("both", CORE, "pods/exec", ("create", "get")),
    ("both", CORE, "pods/log", ("get",)),
    ("both", CORE, "serviceaccounts/token", ("create",)),
    ("both", CORE, "nodes", ("get", "list", *WRITES)),
    ("both", CORE, "namespaces", ("get", "list", *WRITES)),
    ("both", RBAC, "clusterroles", ("get", "bind", "escalate", *WRITES)),
    ("both", RBAC, "clusterrolebindings", ("get", *WRITES)),
    ("both", RBAC, "roles", ("bind", "escalate", "patch", "delete")),
    ("both", HEADRACE, "eventsourcemappings", WRITES),
    ("both", HEADRACE, "shardleases", ("delete", "deletecollection", "patch")),
    ("both", CORE, "users", ("impersonate",)),
    ("both", CORE, "serviceaccounts", ("impersonate",)),
    ("poller", RBAC, "roles", ("get", "create", "update")),
    ("poller", RBAC, "rolebindings", ("get", *WRITES)),
    ("poller", CORE, "serviceaccounts", ("get", *WRITES)),
    ("poller", CORE, "configmaps", ("get", "list", *WRITES)),
    ("poller", "apps", "deployments", ("get", *WRITES)),
    ("poller", HEADRACE, "eventsourcemappings", ("list", "watch")),
    ("poller", HEADRACE, "eventsourcemappings/status", ("get", *WRITES)),
]
"""Who (in the mapping's own namespace), group, resource, verbs."""
POLLERS_OWN = [(HEADRACE, "shardleases"), (HEADRACE, "windowstates"), (LEASES, "leases"), (CORE, "events")]


async def may(site: Site, account: str, namespace: str, group: str, resource: str, verb: str, name: str = "") -> bool:
    kind, _, sub = resource.partition("/")
    asked = {"namespace": namespace, "group": group, "resource": kind, "subresource": sub, "verb": verb, "name": name}
    user = f"system:serviceaccount:{site.namespace}:{account}"
    groups = ["system:serviceaccounts", f"system:serviceaccounts:{site.namespace}", "system:authenticated"]
    body = {
        "apiVersion": "authorization.k8s.io/v1",
        "kind": "SubjectAccessReview",
        "spec": {"user": user, "groups": groups, "resourceAttributes": asked},
    }
    path = "/apis/authorization.k8s.io/v1/subjectaccessreviews"
    return bool((await clusters.call(site.api, "POST", path, body))["status"]["allowed"])


async def test_what_operator_and_pollers_must_not_be_able_to_do(site: Site) -> None:
    async with proxied() as proxy:
        account = await site.install_rights()
        async with started(site, proxy, account, *operators_arguments(site.namespace)) as operator:
            poller = (await made(site, {})).child_name
            assert await operator.stop() == 0
    home = site.namespace
    accounts = {"both": (account, poller), "poller": (poller,)}
    allowed = [
        (who, resource, verb)
        for whose, group, resource, verbs in FORBIDDEN
        for who in accounts[whose]
        for verb in verbs
        if await may(site, who, home, group, resource, verb)
    ]
    assert allowed == []
    assert await may(site, poller, home, HEADRACE, "eventsourcemappings", "get", "orders")
    assert not await may(site, poller, home, HEADRACE, "eventsourcemappings", "get", "others")
    for group, resource in POLLERS_OWN:
        assert await may(site, poller, home, group, resource, "create"), resource
        for who in (account, poller):
            for verb in ("get", "create"):
                assert not await may(site, who, "default", group, resource, verb), "another namespace"


async def test_the_operator_cannot_give_what_it_does_not_have(site: Site) -> None:
    """The API server itself refuses; no right of the table says so."""
    account = await site.install_rights()
    stronger = {"apiGroups": [""], "resources": ["secrets"], "verbs": ["get"]}
    metadata = {"name": "stronger", "namespace": site.namespace}
    subject = {"kind": "ServiceAccount", "name": account, "namespace": site.namespace}
    tries = {
        "roles": {"metadata": metadata, "rules": [stronger]},
        "rolebindings": {
            "metadata": metadata,
            "roleRef": {"apiGroup": RBAC, "kind": "ClusterRole", "name": "cluster-admin"},
            "subjects": [subject],
        },
    }
    file = await site.kubeconfig(account)
    token = yaml.safe_load(file.read_text())["users"][0]["user"]["token"]
    async with proxied() as proxy, aiohttp.ClientSession(headers={"Authorization": f"Bearer {token}"}) as session:
        for resource, body in tries.items():
            url = f"{proxy.url}/apis/{RBAC}/v1/namespaces/{site.namespace}/{resource}"
            async with session.post(url, json=body) as answer:
                assert answer.status == 403, resource
