"""Telling of a queue how each kind of request fares: receiving, deleting, hiding and looking are allowed one by one.

Before this: `queue.py`, `holding.py`, `deleting.py`. After this: the observers.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from headrace.errors import Reason
from headrace.stream.events import ConditionType, reachable, unreachable

if TYPE_CHECKING:
    from headrace.errors import SourceError
    from headrace.stream.events import Observer


@dataclass(slots=True)
class Asking:
    """One kind of request: where it is denied that is told until it succeeds, whatever else goes well meanwhile.

    Any other failure is told until any request succeeds: this kind may not be needed again.
    """

    what: str
    observer: Observer
    failing: bool = True
    """Whether the next success is news."""
    denied: bool = False

    def succeeded(self) -> None:
        """A request was answered."""
        if self.denied:
            self.denied = False
            self.observer(reachable(ConditionType.SOURCE_REACHABLE, self.what))
        if self.failing:
            self.failing = False
            self.observer(reachable(ConditionType.SOURCE_REACHABLE))

    def failed(self, error: SourceError) -> None:
        """A request was not."""
        self.failing = True
        self.denied = self.denied or error.reason is Reason.ACCESS_DENIED
        self.observer(unreachable(ConditionType.SOURCE_REACHABLE, error, self.what if self.denied else None))
