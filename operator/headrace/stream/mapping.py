"""Running one mapping: finding its shards, starting each when its turn has come, keeping them apart from each other.

Before this: `running.py`. After this: `poller.py`, once per shard.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from headrace.ending import LOOKING
from headrace.errors import LeaseLost, Reason, SourceError, StoreError
from headrace.records import Checkpoint, Gap, LaneProgress, Lease, Shard, Start, StartingPosition
from headrace.stream import ahead
from headrace.stream import shards as lineage
from headrace.stream.checking import check
from headrace.stream.checkpoints import CheckpointWriter
from headrace.stream.events import (
    ConditionObserved,
    ConditionType,
    Event,
    Faulted,
    LeaseBroken,
    Observer,
    RecordsAbandoned,
    RecordsTrimmed,
    RetentionSeen,
    ShardFinished,
    ShardLost,
    ShardsListed,
    ShardStarted,
    ShardStopped,
    StreamRecreated,
    reachable,
    unreachable,
)
from headrace.stream.leases import Claim
from headrace.stream.membership import Permit
from headrace.stream.poller import ShardPoller, backoff
from headrace.stream.settings import MOST_READ
from headrace.stream.waiting import first, within
from headrace.stream.working import Calls, calls_of, keep_working

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from headrace.records import Polled
    from headrace.spec import EventSourceMapping
    from headrace.stream.destinations import Destination
    from headrace.stream.functions import Function
    from headrace.stream.membership import Membership
    from headrace.stream.settings import Delivery
    from headrace.stream.sources import ShardReader, Source
    from headrace.stream.stores import CheckpointStore

LISTING_INTERVAL = 60.0
"""Seconds between two listings of a stream's shards; the end of a shard lists them at once."""
UNSETTLED_INTERVAL = 0.25
"""Least seconds between two reads of the leases while shards are on their way from one poller to another."""
UNSETTLED_PER_SHARD = 0.002
"""What every shard adds to that, so that large streams do not burden the store."""
SETTLED_INTERVAL = 10.0
"""Seconds between two reads of the leases while nothing asks for one: an edit by hand is found then."""
SETTLED_PER_SHARD = 0.06
"""What every shard makes of it instead, where there are many."""
DOUBT_INTERVAL = 5.0
"""Least seconds from a listing to one that a shard asks for because its stream seems to be gone."""
LONGEST_PAUSE = 10.0
"""Longest pause in seconds between tries to reach what the world withholds."""


@dataclass(slots=True)
class MappingRun:
    """One mapping's data plane in this process."""

    mapping: EventSourceMapping
    delivery: Delivery
    source: Source
    function: Function
    destination: Destination | None
    store: CheckpointStore
    membership: Membership
    observer: Observer
    stop: asyncio.Event
    created: float | None = None
    """When the stream that is being read was made."""
    running: dict[str, Permit] = field(default_factory=dict)
    shards: dict[str, Shard] = field(default_factory=dict)
    """Those that are being read, as they were listed."""
    children: dict[str, Shard] = field(default_factory=dict)
    """Shards that reads have named and no listing yet."""
    known: frozenset[str] = frozenset()
    """The shards whose leases were there when they were read last."""
    missing: frozenset[str] = frozenset()
    """The shards that had no lease then."""
    broken: dict[str, str] = field(default_factory=dict)
    """The faults of leases that were told since the last listing, by shard."""
    listed: Sequence[Shard] = ()
    listed_at: float = float("-inf")
    unlisted: bool = True
    """Whether the source is to be listed at the next look."""
    relist: asyncio.Event = field(default_factory=asyncio.Event)
    ending: asyncio.Event = field(default_factory=asyncio.Event)
    """Set with the stop, or when the stream turns out to be another one of its name."""

    async def run(self) -> None:
        """Until the stop; what a shard meets, its lost lease among it, ends neither the others nor this."""
        self.membership.on_lost = self.lose
        async with asyncio.TaskGroup() as tasks:
            checking = tasks.create_task(check(self.destination, self.observer))
            while not self.stop.is_set():
                await self._read_stream()
            checking.cancel()

    def lose(self, holders: Mapping[str, str | None]) -> None:
        """These shards are others' now: nothing more of them is begun, and nothing that is in flight stored."""
        for shard_id in holders.keys() & self.running.keys():
            self.running[shard_id].lose(holders[shard_id])

    async def _read_stream(self) -> None:
        """Reads one incarnation of the stream: until the stop, or until another one has taken its name.

        Whatever reads the old one is at rest before the next is begun, so that nothing of it is stored with the new.
        """
        self.created, self.listed, self.unlisted, self.ending = None, (), True, asyncio.Event()
        self.running.clear()
        self.children.clear()
        async with asyncio.TaskGroup() as tasks:
            stopping = tasks.create_task(self._end_with_stop())
            await self._start_shards(tasks)
            stopping.cancel()

    async def _end_with_stop(self) -> None:
        await self.stop.wait()
        self._end()

    def _end(self) -> None:
        self.ending.set()
        for permit in self.running.values():
            permit.leave.set()

    async def _start_shards(self, tasks: asyncio.TaskGroup) -> None:
        """Lists the source from time to time and whenever a shard has ended; starts and leaves shards in between."""
        failures = 0
        while not self.ending.is_set():
            try:
                async with within(LOOKING, self.ending):
                    pause = await self._look(tasks)
                failures = 0
            except Exception as error:  # noqa: BLE001 - a look that fails stops no shard that is being read
                failures += 1
                pause = backoff(failures, LONGEST_PAUSE)
                self._tell_unlisted(error, pause)
            await first(pause, self.ending, self.relist, self.membership.news)

    async def _look(self, tasks: asyncio.TaskGroup) -> float:
        """One look at what has changed; gives the seconds to the next one that nothing asks for."""
        overdue = time.monotonic() - self.listed_at >= LISTING_INTERVAL
        self.unlisted = self.unlisted or self.relist.is_set() or overdue
        self.membership.news.clear()
        self.relist.clear()
        settled = True
        failed: list[BaseException] = []
        if self.listed:
            settled, failed = await self._assign(tasks)  # what a shard's end has named need not wait for the listing
        if self.unlisted:
            if not await self._list():
                return 0.0
            self.unlisted = False
            settled, failed = await self._assign(tasks)
        for error in failed:  # what keeps one shard from being taken has held up no other, nor the listing
            raise error
        if not self.membership.fence.closed:  # else our leases have yet to be won anew
            self.observer(reachable(ConditionType.CHECKPOINTS_REACHABLE))
        rest = LISTING_INTERVAL - (time.monotonic() - self.listed_at)
        least, each = (SETTLED_INTERVAL, SETTLED_PER_SHARD) if settled else (UNSETTLED_INTERVAL, UNSETTLED_PER_SHARD)
        return min(rest, max(least, each * len(self.known)))

    async def _list(self) -> bool:
        """Lists the source; False when the stream is not the one that is being read any more."""
        self.listed_at = time.monotonic()
        if not await self._same_stream():
            self._end()
            return False
        self.listed = await self.source.shards()
        self.broken.clear()
        for shard in self.listed:
            self.children.pop(shard.shard_id, None)
        self.observer(reachable(ConditionType.SOURCE_REACHABLE))
        return True

    async def _same_stream(self) -> bool:
        """Whether the stream is the one that is being read; the first look says which, to the store too."""
        created = await self.source.created()
        if self.source.retention is not None:
            self.observer(RetentionSeen(self.source.retention))
        if created is None or created == self.created:
            return True
        if self.created is not None:
            return False
        if await self.store.adopt(created, self._restart()):
            self.observer(StreamRecreated(created))
        self.created = created
        return True

    def _restart(self) -> Start:
        """Where a stream made anew is read from: whatever is in it was written after the mapping was made."""
        spec = self.mapping.spec
        at_timestamp = spec.starting_position is StartingPosition.AT_TIMESTAMP
        return Start(spec.starting_position_timestamp) if at_timestamp else Start()

    async def _assign(self, tasks: asyncio.TaskGroup) -> tuple[bool, list[BaseException]]:
        """Reads the leases, then starts and leaves shards as it falls to this poller.

        True once all is in its place; and what has kept single shards from being taken.
        """
        shards = tuple((self.children | {shard.shard_id: shard for shard in self.listed}).values())
        start = await self.store.start() or await self.store.pin(await self._resolve_start())
        leases = await self._leases(shards)
        failed = await self._end_expired(shards, leases)
        checkpoints = {shard_id: lease.checkpoint for shard_id, lease in leases.items()}
        startable = lineage.startable(shards, checkpoints)
        ready = [shard for shard in startable if shard.shard_id in leases]
        holders = {shard_id: leases[shard_id].holder for shard_id in self.running}
        others = {one: holder for one, holder in holders.items() if not self.membership.may_run(holder)}
        self.lose({one: holder.identity if holder is not None else None for one, holder in others.items()})
        whole = [shard.shard_id for shard in ready if leases[shard.shard_id].fault is None]
        claims = [Claim(shard_id, leases[shard_id].holder) for shard_id in whole]
        held = {shard_id: one for shard_id, one in self.running.items() if not one.lost.is_set()}
        giving = {shard_id for shard_id, one in held.items() if one.leave.is_set()}
        moves = self.membership.decide(claims, held.keys(), giving)
        for shard_id in moves.give:
            self.running[shard_id].given = True
            self.running[shard_id].leave.set()
        take = [shard_id for shard_id in moves.take if shard_id not in self.running]  # its calls end before that
        taking = [self._start(tasks, leases[shard_id].shard, start) for shard_id in take]
        taken = await asyncio.gather(*taking, return_exceptions=True)
        unfinished = [shard for shard in shards if not checkpoints.get(shard.shard_id, Checkpoint()).finished]
        unowned = tuple(shard.shard_id for shard in ready if self._is_unowned(leases[shard.shard_id]))
        self.observer(ShardsListed(len(unfinished), len(unfinished) - len(ready), unowned))
        broken = {one: e.message for one, e in zip(take, taken, strict=True) if isinstance(e, StoreError) and e.broken}
        for shard_id, fault in broken.items():
            self._tell_broken(shard_id, fault)
        failed += [error for one, error in zip(take, taken, strict=True) if error is not None and one not in broken]
        return (moves.settled or bool(broken)) and len(ready) == len(startable), failed

    def _is_unowned(self, lease: Lease) -> bool:
        return lease.shard.shard_id not in self.running and self.membership.is_free(lease.holder)

    async def _start(self, tasks: asyncio.TaskGroup, shard: Shard, start: Start) -> None:
        """Takes a shard, unless its lease has changed, and begins to read it."""
        checkpoint = await self.store.take(shard.shard_id)
        if checkpoint is not None and not self.ending.is_set():
            share = lambda: ahead.share(len(self.running))  # noqa: E731
            self.running[shard.shard_id] = Permit(self.membership.fence, share=share)
            self.shards[shard.shard_id] = shard
            self.observer(ShardStarted(shard.shard_id, checkpoint.sequence_number, self._stuck(checkpoint)))
            tasks.create_task(self._keep_shard(shard.shard_id, checkpoint, start))

    def _stuck(self, checkpoint: Checkpoint) -> tuple[LaneProgress, ...]:
        """The lanes that begin with a batch that has failed; of another number of lanes none can be told."""
        return tuple(one for one in checkpoint.lanes if one.head is not None and one.factor == self.delivery.factor)

    async def _leases(self, shards: Sequence[Shard]) -> dict[str, Lease]:
        """Every shard's lease; one that is being read here has one whatever the source lists and the store has yet."""
        reading = {shard_id: Lease(self.shards[shard_id]) for shard_id in self.running}
        leases = reading | dict(await self.store.load(shards, self._makes))
        self.missing = frozenset(shard.shard_id for shard in shards) - leases.keys()
        if new := leases.keys() - self.known:
            self.membership.tell_change()
            if self.known and new - {shard.shard_id for shard in shards}:
                self.relist.set()  # another poller knows of shards that were not listed here yet
        self.known = frozenset(leases)
        for shard_id, lease in leases.items():
            if lease.fault is not None and self.membership.falls_to_us(shard_id):
                self._tell_broken(shard_id, lease.fault)
        return leases

    def _tell_broken(self, shard_id: str, fault: str) -> None:
        """Tells of a lease that is broken, and again with each listing while it lasts."""
        if self.broken.get(shard_id) != fault:
            self.broken[shard_id] = fault
            self.observer(LeaseBroken(shard_id, fault))

    async def _end_expired(self, shards: Sequence[Shard], leases: dict[str, Lease]) -> list[BaseException]:
        """Parents that nobody reads and the source has forgotten have no record left: finished as they are, and told.

        Gives what has kept some of them from it; their children wait.
        """
        forgotten = lineage.expired(shards, {one: lease.checkpoint for one, lease in leases.items()})
        free = [
            one
            for one in forgotten
            if one not in self.running and leases[one].fault is None and self.membership.is_free(leases[one].holder)
        ]
        ends = await asyncio.gather(*(self._end_one(leases[one]) for one in free), return_exceptions=True)
        leases |= {one: end for one, end in zip(free, ends, strict=True) if isinstance(end, Lease)}
        return [end for end in ends if isinstance(end, BaseException)]

    async def _end_one(self, lease: Lease) -> Lease:
        """The lease as it is after that: finished, unless it has changed since it was read."""
        shard_id, after = lease.shard.shard_id, lease.checkpoint.sequence_number
        if await self.store.take(shard_id) is None:
            return lease
        ended = replace(lease, checkpoint=Checkpoint(after, finished=True))
        await self.store.save(shard_id, ended.checkpoint)
        await self.store.release(shard_id)
        self.observer(RecordsTrimmed(shard_id, Gap(after, None)))
        return ended

    def _makes(self, shard_id: str) -> bool:
        """Whether a lease is made here where it is missing: a child of what ended here, our part, what others left."""
        return shard_id in self.children or shard_id in self.missing or self.membership.falls_to_us(shard_id)

    async def _resolve_start(self) -> Start:
        """LATEST becomes the source's time of now: whoever starts later, or again, starts from there too."""
        spec = self.mapping.spec
        match spec.starting_position:
            case StartingPosition.LATEST:
                return Start(await self.source.now())
            case StartingPosition.AT_TIMESTAMP:
                return Start(spec.starting_position_timestamp)
            case _:
                return Start()

    async def _keep_shard(self, shard_id: str, checkpoint: Checkpoint, start: Start) -> None:
        """Runs one shard to its end, its leave or its loss; it is begun anew only after its last call has ended."""
        permit = self.running[shard_id]
        async with calls_of(self.function) as calls:
            finished = await self._work_on(shard_id, permit, checkpoint, start, calls)
        if finished or permit.given or self.membership.leaving:
            await self._release(shard_id)
        del self.running[shard_id], self.shards[shard_id]
        self.membership.news.set()

    async def _work_on(self, shard_id: str, permit: Permit, checkpoint: Checkpoint, start: Start, calls: Calls) -> bool:
        """Whether the shard is finished; what became of it is told in any case."""

        def open_poller(newest: Checkpoint) -> ShardPoller:
            return self._poller(shard_id, permit, newest, start, calls, stored=newest == checkpoint)

        ended: ShardFinished | ShardStopped = ShardStopped(shard_id)
        try:
            finished, undecided = await keep_working(shard_id, permit, checkpoint, calls, open_poller, self.observer)
            if undecided and self.ending.is_set() and not self.stop.is_set():
                self.observer(RecordsAbandoned(shard_id, len(undecided), undecided[0], undecided[-1]))
            if finished:
                ended = ShardFinished(shard_id)
                self.relist.set()
        except LeaseLost as error:
            permit.given = True
            permit.lose(error.holder)
            self.observer(ShardLost(shard_id, error.holder))
            return False
        finally:
            self.observer(ended)
        return finished

    def _poller(
        self, shard_id: str, permit: Permit, checkpoint: Checkpoint, start: Start, calls: Calls, *, stored: bool
    ) -> ShardPoller:
        pauses = lambda n: backoff(n, LONGEST_PAUSE)  # noqa: E731
        writer = CheckpointWriter(self.store, shard_id, checkpoint, self.observer, pauses, permit.leave, stored=stored)
        reader = _ListeningReader(self.source.reader(shard_id, lineage.position(checkpoint, start)), shard_id, self)
        return ShardPoller(shard_id, self.delivery, reader, calls, self.destination, writer, self.tell, permit)

    async def _release(self, shard_id: str) -> None:
        try:
            await self.store.release(shard_id)
        except StoreError as error:
            self.observer(Faulted(f"giving back {shard_id}", error, 0.0))
        self.membership.tell_change()

    def tell(self, event: Event) -> None:
        """What a shard tells; when its stream seems to be gone, the listing finds out about it."""
        self.observer(event)
        doubtful = isinstance(event, ConditionObserved) and event.reason in {Reason.NOT_FOUND, Reason.REJECTED}
        if doubtful and time.monotonic() - self.listed_at >= DOUBT_INTERVAL:
            self.relist.set()

    def _tell_unlisted(self, error: Exception, pause: float) -> None:
        match error:
            case SourceError():
                self.observer(unreachable(ConditionType.SOURCE_REACHABLE, error))
            case StoreError() if not error.broken:
                self.observer(unreachable(ConditionType.CHECKPOINTS_REACHABLE, error))
            case _:
                self.observer(Faulted("listing the shards", error, pause))


@dataclass(slots=True)
class _ListeningReader:
    """A shard's reader; what reads say besides the records goes to the mapping."""

    reader: ShardReader
    shard_id: str
    run: MappingRun

    async def read(self, most: int = MOST_READ) -> Polled:
        polled = await self.reader.read(most)
        if polled.gap is not None:
            self.run.observer(RecordsTrimmed(self.shard_id, polled.gap))
        for child in polled.children:
            self.run.children[child.shard_id] = child
        return polled
