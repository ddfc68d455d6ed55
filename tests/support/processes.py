"""Several processes in one virtual time: each with a clock of its own, each can be halted as SIGSTOP does, or killed.

Whatever runs in the context of a process is that process: nothing of one that is halted runs until it goes on, be it a
task, a timer or an answer. One that is killed is halted for ever.
"""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from typing import Any

from tests.support.virtual import EPOCH, Clock, VirtualLoop


@dataclass(eq=False)
class Process:
    """A process; its monotonic clock runs at `rate`, its wall clock is wrong by `skew` seconds."""

    name: str
    rate: float = 1.0
    skew: float = 0.0
    halted: bool = False
    killed: bool = False
    held: list[asyncio.Handle] = field(default_factory=list)


PROCESS: contextvars.ContextVar[Process | None] = contextvars.ContextVar("process", default=None)
WORLD = contextvars.Context()
"""What belongs to no process."""


@dataclass
class Clocks:
    """Stands for the module `time`: every process sees its own clocks."""

    world: Clock

    def time(self) -> float:
        process = PROCESS.get()
        return EPOCH + self.world.now + (process.skew if process is not None else 0.0)

    def monotonic(self) -> float:
        process = PROCESS.get()
        return self.world.now * (process.rate if process is not None else 1.0)


class ProcessLoop(VirtualLoop):
    """A loop in virtual time that runs nothing of a halted process."""

    def call_soon(  # type: ignore[override]
        self, callback: Callable[..., Any], *args: Any, context: contextvars.Context | None = None
    ) -> asyncio.Handle:
        if context is None:
            context = contextvars.copy_context()
        process = context.get(PROCESS)
        if process is None or not process.halted:
            return super().call_soon(callback, *args, context=context)
        handle = asyncio.Handle(callback, args, self, context)
        process.held.append(handle)
        return handle

    def call_at(  # type: ignore[override]
        self, when: float, callback: Callable[..., Any], *args: Any, context: contextvars.Context | None = None
    ) -> asyncio.TimerHandle:
        if context is None:
            context = contextvars.copy_context()
        if context.get(PROCESS) is None:
            return super().call_at(when, callback, *args, context=context)

        def run() -> None:
            if not timer.cancelled():
                callback(*args)

        timer = super().call_at(when, lambda: self.call_soon(run, context=context), context=WORLD)
        return timer

    def start(self, process: Process, main: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        context = contextvars.copy_context()
        context.run(PROCESS.set, process)
        return self.create_task(main, context=context)

    def resume(self, process: Process) -> None:
        """A halted process goes on where it was."""
        process.halted = False
        held, process.held = process.held, []
        self._ready.extend(held)  # type: ignore[attr-defined]
