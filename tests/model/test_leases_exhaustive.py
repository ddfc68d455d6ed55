"""Pollers, shards, a store and clocks, driven by the real lease rules (design: "Leases and checkpoints").

A request is sent, done and answered in steps of its own; coarser, and further: `test_leases_every_state.py`. What these walks notice, each tried once by hand, is listed in docs/proof.md.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterator

import pytest

from tests.support import lease_rounds
from tests.support.lease_forms import plain
from tests.support.lease_rounds import Balancing, moves_of, quiet
from tests.support.lease_rules import Rules
from tests.support.lease_world import State, World
from tests.support.walking import walk

BOTH = frozenset({0, 1})
HELD = ("0 renews", "0 decides", "1 renews", "1 reads")
"""The first poller holds everything, and the second has seen it."""


def begun(world: World, *names: str) -> State:
    state = world.start
    for name in names:
        state = next(after for step, after in world.steps(state) if step == name)
    return state


def whole(shards: int) -> World:
    return World(
        Rules(2, 1),
        2,
        shards,
        slow=frozenset({0}),
        crashes=BOTH,
        whole_renewals=BOTH,
        whole_reads=BOTH,
        whole_takes=BOTH,
    )


def fine(term: int) -> World:
    """The holder's renewals and the other's reads and takes in their smallest steps."""
    none: frozenset[int] = frozenset()
    first, second = frozenset({0}), frozenset({1})
    return World(
        Rules(term, 1),
        2,
        1,
        slow=first,
        whole_renewals=none,
        whole_reads=first,
        whole_takes=first,
        blind=first,
        tireless=second,
    )


SENT = ("0 sends a renewal", "the renewal of 0 is done")
SEEN = ("1 begins to read", "the read of 1 is done", "1 has read")
HOLDS = (*SENT, "0 has renewed", "0 decides")
WALKS = {
    "two shards": (whole(2), HELD, 7),
    "a late answer to a renewal": (fine(3), (*HOLDS, *SENT, *SEEN, "tick"), 8),
    "a late answer to a read": (fine(3), (*HOLDS, *SEEN, *SEEN[:2]), 9),
    "a read done late": (fine(3), (*HOLDS, SEEN[0], "tick", *SENT, "0 has renewed", *SEEN[1:]), 8),
}


@pytest.mark.parametrize(("world", "names", "deepest"), WALKS.values(), ids=WALKS)
def test_nobody_calls_or_checkpoints_a_shard_that_another_holds_or_may_take(
    world: World, names: tuple[str, ...], deepest: int
) -> None:
    assert walk([begun(world, *names)], lambda state: plain_steps(world, state), deepest).states > 100


def plain_steps(world: World, state: State) -> Iterator[tuple[str, State]]:
    return ((name, plain(after)) for name, after in world.steps(state))


LARGER = (pytest.mark.larger, pytest.mark.timeout(0))


@pytest.mark.parametrize(
    "world",
    [
        pytest.param(fine(2), id="a holder and a taker", marks=pytest.mark.timeout(300)),
        pytest.param(fine(3), id="a holder and a taker, a term of three ticks", marks=LARGER),
        pytest.param(whole(1), id="two that crash, whole requests", marks=LARGER),
    ],
)
def test_nor_on_any_way_at_all(world: World) -> None:
    def steps(state: State) -> Iterator[tuple[str, State]]:
        return iter(()) if world.tireless and is_over(world, state) else plain_steps(world, state)

    walked = walk([world.start], steps)
    assert walked.whole
    assert walked.states > 100
    print(f"{walked.states} states, {walked.steps} steps")


def is_over(world: World, state: State) -> bool:
    """Whether the taker has the shard and the holder, which takes none, can start nothing with it any more.

    It is in doubt, so that it comes back in another life only, or in another life than won the shard already.
    """
    one = state.pollers[0]
    held = one.held[0]
    ended = held is None or held.life != one.life or world.rules.in_doubt(one.renewed)
    return state.holders == ((1, 0),) and ended


@pytest.mark.parametrize("seed", range(12))
def test_nor_on_long_random_ways_of_three_pollers_and_four_shards_with_the_real_term_and_margin(seed: int) -> None:
    world = World(Rules(6, 1), 3, 4, slow=BOTH, crashes=frozenset({0, 1, 2}))
    draw = random.Random(seed)
    state = world.start
    for _ in range(400):
        ways = list(world.steps(state))
        rare = [0.02 if "crashes" in name else 0.1 if " up" in name or "never" in name else 1.0 for name, _ in ways]
        state = plain(draw.choices(ways, rare)[0][1])


SIZES = [
    (2, 4, None, lease_rounds.steps, 14),
    (2, 5, None, lease_rounds.steps, 14),
    (3, 3, None, lease_rounds.steps, 19),
    (3, 4, None, lease_rounds.whole_steps, 15),
    (3, 5, None, lease_rounds.whole_steps, 20),
    (3, 3, 0, lease_rounds.steps, 32),
    (3, 4, 0, lease_rounds.steps, 36),
]


@pytest.mark.parametrize(("pollers", "shards", "draining", "steps", "longest"), SIZES)
def test_from_every_distribution_balance_is_reached_in_bounded_steps_and_nothing_moves_any_more(
    pollers: int, shards: int, draining: int | None, steps: lease_rounds.Steps, longest: int
) -> None:
    """No step can lead back, so nothing flaps; a poller that drains ends with nothing, and the others have it all."""
    graph = reached([quiet(held, pollers, draining) for held in holdings(pollers, shards)], steps)
    lengths = longest_ways(graph)
    assert max(lengths.values()) <= longest
    for state in (state for state, after in graph.items() if not after):
        loads = [state.holders.count(i) for i in range(pollers) if i != draining]
        assert sum(loads) == shards
        assert max(loads) - min(loads) <= 1
        assert draining is not None or all(moves_of(state, i).settled for i in range(pollers))


def holdings(pollers: int, shards: int) -> Iterator[tuple[int | None, ...]]:
    return itertools.product([None, *range(pollers)], repeat=shards)


def reached(starts: list[Balancing], steps: lease_rounds.Steps) -> dict[Balancing, list[Balancing]]:
    graph: dict[Balancing, list[Balancing]] = {}
    todo = starts
    while todo:
        state = todo.pop()
        if state not in graph:
            graph[state] = [after for _, after in steps(state)]
            todo.extend(graph[state])
    return graph


def longest_ways(graph: dict[Balancing, list[Balancing]]) -> dict[Balancing, int]:
    """The longest way to each state; a state on a circle would never be free of ways that lead to it."""
    into = dict.fromkeys(graph, 0)
    for after in itertools.chain.from_iterable(graph.values()):
        into[after] += 1
    free = [state for state, count in into.items() if count == 0]
    longest = dict.fromkeys(free, 0)
    for state in free:
        for after in graph[state]:
            longest[after] = max(longest.get(after, 0), longest[state] + 1)
            into[after] -= 1
            if into[after] == 0:
                free.append(after)
    assert not any(into.values()), "a circle: something flaps"
    return longest
