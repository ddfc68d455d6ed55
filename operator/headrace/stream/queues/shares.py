"""How the calls that a queue's mapping may have in flight are divided among its pollers (design, "Scaling"). Pure.

Each poller tells with its heartbeat how many calls it claims, and never has more. It asks for an equal share; a larger
claim counts only once it was written, and all heartbeats read after that, and they did not add up to more than there
is. A smaller one counts at once, and is told with what is still in flight. So whatever order the pollers write and read
in, what all of them may start is never more than the limit.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

REMEMBERED = 300.0
"""Seconds for which the largest backlog is told: pods come at once, and go late."""


@dataclass(frozen=True, slots=True)
class Share:
    """What one poller has: `granted` calls that may be in flight, its `claim` as told last, and `wanted` of that."""

    granted: int = 0
    claim: int = 0
    wanted: int = 0

    def claiming(self, target: int, in_flight: int) -> Share:
        """Just before a heartbeat is written that tells the claim; `target` is the equal share as it shows now."""
        return Share(min(self.granted, target), max(target, in_flight), target)

    def after_read(self, total: int, others: int) -> Share:
        """After heartbeats were read that followed that write: `others` is what everybody else claims together."""
        return replace(self, granted=self.wanted) if self.claim + others <= total else self


def target(total: int, identities: Iterable[str], own: str) -> int:
    """A poller's equal share of `total`; what is left over goes to the first of the sorted identities."""
    everybody = sorted({*identities, own})
    each, left = divmod(total, len(everybody))
    return each + (everybody.index(own) < left)


@dataclass(slots=True)
class Backlog:
    """The largest backlog told of in the last REMEMBERED seconds."""

    _seen: deque[tuple[float, int]] = field(default_factory=deque)

    def see(self, messages: int, now: float) -> None:
        """Takes note of so many messages at a time (seconds)."""
        while self._seen and self._seen[-1][1] <= messages:
            self._seen.pop()
        self._seen.append((now, messages))

    def largest(self, now: float) -> int | None:
        """None where none was told; the last one stands until there is another."""
        while len(self._seen) > 1 and now - self._seen[0][0] > REMEMBERED:
            self._seen.popleft()
        return self._seen[0][1] if self._seen else None
