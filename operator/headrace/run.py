"""`headrace run`: mappings in the foreground on one machine, without Kubernetes."""

from __future__ import annotations

import asyncio
import signal
import time
from contextlib import AsyncExitStack, contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import structlog
from prometheus_client import CollectorRegistry

from headrace import logs
from headrace.serving import serve
from headrace.stream.events import Faulted, Observer, all_of
from headrace.stream.health import Health
from headrace.stream.membership import Alone
from headrace.stream.metrics import Counts, MappingMetrics, Metrics
from headrace.stream.poller import backoff
from headrace.stream.running import run_mapping
from headrace.stream.stores.sqlite import SqliteFile, SqliteStore
from headrace.stream.waiting import first

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from headrace.spec import EventSourceMapping
    from headrace.stream.aws import AwsSettings

log = structlog.get_logger()

IDLE_CHECK = 0.1
"""Seconds between two looks at whether everything is idle."""


@dataclass(frozen=True, slots=True)
class RunSettings:
    """The options of `headrace run`; `exit_when_idle` in seconds, None runs for ever."""

    aws: AwsSettings
    state: Path | None = None
    exit_when_idle: float | None = None
    metrics_port: int | None = None
    metrics_host: str = "127.0.0.1"


@dataclass(slots=True)
class Running:
    """One mapping of a run."""

    mapping: EventSourceMapping
    health: Health
    metrics: MappingMetrics
    observer: Observer


@dataclass(slots=True)
class Run:
    """A run of several mappings; `stop` ends it gracefully, `watch` adds an observer per mapping."""

    mappings: Sequence[EventSourceMapping]
    settings: RunSettings
    watch: Observer | None = None
    stop: asyncio.Event = field(default_factory=asyncio.Event)
    registry: CollectorRegistry = field(default_factory=CollectorRegistry)
    running: list[Running] = field(default_factory=list)

    async def run(self) -> None:
        """Until `stop` is set, or all was idle for long enough; raises StoreError when the state cannot be opened."""
        metrics = Metrics(self.registry)
        self.running = [self._prepare(mapping, metrics) for mapping in self.mappings]
        async with AsyncExitStack() as opened:
            state = SqliteFile(self.settings.state)
            opened.push_async_callback(state.aclose)
            await state.open()
            ready = lambda: all(one.health.ready for one in self.running)  # noqa: E731
            await opened.enter_async_context(
                serve(self.settings.metrics_port, self.registry, ready, self.settings.metrics_host)
            )
            async with asyncio.TaskGroup() as tasks:
                idle = tasks.create_task(self._stop_when_idle())
                async with asyncio.TaskGroup() as mappings:
                    for one in self.running:
                        mappings.create_task(self._keep(one, state))
                    mappings.create_task(self.stop.wait())
                idle.cancel()
        for one in self.running:
            _summarize(one.mapping.key, one.metrics.counts)

    def _prepare(self, mapping: EventSourceMapping, metrics: Metrics) -> Running:
        health = Health()
        source = mapping.spec.event_source_arn or ""
        counting = metrics.observer(mapping.metadata.namespace, mapping.metadata.name, source, health)
        if mapping.spec.aws.credentials is not None:
            log.warning(
                "spec.aws.credentials names a Secret of a cluster; here AWS credentials come from the environment",
                mapping=mapping.key,
            )
        if mapping.spec.poller.checkpoint_table is not None:
            log.warning(
                "spec.poller.checkpointTable is for pollers; here --state keeps checkpoints", mapping=mapping.key
            )
        observers: list[Observer] = [health, counting, logs.observer(mapping.key)]
        if self.watch is not None:
            observers.append(self.watch)
        return Running(mapping, health, counting, all_of(*observers))

    async def _keep(self, one: Running, state: SqliteFile) -> None:
        """Runs one mapping; a fault of our own is told and the mapping tried again, without touching the others."""
        if not one.mapping.spec.enabled:
            log.info("the mapping is disabled", mapping=one.mapping.key)
            return
        identity = f"{one.mapping.resolved_uid} {one.mapping.spec.event_source_arn}"
        failures = 0
        while not self.stop.is_set():
            try:
                store = SqliteStore(state, identity)
                await run_mapping(one.mapping, store, self.settings.aws, one.observer, self.stop, Alone())
            except Exception as error:  # noqa: BLE001 - told, and tried again
                failures += 1
                pause = backoff(failures, 10.0)
                one.observer(Faulted("the mapping", error, pause))
                await first(pause, self.stop)

    async def _stop_when_idle(self) -> None:
        patience = self.settings.exit_when_idle
        if patience is None:
            return
        since: float | None = None
        while True:
            active = (one for one in self.running if one.mapping.spec.enabled)
            now = time.monotonic()
            if all(one.health.idle for one in active):
                since = now if since is None else since
                if now - since >= patience:
                    self.stop.set()
                    return
            else:
                since = None
            await asyncio.sleep(min(IDLE_CHECK, patience or IDLE_CHECK))


async def run_until_signalled(run: Run) -> None:
    """Runs until SIGTERM or SIGINT asks for a graceful end; a second one ends at once."""
    loop = asyncio.get_running_loop()
    task = asyncio.ensure_future(run.run())

    def on_signal() -> None:
        if run.stop.is_set():
            task.cancel()
        run.stop.set()

    with _signals(loop, on_signal):
        try:
            await task
        except asyncio.CancelledError:
            log.warning("stopped at once; what was in flight is repeated at the next start")


def _summarize(mapping: str, counts: Counts) -> None:
    log.info(
        "summary",
        mapping=mapping,
        polled=counts.polled,
        filteredOut=counts.filtered_out,
        invoked=counts.invoked,
        failedInvoke=counts.failed_invoke,
        delivered=counts.delivered,
        dropped=counts.dropped,
        deleted=counts.deleted,
    )


@contextmanager
def _signals(loop: asyncio.AbstractEventLoop, handler: Callable[[], None]) -> Iterator[None]:
    handled = (signal.SIGTERM, signal.SIGINT)
    for one in handled:
        loop.add_signal_handler(one, handler)
    try:
        yield
    finally:
        for one in handled:
            loop.remove_signal_handler(one)
