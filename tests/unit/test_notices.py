"""What becomes a Kubernetes Event, and that posting one stops nothing."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from headrace.cluster import Body, ClusterError
from headrace.event_recorder import QUEUE, EventRecorder
from headrace.notice import INTERVAL, Notice
from headrace.records import Gap
from headrace.resources import EVENT, Kind, MappingRef
from headrace.stream.classify import Failed, FailureKind
from headrace.stream.events import (
    DiscardDelivered,
    Event,
    FilterNeverMatches,
    RecordsAbandoned,
    RecordsDropped,
    RecordsTrimmed,
    ShardFinished,
    ShardLost,
    StreamRecreated,
)
from headrace.stream.notices import notice_of
from headrace.stream.retry import Condition, Discard
from tests.support.fake_cluster import FakeCluster
from tests.support.records import records

BATCH = records(1, 2, 3)
FAILURE = Failed(FailureKind.FUNCTION_ERROR, "Unhandled", detail="secret of the function")
DISCARD = Discard(BATCH, Condition.RETRY_ATTEMPTS_EXHAUSTED, 2, FAILURE, BATCH, 0.0)
REF = MappingRef("shop", "orders", "0a1b2c3d-0000-4000-8000-000000000001")


@pytest.mark.parametrize(
    ("event", "reason", "message"),
    [
        (
            DiscardDelivered("s", DISCARD, "r"),
            "RecordsDiscarded",
            "s: 3 records, 1 to 3, were given up (RetryAttemptsExhausted); the destination has their failure record",
        ),
        (
            RecordsDropped("s", DISCARD, delivery_failed=False),
            "RecordsDropped",
            "s: 3 records, 1 to 3, were given up (RetryAttemptsExhausted); they are lost: no destination is set",
        ),
        (
            RecordsTrimmed("s", Gap("7", "9", None, 0.0)),
            "RecordsTrimmed",
            "s: the source's retention may have taken records unread, at most those between 7 and 9 (1970-01-01T00:00:00.000Z)",
        ),
        (
            RecordsTrimmed("s", Gap(None, None)),
            "RecordsTrimmed",
            "s: the source's retention may have taken records unread, at most those between the start and the end of the shard",
        ),
        (
            FilterNeverMatches(1, "data", "body"),
            "FilterNeverMatches",
            "spec.filterCriteria.filters[1].pattern: no record has the field 'data', so it matches none; a record's data stand under 'body'",
        ),
        (
            StreamRecreated(0.0),
            "StreamRecreated",
            "the stream was made anew at 1970-01-01T00:00:00.000Z; no checkpoint of the former one counts",
        ),
        (
            RecordsAbandoned("s", 3, "1", "3"),
            "RecordsDropped",
            "s: 3 records, 1 to 3, were not decided when their stream was deleted",
        ),
        (
            ShardLost("s", "pod-b"),
            "ShardLost",
            "s: pod-b holds it now; what was in flight here may come again there",
        ),
        (ShardLost("s", None), "ShardLost", "s: nobody holds it now; what was in flight here may come again there"),
    ],
)
def test_a_notice_names_shard_numbers_and_reason_and_nothing_of_the_content(
    event: Event, reason: str, message: str
) -> None:
    notice = notice_of(event)
    assert isinstance(notice, Notice)
    assert (notice.reason, notice.type, notice.message) == (reason, "Warning", message)


def test_what_goes_well_is_no_notice() -> None:
    assert notice_of(ShardFinished("s")) is None


async def posted(recorder: EventRecorder, cluster: FakeCluster, count: int) -> list[Body]:
    task = asyncio.create_task(recorder.run())
    async with asyncio.timeout(5):
        while len(found := await cluster.select(EVENT, "shop")) < count or not recorder._queue.empty():
            await asyncio.sleep(0)
    task.cancel()
    return found


async def test_like_events_are_posted_once_a_minute_and_counted_in_the_next() -> None:
    cluster, now = FakeCluster(), 0.0
    recorder = EventRecorder(cluster, REF, "pod-a", lambda: now)
    for shard in ("a", "a", "a", "b"):
        recorder(RecordsDropped(shard, DISCARD, delivery_failed=False))
    now = INTERVAL
    recorder(RecordsDropped("a", DISCARD, delivery_failed=False))
    first, second, third = await posted(recorder, cluster, 3)
    assert [each["message"][0] for each in (first, second, third)] == ["a", "b", "a"]
    assert third["message"].endswith("(2 more like this since the last Event)")
    assert first["involvedObject"]["uid"] == REF.uid
    assert (first["type"], first["reason"], first["count"]) == ("Warning", "RecordsDropped", 1)


async def test_a_post_that_fails_stops_nothing_and_a_flood_is_bounded() -> None:
    class Refusing(FakeCluster):
        refusals = 1

        async def create(self, kind: Kind, body: Body) -> Any:
            if self.refusals:
                self.refusals -= 1
                raise ClusterError("forbidden", 403)
            return await super().create(kind, body)

    cluster = Refusing()
    recorder = EventRecorder(cluster, REF, "pod-a")
    for number in range(2 * QUEUE):
        recorder(RecordsDropped(f"shard-{number}", DISCARD, delivery_failed=False))
    assert len(await posted(recorder, cluster, QUEUE - 1)) == QUEUE - 1
