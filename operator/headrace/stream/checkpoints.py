"""Writing one shard's checkpoint: at once where that is cheap, coalesced where it is not.

Before this: `retry.py` decided how far the shard is. After this: `stores/`.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from headrace.ending import LAST_CHECKPOINT
from headrace.errors import StoreError
from headrace.stream.events import Checkpointed, Faulted
from headrace.stream.waiting import first, within

if TYPE_CHECKING:
    from collections.abc import Callable

    from headrace.records import Checkpoint
    from headrace.stream.events import Observer
    from headrace.stream.stores import CheckpointStore


class CheckpointWriter:
    """Keeps the newest checkpoint of a shard and sees that it reaches the store.

    `stored` says whether the store has the one it begins with.
    """

    def __init__(
        self,
        store: CheckpointStore,
        shard_id: str,
        checkpoint: Checkpoint,
        observer: Observer,
        pause: Callable[[int], float],
        stop: asyncio.Event,
        *,
        stored: bool = True,
    ) -> None:
        self._store = store
        self._shard_id = shard_id
        self._observer = observer
        self._pause = pause
        self._stop = stop
        self._newest = checkpoint
        self._version, self._written = int(not stored), 0
        self._writing = asyncio.Lock()
        self._changed = asyncio.Event()
        if not stored:
            self._changed.set()

    @property
    def newest(self) -> Checkpoint:
        """How far the shard is decided, whether or not that is written yet."""
        return self._newest

    @property
    def stored(self) -> bool:
        """Whether the store has it."""
        return self._written == self._version

    async def advance(self, checkpoint: Checkpoint, *, at_once: bool = False) -> None:
        """Takes a newer checkpoint; returns after it is stored where the store is quick or `at_once` asks for it."""
        self._take(checkpoint)
        if at_once or self._store.write_interval <= 0:
            await self.flush()
        elif not self.stored:
            self._changed.set()

    def _take(self, checkpoint: Checkpoint) -> None:
        if checkpoint != self._newest:
            self._newest = checkpoint
            self._version += 1

    async def flush(self) -> None:
        """Stores the checkpoint of now or a newer one; tries until the store took it; raises LeaseLost.

        From the stop on it tries once more, for LAST_CHECKPOINT seconds at most.
        """
        failures, wanted = 0, self._version
        while self._written < wanted and (pause := await self._attempt(failures)) is not None:
            if self._stop.is_set():
                return
            failures += 1
            await first(pause, self._stop)

    async def run(self) -> None:
        """Writes what changed, at most once in the store's interval; for ever."""
        while True:
            await self._changed.wait()
            self._changed.clear()
            await self.flush()
            await asyncio.sleep(self._store.write_interval)

    async def close(self, last: Checkpoint | None = None) -> None:
        """The last write, of the newest checkpoint or of `last`; tries until the store took it; raises LeaseLost.

        From the stop on it tries for LAST_CHECKPOINT seconds at most; what cannot be written comes again.
        """
        self._take(last or self._newest)
        failures = 0
        try:
            async with within(LAST_CHECKPOINT, self._stop):
                while not self.stored and (pause := await self._attempt(failures)) is not None:
                    failures += 1
                    await (asyncio.sleep(pause) if self._stop.is_set() else first(pause, self._stop))
        except TimeoutError as error:
            self._observer(Faulted(f"last checkpoint of {self._shard_id}", error, 0.0))

    async def _attempt(self, failures: int) -> float | None:
        """One try to write, after so many that failed in a row; None, or the seconds to wait before the next one."""
        try:
            async with within(LAST_CHECKPOINT, self._stop):
                await self._write()
        except (StoreError, TimeoutError) as error:
            pause = self._pause(failures + 1)
            self._observer(Faulted(f"checkpoint of {self._shard_id}", error, pause, self._shard_id))
            return pause
        return None

    async def _write(self) -> None:
        async with self._writing:
            newest, version = self._newest, self._version
            if self._written < version:
                await self._store.save(self._shard_id, newest)
                self._written = version
                self._observer(Checkpointed(self._shard_id, newest.sequence_number))
