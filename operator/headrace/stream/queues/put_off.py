"""Batches that the function did not take, and whether that is the function's doing or their own. Pure.

Nothing new is received while the function is busy or cannot be connected to (contract F.1, "this project"). Where
something answers in its place, as a gateway with 503, that may be the batch's own doing: the gateway gives up on it, or
its records kill what serves the function. Others are asked, one at first and one a minute. A batch that is not taken
though others are answered waits by itself, and costs them nothing.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum, auto

PROBE_INTERVAL = 60.0
"""Seconds after which another batch is to show whether a function that answers nobody is there again."""
MOST_APART = 100
"""Batches that may wait by themselves, or as probes; further ones count as the function's doing."""


class Why(Enum):
    """Why a batch waits."""

    BUSY = auto()
    """The function asked for patience."""
    AWAY = auto()
    """There was no connection."""
    UNKNOWN = auto()
    """Something answered in the function's place, as far as is known to every batch."""
    ITSELF = auto()
    """The function answers others."""


@dataclass(slots=True)
class PutOff:
    """The batches that wait, by a name of each; times are seconds of a monotonic clock."""

    _waiting: dict[str, Why] = field(default_factory=dict)
    _silent_since: float | None = None
    """When the first of those failed of which it is not known why, since the function answered last."""

    def failed(self, batch: str, now: float, *, throttled: bool, connected: bool) -> bool:
        """A batch was not taken; whether it counts as the function's doing."""
        if throttled or not connected:
            self._waiting[batch] = Why.BUSY if throttled else Why.AWAY
        elif self._waiting.get(batch) is not Why.ITSELF:
            self._waiting[batch] = Why.UNKNOWN
            self._silent_since = now if self._silent_since is None else self._silent_since
        return self._waiting[batch] is not Why.ITSELF

    def tried(self, batch: str) -> None:
        """A batch is called again: whether the function is still too busy for it shows now."""
        if self._waiting.get(batch) is Why.BUSY:
            del self._waiting[batch]

    def ended(self, batch: str) -> None:
        """A batch waits no more, whatever became of it."""
        self._waiting.pop(batch, None)

    def answered(self) -> frozenset[str]:
        """The function answered some other batch; gives those that are worth a try at once.

        Of those that it was too busy for it may take one; all others may go. Those that something else answered are to
        blame if they fail again.
        """
        self._silent_since = None
        if not self._waiting:
            return frozenset()
        busy, away, unknown = (
            [one for one, why in self._waiting.items() if why is each] for each in (Why.BUSY, Why.AWAY, Why.UNKNOWN)
        )
        self._waiting |= dict.fromkeys(unknown[: max(0, MOST_APART - self._count(Why.ITSELF))], Why.ITSELF)
        for one in busy[:1]:
            self.tried(one)
        return frozenset([*busy[:1], *away, *unknown])

    def blocks(self, now: float) -> bool:
        """Whether nothing more may be received."""
        if not self._waiting:  # nearly always, and asked for again and again
            return False
        whys = self._waiting.values()
        return Why.BUSY in whys or Why.AWAY in whys or self._count(Why.UNKNOWN) > self._probes(now)

    def probing(self, now: float) -> bool:
        """Whether one other batch is to show if the function is there."""
        return bool(self._waiting) and not self.blocks(now) and Why.UNKNOWN in self._waiting.values()

    def apart(self, now: float) -> int:
        """Batches that take nobody's place with the function."""
        if not self._waiting:
            return 0
        return self._count(Why.ITSELF) + (self._count(Why.UNKNOWN) if self.probing(now) else 0)

    def free(self, allowed: int, in_flight: int, now: float) -> int:
        """Batches that may be called beside those in flight, the ones that wait among them; a single one as a probe."""
        return (min(1, allowed) if self.probing(now) else allowed) - (in_flight - self.apart(now))

    def _probes(self, now: float) -> int:
        """How many batches may be asked of which it is not known why the first is not taken."""
        silent = now - self._silent_since if self._silent_since is not None else 0.0
        return min(MOST_APART, 1 + int(silent / PROBE_INTERVAL))

    def _count(self, why: Why) -> int:
        return sum(one is why for one in self._waiting.values())
