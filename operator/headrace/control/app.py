"""`headrace operator`: kopf watches, the workqueue works, until a signal or the caller says stop."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import kopf
import structlog
from prometheus_client import CollectorRegistry, Gauge

from headrace.api_server import connect
from headrace.cluster import ClusterError
from headrace.control.elector import Elector, Fenced
from headrace.control.handlers import register
from headrace.control.reconcile import Reconciler
from headrace.control.watching import WatchSettings, watch
from headrace.control.workqueue import Scope, Workqueue
from headrace.errors import HeadraceError
from headrace.liveness import Liveness
from headrace.resources import EVENT_SOURCE_MAPPING
from headrace.serving import serve
from headrace.signals import pause, set_on_signal

if TYPE_CHECKING:
    from collections.abc import Coroutine

    from headrace.cluster import Cluster
    from headrace.control.desired import PollerSettings
    from headrace.control.leadership import Election

log = structlog.get_logger()

CRD_PAUSE = 2.0
SWEEP_INTERVAL = 1.0


@dataclass(frozen=True, slots=True)
class OperatorSettings:
    """The operator's options; no namespaces: all of them; no election: it is the only one. Port 0 serves nothing."""

    poller: PollerSettings
    namespaces: tuple[str, ...] = ()
    metrics_port: int = 0
    metrics_host: str = "0.0.0.0"  # noqa: S104 - pods are probed from outside
    election: Election | None = None
    watches: WatchSettings = field(default_factory=WatchSettings)


async def run_operator(settings: OperatorSettings, stop: asyncio.Event) -> None:
    """Until `stop` is set, or SIGTERM or SIGINT set it.

    Raises ClusterError when there is no cluster to be found, a group with LeadershipLost when another one took over.
    """
    set_on_signal(stop)
    async with connect() as cluster:
        operator = _Operator(cluster, settings, stop)
        async with serve(settings.metrics_port, operator.registry, operator.ready, settings.metrics_host):
            await operator.run()


class _Operator:
    """Waits for its turn, where there is an election, and works."""

    def __init__(self, cluster: Cluster, settings: OperatorSettings, stop: asyncio.Event) -> None:
        self.registry = CollectorRegistry()
        self._cluster = cluster
        self._settings = settings
        self._stop = stop
        self._watching = asyncio.Event()
        self._elector = Elector(cluster, settings.election) if settings.election is not None else None
        leader = Gauge("headrace_operator_leader", "1 on the operator that works", registry=self.registry)
        leader.set_function(lambda: float(self._leads()))

    def ready(self) -> bool:
        """Whether it watches, or stands by for the one that does."""
        if self._watching.is_set():
            return self._leads()
        return self._elector is not None and not self._elector.leads() and self._elector.stands_by()

    def _leads(self) -> bool:
        return self._elector.leads() if self._elector is not None else self._watching.is_set()

    async def run(self) -> None:
        """Until the stop."""
        if not await _crd_served(self._cluster, self._settings, self._stop):
            return
        if self._elector is None:
            await self._lead(self._cluster)
        else:
            fenced = Fenced(self._cluster, self._elector.leads)
            await self._elector.lead(lambda: self._lead(fenced), self._stop)

    async def _lead(self, cluster: Cluster) -> None:
        liveness = Liveness(time.monotonic)
        reconciler = Reconciler(cluster, liveness, self._settings.poller)
        self.registry.register(reconciler.fleet)
        queue = Workqueue(reconciler, self.registry)
        handlers = kopf.OperatorRegistry()
        register(handlers, queue, liveness)
        stop, end = self._stop, asyncio.Event()
        async with asyncio.TaskGroup() as tasks:
            watching = tasks.create_task(
                watch(handlers, self._settings.namespaces, self._settings.watches, self._watching, stop, end)
            )
            await _work(queue, liveness, stop, watching)
            end.set()  # the last: kopf takes every task that is left for one of its own, and waits for it


async def _work(queue: Workqueue, liveness: Liveness, stop: asyncio.Event, watching: asyncio.Task[None]) -> None:
    """Works the queue until the stop; a look cut short is repeated at the next start."""
    working = asyncio.ensure_future(_both(queue.run(), _sweep(liveness, queue)))
    stopping = asyncio.create_task(stop.wait())
    try:
        await asyncio.wait([working, stopping, watching], return_when=asyncio.FIRST_COMPLETED)
        if working.done():
            working.result()
        if watching.done() and watching.exception() is None and not stop.is_set():
            raise HeadraceError("the watches have ended, so nothing would be noticed any more; start again")
    finally:
        working.cancel()
        stopping.cancel()
        await asyncio.gather(working, stopping, return_exceptions=True)


async def _both(*forever: Coroutine[None, None, None]) -> None:
    async with asyncio.TaskGroup() as tasks:
        for each in forever:
            tasks.create_task(each)


async def _crd_served(cluster: Cluster, settings: OperatorSettings, stop: asyncio.Event) -> bool:
    """Waits for the CRD and the permission to list it: without them kopf would watch nothing, without a word."""
    namespace = settings.namespaces[0] if settings.namespaces else None
    while not stop.is_set():
        try:
            await cluster.select(EVENT_SOURCE_MAPPING, namespace)
        except ClusterError as error:
            log.warning("mappings cannot be listed yet; are the CRDs installed?", error=error.message)
            await pause(stop, CRD_PAUSE)
        else:
            return True
    return False


async def _sweep(liveness: Liveness, queue: Workqueue) -> None:
    """Heartbeats end without an event."""
    since = liveness.clock()
    while True:
        await asyncio.sleep(SWEEP_INTERVAL)
        now = liveness.clock()
        for key in liveness.expired(since):
            queue.mark(key, Scope.STATUS)
        since = now
