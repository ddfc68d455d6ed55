"""Pollers that all live, balancing: reads, requests, takes and releases in every order, each on what was read before.

Time stands still, as nobody expires. What a poller decided may be done after any number of steps of the others.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from functools import cache
from typing import NamedTuple

from headrace.records import Holder
from headrace.stream.leases import Beat, Claim, Moves, decide, observe
from headrace.stream.leases import View as LeaseView
from tests.support.lease_world import put


class Balancing(NamedTuple):
    """By shard its holder and whether that is giving it; by poller what it asks for, has published, is about to take."""

    holders: tuple[int | None, ...]
    giving: tuple[bool, ...]
    asks: tuple[int | None, ...]
    beats: tuple[int | None, ...]
    takes: tuple[tuple[int, ...], ...]
    draining: int | None = None


Steps = Callable[[Balancing], Iterable[tuple[str, Balancing]]]


def quiet(holders: tuple[int | None, ...], pollers: int, draining: int | None = None) -> Balancing:
    nothing = (None,) * pollers
    return Balancing(holders, (False,) * len(holders), nothing, nothing, ((),) * pollers, draining)


def whole_steps(state: Balancing) -> Iterator[tuple[str, Balancing]]:
    """The same, coarser: what a poller decides is taken and published at once; releases are steps of their own."""
    for i in range(len(state.asks)):
        for name, decided in _round(state, i):
            after = decided._replace(beats=decided.asks)
            for shard in decided.takes[i]:
                after = _written(after, shard, i)
            yield name, after
    yield from _releases(state)


def steps(state: Balancing) -> Iterator[tuple[str, Balancing]]:
    """The steps that change anything."""
    for i in range(len(state.asks)):
        yield from _round(state, i)
        if state.asks[i] != state.beats[i]:
            yield f"{i} renews", state._replace(beats=put(state.beats, i, state.asks[i]))
        for shard in state.takes[i]:
            yield f"{i} takes {shard}", _written(state, shard, i)
    yield from _releases(state)


def _releases(state: Balancing) -> Iterator[tuple[str, Balancing]]:
    for shard, giving in enumerate(state.giving):
        if giving:
            yield f"{shard} is released", _written(state, shard, None)


def _round(state: Balancing, i: int) -> Iterator[tuple[str, Balancing]]:
    moves = moves_of(state, i)
    ask = None if moves.ask is None else int(moves.ask)
    giving = tuple(one or str(shard) in moves.give for shard, one in enumerate(state.giving))
    taken = tuple(sorted(map(int, moves.take)))
    after = state._replace(asks=put(state.asks, i, ask), giving=giving, takes=put(state.takes, i, taken))
    if after != state and not state.takes[i]:
        yield f"{i} decides", after


def moves_of(state: Balancing, i: int) -> Moves:
    return _decided(i, state.holders, state.giving, state.asks[i], state.beats, state.draining)


@cache
def _decided(
    i: int,
    holders: tuple[int | None, ...],
    giving: tuple[bool, ...],
    ask: int | None,
    beats: tuple[int | None, ...],
    draining: int | None,
) -> Moves:
    read = [Beat(_life(j), "r", draining=j == draining, asks=_name(one)) for j, one in enumerate(beats) if j != i]
    view = observe(LeaseView(), read, 0.0, 0.0)
    claims = [Claim(str(shard), None if one is None else _life(one)) for shard, one in enumerate(holders)]
    running = [str(shard) for shard, one in enumerate(holders) if one == i]
    leaving = [shard for shard in running if giving[int(shard)]]
    return decide(_life(i), view, claims, running, leaving, _name(ask), draining=i == draining)


def _written(state: Balancing, shard: int, holder: int | None) -> Balancing:
    """A lease is written; takes of others that were decided before are refused."""
    takes = tuple(tuple(one for one in those if one != shard) for those in state.takes)
    giving = put(state.giving, shard, False)
    return state._replace(holders=put(state.holders, shard, holder), giving=giving, takes=takes)


def _life(i: int) -> Holder:
    return Holder(str(i), "1")


def _name(shard: int | None) -> str | None:
    return None if shard is None else str(shard)
