"""How many batches of a queue are with the function at a time (contract F.4). Pure: what happened in, a number out.

It begins with a few, and grows by one with each answer while there is a backlog: twice as many after each round of
calls. A throttle halves it, once for all calls of a round. What the function cannot take shows at once, and what it can
is reached in seconds; AWS grows by 300 a minute.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

FIRST = 5
"""Batches at a time at the start."""
MOST = 1250
"""At most, where nobody says how many (contract F.4)."""
PER_POLLER = 10
"""Batches at a time of one provisioned poller (contract F.4)."""
LEAST_POLLERS, MOST_POLLERS = 2, 200
"""Provisioned pollers where the mapping does not say (contract A.1)."""


@dataclass(frozen=True, slots=True)
class Concurrency:
    """`now` batches at a time, never fewer than `least` nor more than `most`; `most` of 0 lets nothing start.

    `steady_until` is the time (seconds) before which another throttle is the same one.
    """

    now: float = FIRST
    least: int = 1
    most: int = MOST
    steady_until: float = 0.0

    @property
    def allowed(self) -> int:
        """Batches at a time."""
        return min(int(self.now), self.most)

    def answered(self, *, backlog: bool) -> Concurrency:
        """A call reached the function; more may go out where there is more to do."""
        if not backlog:
            return self
        return replace(self, now=min(self.now + 1, max(self.least, self.most)))

    def throttled(self, now: float, pause: float) -> Concurrency:
        """A call was throttled, or did not get there, and waits for `pause` seconds."""
        if now < self.steady_until:
            return self
        return replace(self, now=max(self.least, self.now / 2), steady_until=now + pause)

    def within(self, most: int) -> Concurrency:
        """The same with another bound."""
        return self if most == self.most else replace(self, most=most)


def bounds(maximum: int | None, provisioned: tuple[int | None, int | None] | None) -> tuple[int, int]:
    """Batches at a time of a mapping: at least and to begin with, and at most.

    `maximum` is scalingConfig.maximumConcurrency; `provisioned` the least and most pollers of provisionedPollerConfig.
    """
    if provisioned is not None:
        least, most = provisioned
        fewest = LEAST_POLLERS if least is None else least
        return PER_POLLER * fewest, PER_POLLER * max(fewest, MOST_POLLERS if most is None else most)
    return 1, MOST if maximum is None else maximum
