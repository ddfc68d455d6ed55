"""Who may hold which shard, and when (design: "Leases and checkpoints"). Pure.

Two halves. `observe` and `missed` fold what a poller reads of the others' heartbeats into a `View`, by its own
monotonic clock alone. `decide` says from a view and the shards' leases what this poller takes, gives and asks for; its
counterpart for this poller itself is `in_doubt`: once its last renewal is too old, it must not start anything.

Why two holders never overlap by more than a call in flight: a holder starts nothing from TERM - MARGIN after it *sent*
its last successful renewal; others take its shards TERM after they *saw* that renewal at the earliest; and after a gap
a holder comes back as a new incarnation that has to win each of its leases anew, by compare-and-swap.
"""

from __future__ import annotations

import zlib
from collections import Counter
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from headrace.heartbeat import TERM
from headrace.records import Holder

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

MARGIN = 1.0
"""Seconds before its term that a holder stops starting anything: clocks may run at rates that differ by a fifth."""
LINGER = 2.0
"""Seconds beyond a term after which what a dead life held or had asked for is anybody's.

Whoever has room for it may be so new that it gives the dead a term of its own, or be dead as well.
"""
_NEVER = float("-inf")


@dataclass(frozen=True, slots=True)
class Beat:
    """A heartbeat as it was read: whose, which renewal, and what its poller asks of the others.

    A heartbeat without an incarnation is that of an older version: it stands for every life of its poller.
    """

    holder: Holder
    renewal: str
    draining: bool = False
    asks: str | None = None
    changes: int = 0
    claims: int | None = None
    """Calls of a queue that it may have in flight (`queues/shares.py`)."""


@dataclass(frozen=True, slots=True)
class Claim:
    """A shard that can be read, and who its lease says holds it."""

    shard_id: str
    holder: Holder | None


@dataclass(frozen=True, slots=True)
class Sighting:
    """A renewal of some life."""

    renewal: str
    since: float | None
    """When it was seen first, in seconds of our clock; None: reads have failed since."""


@dataclass(frozen=True, slots=True)
class View:
    """What a poller knows of the lives there are; seconds of its own monotonic clock."""

    beats: tuple[Beat, ...] = ()
    read_at: float = _NEVER
    """When the last successful read of the heartbeats began."""
    sightings: Mapping[Holder, Sighting] = field(default_factory=dict)

    def expired(self, holder: Holder, term: float = TERM) -> bool:
        """Whether a life showed no renewal for a full term between successful reads."""
        seen = [self.sightings[one] for one in (holder, _any_life(holder)) if one in self.sightings]
        return bool(seen) and all(one.since is not None and self.read_at - one.since >= term for one in seen)

    def next_expiry(self) -> float:
        """The first moment at which a read may find a life expired that is not expired now; infinity for none."""
        moments = (one.since + TERM for one in self.sightings.values() if one.since is not None)
        return min((moment for moment in moments if moment > self.read_at), default=float("inf"))

    def dead(self) -> frozenset[Holder]:
        """The lives that are expired, those that only leases name among them."""
        return frozenset(holder for holder in self.sightings if self.expired(holder))

    def living(self) -> tuple[Beat, ...]:
        """The heartbeats of the lives that are not expired."""
        return tuple(beat for beat in self.beats if not self.expired(beat.holder))


@dataclass(frozen=True, slots=True)
class Moves:
    """What a poller does now: shards to start, shards to leave, the one shard to ask another for.

    `settled` says that every shard is held by somebody alive and nothing is on its way.
    """

    take: tuple[str, ...] = ()
    give: tuple[str, ...] = ()
    ask: str | None = None
    settled: bool = True


def observe(view: View, beats: Sequence[Beat], began: float, ended: float) -> View:
    """After a successful read of all heartbeats: who shows another renewal than before is alive from now on anew."""
    sightings: dict[Holder, Sighting] = {}
    for beat in beats:
        before = view.sightings.get(beat.holder)
        same = before is not None and before.renewal == beat.renewal and before.since is not None
        sightings[beat.holder] = before if before is not None and same else Sighting(beat.renewal, ended)
    for holder, before in view.sightings.items():
        if holder not in sightings:
            sightings[holder] = before if before.since is not None else replace(before, since=ended)
    return View(tuple(beats), began, sightings)


def missed(view: View) -> View:
    """After a read or a renewal that failed: an outage of the store must not look like everybody's death."""
    forgotten = {holder: replace(one, since=None) for holder, one in view.sightings.items()}
    return View(view.beats, _NEVER, forgotten)


def noticed(view: View, holders: Collection[Holder], now: float) -> View:
    """After a read of the leases: a life that only a lease names is given a term too; others are forgotten."""
    beating = {beat.holder for beat in view.beats}
    kept = {holder: one for holder, one in view.sightings.items() if holder in beating or holder in holders}
    new = {holder: Sighting("", now) for holder in holders if holder not in kept}
    return View(view.beats, view.read_at, kept | new)


def in_doubt(renewed: float, now: float, term: float = TERM, margin: float = MARGIN) -> bool:
    """Whether a poller, its last renewal that succeeded *sent* at `renewed`, must not start anything at `now`."""
    return now - renewed >= term - margin


def decide(
    me: Holder,
    view: View,
    claims: Sequence[Claim],
    running: Collection[str],
    giving: Collection[str] = (),
    asked: str | None = None,
    *,
    draining: bool = False,
) -> Moves:
    """What `me`, running some shards and giving some of those away, does next. `claims` are all shards to be read.

    Everybody aims at ceil(shards / pollers). Free shards are taken first; then the most loaded poller is asked for one
    shard at a time, as long as that makes the two more equal, so that nothing flaps.
    """
    if draining:
        return Moves(give=tuple(one for one in running if one not in giving), settled=not running)
    others = tuple(beat for beat in view.living() if beat.holder.identity != me.identity)
    members = [beat for beat in others if not beat.draining]
    share = -(-len(claims) // (len(members) + 1))
    load = Counter(claim.holder for claim in claims if claim.holder is not None)
    load[me] = len([one for one in running if one not in giving])
    unheld = [claim for claim in claims if claim.shard_id not in running and is_free(me, view, claim.holder)]
    take = _take(me, view, unheld, {beat.asks for beat in members} - {asked}, share - load[me])
    load[me] += len(take)
    wanted = _ask(me, claims, members, load, asked) if load[me] < share else None
    ask = asked if asked in take else wanted  # it stays promised to us until it came
    give = _give(me, running, members, load) if not giving else ()
    leaving = any(beat.draining for beat in others)
    return Moves(take, give, ask, settled=not (unheld or giving or give or ask or leaving))


def _take(
    me: Holder, view: View, unheld: Sequence[Claim], promised: Collection[str | None], room: int
) -> tuple[str, ...]:
    """Its own from a former life and what is left lying, whatever their number; of the others up to its share.

    Not those that another poller has asked for.
    """
    due = [claim.shard_id for claim in unheld if _was_mine(me, claim) or _left_lying(view, claim)]
    free = [claim.shard_id for claim in unheld if claim.shard_id not in {*due, *promised}]
    free.sort(key=lambda shard_id: _order(me, shard_id))
    return (*due, *free[: max(0, room - len(due))])


def _ask(
    me: Holder, claims: Sequence[Claim], members: Sequence[Beat], load: Counter[Holder], asked: str | None
) -> str | None:
    """One shard of the most loaded poller, the same until it came or asking has no sense any more."""
    givers = {beat.holder for beat in members if load[beat.holder] >= load[me] + 2}
    held = {claim.shard_id: claim.holder for claim in claims if claim.holder is not None and claim.holder in givers}
    if asked in held:
        return asked
    most = max((load[holder] for holder in givers), default=0)
    candidates = [shard_id for shard_id, holder in held.items() if load[holder] == most]
    return min(candidates, key=lambda shard_id: _order(me, shard_id), default=None)


def _give(me: Holder, running: Collection[str], members: Sequence[Beat], load: Counter[Holder]) -> tuple[str, ...]:
    """One shard that a less loaded poller asks for: the one asked for by the least loaded."""
    asking = [
        (load[beat.holder], beat.holder.identity, beat.asks)
        for beat in members
        if beat.asks is not None and beat.asks in running and load[me] >= load[beat.holder] + 2
    ]
    return (min(asking)[2],) if asking else ()


def falls_to(me: Holder, view: View, shard_id: str) -> bool:
    """Whether `me`, of all that live, is the one to make a shard's missing lease: so that not everybody tries."""
    holders = [beat.holder for beat in view.living() if not beat.draining and beat.holder.identity != me.identity]
    return min([me, *holders], key=lambda holder: (_order(holder, shard_id), holder.identity)) == me


def _was_mine(me: Holder, claim: Claim) -> bool:
    return claim.holder is not None and claim.holder.identity == me.identity


def _left_lying(view: View, claim: Claim) -> bool:
    """Whether nobody came for what the dead held or had asked for, though all who knew them found them dead."""
    asking = [beat.holder for beat in view.beats if beat.asks == claim.shard_id]
    lives = [claim.holder] if claim.holder is not None else asking
    return bool(lives) and all(view.expired(one, TERM + LINGER) for one in lives)


def is_free(me: Holder, view: View, holder: Holder | None) -> bool:
    """Whether a shard with this holder may be taken: nobody's, one's own of a former life, or that of a dead one."""
    return holder is None or holder.identity == me.identity or view.expired(holder)


def _any_life(holder: Holder) -> Holder:
    return Holder(holder.identity, "")


def _order(me: Holder, shard_id: str) -> int:
    """Another order for every poller, so that they do not all reach for the same shards."""
    return zlib.crc32(f"{me.identity} {shard_id}".encode())
