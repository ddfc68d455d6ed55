"""Running one mapping: finding its shards, starting each when its turn has come, keeping them apart from each other.

Before this: `headrace run` or `headrace poller`. After this: `poller.py`, once per shard.
"""

from __future__ import annotations

import asyncio
import time
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from headrace.errors import DestinationError, LeaseLost, Reason, SourceError, StoreError
from headrace.records import Checkpoint, Gap, Shard, Start, StartingPosition
from headrace.stream import shards as lineage
from headrace.stream.checkpoints import CheckpointWriter
from headrace.stream.destinations import open_destination
from headrace.stream.events import (
    ConditionObserved,
    ConditionType,
    Event,
    Faulted,
    Observer,
    RecordsAbandoned,
    RecordsTrimmed,
    ShardFinished,
    ShardsListed,
    ShardStarted,
    ShardStopped,
    StreamRecreated,
)
from headrace.stream.functions import open_function
from headrace.stream.poller import ShardPoller, backoff
from headrace.stream.settings import delivery_of
from headrace.stream.sources import open_source
from headrace.stream.waiting import first

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from headrace.records import Polled
    from headrace.spec import EventSourceMapping
    from headrace.stream.aws import AwsSettings
    from headrace.stream.destinations import Destination
    from headrace.stream.functions import Function
    from headrace.stream.settings import Delivery
    from headrace.stream.sources import ShardReader, Source
    from headrace.stream.stores import CheckpointStore

LISTING_INTERVAL = 60.0
"""Seconds between two listings of a stream's shards; the end of a shard lists them at once."""
DOUBT_INTERVAL = 5.0
"""Least seconds from a listing to one that a shard asks for because its stream seems to be gone."""
LONGEST_PAUSE = 10.0
"""Longest pause in seconds between tries to reach what the world withholds."""


async def run_mapping(
    mapping: EventSourceMapping, store: CheckpointStore, aws: AwsSettings, observer: Observer, stop: asyncio.Event
) -> None:
    """Processes a mapping's records until `stop` is set and what was in flight is finished; raises LeaseLost."""
    async with AsyncExitStack() as opened:
        source = open_source(mapping, aws)
        opened.push_async_callback(source.aclose)
        function = open_function(mapping)
        opened.push_async_callback(function.aclose)
        destination = open_destination(mapping, aws)
        if destination is not None:
            opened.push_async_callback(destination.aclose)
        run = _MappingRun(mapping, delivery_of(mapping), source, function, destination, store, observer, stop)
        await run.run()


@dataclass(slots=True)
class _MappingRun:
    mapping: EventSourceMapping
    delivery: Delivery
    source: Source
    function: Function
    destination: Destination | None
    store: CheckpointStore
    observer: Observer
    stop: asyncio.Event
    created: float | None = None
    """When the stream that is being read was made."""
    running: set[str] = field(default_factory=set)
    children: dict[str, Shard] = field(default_factory=dict)
    """Shards that reads have named and no listing yet."""
    listed: Sequence[Shard] = ()
    listed_at: float = float("-inf")
    relist: asyncio.Event = field(default_factory=asyncio.Event)
    ending: asyncio.Event = field(default_factory=asyncio.Event)
    """Set with the stop, or when the stream turns out to be another one of its name."""

    async def run(self) -> None:
        try:
            async with asyncio.TaskGroup() as tasks:
                checking = tasks.create_task(self._check_destination())
                while not self.stop.is_set():
                    await self._read_stream()
                checking.cancel()
        except BaseExceptionGroup as group:
            lost, rest = group.split(LeaseLost)
            if lost is None or rest is not None:
                raise
            raise LeaseLost(str(_innermost(lost))) from group

    async def _read_stream(self) -> None:
        """Reads one incarnation of the stream: until the stop, or until another one has taken its name.

        Whatever reads the old one is at rest before the next is begun, so that nothing of it is stored with the new.
        """
        self.created, self.listed, self.ending = None, (), asyncio.Event()
        self.running.clear()
        self.children.clear()
        async with asyncio.TaskGroup() as tasks:
            stopping = tasks.create_task(self._end_with_stop())
            await self._start_shards(tasks)
            self.ending.set()
            stopping.cancel()

    async def _end_with_stop(self) -> None:
        await self.stop.wait()
        self.ending.set()

    async def _start_shards(self, tasks: asyncio.TaskGroup) -> None:
        """Lists the shards from time to time and whenever one has ended, and starts those whose turn has come."""
        failures = 0
        while not self.ending.is_set():
            self.relist.clear()
            try:
                await self._start_listed(tasks)
                failures, pause = 0, LISTING_INTERVAL
            except LeaseLost:
                raise
            except Exception as error:  # noqa: BLE001 - a listing that fails stops no shard that is being read
                failures += 1
                pause = backoff(failures, LONGEST_PAUSE)
                self._tell_unlisted(error, pause)
            await first(pause, self.ending, self.relist)

    async def _start_listed(self, tasks: asyncio.TaskGroup) -> None:
        self.listed_at = time.monotonic()
        if self.children and self.listed:
            await self._start_ready(tasks)  # what a shard's end has named need not wait for the listing
        if not await self._same_stream():
            self.ending.set()
            return
        self.listed = await self.source.shards()
        for shard in self.listed:
            self.children.pop(shard.shard_id, None)
        self._condition(ConditionType.SOURCE_REACHABLE, None)
        await self._start_ready(tasks)

    async def _same_stream(self) -> bool:
        """Whether the stream is the one that is being read; the first look says which, to the store too."""
        created = await self.source.created()
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

    async def _start_ready(self, tasks: asyncio.TaskGroup) -> None:
        shards = (*self.listed, *self.children.values())
        start = await self.store.start() or await self.store.pin(await self._resolve_start())
        checkpoints = await self._checkpoints(shards)
        ready = lineage.startable(shards, checkpoints)
        for shard in ready:
            if shard.shard_id not in self.running:
                self.running.add(shard.shard_id)
                self.observer(ShardStarted(shard.shard_id, _after(checkpoints, shard)))
                tasks.create_task(self._keep_shard(shard, checkpoints.get(shard.shard_id, Checkpoint()), start))
        unfinished = [shard for shard in shards if not checkpoints.get(shard.shard_id, Checkpoint()).finished]
        self.observer(ShardsListed(len(unfinished), len(unfinished) - len(ready)))

    async def _checkpoints(self, shards: Sequence[Shard]) -> Mapping[str, Checkpoint]:
        """Every checkpoint, those of shards that have none yet and are being read among them.

        A parent that nobody reads and the source has forgotten has no record left: it is finished as it is, and told.
        """
        found = dict.fromkeys(self.running, Checkpoint()) | dict(await self.store.load(shards))
        expired = [one for one in lineage.expired(shards, found) if one not in self.running]
        if expired:
            await self.store.load([*shards, *map(Shard, expired)])
        for shard_id in expired:
            after = found[shard_id].sequence_number
            found[shard_id] = Checkpoint(after, finished=True)
            await self.store.save(shard_id, found[shard_id])
            self.observer(RecordsTrimmed(shard_id, Gap(after, None)))
        return found

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

    async def _keep_shard(self, shard: Shard, checkpoint: Checkpoint, start: Start) -> None:
        """Runs one shard; a fault of our own is told, and the shard goes on from where it is decided."""
        failures = 0
        while not self.ending.is_set():
            writer = CheckpointWriter(
                self.store, shard.shard_id, checkpoint, self.observer, lambda n: backoff(n, LONGEST_PAUSE), self.ending
            )
            reader = _ListeningReader(
                self.source.reader(shard.shard_id, lineage.position(checkpoint, start)), shard.shard_id, self
            )
            poller = ShardPoller(
                shard.shard_id, self.delivery, reader, self.function, self.destination, writer, self.tell, self.ending
            )
            try:
                finished = await poller.run()
            except ExceptionGroup as group:
                if group.subgroup(LeaseLost) is not None:
                    raise LeaseLost(shard.shard_id) from group
                failures += 1
                pause = backoff(failures, LONGEST_PAUSE)
                self.observer(Faulted(f"shard {shard.shard_id}", group, pause))
                checkpoint = writer.newest
                await first(pause, self.ending)
                continue
            if poller.undecided and not self.stop.is_set():
                left = poller.undecided
                self.observer(RecordsAbandoned(shard.shard_id, len(left), left[0], left[-1]))
            self.observer(ShardFinished(shard.shard_id) if finished else ShardStopped(shard.shard_id))
            if finished:
                self.relist.set()
            return

    def tell(self, event: Event) -> None:
        """What a shard tells; when its stream seems to be gone, the listing finds out about it."""
        self.observer(event)
        doubtful = isinstance(event, ConditionObserved) and event.reason in {Reason.NOT_FOUND, Reason.REJECTED}
        if doubtful and time.monotonic() - self.listed_at >= DOUBT_INTERVAL:
            self.relist.set()

    async def _check_destination(self) -> None:
        """Tells until it shows whether failure records could be delivered; polling does not wait for it."""
        failures = 0
        while self.destination is not None:
            try:
                await self.destination.check()
            except DestinationError as error:
                failures += 1
                self._condition(ConditionType.DESTINATION_REACHABLE, error)
                await asyncio.sleep(backoff(failures, LONGEST_PAUSE))
            except Exception as error:  # noqa: BLE001 - a look that fails stops no shard
                failures += 1
                pause = backoff(failures, LONGEST_PAUSE)
                self.observer(Faulted("looking at the destination", error, pause))
                await asyncio.sleep(pause)
            else:
                self._condition(ConditionType.DESTINATION_REACHABLE, None)
                return

    def _tell_unlisted(self, error: Exception, pause: float) -> None:
        if isinstance(error, SourceError):
            self._condition(ConditionType.SOURCE_REACHABLE, error)
        else:
            what = "checkpoints" if isinstance(error, StoreError) else "listing the shards"
            self.observer(Faulted(what, error, pause))

    def _condition(self, kind: ConditionType, error: SourceError | DestinationError | None) -> None:
        if error is None:
            self.observer(ConditionObserved(kind, holds=True, reason=Reason.REACHABLE, message="it answers"))
        else:
            throttled = error.reason is Reason.THROTTLED
            self.observer(ConditionObserved(kind, holds=throttled, reason=error.reason, message=error.message))


@dataclass(slots=True)
class _ListeningReader:
    """A shard's reader; what reads say besides the records goes to the mapping."""

    reader: ShardReader
    shard_id: str
    run: _MappingRun

    async def read(self) -> Polled:
        polled = await self.reader.read()
        if polled.gap is not None:
            self.run.observer(RecordsTrimmed(self.shard_id, polled.gap))
        for child in polled.children:
            self.run.children[child.shard_id] = child
        return polled


def _innermost(group: BaseException) -> BaseException:
    return _innermost(group.exceptions[0]) if isinstance(group, BaseExceptionGroup) else group


def _after(checkpoints: Mapping[str, Checkpoint], shard: Shard) -> str | None:
    checkpoint = checkpoints.get(shard.shard_id)
    return checkpoint.sequence_number if checkpoint else None
