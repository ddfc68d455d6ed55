"""A Kubernetes API server for tests: the one KUBECONFIG names, with the CRDs installed and a namespace per test."""

from __future__ import annotations

import asyncio
import contextlib
import os
import uuid
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from headrace.api_server import connect
from headrace.cluster import Cluster, ClusterError, Conflict
from headrace.resources import EVENT_SOURCE_MAPPING, Kind

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from headrace.cluster import Body

ROOT = Path(__file__).resolve().parents[2]
NAMESPACE = Kind("v1", "Namespace", "namespaces")
CRD = Kind("apiextensions.k8s.io/v1", "CustomResourceDefinition", "customresourcedefinitions")


@asynccontextmanager
async def cluster() -> AsyncIterator[Cluster]:
    """The API server, with this checkout's CRDs; skips the test when there is none."""
    if not os.environ.get("KUBECONFIG"):
        pytest.skip("KUBECONFIG names no cluster")
    async with connect() as api:
        for file in sorted((ROOT / "crds").glob("*.yaml")):
            for document in yaml.safe_load_all(file.read_text()):
                await _install(api, document)
        await eventually(lambda: _served(api), "the CRDs are served")
        yield api


@asynccontextmanager
async def namespace(api: Cluster) -> AsyncIterator[str]:
    """A namespace of its own, deleted afterwards."""
    name = f"headrace-test-{uuid.uuid4().hex[:8]}"
    body = await call(api, "POST", "/api/v1/namespaces", {"metadata": {"name": name}})
    try:
        yield name
    finally:
        await call(api, "DELETE", f"/api/v1/namespaces/{body['metadata']['name']}", {})


def mapping(namespace: str, name: str, **spec: Any) -> Body:
    """A mapping that is valid, with whatever is said over it."""
    return {
        "apiVersion": EVENT_SOURCE_MAPPING.api_version,
        "kind": EVENT_SOURCE_MAPPING.kind,
        "metadata": {"name": name, "namespace": namespace},
        "spec": {
            "eventSourceArn": f"arn:aws:kinesis:eu-west-1:123456789012:stream/{name}",
            "function": {"url": "http://127.0.0.1:9/"},
            "startingPosition": "TRIM_HORIZON",
        }
        | spec,
    }


def kubeconfig_with(token: str) -> Body:
    """The kubeconfig of KUBECONFIG, with another user."""
    config: Body = yaml.safe_load(Path(os.environ["KUBECONFIG"]).read_text())
    current = next(each for each in config["contexts"] if each["name"] == config["current-context"])
    current["context"]["user"] = "tested"
    return config | {"users": [{"name": "tested", "user": {"token": token}}]}


async def call(api: Cluster, method: str, path: str, body: Body | None = None) -> Body:
    """A request the product has no use for."""
    answer: Body = await api._call(method, path, body=body)  # type: ignore[attr-defined]
    return answer


async def eventually(holds: Callable[[], Awaitable[Any]], claim: str, within: float = 20.0) -> Any:
    """Waits until something holds and gives it; fails with the claim when that takes too long."""
    deadline = asyncio.get_running_loop().time() + within
    while True:
        found = await holds()
        if found:
            return found
        assert asyncio.get_running_loop().time() < deadline, f"not within {within} s: {claim}"
        await asyncio.sleep(0.1)


async def _install(api: Cluster, document: Body) -> None:
    try:
        await call(api, "POST", CRD.path(None), document)
    except Conflict:
        there = await call(api, "GET", CRD.path(None, document["metadata"]["name"]))
        if there["spec"]["versions"] != document["spec"]["versions"]:
            with contextlib.suppress(Conflict):  # another worker of this run was quicker
                await call(api, "PUT", CRD.path(None, document["metadata"]["name"]), there | {"spec": document["spec"]})


async def _served(api: Cluster) -> bool:
    try:
        await api.select(EVENT_SOURCE_MAPPING, "default")
    except ClusterError:
        return False
    return True
