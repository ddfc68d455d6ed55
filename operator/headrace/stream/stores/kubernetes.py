"""Checkpoints in ShardLease objects: one per shard, owned by the mapping, shown by `kubectl get shl`.

Where they lie in a DynamoDB table instead (`dynamodb.py`), all of this is the same.

Every write is a compare-and-swap on `resourceVersion`. A refused or timed-out write means: read again. The shard is
lost only if holder or incarnation are no longer mine; else the write is repeated on the new version.
"""

from __future__ import annotations

import asyncio
import time
import uuid
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from headrace.cluster import ClusterError, ObjectNotFound
from headrace.ending import GIVING_BACK
from headrace.errors import LeaseLost, Reason, StoreError
from headrace.records import Checkpoint, Holder, Lease, Shard, Start
from headrace.resources import SHARD_LEASE, MappingRef
from headrace.stream.instants import instant
from headrace.stream.progress import HELD, ShardFacts
from headrace.stream.stores import MENDING, BrokenObject
from headrace.stream.stores.lease_status import (
    AVAILABLE,
    FINISHED,
    WAITING,
    advanced,
    checkpoint_of,
    fault_of,
    holder_of,
    released,
    state_names,
    status_of,
    window_of,
    with_facts,
    without_age,
)
from headrace.stream.stores.store_errors import most_telling, told_as_store_error
from headrace.stream.stores.window_states import PIECE, WindowStates
from headrace.stuck import StuckShard, stuck_shard

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from headrace.cluster import Body
    from headrace.records import Window
    from headrace.stream.stores import Objects

WRITE_INTERVAL = 1.0
AGE_INTERVAL = 10.0
"""Least seconds between two writes that would only tell a new iterator age."""
_TRIES = 4
_PARALLEL = 16
_RETRIED = frozenset({0, 409})


@dataclass(slots=True)
class _Lease:
    """A ShardLease that is held, as last seen; whoever writes it holds the lock."""

    body: Body
    window: Window | None = None
    states: list[Body] | None = None
    """The WindowStates there are of it; None until one is written."""
    facts: ShardFacts | None = None
    written_at: float = 0.0
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)


class KubernetesStore:
    """The ShardLeases of one mapping, in the name of one poller.

    `source` is the stream's ARN: where no rule keeps it from being changed, another stream's checkpoints are not taken
    for this one's. `start` is where the mapping begins when that follows from the mapping itself, else None.
    """

    write_interval = WRITE_INTERVAL

    def __init__(
        self,
        cluster: Objects,
        mapping: MappingRef,
        source: str,
        start: Start | None,
        holder: Holder,
        clock: Callable[[], float] = time.time,
        piece: int = PIECE,
    ) -> None:
        self._cluster = cluster
        self._mapping = mapping
        self.source = source
        self.begins = start
        self._holder = holder
        self._lives: set[Holder | None] = {holder}
        self._clock = clock
        self._created: str | None = None
        self._found: dict[str, Body] = {}
        self._leases: dict[str, _Lease] = {}
        self._lost: dict[str, str | None] = {}
        """What a call of `regain` found lost, and to whom, and has not told yet, as it failed on another shard."""
        self._parallel = asyncio.Semaphore(_PARALLEL)
        self._states = WindowStates(cluster, mapping, uuid.uuid4().hex[:12], piece)

    async def start(self) -> Start | None:
        """Where the mapping starts, as far as its creation time decides it."""
        return self.begins

    async def pin(self, start: Start) -> Start:
        """Nothing needs storing: what decides the start is in the mapping and does not change."""
        return self.begins or start

    async def adopt(self, created: float, _restart: Start) -> bool:
        """Leases of another stream of this name count as made by nobody; each is written anew when it is taken."""
        mark = instant(created)
        found, _ = await self._find()
        marks = {body["spec"].get("streamCreatedAt") for body in found.values()} - {None}
        if mark != self._created:
            await self.aclose()
            self._created = mark
        return bool(marks) and mark not in marks

    async def _find(self) -> tuple[dict[str, Body], dict[str, BrokenObject]]:
        """The leases of the mapping and its stream's name by shard, and those that are broken by their names."""
        with told_as_store_error():
            try:
                there = await self._cluster.select(SHARD_LEASE, self._mapping.namespace, self._mapping.selector)
            except ObjectNotFound as error:  # a collection is never gone: its kind is
                raise StoreError(Reason.NOT_FOUND, f"{error.message}; apply the CRDs") from error
        judged = [self._judged(one) for one in there if isinstance(one, BrokenObject) or self._is_ours(one)]
        bodies = [one for one in judged if not isinstance(one, BrokenObject)]
        broken = {one.name: one for one in judged if isinstance(one, BrokenObject)}
        return {body["spec"]["shardId"]: body for body in bodies}, broken

    def _judged(self, lease: Body | BrokenObject) -> Body | BrokenObject:
        """A lease under a name of ours, or what is wrong with it that its schema allows."""
        if isinstance(lease, BrokenObject):
            return lease
        name, fault = lease["metadata"]["name"], fault_of(lease)
        if not self._is_ours(lease) or name != self._name(lease["spec"]["shardId"]):
            fault = "its spec is that of another mapping, stream or shard"
        return lease if fault is None else BrokenObject(name, f"the ShardLease {name} is broken: {fault}; {MENDING}")

    async def load(self, shards: Sequence[Shard], makes: Callable[[str], bool] | None = None) -> Mapping[str, Lease]:
        """Every lease, the missing ones made first, held by nobody."""
        found, broken = await self._find()
        listed = {shard.shard_id: shard for shard in shards}
        names = {self._name(shard_id): shard_id for shard_id in (*listed, *self._leases)} if broken else {}
        faults = {names.get(name, name): one.message for name, one in broken.items()}
        missing = [shard for shard in shards if shard.shard_id not in found and shard.shard_id not in faults]
        missing = [shard for shard in missing if makes is None or makes(shard.shard_id)]
        if missing:
            finished = {shard_id for shard_id, body in found.items() if checkpoint_of(body).finished}
            made = await self._make(
                {one: AVAILABLE if finished.issuperset(one.parents) else WAITING for one in missing}
            )
            found |= {shard_id: one for shard_id, one in made.items() if not isinstance(one, BrokenObject)}
            faults |= {shard_id: one.message for shard_id, one in made.items() if isinstance(one, BrokenObject)}
        self._found = {shard_id: body for shard_id, body in found.items() if not self._is_newer(body)}
        whole = {
            shard_id: Lease(
                listed.get(shard_id) or Shard(shard_id, tuple(body["spec"].get("parents") or ())),
                checkpoint_of(body) if self._is_current(body) else Checkpoint(),
                holder_of(body),
            )
            for shard_id, body in self._found.items()
        }
        return {one: self._faulty(listed.get(one) or Shard(one), fault) for one, fault in faults.items()} | whole

    def _faulty(self, shard: Shard, fault: str) -> Lease:
        """A lease that is broken; one that is held here stays so until a write of it says something else."""
        lease = self._leases.get(shard.shard_id)
        if lease is None:
            return Lease(shard, fault=fault)
        return Lease(shard, checkpoint_of(lease.body), holder_of(lease.body), fault)

    async def _make(self, states: Mapping[Shard, str]) -> dict[str, Body | BrokenObject]:
        try:
            async with asyncio.TaskGroup() as tasks:
                making = {one.shard_id: tasks.create_task(self._create(one, state)) for one, state in states.items()}
        except ExceptionGroup as group:
            raise most_telling(group) from group
        return {shard_id: task.result() for shard_id, task in making.items()}

    async def take(self, shard_id: str) -> Checkpoint | None:
        """One compare-and-swap on the version that was loaded, whoever held it; none for what is held already.

        What a lease tells of another stream of this name goes in the same write.
        """
        lease = self._leases.get(shard_id)
        if lease is None:
            found = self._found.get(shard_id)
            if found is None:
                return None
            async with self._parallel:
                holder = self._holder
                lease = await self._taken(found, holder)
            if lease is None or holder != self._holder:
                return None  # in the latter case a gap came in between: taken in the name of a life that is over
            self._leases[shard_id] = lease
        return replace(checkpoint_of(lease.body), window=lease.window)

    async def _taken(self, found: Body, holder: Holder) -> _Lease | None:
        body = await self._seize(found, holder)
        if body is None:
            return None
        names = state_names(body)
        with told_as_store_error():
            state = await self._states.read(body["metadata"]["name"], names) if names else b""
        return _Lease(body, window_of(body, state), written_at=self._clock())

    async def _seize(self, body: Body, holder: Holder) -> Body | None:
        status = status_of(body) if self._is_current(body) else {}
        state = FINISHED if status.get("finished") else HELD
        status = status | {"holder": holder.identity, "incarnation": holder.incarnation, "state": state}
        spec = body["spec"]
        shard = Shard(spec["shardId"], tuple(spec.get("parents") or ()))
        with told_as_store_error():
            try:
                return await self._replace(body | {"spec": self._spec(shard)}, status)
            except ClusterError as error:
                if error.status not in _RETRIED:
                    raise
                with suppress(BrokenObject):
                    there = await self._reread(body)
                    return there if holder_of(there) == holder else None
        return None

    async def regain(self, holder: Holder) -> dict[str, str | None]:
        """After a gap: writes every lease anew in the name of another life; tells those that were lost, and to whom.

        Raises StoreError when that could not be found out for all of them; then it is to be called again. A call that
        is still under way then writes what the newer one does.
        """
        self._holder = holder
        self._lives.add(holder)
        turns = asyncio.Semaphore(_PARALLEL)
        regaining = [self._regain(shard_id, lease, turns) for shard_id, lease in self._leases.items()]
        failed = [error for error in await asyncio.gather(*regaining, return_exceptions=True) if error is not None]
        if failed:
            raise failed[0]
        lost, self._lost = self._lost, {}
        return {shard_id: holder for shard_id, holder in lost.items() if shard_id not in self._leases}

    async def _regain(self, shard_id: str, lease: _Lease, turns: asyncio.Semaphore) -> None:
        """Without the lease's lock: a write that hangs must not keep it from being won before it expires."""
        try:
            async with turns:
                await self._change(shard_id, lease, lambda status: status | {"incarnation": self._holder.incarnation})
        except LeaseLost as error:
            self._lose(shard_id, lease, error.holder)
        except StoreError as error:
            if not error.broken:
                raise
            self._lose(shard_id, lease, None)  # nobody can win it until it is mended; the others must not wait for that

    def _lose(self, shard_id: str, lease: _Lease, holder: str | None) -> None:
        if self._leases.get(shard_id) is lease:
            del self._leases[shard_id]
        self._lost[shard_id] = holder

    def _name(self, shard_id: str) -> str:
        return self._mapping.shard_lease_name(self.source, shard_id)

    async def _create(self, shard: Shard, state: str) -> Body | BrokenObject:
        name = self._name(shard.shard_id)
        body = {
            "apiVersion": SHARD_LEASE.api_version,
            "kind": SHARD_LEASE.kind,
            "metadata": self._mapping.metadata(name),
            "spec": self._spec(shard),
            "status": self._stamped({"state": state}),
        }
        async with self._parallel:
            with told_as_store_error():
                try:
                    return await self._cluster.create(SHARD_LEASE, body)
                except ClusterError as error:
                    if error.status not in _RETRIED:
                        raise
                    there = await self._there(name)
        if there is None:
            raise StoreError(Reason.API_ERROR, f"the ShardLease {name} could not be made")
        return self._judged(there)

    async def _there(self, name: str) -> Body | BrokenObject | None:
        try:
            return await self._cluster.find(SHARD_LEASE, self._mapping.namespace, name)
        except BrokenObject as error:
            return error

    def _spec(self, shard: Shard) -> Body:
        spec = {
            "mappingName": self._mapping.name,
            "mappingUid": self._mapping.uid,
            "eventSourceArn": self.source,
            "shardId": shard.shard_id,
            "parents": list(shard.parents),
        }
        return spec | ({"streamCreatedAt": self._created} if self._created is not None else {})

    async def save(self, shard_id: str, checkpoint: Checkpoint) -> None:
        """Writes a checkpoint and the facts that wait; one that lies behind what is stored changes nothing.

        The window's state is written before the checkpoint that refers to it; what it replaces goes after that.
        """
        lease = self._held(shard_id)
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
        with told_as_store_error():
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

    def stuck(self) -> list[StuckShard]:
        """The held shards that do not get ahead, as their leases tell."""
        told = (stuck_shard(shard_id, status_of(lease.body)) for shard_id, lease in self._leases.items())
        return [shard for shard in told if shard is not None]

    async def release(self, shard_id: str) -> None:
        """As far as that works at once; a lease that stays in our name is taken again, or expires with us."""
        lease = self._leases.get(shard_id)
        if lease is None:
            return
        lease.facts = None
        try:
            async with asyncio.timeout(GIVING_BACK), self._parallel:
                await self._write(shard_id, released)
        except LeaseLost:
            pass
        except TimeoutError as error:
            raise StoreError(Reason.API_ERROR, f"the ShardLease of {shard_id} was not given back in time") from error
        finally:
            self._leases.pop(shard_id, None)

    async def aclose(self) -> None:
        """Gives the leases back, as far as that works at once."""
        async with asyncio.TaskGroup() as tasks:
            for shard_id in self._leases:
                tasks.create_task(self._release(shard_id))

    async def _release(self, shard_id: str) -> None:
        with suppress(StoreError):
            await self.release(shard_id)

    async def _write(self, shard_id: str, change: Callable[[Body], Body]) -> None:
        """Changes a lease's status by compare-and-swap."""
        lease = self._held(shard_id)
        async with lease.lock:
            await self._change(shard_id, lease, change)

    async def _change(self, shard_id: str, lease: _Lease, change: Callable[[Body], Body]) -> None:
        with told_as_store_error():
            for _ in range(_TRIES):
                if await self._tried(lease, change):
                    return
        raise StoreError(Reason.API_ERROR, f"the ShardLease of {shard_id} could not be written: it keeps changing")

    def _held(self, shard_id: str) -> _Lease:
        if shard_id not in self._leases:
            raise LeaseLost(shard_id)
        return self._leases[shard_id]

    async def _tried(self, lease: _Lease, change: Callable[[Body], Body]) -> bool:
        holder = holder_of(lease.body)
        if holder not in self._lives:  # any of ours: it may have been won anew without an answer that told so
            raise LeaseLost(lease.body["spec"]["shardId"], holder.identity if holder is not None else None)
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
        """The lease as it is now; raises BrokenObject, and LeaseLost where it is gone or another one."""
        metadata = body["metadata"]
        there = await self._cluster.find(SHARD_LEASE, metadata["namespace"], metadata["name"])
        if there is None or there["metadata"]["uid"] != metadata["uid"]:
            raise LeaseLost(body["spec"]["shardId"])
        judged = self._judged(there)
        if isinstance(judged, BrokenObject):
            raise judged
        return judged

    def _is_ours(self, body: Body) -> bool:
        spec = body["spec"]
        return (spec.get("mappingUid"), spec.get("eventSourceArn")) == (self._mapping.uid, self.source)

    def _is_current(self, body: Body) -> bool:
        """Whether a lease tells of the stream that is read: one without a mark was written before there were marks."""
        return self._created is None or body["spec"].get("streamCreatedAt") in {None, self._created}

    def _is_newer(self, body: Body) -> bool:
        """Whether another poller has gone over to a stream made later: its checkpoints must not be overwritten."""
        mark = body["spec"].get("streamCreatedAt")
        return self._created is not None and mark is not None and mark > self._created

    def _stamped(self, status: Body) -> Body:
        moment = datetime.fromtimestamp(self._clock(), UTC)
        return status | {"updatedAt": moment.isoformat(timespec="seconds").replace("+00:00", "Z")}
