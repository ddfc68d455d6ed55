"""How many batches of a queue are with the function at a time (contract F.4). Pure: what happened in, a number out.

It begins with a few, and grows by one with each answer while there is a backlog: twice as many after each round of
calls. A throttle halves it, once for all calls of a round. What the function cannot take shows at once, and what it can
is reached in seconds; AWS grows by 300 a minute.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from headrace.spec import CALLS_PER_POLLER

FIRST = 5
"""Batches at a time at the start."""
MOST = 1250
"""At most, where nobody says how many (contract F.4)."""


@dataclass(frozen=True, slots=True)
class Concurrency:
    """How many batches are with the function at a time, between what the mapping always has and may have at most.

    `now` is what this poller has come to; `share` the part of `most` that is its own (0 lets nothing start), and of
    `least` it has as large a part. `steady_until` is the time (seconds) before which another throttle is the same one.
    """

    now: float = FIRST
    least: int = 1
    most: int = MOST
    share: int = MOST
    steady_until: float = 0.0

    @property
    def fewest(self) -> int:
        """Batches at a time that no throttle takes."""
        return max(1, math.ceil(self.least * self.share / self.most))

    @property
    def allowed(self) -> int:
        """Batches at a time."""
        return min(max(int(self.now), self.fewest), self.share)

    def answered(self, *, backlog: bool) -> Concurrency:
        """A call reached the function; more may go out where there is more to do."""
        if not backlog:
            return self
        return replace(self, now=min(max(self.now, self.fewest) + 1, max(self.fewest, self.share)))

    def throttled(self, now: float, pause: float) -> Concurrency:
        """A call was throttled, or did not get there, and waits for `pause` seconds."""
        if now < self.steady_until:
            return self
        return replace(self, now=max(self.fewest, self.now / 2), steady_until=now + pause)

    def within(self, share: int) -> Concurrency:
        """The same with another share."""
        return self if share == self.share else replace(self, share=share)


def begin(maximum: int | None, pollers: tuple[int, int] | None) -> Concurrency:
    """A mapping's: `maximum` is scalingConfig.maximumConcurrency, `pollers` the least and most of provisioned mode."""
    if pollers is not None:
        least, most = (each * CALLS_PER_POLLER for each in pollers)
        return Concurrency(least=least, most=most, share=most)
    most = MOST if maximum is None else maximum
    return Concurrency(most=most, share=most)
