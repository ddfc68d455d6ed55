"""`headrace poller`: the data plane of one mapping, with its spec, checkpoints and heartbeat in Kubernetes.

Loops: `_follow` runs the newest valid spec, `_look` notices changes of the mapping, `_tell_shards` writes how the
shards are doing; `membership.py` keeps up the heartbeat and sees the other pollers, `event_recorder.py` posts Events.
"""

from __future__ import annotations

import asyncio
import time
from contextlib import AsyncExitStack
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import structlog
from prometheus_client import CollectorRegistry

from headrace import logs
from headrace.api_server import connect
from headrace.cluster import ClusterError, ObjectNotFound
from headrace.ending import DRAINING
from headrace.errors import InvalidMapping, LeaseLost, StoreError
from headrace.event_recorder import EventRecorder
from headrace.heartbeat import LARGEST, RENEW_INTERVAL, Heartbeat, ReportedCondition
from headrace.membership import PollerMembership
from headrace.records import Start, StartingPosition
from headrace.resources import EVENT_SOURCE_MAPPING, MappingRef, ref_of
from headrace.serving import serve
from headrace.signals import set_on_signal
from headrace.spec import parse_mapping, unsupported
from headrace.spec_fixed import changed, last_valid, written
from headrace.spec_rule import QUEUES
from headrace.stream.aws import AwsAccess
from headrace.stream.events import ConditionType, Faulted, Observer, all_of, unreachable
from headrace.stream.health import Health
from headrace.stream.metrics import Metrics
from headrace.stream.poller import backoff
from headrace.stream.progress import Progress
from headrace.stream.running import run_mapping
from headrace.stream.stores import dynamodb
from headrace.stream.stores.kubernetes import KubernetesStore
from headrace.stream.waiting import first

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from headrace.cluster import Body, Cluster
    from headrace.records import Holder
    from headrace.spec import EventSourceMapping
    from headrace.stream.aws import AwsSettings

log = structlog.get_logger()

LONGEST_PAUSE = 60.0


@dataclass(frozen=True, slots=True)
class PollerSettings:
    """The options of `headrace poller`; port 0 serves nothing."""

    namespace: str
    name: str
    identity: str
    aws: AwsSettings
    metrics_port: int = 0
    metrics_host: str = "0.0.0.0"  # noqa: S104 - pods are probed from outside
    last_valid: Path | None = None
    """Where the operator has put the mapping as it was last valid."""


_WayToTable = tuple[str | None, str | None, str | None] | None
"""Name, endpoint and role; None where there is no table."""


@dataclass(slots=True)
class _Running:
    """One run of the data plane."""

    store: KubernetesStore
    health: Health = field(default_factory=Health)
    progress: Progress = field(default_factory=lambda: Progress(time.time))


async def run_poller(settings: PollerSettings, stop: asyncio.Event) -> None:
    """Until a signal or `stop`, or until the mapping is gone; raises ClusterError when it never was there."""
    set_on_signal(stop)
    async with connect() as cluster:
        body = await _first_read(cluster, settings, stop)
        if body is None:
            return
        poller = Poller(cluster, settings, body, stop)
        async with serve(settings.metrics_port, poller.registry, poller.alive, settings.metrics_host):
            await poller.run()


async def _first_read(cluster: Cluster, settings: PollerSettings, stop: asyncio.Event) -> Body | None:
    failures = 0
    while not stop.is_set():
        try:
            body = await cluster.find(EVENT_SOURCE_MAPPING, settings.namespace, settings.name)
        except ClusterError as error:
            failures += 1
            log.warning("the mapping cannot be read yet", error=error.message)
            await first(backoff(failures, 10.0), stop)
            continue
        if body is None:
            raise ObjectNotFound(f"there is no EventSourceMapping {settings.namespace}/{settings.name}")
        return body
    return None


class Poller:
    """One mapping's poller from its first read on."""

    def __init__(self, cluster: Cluster, settings: PollerSettings, body: Body, stop: asyncio.Event) -> None:
        self.registry = CollectorRegistry()
        self._metrics = Metrics(self.registry)
        self._cluster = cluster
        self._settings = settings
        self._ref: MappingRef = ref_of(body)
        self._stop = stop
        self._mapping: EventSourceMapping | None = None
        self._seen: int | None = None
        self._news = asyncio.Event()
        self._running: _Running | None = None
        self._store: KubernetesStore | None = None
        self._store_key: tuple[str, Start | None, _WayToTable] | None = None
        self._closing = AsyncExitStack()
        self._events = EventRecorder(cluster, self._ref, settings.identity)
        self._membership = PollerMembership(cluster, self._ref, settings.identity, self._report, self._regain)
        self._take(body)

    def alive(self) -> bool:
        """Whether the heartbeat was renewed within its term."""
        return self._membership.alive

    async def run(self) -> None:
        """Works until the stop; then what is in flight ends, checkpoints are written and leases given back."""
        async with asyncio.TaskGroup() as tasks:
            forever = (self._membership.run(), self._look(), self._tell_shards(), self._events.run())
            loops = [tasks.create_task(loop) for loop in forever]
            await self._follow()
            await self._give_back()
            await self._closing.aclose()
            for loop in loops:
                loop.cancel()
        await self._membership.aclose()

    def _take(self, body: Body) -> None:
        """Notices a new spec; one that cannot be run changes nothing here, and the operator says so in the status."""
        generation = body["metadata"]["generation"]
        if generation == self._seen:
            return
        self._seen = generation
        before = self._before()
        mapping, refused = _judged(body, before)
        if refused:
            log.warning("the mapping cannot be run; what was last valid goes on", mapping=self._key, errors=refused)
            if self._mapping is not None or before is None:
                return
            metadata = body["metadata"] | {"generation": 0}  # an older one, whichever
            mapping, worse = _judged(body | {"metadata": metadata, "spec": before}, None)
            if worse:
                return
        self._mapping = mapping
        self._news.set()

    def _before(self) -> Body | None:
        """The spec that is followed now, or that pods were last made for."""
        if self._mapping is not None:
            return written(self._mapping.spec)
        file = self._settings.last_valid
        try:
            return last_valid(file.read_text()) if file is not None else None
        except OSError:
            return None

    @property
    def _key(self) -> str:
        return f"{self._ref.namespace}/{self._ref.name}"

    async def _follow(self) -> None:
        """Runs the newest spec; a change ends the run gracefully and begins another."""
        while not self._stop.is_set():
            self._news.clear()
            mapping = self._mapping
            if mapping is None or not mapping.spec.enabled:
                await self._give_back()
                await first(None, self._stop, self._news)
                continue
            ending = asyncio.Event()
            async with asyncio.TaskGroup() as tasks:
                keeping = tasks.create_task(self._keep(mapping, ending))
                await first(None, self._stop, self._news)
                if self._stop.is_set():
                    self._membership.leave()
                ending.set()
                await self._drained(keeping, mapping.spec.function.timeout_seconds + DRAINING)

    async def _drained(self, keeping: asyncio.Task[None], patience: float) -> None:
        """Waits until a run has ended; what does not end in its time is cut short, and comes again."""
        _, late = await asyncio.wait({keeping}, timeout=patience)
        if late:
            log.warning("what is left of the run is cut short, and comes again", mapping=self._key, seconds=patience)
            keeping.cancel()

    async def _keep(self, mapping: EventSourceMapping, ending: asyncio.Event) -> None:
        """Runs one spec; after a fault again. What it holds it keeps over both."""
        failures = 0
        while not ending.is_set():
            try:
                store = await self._store_of(mapping)
                self._running = _Running(store)
                await self._run(mapping, self._running, ending)
            except Exception as error:  # noqa: BLE001 - told, and tried again
                failures += 1
                logs.observer(self._key)(Faulted("the mapping", error, backoff(failures, LONGEST_PAUSE)))
                await first(backoff(failures, LONGEST_PAUSE), ending)
            finally:
                self._running = None

    async def _store_of(self, mapping: EventSourceMapping) -> KubernetesStore:
        """The store of the mapping's stream; only another stream, start, or way to its table gets another one."""
        key = (mapping.spec.event_source_arn or "", start_of(mapping), _way_to_table(mapping))
        if self._store is None or self._store_key != key:
            await self._give_back()
            await self._closing.aclose()
            self._store, self._store_key = self._open_store(mapping), key
        return self._store

    def _open_store(self, mapping: EventSourceMapping) -> KubernetesStore:
        source, start, holder = mapping.spec.event_source_arn or "", start_of(mapping), self._membership.holder
        match mapping.spec.poller.checkpoint_table:
            case None:
                return KubernetesStore(self._cluster, self._ref, source, start, holder)
            case name:
                access = AwsAccess(self._settings.aws, mapping.spec.aws.endpoint_url, mapping.spec.aws.role_arn)
                table = dynamodb.DynamoDBTable(name, self._ref, access, mapping.region)
                self._closing.push_async_callback(table.aclose)
                return KubernetesStore(table, self._ref, source, start, holder, piece=dynamodb.PIECE)

    async def _give_back(self) -> None:
        if self._store is not None:
            await self._store.aclose()
            self._membership.tell_change()

    async def _regain(self, holder: Holder) -> Mapping[str, str | None]:
        try:
            return await self._store.regain(holder) if self._store is not None else {}
        except StoreError as error:
            if self._running is not None:  # nothing is begun before it succeeds, and the next look says so
                self._running.health(unreachable(ConditionType.CHECKPOINTS_REACHABLE, error))
            raise

    async def _run(self, mapping: EventSourceMapping, running: _Running, ending: asyncio.Event) -> None:
        source = mapping.spec.event_source_arn or ""
        counting = self._metrics.observer(self._ref.namespace, self._ref.name, source, running.health)
        observers: list[Observer] = [running.health, counting, logs.observer(self._key), self._events]
        if mapping.source_kind not in QUEUES:
            observers.insert(1, running.progress)  # a queue has no lease to tell its progress on
        observer = all_of(*observers)
        try:
            await run_mapping(mapping, running.store, self._settings.aws, observer, ending, self._membership)
        finally:
            counting.close()

    async def _look(self) -> None:
        """Notices changes of the mapping, and its end; an API that does not answer stops nothing."""
        while True:
            await asyncio.sleep(RENEW_INTERVAL)
            try:
                body = await self._cluster.find(EVENT_SOURCE_MAPPING, self._ref.namespace, self._ref.name)
            except ClusterError as error:
                log.warning("the mapping could not be read", mapping=self._key, error=error.message)
                continue
            if body is not None and body["metadata"]["uid"] == self._ref.uid:
                self._take(body)
                continue
            log.info("the mapping is gone", mapping=self._key)
            self._stop.set()
            return

    def _report(self) -> Heartbeat:
        mapping, running = self._mapping, self._running
        generation = (mapping.metadata.generation if mapping is not None else None) or 0
        if running is None:
            return Heartbeat(self._settings.identity, generation)
        report = running.health.report(time.time())
        age = report.iterator_age_seconds
        stuck = running.store.stuck()
        return Heartbeat(
            self._settings.identity,
            generation,
            tuple(ReportedCondition(one.type, one.status, one.reason, one.message) for one in report.conditions),
            report.last_processing_result,
            max(0, min(round(age), LARGEST)) if age is not None else None,
            report.shards_total,
            report.shards_blocked,
            report.shards_ready,
            len(running.progress.facts),
            shards_unowned=len(report.unowned),
            unowned=report.unowned,
            shards_stuck=len(stuck),
            stuck=min(stuck, key=lambda shard: shard.badness, default=None),
        )

    async def _tell_shards(self) -> None:
        """What the shards' leases tell beside the checkpoints; a lease that is lost shows at the next checkpoint."""
        while True:
            await asyncio.sleep(RENEW_INTERVAL)
            running = self._running
            if running is None:
                continue
            now = time.time()
            for shard_id, facts in list(running.progress.facts.items()):
                try:
                    await running.store.report_shard(
                        shard_id, replace(facts, iterator_age_seconds=running.health.iterator_age(shard_id, now))
                    )
                except (StoreError, LeaseLost) as error:
                    log.debug("a shard's facts were not written", shard=shard_id, error=str(error))


def _judged(body: Body, before: Body | None) -> tuple[EventSourceMapping | None, Sequence[str]]:
    """A mapping, and what keeps it from being run; `before` is the spec that may not be changed everywhere."""
    try:
        mapping = parse_mapping(body)
    except InvalidMapping as error:
        return None, error.errors
    return mapping, unsupported(mapping) or (changed(before, written(mapping.spec)) if before is not None else ())


def start_of(mapping: EventSourceMapping) -> Start | None:
    """Where the mapping starts as far as its creation decides it: LATEST is what came after `kubectl apply`."""
    created = mapping.metadata.creation_timestamp
    if mapping.spec.resolved_starting_position is StartingPosition.LATEST and created is not None:
        return Start(created.timestamp())
    return None


def _way_to_table(mapping: EventSourceMapping) -> _WayToTable:
    table, aws = mapping.spec.poller.checkpoint_table, mapping.spec.aws
    return (table, aws.endpoint_url, aws.role_arn) if table is not None else None
