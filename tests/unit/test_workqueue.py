"""The work queue: each mapping on its own, failures backed off, changes of a spec at once."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry

from headrace.control import workqueue
from headrace.control.workqueue import PARALLEL, SLOW, Looked, Scope, Workqueue
from headrace.errors import HeadraceError
from tests.support.virtual import Clock, run_virtually

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    import pytest

    from headrace.liveness import Key

A, B = ("shop", "a"), ("shop", "b")


class Looks:
    """A reconcile that remembers, and does to each mapping what the test says."""

    def __init__(self, seconds: float = 0.001) -> None:
        self.seconds = seconds
        self.seen: list[tuple[Key, Scope]] = []
        self.failing: set[Key] = set()
        self.hanging: set[Key] = set()
        self.gone: set[Key] = set()
        self.again: list[float] = []
        self.at_once = self.most_at_once = 0

    async def __call__(self, key: Key, scope: Scope) -> Looked:
        self.seen.append((key, scope))
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        try:
            await asyncio.sleep(3600 if key in self.hanging else self.seconds)
        finally:
            self.at_once -= 1
        if key in self.failing:
            raise HeadraceError("as told")
        return Looked(key not in self.gone, self.again.pop() if self.again else None)

    def of(self, key: Key) -> list[Scope]:
        return [scope for seen, scope in self.seen if seen == key]


@asynccontextmanager
async def working(looks: Looks) -> AsyncIterator[Workqueue]:
    queue = Workqueue(looks, CollectorRegistry())
    task = asyncio.create_task(queue.run())
    await asyncio.sleep(0)
    try:
        yield queue
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def settle() -> None:
    await asyncio.sleep(0.05)


async def test_marks_of_one_mapping_are_one_look() -> None:
    looks = Looks()
    async with working(looks) as queue:
        for _ in range(5):
            queue.mark(A, Scope.ALL)
        await settle()
    assert looks.of(A) == [Scope.ALL]


async def test_a_mark_during_a_look_brings_another() -> None:
    looks = Looks()
    async with working(looks) as queue:
        queue.mark(A, Scope.ALL)
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        queue.mark(A, Scope.ALL)
        await settle()
    assert looks.of(A) == [Scope.ALL, Scope.ALL]


def test_a_look_that_asks_for_a_later_one_gets_it_without_any_mark() -> None:
    async def play() -> None:
        looks = Looks()
        looks.again = [20.0]
        async with working(looks) as queue:
            queue.mark(A, Scope.ALL)
            await asyncio.sleep(19)
            assert looks.of(A) == [Scope.ALL]
            await asyncio.sleep(2)
            assert looks.of(A) == [Scope.ALL, Scope.STATUS]
            await asyncio.sleep(3600)
        assert len(looks.of(A)) == 2

    run_virtually(Clock(), play())


def test_a_mark_does_not_wait_for_the_later_look() -> None:
    async def play() -> None:
        looks = Looks()
        looks.again = [20.0]
        async with working(looks) as queue:
            queue.mark(A, Scope.ALL)
            await asyncio.sleep(5)
            queue.mark(A, Scope.ALL)
            await asyncio.sleep(1)
            assert looks.of(A) == [Scope.ALL, Scope.ALL]

    run_virtually(Clock(), play())


async def test_a_failing_and_a_hanging_mapping_do_not_delay_others() -> None:
    looks = Looks()
    looks.failing, looks.hanging = {A}, {("shop", "hangs")}
    async with working(looks) as queue:
        for key in (A, ("shop", "hangs"), B):
            queue.mark(key, Scope.ALL)
        await settle()
        assert looks.of(B) == [Scope.ALL]


def test_mappings_that_hang_or_fail_for_ever_delay_none_of_fifty_others() -> None:
    """As many hang as there are places, and as many fail; each look of the others takes a second."""

    async def play() -> None:
        looks = Looks(seconds=1.0)
        looks.hanging = {("shop", f"hangs-{number}") for number in range(PARALLEL)}
        looks.failing = {("shop", f"fails-{number}") for number in range(PARALLEL)}
        others = [("shop", f"works-{number}") for number in range(50)]
        loop = asyncio.get_running_loop()
        async with working(looks) as queue:
            for key in (*looks.hanging, *looks.failing, *others):
                queue.mark(key, Scope.ALL)
            await asyncio.sleep(SLOW + 2 + 60 / PARALLEL + 1)
            assert [key for key in others if looks.of(key) != [Scope.ALL]] == [], "the first look"
            for _ in range(10):
                await asyncio.sleep(120)
                for key in others:
                    queue.mark(key, Scope.ALL)
                began, seen = loop.time(), len(looks.seen)
                await asyncio.sleep(2 + 2 * 60 / PARALLEL)
                assert set(others) <= {key for key, _ in looks.seen[seen:]}, f"at {began}"
            assert all(len(looks.of(key)) > 10 for key in looks.hanging | looks.failing), "they are tried again"

    run_virtually(Clock(), play())


async def test_a_failure_is_tried_again_with_what_was_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workqueue, "FIRST_BACKOFF", 0.01)
    looks = Looks()
    looks.failing = {A}
    async with working(looks) as queue:
        queue.mark(A, Scope.ALL)
        await settle()
        tries = len(looks.of(A))
        assert 2 <= tries <= 5
        looks.failing.clear()
        await asyncio.sleep(0.2)
    assert set(looks.of(A)) == {Scope.ALL}


async def test_events_do_not_shorten_a_back_off_but_a_new_spec_does() -> None:
    looks = Looks()
    looks.failing = {A}
    async with working(looks) as queue:
        queue.mark(A, Scope.ALL)
        await settle()
        queue.mark(A, Scope.ALL)
        await settle()
        assert len(looks.of(A)) == 1
        queue.mark(A, Scope.ALL, urgent=True)
        await settle()
        assert len(looks.of(A)) == 2


async def test_reports_are_folded_not_followed_one_by_one() -> None:
    looks = Looks()
    async with working(looks) as queue:
        queue.mark(A, Scope.ALL)
        await settle()
        for _ in range(10):
            queue.mark(A, Scope.STATUS)
            await asyncio.sleep(0.005)
        assert looks.of(A) == [Scope.ALL]
        queue.mark(A, Scope.ALL)
        await settle()
    assert looks.of(A) == [Scope.ALL, Scope.ALL], "a look at all takes the reports along"


async def test_no_more_mappings_than_allowed_are_looked_at_at_once() -> None:
    looks = Looks()
    async with working(looks) as queue:
        for number in range(5 * PARALLEL):
            queue.mark(("shop", str(number)), Scope.ALL)
        await asyncio.sleep(0.2)
    assert len(looks.seen) == 5 * PARALLEL
    assert looks.most_at_once == PARALLEL


async def test_a_mapping_that_is_gone_is_forgotten_and_may_come_again() -> None:
    looks = Looks()
    looks.gone = {A}
    async with working(looks) as queue:
        queue.mark(A, Scope.ALL)
        await settle()
        queue.mark(A, Scope.STATUS)
        await settle()
    assert looks.of(A) == [Scope.ALL, Scope.STATUS], "nothing is left that would delay it"


async def test_what_is_marked_before_the_start_is_looked_at_then() -> None:
    looks = Looks()
    queue = Workqueue(looks, CollectorRegistry())
    queue.mark(A, Scope.ALL)
    task = asyncio.create_task(queue.run())
    await settle()
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert looks.of(A) == [Scope.ALL]
