"""Pollers, shards, a store and clocks in whole ticks, small enough that every state there is can be walked.

Coarser than `lease_world.py`: in every tick each poller that is well has one round, in which it renews, reads, decides
and takes; rounds come in every order. What goes wrong comes between two rounds or in the midst of one. Pollers and
shards have no order: states that differ only in who is who are one (`canonical`).
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from typing import NamedTuple

from tests.support.lease_choices import NOBODY, Choice, Choices, Known, Life, Offer, Told
from tests.support.lease_world import put

Step = tuple[str, "State"]

GONE, WELL, HALTED, CUT = range(4)
"""A poller is not there, or not yet; is well; is halted; or none of its requests arrives."""
IDLE, RUNS, GIVES = range(3)
"""A poller does not run a shard, runs it, or gives it away."""


class Poller(NamedTuple):
    """One poller and its heartbeat; ages in ticks of its own clock."""

    mode: int
    life: int
    beat: int
    """The life in its heartbeat; -1: it has none."""
    renewed: int
    """Since its last renewal that succeeded was sent, or its life begun."""
    lapsed: bool
    """Whether it has still to win its leases anew."""
    due: bool
    """Whether its round of this tick is to come."""
    looked: int
    """Since its last read."""
    even: int
    """Since its clock left out a tick; -1: it never does."""
    leaving: bool
    told: bool
    """Whether its heartbeat says that it leaves."""
    known: Known


class Shard(NamedTuple):
    """One shard: its lease; by poller whether that runs it, and whether its heartbeat asks for it."""

    holder: Life
    runs: tuple[int, ...]
    asked: tuple[bool, ...]
    waits: int = 0
    """Ticks that it has had no owner since something went wrong last."""


class State(NamedTuple):
    pollers: tuple[Poller, ...]
    shards: tuple[Shard, ...]
    down: bool = False
    """Whether the store is away, for everybody."""


@dataclass(frozen=True)
class Story:
    """What may go wrong, any number of times."""

    crashes: bool = False
    silences: bool = False
    """A poller is halted, or cut off, for any time."""
    outages: bool = False
    leaves: bool = False
    slow: int = 0
    """How many clocks leave out a tick in every term."""


class Ticks:
    """What may happen next. `longest` is the number of ticks that a shard must not be without an owner; 0: any."""

    def __init__(self, choices: Choices, pollers: int, shards: int, story: Story, longest: int = 0) -> None:
        self.rules, self.story, self.longest = choices, story, longest
        self.older = cache(self._older)
        self.canonical = cache(canonical)  # most steps lead to what another has led to
        self.absent = Poller(GONE, 0, -1, choices.doubt, True, False, 0, -1, False, False, ())
        starts = (self.absent._replace(even=choices.term - 1 if i < story.slow else -1) for i in range(pollers))
        shard = Shard(NOBODY, (IDLE,) * pollers, (False,) * pollers)
        self.start = canonical(State(tuple(starts), (shard,) * shards))

    def steps(self, state: State) -> Iterator[Step]:
        """All in their canonical form; an assertion fails in a state that must never be."""
        self.check(state)
        calm = self.is_calm(state)
        for name, after in self._steps(state):
            if calm and self.story.outages:
                assert owners(after) == owners(state), f"{name}: a shard moves"
                assert self.is_calm(after) or present(after) != present(state), f"{name}: a shard is about to move"
            yield name, self.canonical(after)

    def _steps(self, state: State) -> Iterator[Step]:
        if not any(one.due for one in state.pollers):
            yield "tick", self.ticked(state)
            for i, one in enumerate(state.pollers):
                if one.even >= self.rules.term - 1:
                    yield f"tick, but not for {i}", self.ticked(state, but=i)
        for i, one in enumerate(state.pollers):
            if one.due or (one.mode == GONE and not state.down):
                yield from self.round(state, i)
            if one.mode != GONE:
                yield from self.troubles(state, i)
        if state.down:
            yield "the store is back", troubled(state._replace(pollers=tuple(map(due, state.pollers)), down=False))
        elif self.story.outages:
            yield "the store goes away", self.out(state)

    def troubles(self, state: State, i: int) -> Iterator[Step]:
        story, one = self.story, state.pollers[i]
        if story.crashes:
            yield f"{i} crashes", troubled(self.gone(state, i))
        if one.mode in {HALTED, CUT}:
            yield f"{i} goes on", troubled(with_(state, i, mode=WELL, due=True))
        if one.mode != WELL:
            return
        if story.silences:
            yield f"{i} is halted", troubled(with_(state, i, mode=HALTED, due=False))
            yield f"{i} is cut off", self.cut(state, i)
        if story.leaves and not one.leaving:
            yield f"{i} leaves", troubled(self.asking(with_(state, i, leaving=True), i, None))

    def interrupted(self, state: State, i: int, doing: str) -> Iterator[Step]:
        """Something goes wrong in the midst of a round, whose last request the store has done all the same."""
        state = with_(state, i, due=False)
        if self.story.crashes:
            yield f"{i} {doing}, and crashes", troubled(self.gone(state, i))
        if self.story.silences:
            yield f"{i} {doing}, and is cut off", self.cut(state, i)
        if self.story.outages:
            yield f"{i} {doing}, and the store goes away", self.out(state)

    # ---- what goes wrong

    def cut(self, state: State, i: int) -> State:
        """Whoever is cut off reads twice a second, so that a read has failed before anything else happens."""
        return troubled(with_(self.unanswered(state, i), i, mode=CUT, due=False))

    def out(self, state: State) -> State:
        """The same for everybody."""
        for i, one in enumerate(state.pollers):
            if one.mode != GONE:
                state = with_(self.unanswered(state, i), i, due=False)
        return troubled(state._replace(down=True))

    def unanswered(self, state: State, i: int) -> State:
        one = state.pollers[i]
        return with_(state, i, known=self.rules.missed(one.known, one.looked), looked=0)

    def gone(self, state: State, i: int, *, goodbye: bool = False) -> State:
        """The process is no more; its heartbeat stays, unless it said goodbye."""
        one = state.pollers[i]
        beat, told = (-1, False) if goodbye else (one.beat, one.told)
        poller = self.absent._replace(life=one.life, beat=beat, told=told, even=one.even)
        shards = tuple(idle(shard, i) for shard in state.shards)
        state = State(put(state.pollers, i, poller), shards, state.down)
        return self.asking(state, i, None) if goodbye else state

    def ticked(self, state: State, but: int | None = None) -> State:
        pollers = tuple(self.older(one, state.down, i == but) for i, one in enumerate(state.pollers))
        return State(pollers, self.waiting(state) if self.longest else state.shards, state.down)

    def _older(self, one: Poller, down: bool, late: bool) -> Poller:
        even = -1 if one.even < 0 else 0 if late else min(self.rules.term - 1, one.even + 1)
        if one.mode == GONE or late:
            return one._replace(even=even)
        renewed = min(self.rules.doubt, one.renewed + 1)
        known = self.rules.older(one.known, one.looked)
        mode, looked = one.mode, one.looked + 1
        if self.rules.in_doubt(renewed):  # it asks nothing of what it knows before it begins another life
            mode, known = WELL if one.mode == WELL else CUT, self.rules.missed(known, looked)
        return one._replace(
            mode=mode,
            renewed=renewed,
            known=known,
            looked=looked if known else 0,
            even=even,
            due=one.mode == WELL and not down,
        )

    def waiting(self, state: State) -> tuple[Shard, ...]:
        lives = not state.down and any(one.mode == WELL and not one.leaving for one in state.pollers)
        return tuple(
            shard._replace(waits=shard.waits + 1 if lives and not self.is_owned(state, shard) else 0)
            for shard in state.shards
        )

    # ---- a round

    def round(self, state: State, i: int) -> Iterator[Step]:
        """What a poller does in a tick, whole or up to some request that is not answered."""
        name = f"{i} starts" if state.pollers[i].mode == GONE else f"{i} has its round"
        state = self.beaten(state, i)
        yield from self.interrupted(state, i, "renews unheard")
        state = self.regained(state, i)
        yield from self.interrupted(state, i, "renews, reads nothing")
        state = self.read(state, i)
        for choice in self.choices(state, i):
            for after in self.released(self.moved(state, i, choice, heard=True), i):
                left = state.pollers[i].leaving and not any(shard.runs[i] for shard in after.shards)
                yield name, self.gone(after, i, goodbye=True) if left else after
            if choice.take:
                yield from self.interrupted(self.moved(state, i, choice, heard=False), i, "takes unheard")

    def beaten(self, state: State, i: int) -> State:
        """The renewal is done; after a gap in the name of another life."""
        one = state.pollers[i]
        if self.rules.in_doubt(one.renewed):
            state = with_(self.unanswered(state, i), i, life=one.life + 1, renewed=0, lapsed=True)
        if one.mode == GONE:
            state = self.asking(state, i, None)
        state = with_(state, i, mode=WELL, beat=state.pollers[i].life, told=one.leaving)
        return state._replace(pollers=tuple(_outdated(other, i) for other in state.pollers))

    def regained(self, state: State, i: int) -> State:
        """The renewal was answered; a new life writes its name into the leases that are still its poller's."""
        lapsed = state.pollers[i].lapsed
        state = with_(state, i, renewed=0, lapsed=False)
        return state._replace(shards=tuple(self.won(shard, state, i) for shard in state.shards)) if lapsed else state

    def won(self, shard: Shard, state: State, i: int) -> Shard:
        if not shard.runs[i]:
            return shard
        if shard.holder[0] != i:
            return idle(shard, i)
        return shard._replace(holder=(i, state.pollers[i].life))

    def read(self, state: State, i: int) -> State:
        """The heartbeats and the leases; what another holds is not run any more."""
        one = state.pollers[i]
        named = tuple(sorted({shard.holder for shard in state.shards} - {NOBODY}))
        known = self.rules.seen(one.known, one.looked, told(state, i), tuple(life for life in named if life[0] != i))
        state = with_(state, i, known=known, looked=0, due=False)
        if not any(shard.runs[i] and shard.holder[0] != i for shard in state.shards):
            return state
        shards = (idle(shard, i) if shard.holder[0] != i else shard for shard in state.shards)
        return state._replace(shards=tuple(shards))

    def choices(self, state: State, i: int) -> tuple[Choice, ...]:
        one = state.pollers[i]
        offers = tuple(
            Offer(shard.holder, shard.runs[i] != IDLE, shard.runs[i] == GIVES, shard.asked) for shard in state.shards
        )
        kinds = tuple(state.shards.index(shard) for shard in state.shards)
        return self.rules.choices((i, one.life), one.known, told(state, i), offers, kinds, one.leaving)

    def moved(self, state: State, i: int, choice: Choice, *, heard: bool) -> State:
        """Does what was decided; what is asked is told at once."""
        shards = list(state.shards)
        for at in choice.take:
            shards[at] = self.taken(state, shards[at], i, heard=heard)
        for at in choice.give:
            shards[at] = shards[at]._replace(runs=put(shards[at].runs, i, GIVES))
        return self.asking(state._replace(shards=tuple(shards)), i, choice.ask)

    def taken(self, state: State, shard: Shard, i: int, *, heard: bool) -> Shard:
        assert not self.story.outages or shard.holder[0] in {i, NOBODY[0]}, f"{i} takes what another alive holds"
        for j, one in enumerate(shard.runs):
            assert not one or not self.is_free(state.pollers[j]), f"{i} takes what {j} could call on"
        runs = put((IDLE,) * len(shard.runs), i, RUNS if heard else IDLE)
        return shard._replace(holder=(i, state.pollers[i].life), runs=runs, waits=0 if heard else shard.waits)

    def released(self, state: State, i: int) -> Iterator[State]:
        """What is given is released as soon as its calls have ended, now or in any later round."""
        giving = [at for at, shard in enumerate(state.shards) if shard.runs[i] == GIVES]
        if not giving:
            yield state
            return
        for those in itertools.product((False, True), repeat=len(giving)):
            shards = list(state.shards)
            for at in itertools.compress(giving, those):
                shards[at] = shards[at]._replace(holder=NOBODY, runs=put(shards[at].runs, i, IDLE))
            yield state._replace(shards=tuple(shards))

    def asking(self, state: State, i: int, ask: int | None) -> State:
        if all(shard.asked[i] == (at == ask) for at, shard in enumerate(state.shards)):
            return state
        shards = (shard._replace(asked=put(shard.asked, i, at == ask)) for at, shard in enumerate(state.shards))
        return state._replace(shards=tuple(shards))

    # ---- what must never be

    def check(self, state: State) -> None:
        for shard in state.shards:
            assert not self.longest or shard.waits < self.longest, "a shard has had no owner for too long"
            for i, runs in enumerate(shard.runs):
                if runs:
                    self.check_run(state, shard, i)

    def check_run(self, state: State, shard: Shard, i: int) -> None:
        """A call that may start now, starts, and a checkpoint that may be written is."""
        me = (i, state.pollers[i].life)
        if not self.is_free(state.pollers[i]):
            return
        assert shard.holder == me, f"{i} could call on a shard that another holds"
        for j, other in enumerate(state.pollers):
            dead = self.is_free(other) and self.rules.expired(other.known, other.looked, me)
            assert not dead, f"{i} could call on a shard that {j} may take"

    def is_free(self, one: Poller) -> bool:
        """Whether a poller may start something."""
        return one.mode != GONE and not one.lapsed and not self.rules.in_doubt(one.renewed)

    def is_owned(self, state: State, shard: Shard) -> bool:
        i, life = shard.holder
        one = state.pollers[i]
        return i >= 0 and one.life == life and shard.runs[i] != IDLE and self.is_free(one)

    def is_calm(self, state: State) -> bool:
        """Whether every shard is run by who holds it, nothing is asked for or given, and all there are have their share."""
        if any(shard.holder == NOBODY or shard.runs[shard.holder[0]] != RUNS for shard in state.shards):
            return False
        loads = [owners(state).count(i) for i in present(state)]
        return max(loads) - min(loads) <= 1 and not any(any(shard.asked) for shard in state.shards)


def with_(state: State, i: int, **changes: object) -> State:
    poller = state.pollers[i]._replace(**changes)  # type: ignore[arg-type]
    return State(put(state.pollers, i, poller), state.shards, state.down)


def idle(shard: Shard, i: int) -> Shard:
    return shard._replace(runs=put(shard.runs, i, IDLE)) if shard.runs[i] else shard


@cache
def _outdated(one: Poller, i: int) -> Poller:
    """After a renewal of poller `i`: what `one` has seen of it is not the newest any more."""
    known = tuple(seen._replace(newest=seen.newest and seen.life[0] != i) for seen in one.known)
    return one if known == one.known else one._replace(known=known)


def due(one: Poller) -> Poller:
    return one._replace(due=one.mode == WELL)


def told(state: State, i: int) -> tuple[Told, ...]:
    """The others' heartbeats."""
    return tuple(Told((j, one.beat), one.told) for j, one in enumerate(state.pollers) if j != i and one.beat >= 0)


def troubled(state: State) -> State:
    """From now on the time that a shard has no owner counts anew."""
    if not any(shard.waits for shard in state.shards):
        return state
    return state._replace(shards=tuple(shard._replace(waits=0) for shard in state.shards))


def present(state: State) -> list[int]:
    return [i for i, one in enumerate(state.pollers) if one.mode != GONE]


def owners(state: State) -> list[int]:
    return [shard.holder[0] for shard in state.shards]


# ---- one form for all states that do not differ in anything that can still matter


def canonical(state: State) -> State:
    """Lives renumbered, what nobody can name any more forgotten, pollers and shards in an order of what they are."""
    if any(one.life for one in state.pollers):
        state = renumbered(state)
    marks = [_mark(state, i) for i in range(len(state.pollers))]
    like = sorted(range(len(marks)), key=lambda i: marks[i])
    groups = [tuple(those) for _, those in itertools.groupby(like, key=lambda i: marks[i])]
    if len(groups) == len(like):
        return _ordered(state, tuple(like))
    orders = (tuple(itertools.chain(*those)) for those in itertools.product(*map(itertools.permutations, groups)))
    return min(_ordered(state, order) for order in orders)


def _mark(state: State, i: int) -> tuple[object, ...]:
    """What a poller is, whoever is who."""
    one = state.pollers[i]
    shards = sorted((s.runs[i], s.asked[i], s.holder[0] == i and s.holder[1] + 1, s.waits) for s in state.shards)
    return one[:-1], sorted((seen.age, seen.newest) for seen in one.known), shards


def _ordered(state: State, order: tuple[int, ...]) -> State:
    pollers = tuple(_poller_in(state.pollers[i], order) for i in order)
    return State(pollers, tuple(sorted(_shard_in(shard, order) for shard in state.shards)), state.down)


@cache
def _poller_in(one: Poller, order: tuple[int, ...]) -> Poller:
    known = (seen._replace(life=(order.index(seen.life[0]), seen.life[1])) for seen in one.known)
    return one._replace(known=tuple(sorted(known)))


@cache
def _shard_in(shard: Shard, order: tuple[int, ...]) -> Shard:
    i, life = shard.holder
    holder = NOBODY if shard.holder == NOBODY else (order.index(i), life)
    return Shard(holder, tuple(shard.runs[i] for i in order), tuple(shard.asked[i] for i in order), shard.waits)


def renumbered(state: State) -> State:
    named = [{one.life, one.beat, -1} for one in state.pollers]
    for shard in state.shards:
        if shard.holder != NOBODY:
            named[shard.holder[0]].add(shard.holder[1])
    lives = tuple(tuple(sorted(those)) for those in named)
    pollers = tuple(_poller_of(one, lives[i], lives) for i, one in enumerate(state.pollers))
    return State(pollers, tuple(_shard_of(shard, lives) for shard in state.shards), state.down)


Lives = tuple[tuple[int, ...], ...]
"""By poller the lives of it that something names, with -1 before them."""


@cache
def _poller_of(one: Poller, mine: tuple[int, ...], lives: Lives) -> Poller:
    known = tuple(
        seen._replace(life=(i, lives[i].index(life) - 1))
        for seen, (i, life) in ((seen, seen.life) for seen in one.known)
        if life in lives[i]
    )
    return one._replace(life=mine.index(one.life) - 1, beat=mine.index(one.beat) - 1, known=known)


@cache
def _shard_of(shard: Shard, lives: Lives) -> Shard:
    i, life = shard.holder
    return shard if shard.holder == NOBODY else shard._replace(holder=(i, lives[i].index(life) - 1))
