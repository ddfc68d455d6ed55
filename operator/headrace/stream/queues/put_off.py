"""Batches that the function did not take, and whether that is the function's doing or their own. Pure.

Nothing new is received while the function is busy or away: that would spend receives, and hold messages, for nothing.
A batch that it does not take though it answers others is another matter: a gateway gives up on it, or its records kill
what serves the function. It waits by itself, and costs the others nothing.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum, auto

PROBES = 2
"""Batches out of reach, while nothing is heard of the function, before it counts as away."""
MOST_APART = 100
"""Batches that may wait by themselves; further ones count as the function's doing."""


class Why(Enum):
    """Why a batch waits."""

    BUSY = auto()
    """The function asked for patience."""
    AWAY = auto()
    """It could not be reached, as far as is known with no batch."""
    ITSELF = auto()
    """It answers others."""


@dataclass(slots=True)
class PutOff:
    """The batches that wait, by a name of each."""

    _waiting: dict[str, Why] = field(default_factory=dict)

    def failed(self, batch: str, *, throttled: bool) -> bool:
        """A batch was not taken; whether that is the function's doing."""
        if throttled:
            self._waiting[batch] = Why.BUSY
        elif self._waiting.get(batch) is not Why.ITSELF:
            self._waiting[batch] = Why.AWAY
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

        Of those it was too busy for it may take one; those that found it away may all go, and are to blame if they fail
        again.
        """
        away = [one for one, why in self._waiting.items() if why is Why.AWAY]
        busy = [one for one, why in self._waiting.items() if why is Why.BUSY]
        apart = sum(why is Why.ITSELF for why in self._waiting.values())
        self._waiting |= dict.fromkeys(away[: max(0, MOST_APART - apart)], Why.ITSELF)
        for one in busy[:1]:
            self.tried(one)
        return frozenset([*away, *busy[:1]])

    @property
    def blocks(self) -> bool:
        """Whether nothing more may be received."""
        if not self._waiting:  # nearly always, and asked for again and again
            return False
        whys = list(self._waiting.values())
        return Why.BUSY in whys or whys.count(Why.AWAY) >= PROBES

    @property
    def probing(self) -> bool:
        """Whether a single other batch is to show if the function is away."""
        return bool(self._waiting) and not self.blocks and Why.AWAY in self._waiting.values()

    @property
    def apart(self) -> int:
        """Batches that take nobody's place with the function."""
        if not self._waiting:
            return 0
        whys = list(self._waiting.values())
        return whys.count(Why.ITSELF) + (whys.count(Why.AWAY) if self.probing else 0)
