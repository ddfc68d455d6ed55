"""How a queue's pollers divide the calls that may be in flight at a time (design decision 43). Pure.

Every poller's heartbeat tells a claim: what it may have in flight. A claim is lowered at once, though never told as
less than what is in flight. It is raised in two steps: told first, and used only as far as it fits beside the claims
of all others, as they are read after it was told. Of two pollers that raise at the same time, the one that reads last
sees the other's claim; so the sum of what is used never exceeds the total, whatever is late, lost or done twice.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from headrace.heartbeat import LARGEST

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Sequence

UNREADABLE = LARGEST
"""The claim of a heartbeat that cannot be read: it may be anything, so that nobody raises his beside it."""


@dataclass(frozen=True, slots=True)
class Peer:
    """Another poller as its heartbeat was read: its claim, None while it has not asked for calls.

    `gone` is when its heartbeat was missed first, in seconds of our clock: what it claimed counts on for a term.
    """

    identity: str
    claims: int | None
    draining: bool = False
    gone: float | None = None

    @property
    def shares(self) -> bool:
        """Whether it is one of those that the total is divided among."""
        return self.claims not in {None, UNREADABLE} and not self.draining and self.gone is None


@dataclass(frozen=True, slots=True)
class Share:
    """What of `total` calls at a time this poller wants, has told as its claim, may use, and has in flight.

    Always: `in_flight` and `usable` are at most what the heartbeat tells, unless the lease has lapsed since.
    """

    me: str
    total: int | None = None
    """None while nobody has asked for calls."""
    wanted: int = 0
    told: int = 0
    usable: int = 0
    in_flight: int = 0

    @property
    def claims(self) -> int | None:
        """What the heartbeat tells."""
        return self.told if self.total is not None else None

    def of(self, total: int) -> Share:
        """Asks for calls out of another total; less of it holds at once."""
        return replace(self, total=total, usable=min(self.usable, total))

    def claiming(self, peers: Collection[Peer], *, leaving: bool) -> Share:
        """With the claim that the next heartbeat tells; what is less than before holds from now on."""
        others = [peer.identity for peer in peers if peer.shares]
        wanted = 0 if leaving or self.total is None else equal_share(self.total, self.me, others)
        return replace(self, wanted=wanted, told=max(wanted, self.in_flight), usable=min(self.usable, wanted))

    def confirmed(self, peers: Iterable[Peer]) -> Share:
        """After a read of all heartbeats that began after the claim was written: what fits beside theirs is usable."""
        free = (self.total or 0) - sum(peer.claims or 0 for peer in peers)
        return replace(self, usable=max(self.usable, min(self.wanted, free)))


def equal_share(total: int, me: str, others: Iterable[str]) -> int:
    """An equal part of a total, of which the first ones by name have the remainder."""
    members = sorted({me, *others})
    each, rest = divmod(total, len(members))
    return each + (members.index(me) < rest)


def seen(before: Iterable[Peer], peers: Sequence[Peer], now: float, term: float) -> tuple[Peer, ...]:
    """The others after a read: a heartbeat that is not there any more still claims what it did, for a term.

    It may have been deleted by hand, and its poller live.
    """
    there = {peer.identity for peer in peers}
    missed = (peer if peer.gone is not None else replace(peer, gone=now) for peer in before)
    kept = (peer for peer in missed if peer.identity not in there and now - (peer.gone or 0.0) < term)
    return (*peers, *kept)
