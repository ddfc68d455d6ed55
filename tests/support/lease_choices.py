"""What `leases.py` says over values that a walk can compare: whole ticks counted back from now, and small numbers.

A poller is a number, its lives are numbered, a shard is a number. What poller and shards are called decides nothing but
ties, so that a choice is everything that the rules choose under any of their names.
"""

from __future__ import annotations

import itertools
import math
from functools import cache
from typing import NamedTuple

from headrace.heartbeat import TERM
from headrace.records import Holder
from headrace.stream import leases
from headrace.stream.leases import LINGER, Beat, Claim, Moves, Sighting, View

Life = tuple[int, int]
"""A poller and which of its lives."""
NOBODY: Life = (-1, 0)


class Seen(NamedTuple):
    """What a poller knows of a life: the ticks since it first saw the renewal that it saw last, and whether that is the newest."""

    life: Life
    age: int
    newest: bool


Known = tuple[Seen, ...]
"""A View in its normal form; a life of which reads have failed since is as one that was never seen."""


class Told(NamedTuple):
    """A heartbeat as it is read."""

    life: Life
    draining: bool


class Offer(NamedTuple):
    """A shard as a poller that decides sees it: its lease, whether it runs or gives it, and who asks for it."""

    holder: Life
    runs: bool
    gives: bool
    asked: tuple[bool, ...]


class Choice(NamedTuple):
    """Moves, over numbers."""

    take: tuple[int, ...]
    give: tuple[int, ...]
    ask: int | None


class Choices:
    """The rules with a term of so many ticks; `margin` in ticks. Every answer is kept, as they are pure."""

    def __init__(self, term: int, margin: float) -> None:
        self.term, self.tick, self._margin = term, TERM / term, margin * TERM / term
        self.in_doubt = cache(self._in_doubt)
        self.doubt = next(age for age in itertools.count() if self.in_doubt(age))
        self.oldest = math.ceil((TERM + LINGER) / self.tick)
        self.seen = cache(self._seen)
        self.missed = cache(self._missed)
        self.expired = cache(self._expired)
        self.choices = cache(self._choices)

    def _in_doubt(self, age: int) -> bool:
        return leases.in_doubt(-age * self.tick, 0.0, margin=self._margin)

    def _seen(self, known: Known, looked: int, beats: tuple[Told, ...], named: tuple[Life, ...]) -> Known:
        """After a read of the heartbeats, the last one having been `looked` ticks ago, and one of the leases."""
        read = [Beat(_holder(one.life), "newest") for one in beats]
        view = leases.observe(self._view(known, looked), read, 0.0, 0.0)
        return self._known(leases.noticed(view, [_holder(life) for life in named], 0.0))

    def _missed(self, known: Known, looked: int) -> Known:
        return self._known(leases.missed(self._view(known, looked)))

    def _expired(self, known: Known, looked: int, life: Life) -> bool:
        return self._view(known, looked).expired(_holder(life))

    def older(self, known: Known, looked: int) -> Known:
        """A tick later; ages that no rule tells from greater ones do not grow any more."""
        return tuple(one._replace(age=min(self.oldest + looked, one.age) + 1) for one in known)

    def _choices(
        self,
        me: Life,
        known: Known,
        beats: tuple[Told, ...],
        offers: tuple[Offer, ...],
        kinds: tuple[int, ...],
        draining: bool,
    ) -> tuple[Choice, ...]:
        """Right after a read. Of shards of one kind, equal in all else too, one may stand for the other."""
        found = {
            self._chosen(me, known, beats, offers, order, names, draining)
            for order in _orders(kinds)
            for names in _names(me[0], len(offers[0].asked))
        }
        return tuple(sorted(found, key=repr))

    def _chosen(
        self,
        me: Life,
        known: Known,
        beats: tuple[Told, ...],
        offers: tuple[Offer, ...],
        order: tuple[int, ...],
        names: tuple[int, ...],
        draining: bool,
    ) -> Choice:
        """What is decided if the n-th shard by name is `order[n]`, and the n-th poller is called `names[n]`."""
        shards = [(str(name), offers[at]) for name, at in enumerate(order)]
        asks = [next((name for name, one in shards if one.asked[i]), None) for i in range(len(names))]
        read = tuple(
            Beat(_called(one.life, names), "newest", draining=one.draining, asks=asks[one.life[0]]) for one in beats
        )
        sightings = {_called(one.life, names): self._sighting(one) for one in known}
        moves = leases.decide(
            _called(me, names),
            View(read, 0.0, sightings),
            [Claim(name, None if one.holder == NOBODY else _called(one.holder, names)) for name, one in shards],
            [name for name, one in shards if one.runs],
            [name for name, one in shards if one.gives],
            asks[me[0]],
            draining=draining,
        )
        return _choice(moves, order)

    def _view(self, known: Known, looked: int) -> View:
        return View((), -looked * self.tick, {_holder(one.life): self._sighting(one) for one in known})

    def _sighting(self, one: Seen) -> Sighting:
        return Sighting("newest" if one.newest else "older", -one.age * self.tick)

    def _known(self, view: View) -> Known:
        return tuple(
            sorted(
                Seen(
                    (int(one.identity), int(one.incarnation)), round(-seen.since / self.tick), seen.renewal == "newest"
                )
                for one, seen in view.sightings.items()
                if seen.since is not None
            )
        )


def _choice(moves: Moves, order: tuple[int, ...]) -> Choice:
    numbers = {str(name): at for name, at in enumerate(order)}
    take, give = (tuple(sorted(numbers[name] for name in those)) for those in (moves.take, moves.give))
    return Choice(take, give, None if moves.ask is None else numbers[moves.ask])


@cache
def _orders(kinds: tuple[int, ...]) -> tuple[tuple[int, ...], ...]:
    """The orders of shards that differ in their kinds."""
    orders = {tuple(kinds[at] for at in order): order for order in itertools.permutations(range(len(kinds)))}
    return tuple(orders.values())


@cache
def _names(me: int, pollers: int) -> tuple[tuple[int, ...], ...]:
    """By poller its name, however the others are called; how `me` orders the shards is in their names already."""
    others = [i for i in range(pollers) if i != me]
    return tuple((*those[:me], me, *those[me:]) for those in itertools.permutations(others))


def _called(life: Life, names: tuple[int, ...]) -> Holder:
    return _holder((names[life[0]], life[1]))


@cache
def _holder(life: Life) -> Holder:
    return Holder(str(life[0]), str(life[1]))
