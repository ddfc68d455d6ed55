"""Virtual time: a loop whose clock jumps to the next timer when nothing is ready, so that minutes take milliseconds."""

from __future__ import annotations

import asyncio
import random
import selectors
import sys
import time
from collections.abc import Coroutine, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import pytest

T = TypeVar("T")
EPOCH = 1_800_000_000.0
"""When every virtual world begins, in epoch seconds: the start of a minute, and of five."""
LEAST_STEP = 1e-6
"""What the clock moves by at least: epoch seconds are no finer than that, and rounding must not stop it."""


@dataclass
class Clock:
    """Seconds since the world began; also what the shells see as the module `time`."""

    now: float = 0.0

    def time(self) -> float:
        return EPOCH + self.now

    def monotonic(self) -> float:
        return self.now


class _Selector(selectors.DefaultSelector):
    """Instead of waiting for a timer, moves the clock to it."""

    def __init__(self, clock: Clock) -> None:
        super().__init__()
        self._clock = clock

    def select(self, timeout: float | None = None) -> Any:
        if timeout is None:
            raise AssertionError("nothing is ready and no timer is set: the world stands still for ever")
        if timeout > 0:
            self._clock.now += max(timeout, LEAST_STEP)
        return super().select(0)


class VirtualLoop(asyncio.SelectorEventLoop):
    """A loop that lives in virtual time."""

    def __init__(self, clock: Clock) -> None:
        self._virtual = clock
        super().__init__(_Selector(clock))

    def time(self) -> float:
        return self._virtual.now


class FullJitter:
    """Stands for the module `random`: every pause is as long as it can be, so that times are exact."""

    @staticmethod
    def random() -> float:
        return 1.0

    @staticmethod
    def uniform(_least: float, most: float) -> float:
        return most

    @staticmethod
    def sample(population: Sequence[T], most: int) -> list[T]:
        return list(population[:most])


def run_virtually(clock: Clock, main: Coroutine[Any, Any, T]) -> T:
    """Runs `main` in virtual time; the clocks and dice of every loaded module of the data plane are the world's."""
    with pytest.MonkeyPatch.context() as patch:
        for name, module in list(sys.modules.items()):
            if name.startswith("headrace.stream") and getattr(module, "time", None) is time:
                patch.setattr(module, "time", clock)
            if name.startswith("headrace.stream") and getattr(module, "random", None) is random:
                patch.setattr(module, "random", FullJitter)
        with asyncio.Runner(loop_factory=lambda: VirtualLoop(clock)) as runner:
            return runner.run(main)
