"""Telling of a queue how each kind of request fares. Receiving, deleting, hiding and looking are allowed one by one.

Before this: `queue.py`, `holding.py`, `deleting.py`. After this: the observers.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from headrace.stream.events import ConditionType, reachable, unreachable

if TYPE_CHECKING:
    from headrace.errors import SourceError
    from headrace.stream.events import Observer


@dataclass(slots=True)
class Asking:
    """One kind of request: what fails with it is told until it succeeds, whatever else goes well."""

    what: str
    observer: Observer
    failing: bool = True
    """Whether the next success is news."""

    def succeeded(self) -> None:
        """A request was answered."""
        if self.failing:
            self.failing = False
            self.observer(reachable(ConditionType.SOURCE_REACHABLE, self.what))

    def failed(self, error: SourceError) -> None:
        """A request was not."""
        self.failing = True
        self.observer(unreachable(ConditionType.SOURCE_REACHABLE, error, self.what))
