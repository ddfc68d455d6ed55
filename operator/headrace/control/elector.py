"""Takes, renews and releases the operators' Lease. Before this: `leadership.py`, which decides."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import structlog

from headrace.cluster import ClusterError
from headrace.control import leadership
from headrace.control.leadership import Move, Seen
from headrace.errors import HeadraceError
from headrace.resources import LEASE
from headrace.signals import pause

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from headrace.cluster import Body, Cluster
    from headrace.control.leadership import Election, Record
    from headrace.resources import Kind

log = structlog.get_logger()

PATIENCE = 4.0
"""Seconds for one try: a leader has two before its deadline, whatever the API server does."""


class LeadershipLost(HeadraceError):
    """The operator leads no more; the process ends, and the next one begins as a follower."""


@dataclass(slots=True)
class Elector:
    """One operator in the election; `clock` is monotonic, in seconds."""

    cluster: Cluster
    election: Election
    clock: Callable[[], float] = time.monotonic
    _seen: Seen | None = None
    _renewed: float | None = None
    _looked: float = float("-inf")
    _leader: str = ""
    _may_hold: bool = False
    """Whether the Lease may name this operator: an answer can be lost."""
    _lease: Body | None = field(default=None, repr=False)
    """As written last by the leader, so that a renewal is one request."""

    def leads(self) -> bool:
        """Whether this operator may work now."""
        return self._renewed is not None and self.clock() < self._renewed + self.election.terms.deadline

    def stands_by(self) -> bool:
        """Whether the Lease was read of late, so that this operator can take over."""
        return self.clock() < self._looked + self.election.terms.duration

    async def lead(self, work: Callable[[], Coroutine[None, None, None]], stop: asyncio.Event) -> None:
        """Waits until it leads, then does the work to its end; raises LeadershipLost in a group.

        The Lease is released when nothing is done any more, however the work ended.
        """
        try:
            if not await self._acquire(stop):
                return
            log.info("this operator leads", lease=self._name, identity=self.election.identity)
            async with asyncio.TaskGroup() as tasks:
                keeping = tasks.create_task(self._keep())
                await work()
                keeping.cancel()
        finally:
            if self._may_hold:
                await self._release()

    async def _acquire(self, stop: asyncio.Event) -> bool:
        """Whether it leads; False: the stop came first."""
        while not stop.is_set():
            began = self.clock()
            await self._try(PATIENCE)
            if self.leads():
                return True
            await pause(stop, began + self.election.terms.retry - self.clock())
        return False

    async def _keep(self) -> None:
        """Renews for ever; raises LeadershipLost while nobody else may lead yet."""
        terms = self.election.terms
        while self._renewed is not None:
            wait = self._renewed + terms.retry - self.clock() if self._lease is not None else terms.retry / 2
            await asyncio.sleep(min(wait, self._renewed + terms.deadline - self.clock()))
            await self._try(min(PATIENCE, self._renewed + terms.deadline - self.clock()))
            if not self.leads():
                self._renewed, self._may_hold = None, False
        raise LeadershipLost(
            f"the Lease {self._name} is not this operator's any more; it ends, and may be started again"
        )

    async def _try(self, patience: float) -> None:
        """One look and what follows from it; what fails is tried again at the next turn."""
        try:
            async with asyncio.timeout(patience):
                await self._turn()
        except (ClusterError, TimeoutError) as error:
            log.warning("the Lease of the operators does not answer", lease=self._name, error=str(error) or "timed out")

    async def _turn(self) -> None:
        known, self._lease = self._lease, None  # forgotten unless the write succeeds
        election = self.election
        lease = known or await self.cluster.find(LEASE, election.namespace, election.lease)
        now = self._looked = self.clock()
        record = leadership.record_of(lease) if lease is not None else None
        self._seen = leadership.see(self._seen, record, now)
        match leadership.decide(election, self._seen, self._renewed, now):
            case Move.ACQUIRE:
                await self._write(lease, anew=True)
            case Move.RENEW:
                await self._write(lease, anew=lease is None)
            case Move.LOST:
                self._renewed = None
            case Move.WAIT:
                self._stand_by(record)

    def _stand_by(self, record: Record | None) -> None:
        holder = record.holder if record is not None else ""
        if holder != self._leader:
            log.info("another operator leads; standing by", lease=self._name, leader=holder)
        self._leader = holder

    async def _write(self, lease: Body | None, *, anew: bool) -> None:
        """A create or a compare-and-swap; the term counts from before it was sent."""
        sent, now, self._may_hold = self.clock(), _now(), True
        if lease is None:
            body = leadership.acquired(None, self.election, now)
            written = await self.cluster.create(LEASE, body)
        else:
            body = leadership.acquired(lease, self.election, now) if anew else leadership.renewed(lease, now)
            written = await self.cluster.replace(LEASE, body)
        self._lease, self._renewed = written, sent
        self._seen = Seen(leadership.record_of(written), sent)

    async def _release(self) -> None:
        """Says that the Lease is free; whoever cannot be told waits for the term to pass."""
        self._renewed = None
        election = self.election
        try:
            async with asyncio.timeout(PATIENCE):
                lease = await self.cluster.find(LEASE, election.namespace, election.lease)
                if lease is not None and leadership.record_of(lease).holder == election.identity:
                    await self.cluster.replace(LEASE, leadership.released(lease, _now()))
        except (ClusterError, TimeoutError) as error:
            log.warning("the Lease could not be released", lease=self._name, error=str(error) or "timed out")

    @property
    def _name(self) -> str:
        return f"{self.election.namespace}/{self.election.lease}"


@dataclass(frozen=True, slots=True)
class Fenced:
    """A Cluster that takes writes only while its operator leads: one that was halted finishes nothing it had begun."""

    cluster: Cluster
    leads: Callable[[], bool]

    async def find(self, kind: Kind, namespace: str, name: str) -> Body | None:
        """As the cluster does it."""
        return await self.cluster.find(kind, namespace, name)

    async def select(self, kind: Kind, namespace: str | None, selector: str = "") -> list[Body]:
        """As the cluster does it."""
        return await self.cluster.select(kind, namespace, selector)

    async def versions(self, group: str) -> frozenset[str]:
        """As the cluster does it."""
        return await self.cluster.versions(group)

    async def create(self, kind: Kind, body: Body) -> Body:
        """Raises ClusterError when this operator does not lead."""
        self._check()
        return await self.cluster.create(kind, body)

    async def replace(self, kind: Kind, body: Body) -> Body:
        """Raises ClusterError when this operator does not lead."""
        self._check()
        return await self.cluster.replace(kind, body)

    async def merge(self, kind: Kind, namespace: str, name: str, patch: Body, subresource: str | None = None) -> Body:
        """Raises ClusterError when this operator does not lead."""
        self._check()
        return await self.cluster.merge(kind, namespace, name, patch, subresource)

    async def delete(self, kind: Kind, body: Body) -> None:
        """Raises ClusterError when this operator does not lead."""
        self._check()
        await self.cluster.delete(kind, body)

    def _check(self) -> None:
        if not self.leads():
            raise ClusterError("this operator does not lead any more, so it writes nothing")


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
