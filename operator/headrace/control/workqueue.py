"""Which mapping is looked at when: one worker per dirty key, so that a failing mapping never delays another.

Before this: `handlers.py` marks keys. After this: `reconcile.py`, once per turn of a key.
"""

from __future__ import annotations

import asyncio
from contextlib import ExitStack, asynccontextmanager
from dataclasses import dataclass, field
from enum import IntEnum
from typing import TYPE_CHECKING, Protocol

import structlog
from prometheus_client import Counter, Gauge, Histogram

from headrace.errors import HeadraceError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from prometheus_client import CollectorRegistry

    from headrace.liveness import Key

log = structlog.get_logger()

PARALLEL = 8
"""Mappings looked at at the same time, beside the slow ones."""
SLOW = 5.0
"""Seconds after which a look that still goes on leaves its place to others: those that hang do not add up."""
FIRST_BACKOFF, LONGEST_BACKOFF = 0.5, 60.0
FOLD_INTERVAL = 2.0
"""Least seconds between two looks at what pollers report of one mapping."""
STUCK = 60.0
"""Seconds after which a turn is given up and tried again."""


class Scope(IntEnum):
    """How much of a mapping to look at."""

    STATUS = 1
    """What pollers report."""
    ALL = 2
    """Its children as well."""


@dataclass(frozen=True, slots=True)
class Looked:
    """What a look has found: whether the mapping is still there, and when to look again if nothing happens."""

    there: bool = True
    again: float | None = None
    """In seconds; None: only when something happens."""


class Reconcile(Protocol):
    """One look at a mapping."""

    async def __call__(self, key: Key, scope: Scope) -> Looked:
        """Raises what is to be tried again."""
        ...


@dataclass(slots=True)
class _Entry:
    scope: Scope | None = None
    due: float = 0.0
    not_before: float = 0.0
    looked_at: float = float("-inf")
    failures: int = 0
    wake: asyncio.Event = field(default_factory=asyncio.Event)
    worker: asyncio.Task[None] | None = None


class Workqueue:
    """Dirty keys and their workers; `run` keeps them until it is cancelled."""

    def __init__(self, reconcile: Reconcile, registry: CollectorRegistry) -> None:
        self._reconcile = reconcile
        self._entries: dict[Key, _Entry] = {}
        self._slots = asyncio.Semaphore(PARALLEL)
        self._tasks: asyncio.TaskGroup | None = None
        self._done = Counter(
            "headrace_operator_reconciles", "Looks at a mapping, by result", ["result"], registry=registry
        )
        self._seconds = Histogram("headrace_operator_reconcile_seconds", "Seconds a look takes", registry=registry)
        depth = Gauge("headrace_operator_queue_depth", "Mappings that wait for a look", registry=registry)
        depth.set_function(lambda: sum(entry.scope is not None for entry in self._entries.values()))

    async def run(self) -> None:
        """Owns the workers; whatever was marked before is begun now."""
        async with asyncio.TaskGroup() as tasks:
            self._tasks = tasks
            try:
                for key, entry in self._entries.items():
                    self._ensure_worker(key, entry)
                await asyncio.Event().wait()
            finally:
                self._tasks = None  # what is marked from now on is seen at the next start

    def mark(self, key: Key, scope: Scope, *, urgent: bool = False) -> None:
        """A mapping is to be looked at, soon; `urgent` (its spec changed) does not wait out an earlier failure."""
        now = asyncio.get_running_loop().time()
        entry = self._entries.setdefault(key, _Entry())
        if urgent:
            entry.failures, entry.not_before = 0, now
        due = now if scope is Scope.ALL else max(now, entry.looked_at + FOLD_INTERVAL)
        self._plan(entry, scope, due)
        self._ensure_worker(key, entry)

    @staticmethod
    def _plan(entry: _Entry, scope: Scope, due: float) -> None:
        entry.due = due if entry.scope is None else min(entry.due, due)
        entry.scope = scope if entry.scope is None else max(entry.scope, scope)
        entry.wake.set()

    def _ensure_worker(self, key: Key, entry: _Entry) -> None:
        if self._tasks is not None and entry.worker is None:
            entry.worker = self._tasks.create_task(self._work(key, entry), name=f"reconcile {'/'.join(key)}")

    async def _work(self, key: Key, entry: _Entry) -> None:
        there = True
        try:
            while entry.scope is not None:
                await self._wait(entry)
                async with self._place():
                    there = await self._turn(key, entry)
        finally:
            entry.worker = None
            if not there:
                del self._entries[key]

    @asynccontextmanager
    async def _place(self) -> AsyncIterator[None]:
        """One of the places; it is given back at the end, or when the look has become a slow one."""
        await self._slots.acquire()
        place = ExitStack()
        place.callback(self._slots.release)
        timer = asyncio.get_running_loop().call_later(SLOW, place.close)
        try:
            yield
        finally:
            timer.cancel()
            place.close()

    @staticmethod
    async def _wait(entry: _Entry) -> None:
        loop = asyncio.get_running_loop()
        while (pause := max(entry.due, entry.not_before) - loop.time()) > 0:
            entry.wake.clear()
            try:
                async with asyncio.timeout(pause):
                    await entry.wake.wait()
            except TimeoutError:
                return

    async def _turn(self, key: Key, entry: _Entry) -> bool:
        """One look; a failure is told and planned again, whatever it was."""
        scope = entry.scope or Scope.ALL
        entry.scope = None
        loop = asyncio.get_running_loop()
        entry.looked_at = loop.time()
        try:
            with self._seconds.time():
                async with asyncio.timeout(STUCK):
                    looked = await self._reconcile(key, scope)
        except Exception as error:  # noqa: BLE001 - one mapping's trouble is not the others'
            entry.failures += 1
            pause = min(LONGEST_BACKOFF, FIRST_BACKOFF * 2 ** min(entry.failures - 1, 16))
            self._tell(key, error, pause)
            entry.not_before = loop.time() + pause
            self._plan(entry, scope, entry.not_before)
            return True
        entry.failures, entry.not_before = 0, 0.0
        self._done.labels("ok").inc()
        if looked.again is not None:
            self._plan(entry, Scope.STATUS, loop.time() + looked.again)
        return looked.there

    def _tell(self, key: Key, error: Exception, pause: float) -> None:
        self._done.labels("failed").inc()
        expected = isinstance(error, HeadraceError | TimeoutError)
        log.warning(
            "trouble with a mapping; trying again",
            mapping="/".join(key), seconds=pause, error=str(error) or type(error).__name__,
            exc_info=None if expected else error,
        )  # fmt: skip
