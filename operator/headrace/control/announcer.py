"""Posts the operator's Events: told to whoever looks, nothing waits for one. Before this: `announcing.py`."""

from __future__ import annotations

import socket
import time
import uuid
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import structlog

from headrace.cluster import ClusterError
from headrace.notice import INTERVAL, Notice, Source, event_of
from headrace.resources import EVENT

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from headrace.cluster import Cluster
    from headrace.resources import MappingRef

log = structlog.get_logger()


@dataclass(slots=True)
class Announcer:
    """One Event for a mapping's condition and reason in `INTERVAL`; `clock` is monotonic, in seconds."""

    cluster: Cluster
    clock: Callable[[], float] = time.monotonic
    source: Source = field(default_factory=lambda: Source("operator", socket.gethostname()))
    _posted: dict[tuple[str, str, str], float] = field(default_factory=dict)

    async def tell(self, ref: MappingRef, notices: Iterable[Notice], moment: str) -> None:
        """Posts what was not posted lately; what is refused is let go."""
        now = self.clock()
        self._posted = {key: at for key, at in self._posted.items() if now - at < INTERVAL}
        for notice in notices:
            key = (ref.uid, notice.shard_id, notice.reason)
            if key in self._posted:
                continue
            self._posted[key] = now
            try:
                event = event_of(notice, ref, self.source, uuid.uuid4().hex[:12], moment)
                await self.cluster.create(EVENT, event)
            except ClusterError as error:
                log.debug("an Event was not posted", reason=str(notice.reason), error=error.message)
