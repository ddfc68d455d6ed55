"""What the metrics count of records that nobody will see (contract B.8, C.5), and what the log says of them."""

from __future__ import annotations

import pytest
from prometheus_client import CollectorRegistry
from structlog.testing import capture_logs

from headrace import logs
from headrace.errors import Reason
from headrace.records import Gap
from headrace.stream.classify import NotInvoked, Refused, Succeeded
from headrace.stream.events import (
    CallEnded,
    CallsAllowed,
    CallStarted,
    ConditionObserved,
    ConditionType,
    DeliveryFailed,
    Event,
    MessagesDeleted,
    Pending,
    QueueSeen,
    ReceiptsExpired,
    RecordsAbandoned,
    RecordsPolled,
    RecordsTrimmed,
    RetentionSeen,
    ShardLost,
    ShardStarted,
    ShardStopped,
    StreamRecreated,
    Waiting,
    all_of,
)
from headrace.stream.health import BLOCKED_AFTER, Health
from headrace.stream.metrics import Metrics
from tests.unit.test_health import DISCARD

LABELS = {"namespace": "shop", "mapping": "orders", "source": "arn"}
TRIMMED = RecordsTrimmed("shard", Gap("7", "90", 1.0, 2.5))
ABANDONED = RecordsAbandoned("shard", 3, "7", "9")


@pytest.mark.parametrize(
    ("event", "metric", "count"),
    [
        (TRIMMED, "headrace_trimmed_gaps_total", 1),
        (StreamRecreated(1.0), "headrace_stream_recreations_total", 1),
        (ShardLost("shard", "b"), "headrace_lost_shards_total", 1),
        (ABANDONED, "headrace_dropped_events_total", 3),
    ],
)
def test_a_loss_is_counted_from_zero(event: Event, metric: str, count: int) -> None:
    registry = CollectorRegistry()
    observer = Metrics(registry).observer("shop", "orders", "arn", Health())
    assert registry.get_sample_value(metric, LABELS) == 0
    observer(event)
    assert registry.get_sample_value(metric, LABELS) == count
    assert observer.counts.dropped == (3 if event is ABANDONED else 0)


def test_a_shard_is_blocked_while_it_is_put_off_again_and_again_and_gone_when_it_stops() -> None:
    registry, health = CollectorRegistry(), Health()
    observer = all_of(health, Metrics(registry).observer("shop", "orders", "arn", health))
    shard = LABELS | {"shard": "1"}
    observer(ShardStarted("1", None))
    observer(Pending("1", 1.0, at_tip=False))
    assert registry.get_sample_value("headrace_shards_started_total", LABELS) == 1
    assert registry.get_sample_value("headrace_shard_blocked", shard) == 0
    for _ in range(BLOCKED_AFTER):
        observer(Waiting("1", (), 1.0, 1))
    assert registry.get_sample_value("headrace_shard_blocked", shard) == 1
    observer(ShardStopped("1"))
    assert registry.get_sample_value("headrace_shard_blocked", shard) is None
    assert registry.get_sample_value("headrace_iterator_age_seconds", shard) is None


def test_the_sources_retention_is_told_in_seconds() -> None:
    registry = CollectorRegistry()
    Metrics(registry).observer("shop", "orders", "arn", Health())(RetentionSeen(604800.0))
    assert registry.get_sample_value("headrace_source_retention_seconds", LABELS) == 604800


def test_a_condition_is_1_or_0_as_the_status_has_it_and_not_there_while_it_is_not_known() -> None:
    registry, health = CollectorRegistry(), Health()
    observer = all_of(health, Metrics(registry).observer("shop", "orders", "arn", health))

    def told(kind: str) -> float | None:
        return registry.get_sample_value("headrace_condition", LABELS | {"type": kind})

    assert {told(kind) for kind in ConditionType} == {None}
    observer(ShardStarted("1", None))
    observer(ConditionObserved(ConditionType.SOURCE_REACHABLE, True, Reason.REACHABLE, "", "1"))
    observer(CallEnded("1", (), 1, "id", NotInvoked(throttled=False, detail="refused"), 0.1))
    observer(DeliveryFailed("1", DISCARD, Reason.ACCESS_DENIED, "not allowed"))
    assert [told(kind) for kind in ConditionType] == [1, 0, 0, None, None, None]
    observer(CallEnded("1", (), 1, "id", Succeeded(), 0.1))
    assert told("FunctionReachable") == 1
    observer(ShardStopped("1"))
    assert {told(kind) for kind in ConditionType} == {None}


def test_a_run_that_has_ended_tells_nothing_of_the_present_and_keeps_what_it_counted() -> None:
    registry = CollectorRegistry()
    metrics = Metrics(registry)
    health = Health()
    counting = metrics.observer("shop", "orders", "arn", health)
    observer = all_of(health, counting)
    for event in (ShardStarted("1", None), Pending("1", 1.0, at_tip=False), RetentionSeen(86400.0), ABANDONED):
        observer(event)
    observer(ConditionObserved(ConditionType.SOURCE_REACHABLE, False, Reason.NOT_FOUND, ""))
    counting.close()
    left = {sample.name for family in registry.collect() if family.type == "gauge" for sample in family.samples}
    assert {name for name in left if not name.endswith("_created")} == set()
    assert registry.get_sample_value("headrace_dropped_events_total", LABELS) == 3
    metrics.observer("shop", "orders", "arn", Health()).close()  # one that has learned nothing


def test_a_queue_is_told_of_without_shards_its_oldest_message_ages_and_calls_in_flight_come_and_go() -> None:
    registry, health = CollectorRegistry(), Health()
    counting = Metrics(registry).observer("shop", "orders", "arn", health)
    observer = all_of(health, counting)

    def told(name: str) -> float | None:
        return registry.get_sample_value(f"headrace_{name}", LABELS)

    known: tuple[Event, ...] = (QueueSeen("queue", 7), CallsAllowed("queue", 5), ShardStarted("queue", None))
    for event in known:
        observer(event)
    assert (told("queue_backlog_messages"), told("queue_calls_allowed"), told("queue_calls_in_flight")) == (7, 5, 0)
    assert (told("deleted_events_total"), told("expired_receipts_total")) == (0, 0)
    observer(RecordsPolled("queue", 2, 30.0))
    assert told("queue_oldest_message_age_seconds") == 30, "as old as the oldest received last, while none is held"
    observer(Pending("queue", 1.0, at_tip=False))
    assert (told("queue_oldest_message_age_seconds") or 0) > 1e9
    observer(CallStarted("queue", (), 1, "id", 0.0))
    assert told("queue_calls_in_flight") == 1
    observer(CallEnded("queue", (), 1, "id", Succeeded(), 0.1))
    observer(CallEnded("queue", (), 1, "id", Refused(sent=False), 0.0, sent=False))
    assert told("queue_calls_in_flight") == 0
    for event in (MessagesDeleted("queue", 2), ReceiptsExpired("queue", 3, "m1"), RecordsPolled("queue", 0, 0.0)):
        observer(event)
    observer(Pending("queue", None, at_tip=True))
    assert (told("deleted_events_total"), told("expired_receipts_total")) == (2, 3)
    assert told("queue_oldest_message_age_seconds") == 0
    of_shards = [sample for family in registry.collect() for sample in family.samples if "shard" in sample.labels]
    assert of_shards == []
    counting.close()
    gone = (
        "queue_backlog_messages",
        "queue_calls_allowed",
        "queue_calls_in_flight",
        "queue_oldest_message_age_seconds",
    )
    assert [told(name) for name in gone] == [None] * 4


def test_a_gap_is_logged_as_a_warning_with_its_ends() -> None:
    with capture_logs() as lines:
        logs.observer("shop/orders")(TRIMMED)
    (line,) = lines
    assert (line["log_level"], line["shard"], line["after"], line["first"]) == ("warning", "shard", "7", "90")
    assert (line["after_arrival"], line["first_arrival"]) == ("1970-01-01T00:00:01.000Z", "1970-01-01T00:00:02.500Z")


def test_what_was_read_of_a_stream_that_is_no_more_is_logged_as_lost() -> None:
    with capture_logs() as lines:
        logs.observer("shop/orders")(ABANDONED)
    (line,) = lines
    assert (line["log_level"], line["records"], line["first"], line["last"]) == ("error", 3, "7", "9")


def test_a_lost_shard_is_logged_with_its_new_holder() -> None:
    with capture_logs() as lines:
        logs.observer("shop/orders")(ShardLost("shard", "b"))
    (line,) = lines
    assert (line["log_level"], line["shard"], line["holder"]) == ("warning", "shard", "b")
