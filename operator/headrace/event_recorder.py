"""Posting Kubernetes Events about a mapping. They are told to whoever looks, and nothing ever waits for one."""

from __future__ import annotations

import asyncio
import time
import uuid
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import structlog

from headrace.cluster import ClusterError
from headrace.notice import INTERVAL, Source, event_of
from headrace.resources import EVENT
from headrace.stream.notices import notice_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from headrace.cluster import Body, Cluster
    from headrace.notice import Notice
    from headrace.resources import MappingRef
    from headrace.stream.events import Event

log = structlog.get_logger()

QUEUE = 100
"""Events that wait to be posted; more are let go."""


class EventRecorder:
    """An observer of one mapping: call it with every event; `run` posts what is worth it.

    Of one reason and shard one Event in `INTERVAL`; those between are counted in the next.
    """

    def __init__(
        self, cluster: Cluster, mapping: MappingRef, identity: str, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._cluster = cluster
        self._mapping = mapping
        self._source = Source("poller", identity)
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
            await self._cluster.create(EVENT, self._event(notice, unposted))
        except ClusterError as error:
            log.debug("an Event was not posted", reason=notice.reason, error=error.message)

    def _event(self, notice: Notice, unposted: int) -> Body:
        moment = datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
        event: Body = event_of(notice, self._mapping, self._source, uuid.uuid4().hex[:12], moment, unposted)
        return event
