"""An API server in memory: names, UIDs, resource versions and merge patches as the real one has them."""

from __future__ import annotations

import copy
import itertools
from typing import TYPE_CHECKING, Any

from headrace.cluster import Body, Conflict, ObjectNotFound

if TYPE_CHECKING:
    from headrace.resources import Kind


class FakeCluster:
    """Holds objects of any kind; a write that changes nothing makes no new version."""

    def __init__(self) -> None:
        self.objects: dict[tuple[Kind, str, str], Body] = {}
        self.groups: dict[str, frozenset[str]] = {"policy": frozenset({"v1", "v1beta1"})}
        self._versions = itertools.count(1)

    async def find(self, kind: Kind, namespace: str, name: str) -> Body | None:
        return copy.deepcopy(self.objects.get((kind, namespace, name)))

    async def select(self, kind: Kind, namespace: str | None, selector: str = "") -> list[Body]:
        wanted = dict(part.split("=", 1) for part in selector.split(",") if part)
        return [
            copy.deepcopy(body)
            for (of, where, _), body in self.objects.items()
            if of == kind
            and namespace in {None, where}
            and wanted.items() <= (body["metadata"].get("labels") or {}).items()
        ]

    async def versions(self, group: str) -> frozenset[str]:
        return self.groups.get(group, frozenset())

    async def create(self, kind: Kind, body: Body) -> Body:
        key = _key(kind, body)
        if key in self.objects:
            raise Conflict("there already", 409)
        made = copy.deepcopy(body)
        number = next(self._versions)
        made["metadata"] |= {
            "uid": f"{number:08x}-0000-4000-8000-000000000000",
            "resourceVersion": str(number),
            "generation": 1,
        }
        made["metadata"]["creationTimestamp"] = "2026-01-01T00:00:00Z"
        self.objects[key] = made
        return copy.deepcopy(made)

    async def replace(self, kind: Kind, body: Body) -> Body:
        there = self._there(_key(kind, body))
        version = body["metadata"].get("resourceVersion")
        if version is not None and version != there["metadata"]["resourceVersion"]:
            raise Conflict("changed meanwhile", 409)
        return self._write(kind, there, copy.deepcopy(body))

    async def merge(self, kind: Kind, namespace: str, name: str, patch: Body, subresource: str | None = None) -> Body:
        there = self._there((kind, namespace, name))
        uid = patch.get("metadata", {}).get("uid")
        if uid is not None and uid != there["metadata"]["uid"]:
            raise Conflict("another object", 409)
        return self._write(kind, there, merged(there, {"status": patch["status"]} if subresource else patch))

    async def delete(self, kind: Kind, body: Body) -> None:
        there = self.objects.get(_key(kind, body))
        if there is not None and there["metadata"]["uid"] == body["metadata"]["uid"]:
            del self.objects[_key(kind, body)]

    def _there(self, key: tuple[Kind, str, str]) -> Body:
        if key not in self.objects:
            raise ObjectNotFound("not there", 404)
        return self.objects[key]

    def _write(self, kind: Kind, there: Body, body: Body) -> Body:
        body["metadata"] |= {name: there["metadata"][name] for name in ("uid", "resourceVersion", "generation")}
        if body != there:
            body["metadata"]["generation"] += body.get("spec") != there.get("spec")
            body["metadata"]["resourceVersion"] = str(next(self._versions))
            self.objects[_key(kind, body)] = body
        return copy.deepcopy(body)


def _key(kind: Kind, body: Body) -> tuple[Kind, str, str]:
    return kind, body["metadata"]["namespace"], body["metadata"]["name"]


def merged(there: Any, patch: Any) -> Any:
    """RFC 7386."""
    if not isinstance(patch, dict):
        return copy.deepcopy(patch)
    result = dict(there) if isinstance(there, dict) else {}
    for name, value in patch.items():
        if value is None:
            result.pop(name, None)
        else:
            result[name] = merged(result.get(name), value)
    return result
