"""Pollers, shards, a store and clocks, small enough to be walked; every decision is that of the real rules.

A step is the smallest thing that can happen between two others: a request is sent, the store does it, its answer comes
or never does; a clock ticks; a poller crashes. A poller that takes no step is a paused one, a store that does nothing
is one that is out. Slow clocks leave out a tick in every term, which is what the margin allows.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

from tests.support.lease_rules import Beaten, Known, Life, Rules

Step = tuple[str, "State"]


class Renewal(NamedTuple):
    """A renewal on its way, sent `age` ticks ago."""

    done: bool
    age: int
    life: int


class Read(NamedTuple):
    """A read of the heartbeats on its way; `beats` is None until the store has done it."""

    age: int
    beats: tuple[Beaten, ...] | None = None


class Take(NamedTuple):
    """A write on its way that makes a lease ours; `fresh` says that nobody has written it since it was read."""

    life: int
    done: bool = False
    fresh: bool = True


class Held(NamedTuple):
    """A shard that is run, won in a life; `robbed` tells the walk that another held the lease meanwhile."""

    life: int
    giving: bool = False
    robbed: bool = False


class Poller(NamedTuple):
    """One poller; ages in ticks of its own clock, `renewed` of the last renewal that succeeded, as it was sent."""

    life: int
    renewed: int
    held: tuple[Held | None, ...]
    takes: tuple[Take | None, ...]
    renewal: Renewal | None = None
    read: Read | None = None
    known: Known = Known()
    ask: int | None = None
    born: bool = False
    """Whether a renewal has succeeded since it started; before that `renewed` is its start, and it takes nothing."""
    even: int = 0
    """Ticks since it left one out."""


class State(NamedTuple):
    pollers: tuple[Poller, ...]
    beats: tuple[Beaten | None, ...]
    holders: tuple[Life | None, ...]
    zombies: tuple[tuple[Life, ...], ...]
    """Takes whose sender does not wait for an answer any more, and that may still be done."""

    def put(self, i: int, **changes: Any) -> State:
        return self._replace(pollers=put(self.pollers, i, self.pollers[i]._replace(**changes)))


def put(values: tuple[Any, ...], at: int, value: Any) -> tuple[Any, ...]:
    return (*values[:at], value, *values[at + 1 :])


class World:
    """The steps there are. `whole_...` name pollers whose requests of a kind are answered at once, or not sent.

    `blind` ones read no heartbeats (and so never take from others), `tireless` ones are never in doubt.
    """

    def __init__(
        self,
        rules: Rules,
        pollers: int,
        shards: int,
        *,
        slow: frozenset[int] = frozenset(),
        whole_renewals: frozenset[int] = frozenset(),
        whole_reads: frozenset[int] = frozenset(),
        whole_takes: frozenset[int] = frozenset(),
        lost_takes: bool = True,
        crashes: frozenset[int] = frozenset(),
        blind: frozenset[int] = frozenset(),
        tireless: frozenset[int] = frozenset(),
    ) -> None:
        self.rules, self.shards, self.slow = rules, shards, slow
        self.lost_takes, self.crashes, self.blind, self.tireless = lost_takes, crashes, blind, tireless
        self.whole_renewals, self.whole_reads, self.whole_takes = whole_renewals, whole_reads, whole_takes
        nothing = (None,) * shards
        born = [Poller(0, 0, nothing, nothing, even=rules.term - 1 if i in slow else -1) for i in range(pollers)]
        for i in tireless:
            born[i] = born[i]._replace(born=True)
        self.start = State(tuple(born), (None,) * pollers, nothing, ((),) * shards)

    def steps(self, state: State) -> Iterator[Step]:
        yield from self.ticks(state)
        for shard in range(self.shards):
            yield from self.zombies(state, shard)
        for i in range(len(state.pollers)):
            if i not in self.tireless:
                yield from self.renewals(state, i)
            if i not in self.blind:
                yield from self.reads(state, i)
            yield from self.rounds(state, i)
            for shard in range(self.shards):
                yield from self.taking(state, i, shard)
                yield from self.work(state, i, shard)
            if i in self.crashes:
                yield f"{i} crashes", self.crashed(state, i)

    def ticks(self, state: State) -> Iterator[Step]:
        """Time goes on, for everybody, or for all but one whose clock runs slow."""
        later = tuple(self.older(one, i) for i, one in enumerate(state.pollers))
        yield "tick", state._replace(pollers=later)
        for i in self.slow:
            if state.pollers[i].even >= self.rules.term - 1:
                yield f"tick, but not for {i}", state._replace(pollers=put(later, i, state.pollers[i]._replace(even=0)))

    def older(self, one: Poller, i: int) -> Poller:
        return one._replace(
            renewed=0 if i in self.tireless else min(self.rules.doubt, one.renewed + 1),
            renewal=one.renewal and one.renewal._replace(age=min(self.rules.doubt, one.renewal.age + 1)),
            read=one.read and one.read._replace(age=min(self.rules.term, one.read.age + 1)),
            known=self.rules.aged(one.known),
            even=min(self.rules.term - 1, one.even + 1) if one.even >= 0 else -1,
        )

    def renewals(self, state: State, i: int) -> Iterator[Step]:
        one = state.pollers[i]
        if one.renewal is None:
            sent = state.put(i, renewal=Renewal(False, 0, one.life))
            if i in self.whole_renewals:
                yield f"{i} renews", self.renewed(self.beaten(sent, i), i)
            else:
                yield f"{i} sends a renewal", sent
            return
        if one.renewal.done:
            yield f"{i} has renewed", self.renewed(state, i)
        else:
            yield f"the renewal of {i} is done", self.beaten(state, i)
        yield f"{i} gives its renewal up", state.put(i, renewal=None, known=self.rules.missed(one.known))

    def beaten(self, state: State, i: int) -> State:
        """The store has done the renewal; whoever has seen one before it has seen an older one now."""
        one = state.pollers[i]
        assert one.renewal is not None
        beats = put(state.beats, i, Beaten((i, one.renewal.life), ask=one.ask))
        pollers = [_outdated(other, i) for other in state.pollers]
        pollers[i] = pollers[i]._replace(renewal=one.renewal._replace(done=True))
        return state._replace(pollers=tuple(pollers), beats=beats)

    def renewed(self, state: State, i: int) -> State:
        """The answer came: after a gap the poller is another life."""
        one = state.pollers[i]
        assert one.renewal is not None
        gap = self.rules.in_doubt(one.renewed)
        life = one.life + 1 if gap else one.life
        return state.put(i, renewal=None, renewed=one.renewal.age, life=life, born=True)

    def reads(self, state: State, i: int) -> Iterator[Step]:
        one = state.pollers[i]
        if one.read is None:
            if i in self.whole_reads:
                yield f"{i} reads", self.seen(state.put(i, read=Read(0, self.others(state, i))), i)
            else:
                yield f"{i} begins to read", state.put(i, read=Read(0))
            return
        if one.read.beats is None:
            yield f"the read of {i} is done", state.put(i, read=Read(one.read.age, self.others(state, i)))
        else:
            yield f"{i} has read", self.seen(state, i)
        yield f"{i} gives its read up", state.put(i, read=None, known=self.rules.missed(one.known))

    def others(self, state: State, i: int) -> tuple[Beaten, ...]:
        return tuple(beat for j, beat in enumerate(state.beats) if beat is not None and j != i)

    def seen(self, state: State, i: int) -> State:
        one = state.pollers[i]
        assert one.read is not None
        assert one.read.beats is not None
        known = self.rules.observed(one.known, one.read.beats, one.read.age)
        return state.put(i, read=None, known=tidy(known) if self.shards > 1 else Known((), known.sighted))

    def rounds(self, state: State, i: int) -> Iterator[Step]:
        """Reads the leases, decides, and sends what was decided."""
        if any(state.pollers[i].takes) or not state.pollers[i].born:
            return
        after = self.decided(state, i)
        if i in self.whole_takes:
            for shard, take in enumerate(after.pollers[i].takes):
                if take is not None:
                    after = self.won(self.took(after, i, shard), i, shard)
        if after != state:
            yield f"{i} decides", after

    def decided(self, state: State, i: int, *, draining: bool = False) -> State:
        one = state.pollers[i]
        lives = tuple({life for life in state.holders if life is not None and life[0] != i})
        known = self.rules.noticed(one.known, lives)
        running = tuple(shard for shard, held in enumerate(one.held) if held)
        giving = tuple(shard for shard, it in enumerate(one.held) if it and it.giving)
        moves = self.rules.decided((i, one.life), known, state.holders, running, giving, one.ask, draining)
        takes = tuple(Take(one.life) if str(shard) in moves.take else None for shard in range(self.shards))
        held = tuple(
            it._replace(giving=True) if it and str(shard) in moves.give else it for shard, it in enumerate(one.held)
        )
        return state.put(i, known=known, takes=takes, held=held, ask=None if moves.ask is None else int(moves.ask))

    def taking(self, state: State, i: int, shard: int) -> Iterator[Step]:
        take = state.pollers[i].takes[shard]
        if take is None:
            return
        without = self.with_take(state, i, shard, None)
        if take.done:
            if not self.lost_takes:
                yield f"{i} has taken {shard}", self.won(state, i, shard)
                return
            yield f"{i} has taken {shard}", self.won(state, i, shard)
            yield f"{i} never hears that it has taken {shard}", without
            return
        yield f"the take of {shard} by {i} is done", self.took(state, i, shard)
        if self.lost_takes:
            yield f"{i} gives the take of {shard} up", self.abandoned(without, i, shard, take)

    def took(self, state: State, i: int, shard: int) -> State:
        """The store has done the take, or refused it."""
        take = state.pollers[i].takes[shard]
        assert take is not None
        if not take.fresh:
            return self.with_take(state, i, shard, None)
        return self.with_take(self.written(state, shard, (i, take.life)), i, shard, take._replace(done=True))

    def won(self, state: State, i: int, shard: int) -> State:
        """The answer to a take; one of a former life is worth nothing."""
        one = state.pollers[i]
        take = one.takes[shard]
        if take is None:
            return state
        state = self.with_take(state, i, shard, None)
        if take.life != one.life or one.held[shard] is not None:
            return state
        return state.put(i, held=put(one.held, shard, Held(take.life, robbed=not take.fresh)))

    def with_take(self, state: State, i: int, shard: int, take: Take | None) -> State:
        return state.put(i, takes=put(state.pollers[i].takes, shard, take))

    def abandoned(self, state: State, i: int, shard: int, take: Take | None) -> State:
        """A request that nobody waits for: the store may still do it, unless it would refuse it."""
        if take is None or take.done or not take.fresh or state.zombies[shard]:
            return state  # one at a time, so that there is an end
        return state._replace(zombies=put(state.zombies, shard, ((i, take.life),)))

    def zombies(self, state: State, shard: int) -> Iterator[Step]:
        for life in state.zombies[shard]:
            yield f"an old take of {shard} by {life} is done", self.written(state, shard, life)

    def written(self, state: State, shard: int, life: Life | None) -> State:
        """A lease gets a holder: all who read it before must read again, all whose it was are robbed."""
        pollers = []
        for j, one in enumerate(state.pollers):
            take, held = one.takes[shard], one.held[shard]
            changes: dict[str, Any] = {}
            if take is not None and take.fresh:
                changes["takes"] = put(one.takes, shard, take._replace(fresh=False))
            if held is not None and (life is None or life[0] != j):
                changes["held"] = put(one.held, shard, held._replace(robbed=True))
            pollers.append(one._replace(**changes) if changes else one)
        zombies = put(state.zombies, shard, ()) if state.zombies[shard] else state.zombies
        return State(tuple(pollers), state.beats, put(state.holders, shard, life), zombies)

    def work(self, state: State, i: int, shard: int) -> Iterator[Step]:
        """What a poller does with a shard that it runs.

        A call changes nothing that another could see until its checkpoint, so that calls are no steps: in every state
        it is checked that a call may start now, if one would, and that one that ended now would be checkpointed rightly.
        """
        one = state.pollers[i]
        held = one.held[shard]
        if held is None:
            return
        mine = state.holders[shard] == (i, held.life)
        assert not (mine and held.robbed), f"{i} could checkpoint {shard} over what another did"
        doubt = self.rules.in_doubt(one.renewed)
        if not mine:
            yield f"{i} cannot checkpoint {shard} and stops", self.lost(state, i, shard)
        elif held.giving:
            yield f"{i} releases {shard}", self.lost(self.written(state, shard, None), i, shard)
        if held.life != one.life:
            if mine and not doubt:
                yield f"{i} wins {shard} anew", self.rewon(state, i, shard)
        elif not (doubt or held.giving):
            self.may_call(state, i, shard)

    def may_call(self, state: State, i: int, shard: int) -> None:
        """Nobody else may have the lease, and nobody may think the caller dead."""
        me = (i, state.pollers[i].life)
        assert state.holders[shard] == me, f"{i} could call on {shard}, which another holds"
        for j, other in enumerate(state.pollers):
            dead = any(seen.expired for seen in other.known.sighted if seen.life == me)
            assert not dead, f"{i} could call on {shard} while {j} may take it"

    def rewon(self, state: State, i: int, shard: int) -> State:
        """After a gap a lease that is still that of the life it was won in becomes the new life's."""
        life = state.pollers[i].life
        state = self.written(state, shard, (i, life))
        held = state.pollers[i].held[shard]
        assert held is not None
        return state.put(i, held=put(state.pollers[i].held, shard, held._replace(life=life)))

    def lost(self, state: State, i: int, shard: int) -> State:
        return state.put(i, held=put(state.pollers[i].held, shard, None))

    def crashed(self, state: State, i: int) -> State:
        """Everything is forgotten but what is on its way; the next life begins when it takes its first step."""
        one = state.pollers[i]
        for shard, take in enumerate(one.takes):
            state = self.abandoned(state, i, shard, take)
        born = self.start.pollers[i]._replace(life=one.life + 1, even=one.even)
        return state._replace(pollers=put(state.pollers, i, born))


def tidy(known: Known) -> Known:
    """Which renewal a heartbeat showed does not matter any more once it was seen."""
    return Known(tuple(beat._replace(renewal=0) for beat in known.beats), known.sighted)


def _outdated(one: Poller, i: int) -> Poller:
    """What `one` has read of poller `i` is now older than what is stored."""
    read = one.read.beats if one.read is not None and one.read.beats is not None else ()
    numbers = {beat.renewal for beat in read if beat.life[0] == i}
    numbers |= {seen.renewal for seen in one.known.sighted if seen.life[0] == i}
    if not numbers:
        return one
    rank = {number: -1 - at for at, number in enumerate(sorted(numbers, reverse=True))}
    known = one.known._replace(
        sighted=tuple(
            seen._replace(renewal=rank[seen.renewal]) if seen.life[0] == i else seen for seen in one.known.sighted
        )
    )
    if not read:
        return one._replace(known=known)
    assert one.read is not None
    beats = tuple(beat._replace(renewal=rank[beat.renewal]) if beat.life[0] == i else beat for beat in read)
    return one._replace(known=known, read=one.read._replace(beats=beats))
