"""A shard that does not get ahead, as its ShardLease tells it and a heartbeat passes it on. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

LONGEST = 300
"""Characters that are told of an error, and of whatever else a lease says."""
_BLOCKED, _RETRYING = "Blocked", "Retrying"


@dataclass(frozen=True, slots=True)
class StuckShard:
    """A shard's state, `since` when (RFC 3339), on which `record` (a sequence number), after how many failed calls."""

    shard_id: str
    state: str
    since: str | None = None
    record: str | None = None
    attempts: int = 0
    error: str | None = None

    def __str__(self) -> str:
        since = f" since {self.since}" if self.since else ""
        record = f" on record {self.record}" if self.record else ""
        error = self.error or "no error is told"
        return f"{self.shard_id} is {self.state.lower()}{since}{record} after {self.attempts} failed calls: {error}"

    @property
    def badness(self) -> tuple[bool, str, str]:
        """What sorts the worst first: those that are blocked, and the longest."""
        return self.state != _BLOCKED, self.since or "9999", self.shard_id


def stuck_shard(shard_id: str, status: Mapping[str, Any]) -> StuckShard | None:
    """What a ShardLease's status says of its shard; None: it gets ahead, or has ended."""
    state = status.get("state")
    if status.get("finished") or state not in (_BLOCKED, _RETRYING):
        return None
    since, record, error = (_text(status.get(name)) for name in ("stuckSince", "stuckOn", "lastError"))
    return StuckShard(shard_id, str(state), since, record, status.get("attempts") or 0, error)


def _text(told: object) -> str | None:
    return str(told)[:LONGEST] if told else None
