"""Running one mapping: finding its shards, starting each when its turn has come, keeping them apart from each other.

Before this: `headrace run` or `headrace poller`. After this: `poller.py`, once per shard.
"""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from headrace.errors import DestinationError, LeaseLost, Reason, SourceError, StoreError
from headrace.records import Checkpoint, Shard, Start, StartingPosition
from headrace.stream import shards as lineage
from headrace.stream.checkpoints import CheckpointWriter
from headrace.stream.destinations import open_destination
from headrace.stream.events import (
    ConditionObserved,
    ConditionType,
    Faulted,
    Observer,
    ShardFinished,
    ShardsListed,
    ShardStarted,
    ShardStopped,
)
from headrace.stream.functions import open_function
from headrace.stream.poller import ShardPoller, backoff
from headrace.stream.settings import delivery_of
from headrace.stream.sources import open_source
from headrace.stream.waiting import first

if TYPE_CHECKING:
    from collections.abc import Mapping

    from headrace.spec import EventSourceMapping
    from headrace.stream.aws import AwsSettings
    from headrace.stream.destinations import Destination
    from headrace.stream.functions import Function
    from headrace.stream.settings import Delivery
    from headrace.stream.sources import Source
    from headrace.stream.stores import CheckpointStore

LISTING_INTERVAL = 60.0
"""Seconds between two listings of a stream's shards; the end of a shard lists them at once."""
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
    running: set[str] = field(default_factory=set)
    relist: asyncio.Event = field(default_factory=asyncio.Event)

    async def run(self) -> None:
        try:
            async with asyncio.TaskGroup() as tasks:
                checking = tasks.create_task(self._check_destination())
                await self._start_shards(tasks)
                checking.cancel()
        except BaseExceptionGroup as group:
            lost, rest = group.split(LeaseLost)
            if lost is None or rest is not None:
                raise
            raise LeaseLost(str(lost.exceptions[0])) from group

    async def _start_shards(self, tasks: asyncio.TaskGroup) -> None:
        """Lists the shards from time to time and whenever one has ended, and starts those whose turn has come."""
        failures = 0
        while not self.stop.is_set():
            self.relist.clear()
            try:
                pause = await self._start_listed(tasks)
                failures = 0
            except LeaseLost:
                raise
            except Exception as error:  # noqa: BLE001 - a listing that fails stops no shard that is being read
                failures += 1
                pause = backoff(failures, LONGEST_PAUSE)
                self._tell_unlisted(error, pause)
            await first(pause, self.stop, self.relist)

    async def _start_listed(self, tasks: asyncio.TaskGroup) -> float:
        shards = await self.source.shards()
        start = await self.store.start() or await self.store.pin(await self._resolve_start())
        checkpoints = await self.store.load(shards)
        ready = lineage.startable(shards, checkpoints)
        self._condition(ConditionType.SOURCE_REACHABLE, None)
        for shard in ready:
            if shard.shard_id not in self.running:
                self.running.add(shard.shard_id)
                self.observer(ShardStarted(shard.shard_id, _after(checkpoints, shard)))
                tasks.create_task(self._keep_shard(shard, checkpoints.get(shard.shard_id, Checkpoint()), start))
        unfinished = [shard for shard in shards if not checkpoints.get(shard.shard_id, Checkpoint()).finished]
        self.observer(ShardsListed(len(unfinished), len(unfinished) - len(ready)))
        return LISTING_INTERVAL

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
        while not self.stop.is_set():
            writer = CheckpointWriter(
                self.store, shard.shard_id, checkpoint, self.observer, lambda n: backoff(n, LONGEST_PAUSE), self.stop
            )
            reader = self.source.reader(shard.shard_id, lineage.position(checkpoint, start))
            poller = ShardPoller(
                shard.shard_id, self.delivery, reader, self.function, self.destination, writer, self.observer, self.stop
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
                await first(pause, self.stop)
                continue
            self.observer(ShardFinished(shard.shard_id) if finished else ShardStopped(shard.shard_id))
            if finished:
                self.relist.set()
            return

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


def _after(checkpoints: Mapping[str, Checkpoint], shard: Shard) -> str | None:
    checkpoint = checkpoints.get(shard.shard_id)
    return checkpoint.sequence_number if checkpoint else None
