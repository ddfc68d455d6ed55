"""Every order in which a queue's pollers tell, read, call, leave, lapse and crash (design decision 43)."""

from __future__ import annotations

import random
from collections.abc import Iterator

import pytest

from tests.support.share_world import State, World, calm, has_its_share
from tests.support.walking import walk

ROUNDS = 3
"""Beats of each poller after which every share is where it belongs."""
ALL = frozenset({0, 1, 2})
LARGER = (pytest.mark.larger, pytest.mark.timeout(0))
WORLDS = [
    pytest.param(World(2, 1, trouble=1), id="two, one call, each step of a request"),
    pytest.param(World(2, 2, trouble=1, whole=True), id="two, two calls"),
    pytest.param(World(3, 2, trouble=0, whole=True, quick=ALL), id="three that leave none out"),
    pytest.param(World(2, 2, trouble=1), id="two, two calls, each step of a request", marks=LARGER),
    pytest.param(World(2, 1, trouble=2), id="two, one call, trouble twice", marks=LARGER),
    pytest.param(World(3, 2, trouble=0, whole=True, quick=ALL - {2}), id="three, one reads slowly", marks=LARGER),
    pytest.param(World(3, 1, trouble=1, whole=True, quick=ALL), id="three, one in trouble", marks=LARGER),
]


@pytest.mark.parametrize("world", WORLDS)
def test_calls_never_exceed_the_total_and_from_anywhere_each_poller_soon_has_its_share(world: World) -> None:
    calmed: set[State] = set()

    def steps(state: State) -> Iterator[tuple[str, State]]:
        settle(world, state, calmed)
        return world.steps(state)

    walked = walk([world.start], steps)
    assert walked.whole
    assert walked.states > 100
    print(f"{walked.states} states, {walked.steps} steps")


def settle(world: World, state: State, calmed: set[State]) -> None:
    """No share is lost for ever: some quiet beats, and each poller may use exactly what falls to it."""
    after = calm(state, 0)
    if after in calmed:
        return
    calmed.add(after)
    after = calm(after, ROUNDS)
    world.check(after)
    for i, poller in enumerate(after.pollers):
        assert poller.over or has_its_share(after, i, world.total), f"{i} has {poller.share}"


@pytest.mark.parametrize("seed", range(20))
def test_nor_on_long_random_ways_of_three_pollers_with_more_calls(seed: int) -> None:
    draw = random.Random(seed)
    world = World(3, draw.choice([2, 3, 5, 10]), trouble=4)
    state = world.start
    for _ in range(600):
        ways = list(world.steps(state))
        if not ways:
            break
        state = draw.choices(ways, [0.05 if rare(name) else 1.0 for name, _ in ways])[0][1]
        settle(world, state, set())


def rare(name: str) -> bool:
    return any(word in name for word in ("crashes", "doubt", "lost", "leave"))
