"""What of a mapping's events is worth a Kubernetes Event, and in which words (contract B.8, C.5). Pure.

Names, numbers and times only: never what is in a record, nor an answer of a function or a server.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from headrace.errors import Reason
from headrace.notice import WARNING, Notice
from headrace.stream.events import (
    DiscardDelivered,
    Event,
    FilterNeverMatches,
    LeaseBroken,
    RecordsAbandoned,
    RecordsDropped,
    RecordsTrimmed,
    ShardLost,
    StreamRecreated,
)
from headrace.stream.instants import instant

if TYPE_CHECKING:
    from headrace.records import Gap
    from headrace.stream.retry import Discard


def notice_of(event: Event) -> Notice | None:
    """The notice an event is worth, None for most."""
    match event:
        case DiscardDelivered(shard_id, discard):
            text = f"{_discarded(shard_id, discard)}; the destination has their failure record"
            return Notice(Reason.RECORDS_DISCARDED, WARNING, text, shard_id)
        case RecordsDropped(shard_id, discard, delivery_failed):
            text = f"{_discarded(shard_id, discard)}; they are lost: {_why_lost(delivery_failed=delivery_failed)}"
            return Notice(Reason.RECORDS_DROPPED, WARNING, text, shard_id)
        case FilterNeverMatches(index, field, data_key):
            text = (
                f"spec.filterCriteria.filters[{index}].pattern: no record has the field {field!r}, so it matches none;"
                f" a record's data stand under {data_key!r}"
            )
            return Notice(Reason.FILTER_NEVER_MATCHES, WARNING, text)
        case RecordsTrimmed(shard_id, gap):
            return Notice(Reason.RECORDS_TRIMMED, WARNING, _trimmed(shard_id, gap), shard_id)
        case StreamRecreated(created):
            text = f"the stream was made anew at {instant(created)}; no checkpoint of the former one counts"
            return Notice(Reason.STREAM_RECREATED, WARNING, text)
        case RecordsAbandoned(shard_id, count, first, last):
            text = f"{shard_id}: {count} records, {first} to {last}, were not decided when their stream was deleted"
            return Notice(Reason.RECORDS_DROPPED, WARNING, text, shard_id)
        case _:
            return _of_lease(event)


def _of_lease(event: Event) -> Notice | None:
    match event:
        case ShardLost(shard_id, holder):
            text = f"{shard_id}: {holder or 'nobody'} holds it now; what was in flight here may come again there"
            return Notice(Reason.SHARD_LOST, WARNING, text, shard_id)
        case LeaseBroken(shard_id, detail):
            return Notice(
                Reason.LEASE_BROKEN, WARNING, f"{shard_id}: nobody can take it, others go on: {detail}", shard_id
            )
        case _:
            return None


def _discarded(shard_id: str, discard: Discard) -> str:
    records, condition = discard.records, discard.condition.value
    if not records:
        return f"{shard_id}: the final call of a window was given up ({condition})"
    first, last = records[0].sequence_number, records[-1].sequence_number
    return f"{shard_id}: {len(records)} records, {first} to {last}, were given up ({condition})"


def _why_lost(*, delivery_failed: bool) -> str:
    return "the destination did not take their failure record in time" if delivery_failed else "no destination is set"


def _trimmed(shard_id: str, gap: Gap) -> str:
    after = "the start" if gap.after is None else f"{gap.after}{_at(gap.after_arrival)}"
    first = "the end of the shard" if gap.first is None else f"{gap.first}{_at(gap.first_arrival)}"
    return (
        f"{shard_id}: the source's retention may have taken records unread, at most those between {after} and {first}"
    )


def _at(arrival: float | None) -> str:
    return "" if arrival is None else f" ({instant(arrival)})"
