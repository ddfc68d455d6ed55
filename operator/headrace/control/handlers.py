"""What kopf calls: every event about a mapping or its children marks the mapping. Nothing is decided here."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import kopf

from headrace.control.observe import CHILDREN
from headrace.control.workqueue import Scope
from headrace.resources import EVENT_SOURCE_MAPPING, LABEL_MAPPING_UID, LEASE, POD, SHARD_LEASE

if TYPE_CHECKING:
    from headrace.control.workqueue import Workqueue
    from headrace.liveness import Key, Liveness
    from headrace.resources import Kind

OWNED = (*CHILDREN, POD, SHARD_LEASE, LEASE)
"""The kinds watched beside the mappings, by their label."""


def register(registry: kopf.OperatorRegistry, queue: Workqueue, liveness: Liveness) -> None:
    """Low-level handlers only: they need no finalizer and leave no mark on the objects."""
    kopf.on.login(registry=registry)(kopf.login_via_client)
    on = _Handlers(queue, liveness, _Mappings())
    called = {EVENT_SOURCE_MAPPING: on.mapping, SHARD_LEASE: on.reported, POD: on.reported, LEASE: on.heartbeat}
    called |= dict.fromkeys(CHILDREN, on.child)
    for kind, handler in called.items():
        kopf.on.event(*selector(kind), id=kind.plural, registry=registry)(handler)


class _Handlers:
    def __init__(self, queue: Workqueue, liveness: Liveness, mappings: _Mappings) -> None:
        self._queue = queue
        self._liveness = liveness
        self._mappings = mappings

    async def mapping(self, event: kopf.RawEvent, **_: Any) -> None:
        changed = self._mappings.take(event)
        in_peace = event["type"] == "MODIFIED" and not changed
        self._queue.mark(_key(event), Scope.STATUS if in_peace else Scope.ALL, urgent=changed)

    async def child(self, event: kopf.RawEvent, **_: Any) -> None:
        if key := self._mappings.owner(event):
            self._queue.mark(key, Scope.ALL)

    async def reported(self, event: kopf.RawEvent, **_: Any) -> None:
        if key := self._mappings.owner(event):
            self._queue.mark(key, Scope.STATUS)

    async def heartbeat(self, event: kopf.RawEvent, **_: Any) -> None:
        key, lease = self._mappings.owner(event), dict(event["object"])
        news = self._liveness.forget(lease) if event["type"] == "DELETED" else self._liveness.saw(key, lease)
        if news and key is not None:
            self._queue.mark(key, Scope.STATUS)


def selector(kind: Kind) -> tuple[str, str, str]:
    """A kind in kopf's words."""
    group, _, version = kind.api_version.rpartition("/")
    return group, version, kind.plural


class _Mappings:
    """The mappings that are there, by UID: a child's label leads to its mapping even when its owner was edited away.

    A child that is seen before its mapping needs no look of its own: the mapping's first event brings one.
    """

    def __init__(self) -> None:
        self._known: dict[str, tuple[Key, int, bool]] = {}

    def take(self, event: kopf.RawEvent) -> bool:
        """Whether a mapping's spec changed, or its life."""
        metadata: dict[str, Any] = dict(event["object"]["metadata"])
        before = self._known.pop(metadata["uid"], None)
        if event["type"] == "DELETED":
            return True
        now = (_key(event), metadata["generation"], "deletionTimestamp" in metadata)
        self._known[metadata["uid"]] = now
        return before != now

    def owner(self, event: kopf.RawEvent) -> Key | None:
        uid = (event["object"]["metadata"].get("labels") or {}).get(LABEL_MAPPING_UID)
        known = self._known.get(uid or "")
        return known[0] if known is not None else None


def _key(event: kopf.RawEvent) -> Key:
    metadata = event["object"]["metadata"]
    return metadata["namespace"], metadata["name"]
