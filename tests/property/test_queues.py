"""Whatever function and queue answer, and whenever the poller ends: the promises that hold for every message."""

from __future__ import annotations

import random
from collections import defaultdict
from itertools import pairwise

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.support.fake_queue import (
    CalledWith,
    Life,
    QueueWorld,
    Sent,
    away,
    error,
    ok,
    partly,
    throttle,
    unreachable_queue,
)

TROUBLE = 400.0
"""Seconds for which things go wrong."""
END = 1_000.0


def play(seed: int, *, fifo: bool, count: int, size: int, groups: int, lives: list[tuple[float, bool]]) -> QueueWorld:
    """A world in which everything goes wrong at random for a while, and nothing after that."""
    chance = random.Random(seed)
    spread = chance.choice([0.0, 60.0])  # all at once, so that they wait for each other, or now and then
    messages = [
        Sent(f"{number}", chance.uniform(0, spread), f"g{chance.randrange(groups)}" if fifo else "")
        for number in range(count)
    ]
    messages.sort(key=lambda one: one.at)

    def answer(call: CalledWith) -> object:
        takes = chance.choice([0.0, 0.1, 1.0, 9.0])
        if world.clock.now > TROUBLE:
            return ok(call, takes)
        kind = chance.random()
        if kind < 0.15:
            return error(call, takes)
        if kind < 0.3:
            return throttle(call) if chance.random() < 0.7 else away(call)
        if kind < 0.45:  # from the first that fails on, as a function of a FIFO queue should
            return partly(call.ids[chance.randrange(len(call.ids)) :], takes)
        return ok(call, takes)

    most = chance.choice([2, 3, 7])
    spec = {"batchSize": size, "functionResponseTypes": ["ReportBatchItemFailures"],
            "retryBackoff": {"initialSeconds": 0.5, "maximumSeconds": 5}, "scalingConfig": {"maximumConcurrency": most}}  # fmt: skip
    world = QueueWorld(messages, answer, spec, fifo=fifo, visibility=chance.choice([5.0, 12.0, 30.0]))  # type: ignore[arg-type]
    world.queue.fault = lambda _: unreachable_queue() if world.clock.now < TROUBLE and chance.random() < 0.1 else None
    world.queue.refuse = lambda *_: world.clock.now < TROUBLE and chance.random() < 0.1
    world.play(*(Life(at, kill) for at, kill in sorted(lives)), Life(END))
    return world


lives = st.lists(st.tuples(st.floats(1, TROUBLE), st.booleans()), max_size=3)
BOUNDED = settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])


def succeeded(world: QueueWorld) -> dict[str, list[CalledWith]]:
    """The calls that acknowledged each message."""
    found: dict[str, list[CalledWith]] = defaultdict(list)
    for call in world.calls:
        left = set(call.mark[2:-1].split(",")) if call.mark.startswith("P") else set()
        if call.mark == "✓" or left:
            for one in call.ids:
                if one not in left:
                    found[one].append(call)
    return found


def check(world: QueueWorld) -> None:
    everything = {str(place) for place in range(1, len(world.sent) + 1)}
    assert {one for _, one in world.queue.deleted} == everything, "a message was left behind"
    done = succeeded(world)
    for at, one in world.queue.deleted:
        assert any(call.until <= at for call in done[one]), "deleted before the function had acknowledged it"
    assert world.most_in_flight <= world.spec["scalingConfig"]["maximumConcurrency"]


@given(seed=st.integers(0, 2**32), count=st.integers(1, 120), size=st.sampled_from([1, 3, 10]), lives=lives)
@BOUNDED
def test_every_message_is_acknowledged_and_then_deleted(
    seed: int, count: int, size: int, lives: list[tuple[float, bool]]
) -> None:
    check(play(seed, fifo=False, count=count, size=size, groups=1, lives=lives))


@given(
    seed=st.integers(0, 2**32), count=st.integers(1, 80), size=st.sampled_from([1, 3, 10]), groups=st.integers(1, 12),
    lives=lives,
)  # fmt: skip
@BOUNDED
def test_of_a_group_nothing_is_called_before_what_lies_before_it_is_done_with(
    seed: int, count: int, size: int, groups: int, lives: list[tuple[float, bool]]
) -> None:
    world = play(seed, fifo=True, count=count, size=size, groups=groups, lives=lives)
    check(world)
    gone = {one: at for at, one in world.queue.deleted}
    places: dict[str, list[str]] = defaultdict(list)
    for place, one in enumerate(world.sent, 1):
        places[one.group].append(str(place))
    for group in places.values():
        calls = [call for call in world.calls if set(call.ids) & set(group)]
        for call in calls:
            ours = [one for one in call.ids if one in group]
            assert ours == sorted(ours, key=int), "the order within a batch"
            before = [one for one in group if int(one) < int(ours[0])]
            assert all(gone[one] <= call.at for one in before), "called before what lies before it was deleted"
        for call, following in pairwise(calls):
            if call.mark != "†":
                assert call.until <= following.at, "two batches of a group in flight"
