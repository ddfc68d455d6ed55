"""`headrace operator`: kopf watches, the workqueue works, until a signal or the caller says stop."""

from __future__ import annotations

import asyncio
import itertools
import logging
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

import kopf
import structlog
from prometheus_client import CollectorRegistry

from headrace.cluster import ClusterError, connect
from headrace.control.handlers import OWNED, register, selector
from headrace.control.reconcile import Reconciler
from headrace.control.workqueue import Scope, Workqueue
from headrace.errors import HeadraceError
from headrace.liveness import Liveness
from headrace.resources import EVENT_SOURCE_MAPPING, LABEL_MAPPING_UID
from headrace.serving import serve
from headrace.signals import set_on_signal

if TYPE_CHECKING:
    from collections.abc import Coroutine, Iterator

    from headrace.cluster import Cluster
    from headrace.control.desired import PollerSettings

log = structlog.get_logger()

WATCH_SECONDS = 600
"""A watch is begun anew after so long, with a full list: whatever an event was lost for is seen then."""
LONGEST_WATCH_PAUSE = 10.0
CRD_PAUSE = 2.0
SWEEP_INTERVAL = 1.0


@dataclass(frozen=True, slots=True)
class OperatorSettings:
    """The operator's options; no namespaces: all of them. Port 0 serves nothing."""

    poller: PollerSettings
    namespaces: tuple[str, ...] = ()
    metrics_port: int = 0
    metrics_host: str = "0.0.0.0"  # noqa: S104 - pods are probed from outside


async def run_operator(settings: OperatorSettings, stop: asyncio.Event) -> None:
    """Until `stop` is set, or SIGTERM or SIGINT set it; raises ClusterError when there is no cluster to be found."""
    set_on_signal(stop)
    registry = CollectorRegistry()
    ready, end = asyncio.Event(), asyncio.Event()
    async with (
        connect() as cluster,
        serve(settings.metrics_port, registry, ready.is_set, settings.metrics_host),
    ):
        if not await _crd_served(cluster, settings, stop):
            return
        liveness = Liveness(time.monotonic)
        reconciler = Reconciler(cluster, liveness, settings.poller)
        registry.register(reconciler.fleet)
        queue = Workqueue(reconciler, registry)
        handlers = kopf.OperatorRegistry()
        register(handlers, queue, liveness)
        async with asyncio.TaskGroup() as tasks:
            watching = tasks.create_task(_watch(handlers, settings, ready, stop, end))
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
        if watching.done() and not stop.is_set():
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
            await _pause(stop, CRD_PAUSE)
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


async def _pause(stop: asyncio.Event, seconds: float) -> None:
    try:
        async with asyncio.timeout(seconds):
            await stop.wait()
    except TimeoutError:
        return


async def _watch(
    handlers: kopf.OperatorRegistry,
    settings: OperatorSettings,
    ready: asyncio.Event,
    stop: asyncio.Event,
    end: asyncio.Event,
) -> None:
    """kopf, kept to what it is here for: watching, and calling the handlers, until `end`."""
    logging.getLogger("kopf").setLevel(logging.WARNING)
    others = asyncio.all_tasks()
    tasks = await kopf.spawn_tasks(
        registry=handlers,
        settings=_kopf_settings(),
        standalone=True,
        identity=cast("Any", "headrace"),  # of no use without peering, but kopf would look for a user name
        clusterwide=not settings.namespaces,
        namespaces=settings.namespaces,
        ready_flag=ready,
        stop_flag=end,
    )
    set_on_signal(stop)  # kopf took them
    await kopf.run_tasks(tasks, ignored=others)


class _Backoffs:
    """Pauses between tries to reach the API server, without end: after a finite list kopf gives up for good."""

    def __iter__(self) -> Iterator[float]:
        return itertools.chain((1.0, 2.0, 3.0, 5.0), itertools.repeat(LONGEST_WATCH_PAUSE))


def _kopf_settings() -> kopf.OperatorSettings:
    settings = kopf.OperatorSettings()
    settings.posting.enabled = False
    settings.scanning.disabled = True  # the kinds are fixed; watching namespaces and CRDs would need more rights
    settings.watching.server_timeout = WATCH_SECONDS
    settings.watching.client_timeout = WATCH_SECONDS + 30
    settings.watching.connect_timeout = 10
    settings.networking.request_timeout = 30
    settings.networking.error_backoffs = _Backoffs()
    settings.process.ultimate_exiting_timeout = None
    for kind in OWNED:
        settings.watching.label_selectors[selector(kind)] = LABEL_MAPPING_UID
    return settings
