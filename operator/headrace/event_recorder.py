"""Posting Kubernetes Events about a mapping. They are told to whoever looks, and nothing ever waits for one."""

from __future__ import annotations

import asyncio
import time
import uuid
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import structlog

from headrace.cluster import ClusterError
from headrace.resources import API_VERSION, EVENT, EVENT_SOURCE_MAPPING
from headrace.stream.notices import notice_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from headrace.cluster import Body, Cluster
    from headrace.resources import MappingRef
    from headrace.stream.events import Event
    from headrace.stream.notices import Notice

log = structlog.get_logger()

QUEUE = 100
"""Events that wait to be posted; more are let go."""
INTERVAL = 60.0
"""Least seconds between two Events of one reason and shard; those between are counted in the next."""
_LONGEST = 1024
"""Characters that Kubernetes takes of a message."""


class EventRecorder:
    """An observer of one mapping: call it with every event; `run` posts what is worth it."""

    def __init__(
        self, cluster: Cluster, mapping: MappingRef, identity: str, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._cluster = cluster
        self._mapping = mapping
        self._identity = identity
        self._clock = clock
        self._queue: asyncio.Queue[tuple[Notice, int]] = asyncio.Queue(QUEUE)
        self._posted: dict[tuple[str, str], float] = {}
        self._unposted: dict[tuple[str, str], int] = {}

    def __call__(self, event: Event) -> None:
        """Takes one event in."""
        notice = notice_of(event)
        if notice is None:
            return
        key, now = (notice.reason, notice.shard_id), self._clock()
        if now - self._posted.get(key, float("-inf")) < INTERVAL or self._queue.full():
            self._unposted[key] = self._unposted.get(key, 0) + 1
            return
        self._posted[key] = now
        self._queue.put_nowait((notice, self._unposted.pop(key, 0)))

    async def run(self) -> None:
        """Posts, one after the other; for ever."""
        while True:
            await self._post(*await self._queue.get())

    async def _post(self, notice: Notice, unposted: int) -> None:
        try:
            await self._cluster.create(EVENT, self._body(notice, unposted))
        except ClusterError as error:
            log.debug("an Event was not posted", reason=notice.reason, error=error.message)

    def _body(self, notice: Notice, unposted: int) -> Body:
        mapping = self._mapping
        since = f" ({unposted} more like this since the last Event)" if unposted else ""
        moment = datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
        return {
            "apiVersion": EVENT.api_version,
            "kind": EVENT.kind,
            "metadata": {"name": f"{mapping.child_name}-{uuid.uuid4().hex[:12]}", "namespace": mapping.namespace},
            "involvedObject": {
                "apiVersion": API_VERSION,
                "kind": EVENT_SOURCE_MAPPING.kind,
                "namespace": mapping.namespace,
                "name": mapping.name,
                "uid": mapping.uid,
            },
            "reason": notice.reason,
            "type": notice.type,
            "message": f"{notice.message[: _LONGEST - len(since)]}{since}",
            "source": {"component": "headrace-poller", "host": self._identity},
            "reportingComponent": "headrace.dev/poller",
            "reportingInstance": self._identity,
            "firstTimestamp": moment,
            "lastTimestamp": moment,
            "count": 1,
        }
