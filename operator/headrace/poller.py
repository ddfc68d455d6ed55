"""`headrace poller`: the data plane of one mapping, with its spec, checkpoints and heartbeat in Kubernetes.

Loops: `_follow` runs the newest valid spec, `_beat` renews the heartbeat and notices changes of the mapping,
`_tell_shards` writes how the shards are doing; `event_recorder.py` posts Events.
"""

from __future__ import annotations

import asyncio
import time
import uuid
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import structlog
from prometheus_client import CollectorRegistry

from headrace import heartbeat, logs
from headrace.cluster import ClusterError, ObjectNotFound, connect
from headrace.errors import InvalidMapping, LeaseLost, StoreError
from headrace.event_recorder import EventRecorder
from headrace.heartbeat import RENEW_INTERVAL, TERM, Heartbeat, ReportedCondition
from headrace.liveness import Liveness
from headrace.records import Start, StartingPosition
from headrace.resources import EVENT_SOURCE_MAPPING, LEASE, SHARD_LEASE, MappingRef, ref_of
from headrace.serving import serve
from headrace.signals import set_on_signal
from headrace.spec import parse_mapping, unsupported
from headrace.stream.events import Faulted, all_of
from headrace.stream.health import Health
from headrace.stream.mapping import run_mapping
from headrace.stream.metrics import Metrics
from headrace.stream.poller import backoff
from headrace.stream.progress import Progress
from headrace.stream.stores.kubernetes import Holder, KubernetesStore
from headrace.stream.waiting import first

if TYPE_CHECKING:
    from headrace.cluster import Body, Cluster
    from headrace.spec import EventSourceMapping
    from headrace.stream.aws import AwsSettings

log = structlog.get_logger()

LONGEST_PAUSE = 60.0
BEAT_PATIENCE = 4.0
"""Seconds for one renewal; the next one is more worth than a late one."""


@dataclass(frozen=True, slots=True)
class PollerSettings:
    """The options of `headrace poller`; port 0 serves nothing."""

    namespace: str
    name: str
    identity: str
    aws: AwsSettings
    metrics_port: int = 0
    metrics_host: str = "0.0.0.0"  # noqa: S104 - pods are probed from outside


@dataclass(slots=True)
class _Running:
    """One run of the data plane."""

    store: KubernetesStore
    health: Health = field(default_factory=Health)
    progress: Progress = field(default_factory=Progress)


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
        self._lease: Body | None = None
        self._events = EventRecorder(cluster, self._ref, settings.identity)
        self._renewed = float("-inf")
        self._take(body)

    def alive(self) -> bool:
        """Whether the heartbeat was renewed within its term."""
        return time.monotonic() - self._renewed < TERM

    async def run(self) -> None:
        """Works until the stop; then what is in flight ends, checkpoints are written and leases given back."""
        async with asyncio.TaskGroup() as tasks:
            loops = [tasks.create_task(loop) for loop in (self._beat(), self._tell_shards(), self._events.run())]
            await self._follow()
            for loop in loops:
                loop.cancel()
        await self._end_heartbeat()

    def _take(self, body: Body) -> None:
        """Notices a new spec; one that cannot be run changes nothing here, and the operator says so in the status."""
        generation = body["metadata"]["generation"]
        if generation == self._seen:
            return
        self._seen = generation
        try:
            mapping = parse_mapping(body)
            refused = unsupported(mapping)
        except InvalidMapping as error:
            refused = error.errors
        if refused:
            log.warning("the mapping cannot be run", mapping=self._key, errors=refused)
            return
        self._mapping = mapping
        self._news.set()

    @property
    def _key(self) -> str:
        return f"{self._ref.namespace}/{self._ref.name}"

    async def _follow(self) -> None:
        """Runs the newest spec; a change ends the run gracefully and begins another."""
        while not self._stop.is_set():
            self._news.clear()
            mapping = self._mapping
            if mapping is None or not mapping.spec.enabled:
                await first(None, self._stop, self._news)
                continue
            ending = asyncio.Event()
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._keep(mapping, ending))
                await first(None, self._stop, self._news)
                ending.set()

    async def _keep(self, mapping: EventSourceMapping, ending: asyncio.Event) -> None:
        """Runs one spec; after a fault or a lost lease again, as another incarnation."""
        failures = 0
        while not ending.is_set():
            holder = Holder(self._settings.identity, uuid.uuid4().hex[:12])
            store = KubernetesStore(
                self._cluster, self._ref, mapping.spec.event_source_arn or "", holder, start_of(mapping)
            )
            self._running = _Running(store)
            try:
                await self._run(mapping, self._running, ending)
            except LeaseLost as error:
                log.warning("another poller has taken over", mapping=self._key, error=str(error))
                await self._stand_by(ending)
            except Exception as error:  # noqa: BLE001 - told, and tried again
                logs.observer(self._key)(Faulted("the mapping", error, backoff(failures + 1, LONGEST_PAUSE)))
            finally:
                self._running = None
                await store.aclose()
            failures += 1
            await first(backoff(failures, LONGEST_PAUSE), ending)

    async def _run(self, mapping: EventSourceMapping, running: _Running, ending: asyncio.Event) -> None:
        source = mapping.spec.event_source_arn or ""
        counting = self._metrics.observer(self._ref.namespace, self._ref.name, source, running.health)
        observer = all_of(running.health, running.progress, counting, logs.observer(self._key), self._events)
        await run_mapping(mapping, running.store, self._settings.aws, observer, ending)

    async def _stand_by(self, ending: asyncio.Event) -> None:
        """Waits while somebody alive holds a shard."""
        liveness = Liveness(time.monotonic)
        while not ending.is_set():
            try:
                if not await self._others(liveness):
                    return
            except ClusterError as error:
                log.warning("the holders cannot be read", mapping=self._key, error=error.message)
            await first(RENEW_INTERVAL, ending)

    async def _others(self, liveness: Liveness) -> set[str]:
        """Who else is alive and holds a shard."""
        leases = await self._cluster.select(LEASE, self._ref.namespace, self._ref.selector)
        shards = await self._cluster.select(SHARD_LEASE, self._ref.namespace, self._ref.selector)
        alive = {heartbeat.heartbeat_of(lease).identity for lease in liveness.alive(self._ref.key, leases)}
        return alive.intersection(shard.get("status", {}).get("holder") for shard in shards) - {self._settings.identity}

    async def _beat(self) -> None:
        """Renews the heartbeat and looks at the mapping; an API that does not answer stops nothing."""
        while True:
            began = time.monotonic()
            try:
                async with asyncio.timeout(BEAT_PATIENCE):
                    await self._renew(began)
                    await self._look()
            except (ClusterError, TimeoutError) as error:
                log.warning("the heartbeat could not be renewed", mapping=self._key, error=str(error) or "timed out")
            await asyncio.sleep(max(0.0, began + RENEW_INTERVAL - time.monotonic()))

    async def _look(self) -> None:
        body = await self._cluster.find(EVENT_SOURCE_MAPPING, self._ref.namespace, self._ref.name)
        if body is not None and body["metadata"]["uid"] == self._ref.uid:
            self._take(body)
            return
        log.info("the mapping is gone", mapping=self._key)
        self._stop.set()

    async def _renew(self, moment: float) -> None:
        renewed = datetime.now(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
        wanted = heartbeat.lease(self._ref, self._report(), renewed)
        name = wanted["metadata"]["name"]
        known, self._lease = self._lease, None  # forgotten unless this write succeeds
        known = known or await self._cluster.find(LEASE, self._ref.namespace, name)
        if known is None:
            self._lease = await self._cluster.create(LEASE, wanted)
        else:
            wanted["metadata"]["resourceVersion"] = known["metadata"]["resourceVersion"]
            self._lease = await self._cluster.replace(LEASE, wanted)
        self._renewed = moment

    def _report(self) -> Heartbeat:
        mapping, running = self._mapping, self._running
        generation = (mapping.metadata.generation if mapping is not None else None) or 0
        if running is None:
            return Heartbeat(self._settings.identity, generation)
        report = running.health.report(time.time())
        age = report.iterator_age_seconds
        return Heartbeat(
            self._settings.identity,
            generation,
            tuple(ReportedCondition(one.type, one.status, one.reason, one.message) for one in report.conditions),
            report.last_processing_result,
            round(age) if age is not None else None,
            report.shards_total,
            report.shards_blocked,
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

    async def _end_heartbeat(self) -> None:
        """Says goodbye, so that nobody has to wait for the term to pass."""
        if self._lease is None:
            return
        try:
            async with asyncio.timeout(BEAT_PATIENCE):
                await self._cluster.delete(LEASE, self._lease)
        except (ClusterError, TimeoutError) as error:
            log.warning("the heartbeat could not be ended", mapping=self._key, error=str(error) or "timed out")


def start_of(mapping: EventSourceMapping) -> Start | None:
    """Where the mapping starts as far as its creation decides it: LATEST is what came after `kubectl apply`."""
    created = mapping.metadata.creation_timestamp
    if mapping.spec.resolved_starting_position is StartingPosition.LATEST and created is not None:
        return Start(created.timestamp())
    return None
