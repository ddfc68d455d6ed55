"""Whether everything that was written is accounted for. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence


@dataclass(frozen=True, slots=True)
class Account:
    """Three counts by three witnesses, in records, and what comes of laying them side by side.

    `written` is the producer's, `acknowledged` the function's (each record once, `repeated` the rest), `discarded` the
    sum of `batchSize` in the queue's failure records. `missing` were written and are in neither, `twice` in both.
    """

    written: int
    acknowledged: int
    repeated: int
    discarded: int
    missing: int
    twice: int

    @property
    def adds_up(self) -> bool:
        """Every record is in exactly one place, and the counts agree with that."""
        return not self.missing and not self.twice and self.written == self.acknowledged + self.discarded


def settle(written: Sequence[str], acknowledged: Sequence[str], failures: Sequence[dict[str, Any]]) -> Account:
    """The account of records named `SHARD:SEQUENCE_NUMBER` and of failure records (contract C.1)."""
    everything, done = set(written), set(acknowledged)
    failed = {name for name in everything if any(_covers(failure, name) for failure in failures)}
    return Account(
        written=len(everything),
        acknowledged=len(done),
        repeated=len(acknowledged) - len(done),
        discarded=sum(failure["KinesisBatchInfo"]["batchSize"] for failure in failures),
        missing=len(everything - done - failed),
        twice=len(done & failed),
    )


def _covers(failure: dict[str, Any], name: str) -> bool:
    info = failure["KinesisBatchInfo"]
    shard_id, _, number = name.partition(":")
    return info["shardId"] == shard_id and (
        int(info["startSequenceNumber"]) <= int(number) <= int(info["endSequenceNumber"])
    )
