"""Who is alive: a heartbeat counts until its term has passed on our own clock without a change of its Lease. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from headrace.heartbeat import renewal_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from headrace.cluster import Body

Key = tuple[str, str]
"""A mapping's namespace and name."""


@dataclass(slots=True)
class _Beat:
    key: Key | None
    renewal: str
    report: str
    expires: float


@dataclass(slots=True)
class Liveness:
    """What was seen of every heartbeat; `clock` is monotonic, in seconds."""

    clock: Callable[[], float]
    _beats: dict[str, _Beat] = field(default_factory=dict)

    def saw(self, key: Key | None, lease: Body) -> bool:
        """Takes a Lease in (its mapping may not be known yet); whether it tells more than a renewal in time."""
        metadata = lease["metadata"]
        renewal, term = renewal_of(lease)
        report = str(metadata.get("annotations"))
        beat = self._beats.get(metadata["uid"])
        if beat is None:
            self._beats[metadata["uid"]] = _Beat(key, renewal, report, self.clock() + term)
            return True
        news = beat.report != report or (beat.renewal != renewal and beat.expires <= self.clock())
        if beat.renewal != renewal:
            beat.expires = self.clock() + term
        beat.key, beat.renewal, beat.report = key or beat.key, renewal, report
        return news

    def forget(self, lease: Body) -> bool:
        """The Lease was deleted: a clean stop; whether it was known."""
        return self._beats.pop(lease["metadata"]["uid"], None) is not None

    def alive(self, key: Key, leases: Iterable[Body]) -> list[Body]:
        """Those of the Leases, just read, that are within their term."""
        found = []
        for lease in leases:
            self.saw(key, lease)
            if self._beats[lease["metadata"]["uid"]].expires > self.clock():
                found.append(lease)
        return found

    def expired(self, since: float) -> set[Key]:
        """The mappings that lost a heartbeat between `since` and now."""
        now = self.clock()
        return {beat.key for beat in self._beats.values() if beat.key is not None and since < beat.expires <= now}
