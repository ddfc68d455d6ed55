"""One form for all states that do not differ in anything that can still matter."""

from __future__ import annotations

from tests.support.lease_rules import Beaten, Known, Life
from tests.support.lease_world import Poller, State


def plain(state: State) -> State:
    """Lives renumbered from 0, what a poller knows of lives that nothing can name any more forgotten."""
    named = [{one.life} for one in state.pollers]
    for life in state.holders:
        if life is not None:
            named[life[0]].add(life[1])
    for lives in state.zombies:
        for pid, number in lives:
            named[pid].add(number)
    for beat in state.beats:
        if beat is not None:
            named[beat.life[0]].add(beat.life[1])
    for i, one in enumerate(state.pollers):
        _name(named, i, one)
    numbers = [{life: at for at, life in enumerate(sorted(lives))} for lives in named]
    if all(one.life == len(lives) - 1 for one, lives in zip(state.pollers, named, strict=True)) and not any(
        seen.life[1] not in named[seen.life[0]] for one in state.pollers for seen in one.known.sighted
    ):
        return state
    return _Renumbered(numbers).state(state)


def _name(named: list[set[int]], i: int, one: Poller) -> None:
    named[i] |= {held.life for held in one.held if held} | {take.life for take in one.takes if take}
    if one.renewal is not None:
        named[i].add(one.renewal.life)
    for beat in one.known.beats:
        named[beat.life[0]].add(beat.life[1])
    if one.read is not None:
        for beat in one.read.beats or ():
            named[beat.life[0]].add(beat.life[1])


class _Renumbered:
    def __init__(self, numbers: list[dict[int, int]]) -> None:
        self.numbers = numbers

    def state(self, state: State) -> State:
        return State(
            tuple(self.poller(i, one) for i, one in enumerate(state.pollers)),
            tuple(beat and self.beat(beat) for beat in state.beats),
            tuple(life and self.life(life) for life in state.holders),
            tuple(tuple(self.life(life) for life in lives) for lives in state.zombies),
        )

    def poller(self, i: int, one: Poller) -> Poller:
        number = self.numbers[i]
        return one._replace(
            life=number[one.life],
            held=tuple(held and held._replace(life=number[held.life]) for held in one.held),
            takes=tuple(take and take._replace(life=number[take.life]) for take in one.takes),
            renewal=one.renewal and one.renewal._replace(life=number[one.renewal.life]),
            read=one.read and one.read._replace(beats=one.read.beats and tuple(map(self.beat, one.read.beats))),
            known=self.known(one.known),
        )

    def known(self, known: Known) -> Known:
        sighted = [one for one in known.sighted if one.life[1] in self.numbers[one.life[0]]]
        return Known(
            tuple(map(self.beat, known.beats)), tuple(one._replace(life=self.life(one.life)) for one in sighted)
        )

    def beat(self, beat: Beaten) -> Beaten:
        return beat._replace(life=self.life(beat.life))

    def life(self, life: Life) -> Life:
        return (life[0], self.numbers[life[0]][life[1]])
