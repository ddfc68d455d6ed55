"""Pollers that divide the calls of a queue, in every order of events, driven by the real rules (`queues/shares.py`).

A beat is a write of the claim and then a read of all; each is sent, done and answered in steps of its own, or, where
`whole` says so, at once. An answer may be lost, and what was sent be done late. A poller whose lease is in doubt starts
nothing and comes back in a new life; from then on, or when it has crashed, others may find it dead at any moment.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import NamedTuple

from headrace.stream.queues.shares import Peer, Share, equal_share

Claims = tuple[int | None, ...]
"""By poller; None where there is no heartbeat that counts."""


class Poller(NamedTuple):
    """One process; `sent` is a claim whose write is under way, `late` one whose answer was given up."""

    share: Share
    peers: tuple[Peer, ...] = ()
    knows: bool = False
    """Whether it has read the others in this life."""
    sent: int | None = None
    done: bool = False
    late: int | None = None
    written: bool = False
    """Whether its newest claim is known to be written."""
    read: tuple[Peer, ...] | None = None
    """What a read found that is not answered yet."""
    doubt: bool = False
    leaving: bool = False
    over: bool = False
    lapsed: int = 0
    """Of its calls those that were in flight when it was found dead."""


class State(NamedTuple):
    """Everything there is; what a heartbeat tells of a poller that was found dead counts for nobody."""

    pollers: tuple[Poller, ...]
    told: Claims
    trouble: int


@dataclass(frozen=True)
class World:
    """So many pollers and calls; `trouble` is how many times something may go wrong on one way."""

    pollers: int
    total: int
    trouble: int = 1
    whole: bool = False
    """Whether a write is one step."""
    quick: frozenset[int] = frozenset()
    """Pollers whose reads are one step."""

    @property
    def start(self) -> State:
        """Nobody has told anything yet: each joins with its first claim."""
        pollers = tuple(Poller(Share(str(i)).of(self.total)) for i in range(self.pollers))
        return State(pollers, (None,) * self.pollers, self.trouble)

    def steps(self, state: State) -> Iterator[tuple[str, State]]:
        """What may happen next, each state checked."""
        for i, poller in enumerate(state.pollers):
            if not poller.over:
                ways = (self._work(state, i), self._beat(state, i), self._trouble(state, i))
                for name, after in (step for way in ways for step in way):
                    self.check(after)
                    yield f"{i} {name}", after
            elif state.told[i] is not None:
                yield f"{i} is found dead", expire(state, i)

    def check(self, state: State) -> None:
        """Never more calls than there may be, but for those of a poller whose lease lapsed."""
        begun = sum(one.share.in_flight - one.lapsed for one in state.pollers)
        assert begun <= self.total, f"{begun} calls in flight"

    def _work(self, state: State, i: int) -> Iterator[tuple[str, State]]:
        poller = state.pollers[i]
        share = poller.share
        if share.in_flight < share.usable and not poller.doubt and not poller.leaving:
            yield "begins a call", put(state, i, poller._replace(share=replace(share, in_flight=share.in_flight + 1)))
        fewer = poller._replace(share=replace(share, in_flight=share.in_flight - 1))
        if share.in_flight > poller.lapsed:
            yield "ends a call", put(state, i, fewer)
        if poller.lapsed:
            yield "ends a call of before", put(state, i, fewer._replace(lapsed=poller.lapsed - 1))
        if poller.leaving and not share.in_flight:
            yield "says goodbye", tell(put(state, i, poller._replace(over=True, sent=None, late=None)), i, None)

    def _beat(self, state: State, i: int) -> Iterator[tuple[str, State]]:
        poller = state.pollers[i]
        if poller.sent is None and poller.read is None:
            sent = claim(poller)
            if not self.whole:
                yield "sends its claim", put(state, i, sent)
            elif sent != poller:
                yield "tells its claim", tell(put(state, i, sent._replace(sent=None, written=True)), i, sent.sent)
        if poller.late is not None:
            yield "'s late claim is told", tell(put(state, i, poller._replace(late=None)), i, poller.late)
        if poller.sent is not None and not poller.done:
            told = poller._replace(done=True, late=None)
            yield "'s claim is told", tell(put(state, i, told), i, poller.sent)
        if poller.done:
            yield "hears of it", put(state, i, poller._replace(sent=None, done=False, written=True))
        if poller.written and poller.read is None and not poller.doubt:
            found = tuple(
                Peer(str(j), told, draining=state.pollers[j].leaving)
                for j, told in enumerate(state.told)
                if j != i and told is not None
            )
            reading = poller._replace(read=found)
            yield "reads", put(state, i, answered(reading) if i in self.quick else reading)
        if poller.read is not None:
            yield "has read", put(state, i, answered(poller))

    def _trouble(self, state: State, i: int) -> Iterator[tuple[str, State]]:
        poller = state.pollers[i]
        if poller.doubt and state.told[i] is not None:
            yield "is found dead", expire(state, i)
        if not state.trouble:
            return
        worse = state._replace(trouble=state.trouble - 1)
        if not poller.leaving:
            yield "is to leave", put(worse, i, poller._replace(leaving=True, written=False))
        if not poller.doubt and poller.knows:
            lost = poller._replace(
                doubt=True, read=None, sent=None, done=False, late=undone(poller), written=False, knows=False
            )
            yield "is in doubt", put(worse, i, lost)
            yield "crashes", put(worse, i, poller._replace(over=True, sent=None, read=None, late=None))
        if poller.sent is not None:
            yield "'s answer is lost", put(worse, i, poller._replace(sent=None, done=False, late=undone(poller)))


def undone(poller: Poller) -> int | None:
    """What of its writes may still be done."""
    return poller.late if poller.sent is None else None if poller.done else poller.sent


def claim(poller: Poller) -> Poller:
    """As it sends its next claim; in doubt, a new life begins with it."""
    share = poller.share.claiming(poller.peers, leaving=poller.leaving or not poller.knows)
    return poller._replace(share=share, sent=share.claims or 0, done=False, doubt=False, written=False)


def answered(poller: Poller) -> Poller:
    """With what it has read."""
    read = poller.read or ()
    share = poller.share.confirmed(read) if poller.written else poller.share
    return poller._replace(share=share, peers=read, knows=True, read=None)


def put(state: State, i: int, poller: Poller) -> State:
    """With another poller in its place."""
    return state._replace(pollers=(*state.pollers[:i], poller, *state.pollers[i + 1 :]))


def tell(state: State, i: int, claims: int | None) -> State:
    """With another claim in a heartbeat."""
    return state._replace(told=(*state.told[:i], claims, *state.told[i + 1 :]))


def expire(state: State, i: int) -> State:
    """A poller's term is over: what it has in flight counts no more."""
    poller = state.pollers[i]
    return tell(put(state, i, poller._replace(lapsed=poller.share.in_flight)), i, None)


def calm(state: State, rounds: int) -> State:
    """With every call ended and the dead found dead, after so many whole beats of each that lives."""
    for i, poller in enumerate(state.pollers):
        if poller.over or poller.doubt:
            state = expire(state, i)
        quiet = poller._replace(share=replace(poller.share, in_flight=0), sent=None, done=False, late=None, read=None)
        state = put(state, i, quiet._replace(lapsed=0))
    for _ in range(rounds):
        for i, poller in enumerate(state.pollers):
            if not poller.over:
                state = _whole_beat(state, i)
    return state


def _whole_beat(state: State, i: int) -> State:
    sent = claim(state.pollers[i])
    state = tell(put(state, i, sent._replace(sent=None, written=True)), i, sent.share.claims or 0)
    found = tuple(
        Peer(str(j), told, draining=state.pollers[j].leaving)
        for j, told in enumerate(state.told)
        if j != i and told is not None
    )
    share = sent.share.confirmed(found)
    return put(state, i, state.pollers[i]._replace(share=share, peers=found, knows=True))


def has_its_share(state: State, i: int, total: int) -> bool:
    """Whether a poller may use exactly what falls to it of those that are there and stay."""
    others = [one.share.me for j, one in enumerate(state.pollers) if j != i and not one.leaving and not one.over]
    poller = state.pollers[i]
    return poller.share.usable == (0 if poller.leaving else equal_share(total, poller.share.me, others))
