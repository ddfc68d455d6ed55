"""The mapping metrics of Lambda as Prometheus counters and gauges (contract I). An observer, told at the shell's gates.

Labels: `namespace`, `mapping`, `source` (the source's ARN); `shard` only on what is known of each shard;
`type` and `reason` only where their values come from a fixed list.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from headrace.stream.classify import Failed, NotInvoked, PartiallyFailed, Refused
from headrace.stream.events import (
    CallEnded,
    CallsAllowed,
    CallStarted,
    DeliveryFailed,
    DiscardDelivered,
    Event,
    MessagesDeleted,
    Pending,
    QueueSeen,
    ReceiptsExpired,
    RecordsAbandoned,
    RecordsDropped,
    RecordsFiltered,
    RecordsPolled,
    RecordsTrimmed,
    RetentionSeen,
    ShardFinished,
    ShardLost,
    ShardStarted,
    ShardStopped,
    StreamRecreated,
)

if TYPE_CHECKING:
    from collections.abc import Iterable

    from headrace.stream.health import Health

_LABELS = ("namespace", "mapping", "source")
_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 900.0)


@dataclass(slots=True)
class Counts:
    """What one mapping's run amounts to, in records; the summary at its end."""

    polled: int = 0
    filtered_out: int = 0
    invoked: int = 0
    failed_invoke: int = 0
    delivered: int = 0
    dropped: int = 0
    deleted: int = 0
    """Of a queue's messages."""


class Metrics:
    """Every metric of the data plane, in a registry of its own."""

    def __init__(self, registry: CollectorRegistry) -> None:
        def counter(name: str, text: str, *more: str) -> Counter:
            return Counter(f"headrace_{name}", text, (*_LABELS, *more), registry=registry)

        self.polled = counter("polled_events", "Records read from the source.")
        self.filtered_out = counter("filtered_out_events", "Records removed by filters.")
        self.invoked = counter("invoked_events", "Records handed to the function, counted again at every attempt.")
        self.failed = counter("failed_invoke_events", "Records whose invocation failed, counted at every attempt.")
        self.dropped = counter("dropped_events", "Records discarded without a delivered failure record.")
        self.delivered = counter(
            "on_failure_destination_delivered_events", "Records covered by delivered failure records."
        )
        self.trimmed = counter("trimmed_gaps", "Times that the source's retention may have taken records unread.")
        self.recreated = counter("stream_recreations", "Times that the stream was made anew under its name.")
        self.lost_shards = counter("lost_shards", "Times that a shard was taken from this poller against its will.")
        self.begun = counter("shards_started", "Times that a shard began to be read here: at a start, or taken over.")
        self.delivery_failures = counter("destination_delivery_failures", "Failure records given up for good.")
        self.publish_errors = counter(
            "destination_publish_errors", "Tries to deliver a failure record that failed.", "reason"
        )
        self.invocations = counter("invocations", "Calls of the function that reached it.")
        self.errors = counter("invocation_errors", "Calls that ended in a function error.")
        self.throttles = counter("throttles", "Calls that were answered with a throttle.")
        self.unreachable = counter("unreachable_calls", "Calls that did not reach the function.")
        self.seconds = Histogram(
            "headrace_invocation_duration_seconds", "Time of calls.", _LABELS, registry=registry, buckets=_SECONDS
        )
        self.iterator_age = Gauge(
            "headrace_iterator_age_seconds",
            "Age of the oldest undecided record.",
            (*_LABELS, "shard"),
            registry=registry,
        )
        self.blocked = Gauge(
            "headrace_shard_blocked",
            "1 while a batch of the shard is put off again and again.",
            (*_LABELS, "shard"),
            registry=registry,
        )
        self.retention = Gauge(
            "headrace_source_retention_seconds", "How long the source keeps a record.", _LABELS, registry=registry
        )
        self.deleted = counter("deleted_events", "Messages deleted from the queue.")
        self.expired = counter("expired_receipts", "Messages that were done with too late to be deleted.")
        self.backlog = Gauge(
            "headrace_queue_backlog_messages",
            "About how many messages of the queue could be received.",
            _LABELS,
            registry=registry,
        )
        self.oldest_message = Gauge(
            "headrace_queue_oldest_message_age_seconds",
            "Age of the oldest message held here, else of the oldest received last; 0 once a receive found none.",
            _LABELS,
            registry=registry,
        )
        self.calls_allowed = Gauge(
            "headrace_queue_calls_allowed",
            "How many batches of the queue may be with the function at a time, of this poller.",
            _LABELS,
            registry=registry,
        )
        self.calls_in_flight = Gauge(
            "headrace_queue_calls_in_flight",
            "How many batches of the queue are with the function, of this poller.",
            _LABELS,
            registry=registry,
        )
        self.conditions = Conditions()
        registry.register(self.conditions)

    def observer(self, namespace: str, mapping: str, source: str, health: Health) -> MappingMetrics:
        """The observer of one mapping."""
        return MappingMetrics(self, (namespace, mapping, source), health)


@dataclass(slots=True, eq=False)
class Conditions(Collector):
    """What the runs under way say of their conditions, asked of their health when it is scraped."""

    healths: dict[tuple[str, str, str], Health] = field(default_factory=dict)

    def collect(self) -> Iterable[GaugeMetricFamily]:
        """One gauge; a condition that nothing is known of is not there."""
        text = "1 while a condition holds, 0 while it does not; not there while nothing is known of it."
        family = GaugeMetricFamily("headrace_condition", text, labels=(*_LABELS, "type"))
        for labels, health in self.healths.items():
            for condition in health.conditions():
                if condition.status != "Unknown":
                    family.add_metric((*labels, condition.type), condition.status == "True")
        return (family,)


class MappingMetrics:
    """Counts one mapping's events, for Prometheus and for the summary."""

    def __init__(self, metrics: Metrics, labels: tuple[str, str, str], health: Health) -> None:
        self._metrics = metrics
        self._labels = labels
        self._health = health
        self.counts = Counts()
        self._followed: set[str] = set()
        self._queue: str | None = None
        """The queue's name; a stream has none."""
        self._in_flight = 0
        # Those of every batch, looked up once.
        self._polled, self._invoked = metrics.polled.labels(*labels), metrics.invoked.labels(*labels)
        self._invocations, self._seconds = metrics.invocations.labels(*labels), metrics.seconds.labels(*labels)
        metrics.conditions.healths[labels] = health
        for metric in (
            metrics.polled, metrics.filtered_out, metrics.invoked, metrics.failed, metrics.dropped, metrics.delivered,
            metrics.trimmed, metrics.recreated, metrics.lost_shards, metrics.begun,
            metrics.delivery_failures, metrics.invocations, metrics.errors, metrics.throttles, metrics.unreachable,
        ):  # fmt: skip
            metric.labels(*labels)  # shows 0 from the start

    def __call__(self, event: Event) -> None:
        """Takes one event in."""
        metrics, labels, counts = self._metrics, self._labels, self.counts
        match event:
            case RecordsPolled(_, count, _):
                counts.polled += count
                self._polled.inc(count)
            case RecordsFiltered(_, count):
                counts.filtered_out += count
                metrics.filtered_out.labels(*labels).inc(count)
            case CallStarted() | CallEnded():
                self._called(event)
            case DiscardDelivered() | DeliveryFailed() | RecordsDropped():
                self._discarded(event)
            case Pending(shard_id):
                self._follow(shard_id)
            case ShardFinished(shard_id) | ShardStopped(shard_id):
                self._forget(shard_id)
            case _:
                self._seldom(event)

    def close(self) -> None:
        """The run has ended: what it knew of the present is told no more, what it has counted stays."""
        for shard_id in tuple(self._followed):
            self._forget(shard_id)
        metrics = self._metrics
        metrics.conditions.healths.pop(self._labels, None)
        metrics.retention.remove(*self._labels)
        for gauge in (metrics.backlog, metrics.oldest_message, metrics.calls_allowed, metrics.calls_in_flight):
            gauge.remove(*self._labels)

    def _called(self, event: CallStarted | CallEnded) -> None:
        metrics, labels = self._metrics, self._labels
        if isinstance(event, CallStarted):
            self._in_flight += 1
            self.counts.invoked += len(event.batch)
            self._invoked.inc(len(event.batch))
            return
        self._in_flight -= event.sent
        match event.outcome:
            case PartiallyFailed(first):
                self._failed(len(event.batch) - first)
            case Failed():
                self._failed(len(event.batch))
                metrics.errors.labels(*labels).inc()
            case Refused():
                self._failed(len(event.batch))
            case NotInvoked(throttled):
                (metrics.throttles if throttled else metrics.unreachable).labels(*labels).inc()
                self._failed(len(event.batch))
                return
            case _:
                pass
        if event.sent:
            self._invocations.inc()
            self._seconds.observe(event.seconds)

    def _discarded(self, event: DiscardDelivered | DeliveryFailed | RecordsDropped) -> None:
        metrics, labels, records = self._metrics, self._labels, len(event.discard.records)
        match event:
            case DiscardDelivered():
                self.counts.delivered += records
                metrics.delivered.labels(*labels).inc(records)
            case DeliveryFailed(reason=reason):
                metrics.publish_errors.labels(*labels, reason.value).inc()
            case RecordsDropped(delivery_failed=delivery_failed):
                self.counts.dropped += records
                metrics.dropped.labels(*labels).inc(records)
                metrics.delivery_failures.labels(*labels).inc(delivery_failed)

    def _seldom(self, event: Event) -> None:
        metrics, labels = self._metrics, self._labels
        match event:
            case ShardStarted():
                metrics.begun.labels(*labels).inc()
            case RetentionSeen(seconds):
                metrics.retention.labels(*labels).set(seconds)
            case RecordsTrimmed():
                metrics.trimmed.labels(*labels).inc()
            case StreamRecreated():
                metrics.recreated.labels(*labels).inc()
            case ShardLost():
                metrics.lost_shards.labels(*labels).inc()
            case RecordsAbandoned(_, count):
                self.counts.dropped += count
                metrics.dropped.labels(*labels).inc(count)
            case _:
                self._of_queue(event)

    def _of_queue(self, event: Event) -> None:
        metrics, labels = self._metrics, self._labels
        match event:
            case MessagesDeleted(_, count):
                self.counts.deleted += count
                metrics.deleted.labels(*labels).inc(count)
            case ReceiptsExpired(_, count):
                metrics.expired.labels(*labels).inc(count)
            case QueueSeen(queue, backlog):
                metrics.backlog.labels(*labels).set(backlog)
                self._follow_queue(queue)
            case CallsAllowed(_, limit):
                metrics.calls_allowed.labels(*labels).set(limit)
            case _:
                pass

    def _failed(self, records: int) -> None:
        self.counts.failed_invoke += records
        self._metrics.failed.labels(*self._labels).inc(records)

    def _follow(self, shard_id: str) -> None:
        """The age is computed when it is asked for, so that it grows while a shard is stuck."""
        if shard_id not in self._followed and shard_id != self._queue:
            self._followed.add(shard_id)
            age = self._metrics.iterator_age.labels(*self._labels, shard_id)
            age.set_function(lambda: self._health.iterator_age(shard_id, time.time()))
            blocked = self._metrics.blocked.labels(*self._labels, shard_id)
            blocked.set_function(lambda: self._health.blocked(shard_id))

    def _follow_queue(self, queue: str) -> None:
        """A queue has no shards: what is known of it bears no name but the mapping's."""
        if self._queue is None:
            self._queue = queue
            age = self._metrics.oldest_message.labels(*self._labels)
            age.set_function(lambda: self._health.iterator_age(queue, time.time()))
            self._metrics.calls_in_flight.labels(*self._labels).set_function(lambda: self._in_flight)
            for counter in (self._metrics.deleted, self._metrics.expired):
                counter.labels(*self._labels)  # shows 0 from the start

    def _forget(self, shard_id: str) -> None:
        if shard_id in self._followed:
            self._followed.discard(shard_id)
            self._metrics.iterator_age.remove(*self._labels, shard_id)
            self._metrics.blocked.remove(*self._labels, shard_id)
