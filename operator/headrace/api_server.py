"""The Kubernetes API over its client: the only place that knows it."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import aiohttp
import orjson
from kubernetes.aio import client, config

from headrace.cluster import ClusterError, Conflict, ObjectNotFound

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping

    from headrace.cluster import Body, Cluster
    from headrace.resources import Kind

REQUEST_TIMEOUT = 10.0
"""Seconds for one request, watches excepted."""
PAGE = 500
"""Objects a page of a list."""

_NOT_FOUND, _CONFLICT, _GONE = 404, 409, 410


@asynccontextmanager
async def connect() -> AsyncIterator[Cluster]:
    """The cluster around this process, else the one the kubeconfig names; raises ClusterError when there is neither."""
    settings = client.Configuration()
    try:
        config.load_incluster_config(client_configuration=settings)
    except config.ConfigException:
        try:
            await config.load_kube_config(client_configuration=settings)
        except (config.ConfigException, OSError) as error:
            raise ClusterError(
                f"no cluster: not in a pod, and no usable kubeconfig ({error}); set KUBECONFIG"
            ) from error
    async with client.ApiClient(settings) as api:
        api.user_agent = "headrace"
        yield ApiServer(api)


class ApiServer:
    """Cluster over `kubernetes.aio`, below its typed calls: objects of every kind are the same here."""

    def __init__(self, api: Any) -> None:
        self._api = api

    async def find(self, kind: Kind, namespace: str, name: str) -> Body | None:
        """GET of an object."""
        try:
            return await self._call("GET", kind.path(namespace, name))
        except ObjectNotFound:
            return None

    async def select(self, kind: Kind, namespace: str | None, selector: str = "") -> list[Body]:
        """GET of a collection, page by page; begins anew when its snapshot has expired."""
        try:
            return await self._pages(kind, namespace, selector)
        except ClusterError as error:
            if error.status != _GONE:
                raise
            return await self._pages(kind, namespace, selector)

    async def _pages(self, kind: Kind, namespace: str | None, selector: str) -> list[Body]:
        query = {"limit": str(PAGE)} | ({"labelSelector": selector} if selector else {})
        found: list[Body] = []
        while True:
            page = await self._call("GET", kind.path(namespace), query)
            found += page.get("items") or ()
            token = page["metadata"].get("continue")
            if not token:
                return found
            query["continue"] = token

    async def versions(self, group: str) -> frozenset[str]:
        """GET of the group's discovery document."""
        try:
            document = await self._call("GET", f"/apis/{group}")
        except ObjectNotFound:
            return frozenset()
        return frozenset(version["version"] for version in document.get("versions") or ())

    async def create(self, kind: Kind, body: Body) -> Body:
        """POST."""
        return await self._call("POST", kind.path(body["metadata"]["namespace"]), body=body)

    async def replace(self, kind: Kind, body: Body) -> Body:
        """PUT."""
        metadata = body["metadata"]
        return await self._call("PUT", kind.path(metadata["namespace"], metadata["name"]), body=body)

    async def merge(self, kind: Kind, namespace: str, name: str, patch: Body, subresource: str | None = None) -> Body:
        """PATCH."""
        path = kind.path(namespace, name, subresource)
        return await self._call("PATCH", path, body=patch, content_type="application/merge-patch+json")

    async def delete(self, kind: Kind, body: Body) -> None:
        """DELETE with the UID as precondition."""
        metadata = body["metadata"]
        options = {"preconditions": {"uid": metadata["uid"]}, "propagationPolicy": "Background"}
        try:
            await self._call("DELETE", kind.path(metadata["namespace"], metadata["name"]), body=options)
        except (ObjectNotFound, Conflict):
            return

    async def _call(
        self,
        method: str,
        path: str,
        query: Mapping[str, str] | None = None,
        body: Body | None = None,
        content_type: str = "application/json",
    ) -> Body:
        headers = {"Accept": "application/json", "Content-Type": content_type}
        try:
            request = await self._api.param_serialize(
                method, path, query_params=list((query or {}).items()), header_params=headers, body=body,
                auth_settings=["BearerToken"],
            )  # fmt: skip
            timeout = aiohttp.ClientTimeout(total=REQUEST_TIMEOUT)
            response = await self._api.call_api(*request, _request_timeout=timeout)
            content = await response.read()
        except (aiohttp.ClientError, OSError, TimeoutError, config.ConfigException) as error:
            raise ClusterError(f"the Kubernetes API did not answer {method} {path}: {type(error).__name__}") from error
        if response.status >= 300:  # noqa: PLR2004
            raise _refusal(method, path, response.status, content)
        answer: Body = orjson.loads(content)
        return answer


def _refusal(method: str, path: str, status: int, content: bytes) -> ClusterError:
    kinds = {_NOT_FOUND: ObjectNotFound, _CONFLICT: Conflict}
    sentence = f"the Kubernetes API answered {method} {path} with {status}: {_told(content)}"
    return kinds.get(status, ClusterError)(sentence, status, _causes(content))


def _causes(content: bytes) -> frozenset[str]:
    try:
        return frozenset(str(cause["reason"]) for cause in orjson.loads(content)["details"]["causes"])
    except (ValueError, KeyError, TypeError):
        return frozenset()


def _told(content: bytes) -> str:
    """The server's own words."""
    try:
        return str(orjson.loads(content)["message"])
    except (ValueError, KeyError, TypeError):
        return "no reason was given"
