"""What a poller of a queue tells the others and the operator: its claim of the calls, and the backlog it has seen.

Pure: a fold over beats and what the data plane reports; seconds of a monotonic clock come in. Before this: `shares.py`.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from headrace.heartbeat import LARGEST, TERM
from headrace.stream.queues.shares import Peer, Share, seen

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

BACKLOG_KEPT = 300.0
"""Seconds for which the largest backlog seen is told, so that pods are taken away late and never flap."""


@dataclass(slots=True)
class Claims:
    """A poller's share of the calls from one beat to the next. What returns a bool says whether a beat is due."""

    share: Share
    peers: tuple[Peer, ...] = ()
    _knows: bool = False
    """Whether the others were read in this life."""
    _written: bool = False
    """Whether the newest claim is known to be written."""
    _backlogs: list[tuple[float, int]] = field(default_factory=list)
    """When which backlog was seen, without those that were followed by no smaller one."""

    def ask(self, total: int) -> bool:
        """The data plane wants its part of `total` calls at a time."""
        if total == self.share.total:
            return False
        self.share = self.share.of(total)
        return True

    def report_calls(self, in_flight: int) -> bool:
        """So many calls are in flight now."""
        self.share = replace(self.share, in_flight=in_flight)
        return self.share.told > self.share.wanted >= in_flight

    def compose(self, *, leaving: bool) -> int | None:
        """The claim for a heartbeat that is about to be written; None where there is none to tell.

        A life that does not know the others yet wants nothing.
        """
        self._written = False
        self.share = self.share.claiming(self.peers, leaving=leaving or not self._knows)
        return self.share.claims

    def written(self) -> None:
        """The heartbeat with the last claim was written."""
        self._written = True

    def read(self, living: Sequence[Peer], dead: Collection[str], now: float, *, leaving: bool) -> bool:
        """All heartbeats were read, after whatever was written before."""
        before = [peer for peer in self.peers if peer.identity not in dead]
        self.peers, self._knows = seen(before, living, now, TERM), True
        if self._written:
            self.share = self.share.confirmed(self.peers)
        due = self.share.claiming(self.peers, leaving=leaving)
        return (due.wanted, due.told) != (self.share.wanted, self.share.told)

    def lapse(self) -> None:
        """The lease was in doubt: others may have taken what was ours, so that it has to be won from nothing."""
        self._knows = self._written = False

    def report_backlog(self, backlog: int, now: float) -> None:
        """The queue has about so many messages that could be received."""
        larger = [(when, most) for when, most in self._backlogs if most > backlog]
        self._backlogs = [*larger, (now, min(backlog, LARGEST))]

    def backlog(self, now: float) -> int | None:
        """The largest backlog seen lately, None where none was."""
        self._backlogs = [one for one in self._backlogs if now - one[0] <= BACKLOG_KEPT]
        return self._backlogs[0][1] if self._backlogs else None
