"""The rules of `leases.py` over values that a walk can compare: whole ticks, counted back from now, and small numbers.

A poller is a number, its lives are numbered, a shard is a number. Ages beyond the term do not differ any more: what lies
around for longer than that is walked in `lease_ticks.py`.
"""

from __future__ import annotations

from functools import cache
from typing import NamedTuple

from headrace.heartbeat import TERM
from headrace.records import Holder
from headrace.stream import leases
from headrace.stream.leases import Beat, Claim, Moves, Sighting, View

Life = tuple[int, int]
"""A poller and which of its lives."""


class Beaten(NamedTuple):
    """A heartbeat in the store, or as it was read; `renewal` is 0 for the newest, -1, -2 for older ones."""

    life: Life
    renewal: int = 0
    draining: bool = False
    ask: int | None = None


class Sighted(NamedTuple):
    """What a poller knows of a life; `age` in ticks of its own clock, None after a failed read."""

    life: Life
    renewal: int
    age: int | None
    expired: bool


class Known(NamedTuple):
    """A View in its normal form."""

    beats: tuple[Beaten, ...] = ()
    sighted: tuple[Sighted, ...] = ()


class Rules:
    """The rules with a term and a margin in ticks; every answer is kept, as they are pure."""

    def __init__(self, term: int, margin: int) -> None:
        self.term, self.margin, self.doubt = term, margin, term - margin
        self.tick = TERM / term
        self.observed = cache(self._observed)
        self.missed = cache(self._missed)
        self.noticed = cache(self._noticed)
        self.decided = cache(self._decided)
        self.aged = cache(self._aged)
        self.in_doubt = cache(self._in_doubt)

    def _in_doubt(self, age: int) -> bool:
        return leases.in_doubt(-age * self.tick, 0.0, margin=self.margin * self.tick)

    def _observed(self, known: Known, beats: tuple[Beaten, ...], began: int) -> Known:
        """`began` ticks ago the read was begun; it ends now."""
        return self._known(
            leases.observe(self.view(known), [_beat(one) for one in beats], -began * self.tick, 0.0), beats
        )

    def _missed(self, known: Known) -> Known:
        return self._known(leases.missed(self.view(known)), known.beats)

    def _noticed(self, known: Known, lives: tuple[Life, ...]) -> Known:
        return self._known(leases.noticed(self.view(known), [holder(one) for one in lives], 0.0), known.beats)

    def _decided(
        self,
        me: Life,
        known: Known,
        holders: tuple[Life | None, ...],
        running: tuple[int, ...],
        giving: tuple[int, ...],
        asked: int | None,
        draining: bool,
    ) -> Moves:
        claims = [Claim(str(shard), None if one is None else holder(one)) for shard, one in enumerate(holders)]
        ask = None if asked is None else str(asked)
        view = self.view(known)
        names = [str(one) for one in running]
        return leases.decide(holder(me), view, claims, names, [str(one) for one in giving], ask, draining=draining)

    def _aged(self, known: Known) -> Known:
        """A tick later."""
        return Known(known.beats, tuple(self._older(one) for one in known.sighted))

    def _older(self, one: Sighted) -> Sighted:
        return one if one.age is None else one._replace(age=min(self.term, one.age + 1))

    def view(self, known: Known) -> View:
        """With the last read a tick ago: that is before whatever is seen, and a term after what is expired."""
        sightings = {holder(one.life): Sighting(str(one.renewal), self._since(one)) for one in known.sighted}
        return View(tuple(_beat(one) for one in known.beats), -self.tick, sightings)

    def _since(self, one: Sighted) -> float | None:
        if one.age is None:
            return None
        return -self.tick * (self.term + 1 if one.expired else min(one.age, self.term))

    def _known(self, view: View, beats: tuple[Beaten, ...]) -> Known:
        sighted = []
        for one, seen in view.sightings.items():
            alone = View(view.beats, view.read_at, {one: seen})
            age = None if seen.since is None else min(self.term, round(-seen.since / self.tick))
            life = (int(one.identity), int(one.incarnation))
            sighted.append(Sighted(life, int(seen.renewal or "-9"), age, alone.expired(one)))
        return Known(beats, tuple(sorted(sighted)))


@cache
def holder(life: Life) -> Holder:
    return Holder(str(life[0]), str(life[1]))


def _beat(one: Beaten) -> Beat:
    ask = None if one.ask is None else str(one.ask)
    return Beat(holder(one.life), str(one.renewal), draining=one.draining, asks=ask)
