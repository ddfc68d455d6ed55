"""Checkpoints in ShardLease objects: one per shard, owned by the mapping, shown by `kubectl get shl`.

Every write is a compare-and-swap on `resourceVersion`. A refused or timed-out write means: read again. The shard is
lost only if holder or incarnation are no longer mine; else the write is repeated on the new version.
"""

from __future__ import annotations

import asyncio
import time
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from headrace.cluster import ClusterError, ObjectNotFound
from headrace.errors import LeaseLost, Reason, StoreError
from headrace.records import Checkpoint, Shard, Start
from headrace.resources import SHARD_LEASE, MappingRef
from headrace.stream.instants import instant
from headrace.stream.progress import HELD, ShardFacts
from headrace.stream.shards import startable
from headrace.stream.stores.lease_status import (
    FINISHED,
    WAITING,
    advanced,
    checkpoint_of,
    released,
    state_names,
    status_of,
    window_of,
    with_facts,
    without_age,
)
from headrace.stream.stores.window_states import WindowStates

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from headrace.cluster import Body, Cluster
    from headrace.records import Window

WRITE_INTERVAL = 1.0
AGE_INTERVAL = 10.0
"""Least seconds between two writes that would only tell a new iterator age."""
RELEASE_PATIENCE = 5.0
"""Seconds in which leases are given back at the end; whoever comes next takes them anyway."""
_TRIES = 4
_PARALLEL = 16
_RETRIED = frozenset({0, 409})


@dataclass(frozen=True, slots=True)
class Holder:
    """Who writes: a pod or host, and which of its lives."""

    identity: str
    incarnation: str

    def holds(self, lease: Body) -> bool:
        """Whether a ShardLease is held by this very life."""
        status = status_of(lease)
        return status.get("holder") == self.identity and status.get("incarnation") == self.incarnation


@dataclass(slots=True)
class _Lease:
    """A ShardLease as last seen; whoever writes it holds the lock."""

    body: Body
    window: Window | None = None
    states: list[Body] | None = None
    """The WindowStates there are of it; None until one is written."""
    facts: ShardFacts | None = None
    written_at: float = 0.0
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)


class KubernetesStore:
    """The ShardLeases of one mapping, taken on first sight: a predecessor's next write fails with LeaseLost.

    `source` is the stream's ARN: where no rule keeps it from being changed, another stream's checkpoints are not taken
    for this one's. `start` is where the mapping begins when that follows from the mapping itself, else None.
    """

    write_interval = WRITE_INTERVAL

    def __init__(
        self,
        cluster: Cluster,
        mapping: MappingRef,
        source: str,
        holder: Holder,
        start: Start | None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._cluster = cluster
        self._mapping = mapping
        self._source = source
        self._holder = holder
        self._start = start
        self._clock = clock
        self._created: str | None = None
        self._leases: dict[str, _Lease] = {}
        self._parallel = asyncio.Semaphore(_PARALLEL)
        self._states = WindowStates(cluster, mapping, holder.incarnation)

    async def start(self) -> Start | None:
        """Where the mapping starts, as far as its creation time decides it."""
        return self._start

    async def pin(self, start: Start) -> Start:
        """Nothing needs storing: what decides the start is in the mapping and does not change."""
        return self._start or start

    async def adopt(self, created: float, _restart: Start) -> bool:
        """Leases of another stream of this name count as made by nobody; each is written anew when it is taken."""
        mark = instant(created)
        marks = {body["spec"].get("streamCreatedAt") for body in (await self._found()).values()} - {None}
        if mark != self._created:
            await self.aclose()
            self._leases, self._created = {}, mark
        return bool(marks) and mark not in marks

    async def _found(self) -> dict[str, Body]:
        """The leases of the mapping and its stream's name, by shard."""
        with _told_as_store_error():
            bodies = await self._cluster.select(SHARD_LEASE, self._mapping.namespace, self._mapping.selector)
        return {body["spec"]["shardId"]: body for body in bodies if self._is_ours(body)}

    async def load(self, shards: Sequence[Shard]) -> Mapping[str, Checkpoint]:
        """Every checkpoint. Takes the leases of unfinished `shards`, making missing ones; LeaseLost: one was taken."""
        found = await self._found()
        checkpoints = {shard_id: checkpoint_of(body) for shard_id, body in found.items() if self._is_current(body)}
        ready = {shard.shard_id for shard in startable(shards, checkpoints)}
        try:
            async with asyncio.TaskGroup() as tasks:
                for shard in shards:
                    if not checkpoints.get(shard.shard_id, Checkpoint()).finished:
                        state = HELD if shard.shard_id in ready else WAITING
                        tasks.create_task(self._take(shard, found.get(shard.shard_id), state))
        except ExceptionGroup as group:
            raise _most_telling(group) from group
        known = {name: replace(checkpoint_of(one.body), window=one.window) for name, one in self._leases.items()}
        return {shard_id: each for shard_id, each in (checkpoints | known).items() if each != Checkpoint()}

    async def _take(self, shard: Shard, body: Body | None, state: str) -> None:
        async with self._parallel:
            if shard.shard_id in self._leases:
                await self._keep(shard.shard_id, body, state)
                return
            with _told_as_store_error():
                if body is None:
                    body = await self._create(shard, state)
                if not self._is_taken(body):
                    body = await self._seize(body, shard, state)
                names = state_names(body)
                window = window_of(body, await self._states.read(body["metadata"]["name"], names) if names else b"")
            self._leases[shard.shard_id] = _Lease(body, window, written_at=self._clock())

    async def _keep(self, shard_id: str, body: Body | None, state: str) -> None:
        if body is None:  # its label is gone, or all of it
            with _told_as_store_error():
                body = await self._reread(self._leases[shard_id].body)
        if not self._holder.holds(body):
            raise LeaseLost(shard_id)
        if state == HELD and status_of(self._leases[shard_id].body).get("state") == WAITING:
            await self._write(shard_id, lambda status: status | {"state": HELD})

    async def _create(self, shard: Shard, state: str) -> Body:
        name = self._mapping.shard_lease_name(self._source, shard.shard_id)
        body = {
            "apiVersion": SHARD_LEASE.api_version,
            "kind": SHARD_LEASE.kind,
            "metadata": self._mapping.metadata(name),
            "spec": self._spec(shard),
            "status": self._stamped(self._ownership(state)),
        }
        try:
            return await self._cluster.create(SHARD_LEASE, body)
        except ClusterError as error:
            if error.status not in _RETRIED:
                raise
            there = await self._cluster.find(SHARD_LEASE, self._mapping.namespace, name)
        if there is None:
            raise StoreError(Reason.API_ERROR, f"the ShardLease {name} could not be made")
        if not self._is_ours(there) or there["spec"]["shardId"] != shard.shard_id:
            sentence = f"the ShardLease {name} belongs to something else; delete or rename it"
            raise StoreError(Reason.NAME_CONFLICT, sentence)
        return there

    def _spec(self, shard: Shard) -> Body:
        spec = {
            "mappingName": self._mapping.name,
            "mappingUid": self._mapping.uid,
            "eventSourceArn": self._source,
            "shardId": shard.shard_id,
            "parents": list(shard.parents),
        }
        return spec | ({"streamCreatedAt": self._created} if self._created is not None else {})

    async def _seize(self, body: Body, shard: Shard, state: str) -> Body:
        """Writes itself as the holder, whoever held it; another's write in between is read and kept.

        What a lease tells of another stream of this name goes in the same write.
        """
        for _ in range(_TRIES):
            status = status_of(body) if self._is_current(body) else {}
            status = status | self._ownership(FINISHED if status.get("finished") else state)
            try:
                return await self._replace(body | {"spec": self._spec(shard)}, status)
            except ClusterError as error:
                if error.status not in _RETRIED:
                    raise
                body = await self._reread(body)
                if self._is_taken(body):
                    return body
        raise StoreError(Reason.API_ERROR, f"the ShardLease {body['metadata']['name']} changes too fast to be taken")

    async def save(self, shard_id: str, checkpoint: Checkpoint) -> None:
        """Writes a checkpoint and the facts that wait; one that lies behind what is stored changes nothing.

        The window's state is written before the checkpoint that refers to it; what it replaces goes after that.
        """
        lease = self._leases[shard_id]
        if checkpoint.window == lease.window:
            names = state_names(lease.body)
            await self._write(shard_id, lambda status: advanced(status, checkpoint, names))
            return
        written = await self._write_state(lease, checkpoint.window)
        names = [body["metadata"]["name"] for body in written]
        await self._write(shard_id, lambda status: advanced(status, checkpoint, names))
        lease.window = checkpoint.window
        with suppress(ClusterError):
            await self._states.delete([body for body in lease.states or () if body not in written])
            lease.states = written

    async def _write_state(self, lease: _Lease, window: Window | None) -> list[Body]:
        """Writes a window's state; notes whatever objects of the lease there are, so that only those named stay."""
        name = lease.body["metadata"]["name"]
        with _told_as_store_error():
            if lease.states is None:
                lease.states = await self._states.there(name)
            written = await self._states.write(name, window.state or b"{}") if window is not None else []
        lease.states = lease.states + written
        return written

    async def report_shard(self, shard_id: str, facts: ShardFacts) -> None:
        """Tells how a held shard is doing, with the next checkpoint or by a write of its own, whichever comes first.

        Call it again and again with the newest facts: what has been written is not written again.
        """
        lease = self._leases.get(shard_id)
        if lease is None:
            return
        lease.facts = facts
        told = status_of(lease.body)
        only_age = without_age(with_facts(told, facts)) == without_age(told)
        if self._clock() - lease.written_at >= (AGE_INTERVAL if only_age else WRITE_INTERVAL):
            await self._write(shard_id, lambda status: status)

    async def aclose(self) -> None:
        """Gives the leases back, as far as that works at once."""
        with suppress(TimeoutError):
            async with asyncio.timeout(RELEASE_PATIENCE), asyncio.TaskGroup() as tasks:
                for shard_id in self._leases:
                    tasks.create_task(self._release(shard_id))

    async def _release(self, shard_id: str) -> None:
        self._leases[shard_id].facts = None
        async with self._parallel:
            with suppress(StoreError, LeaseLost):
                await self._write(shard_id, released)

    async def _write(self, shard_id: str, change: Callable[[Body], Body]) -> None:
        """Changes a lease's status by compare-and-swap."""
        lease = self._leases[shard_id]
        async with lease.lock:
            with _told_as_store_error():
                for _ in range(_TRIES):
                    if await self._tried(lease, change):
                        return
        raise StoreError(Reason.API_ERROR, f"the ShardLease of {shard_id} could not be written: it keeps changing")

    async def _tried(self, lease: _Lease, change: Callable[[Body], Body]) -> bool:
        if not self._holder.holds(lease.body):
            raise LeaseLost(lease.body["spec"]["shardId"])
        told = status_of(lease.body)
        status = change(told if lease.facts is None else with_facts(told, lease.facts))
        if status == told:
            return True
        try:
            lease.body = await self._replace(lease.body, status)
        except ClusterError as error:
            if error.status not in _RETRIED:
                raise
            lease.body = await self._reread(lease.body)
            return False
        lease.written_at = self._clock()
        return True

    async def _replace(self, body: Body, status: Body) -> Body:
        metadata = body["metadata"]
        labelled = metadata | {"labels": (metadata.get("labels") or {}) | self._mapping.labels}
        return await self._cluster.replace(SHARD_LEASE, body | {"metadata": labelled, "status": self._stamped(status)})

    async def _reread(self, body: Body) -> Body:
        metadata = body["metadata"]
        there = await self._cluster.find(SHARD_LEASE, metadata["namespace"], metadata["name"])
        if there is None or there["metadata"]["uid"] != metadata["uid"]:
            raise LeaseLost(body["spec"]["shardId"])
        return there

    def _is_ours(self, body: Body) -> bool:
        spec = body["spec"]
        return (spec.get("mappingUid"), spec.get("eventSourceArn")) == (self._mapping.uid, self._source)

    def _is_current(self, body: Body) -> bool:
        """Whether a lease tells of the stream that is read: one without a mark was written before there were marks."""
        return self._created is None or body["spec"].get("streamCreatedAt") in {None, self._created}

    def _is_taken(self, body: Body) -> bool:
        marked = self._created is None or body["spec"].get("streamCreatedAt") == self._created
        return marked and self._holder.holds(body)

    def _ownership(self, state: str) -> Body:
        return {"holder": self._holder.identity, "incarnation": self._holder.incarnation, "state": state}

    def _stamped(self, status: Body) -> Body:
        moment = datetime.fromtimestamp(self._clock(), UTC)
        return status | {"updatedAt": moment.isoformat(timespec="seconds").replace("+00:00", "Z")}


@contextmanager
def _told_as_store_error() -> Iterator[None]:
    """What the API says, in the words of a store: what is gone is lost, anything else may work later."""
    try:
        yield
    except ObjectNotFound as error:
        raise LeaseLost(error.message) from error
    except ClusterError as error:
        raise StoreError(Reason.API_ERROR, error.message) from error


def _most_telling(group: ExceptionGroup[Exception]) -> Exception:
    """One of the errors that stands for all: a lost lease before a store that does not answer; a bug as it is."""
    _, bugs = group.split((LeaseLost, StoreError))
    lost = group.subgroup(LeaseLost)
    return bugs or (lost or group).exceptions[0]
