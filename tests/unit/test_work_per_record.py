"""How much work a record is, in calls of functions: the same on every machine, unlike time.

A bound that is passed is no fault by itself; it asks whether the work is worth it on the way of every record. Counts do
not vary from run to run; each bound is the count and 6 %. `python -m pytest tests/unit/test_work_per_record.py -rP`
counts anew.
"""

from __future__ import annotations

import asyncio
import base64
import sys
from collections.abc import Callable
from types import FrameType
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from headrace.records import Checkpoint, Polled
from headrace.stream.batching import BatchLimits
from headrace.stream.checkpoints import CheckpointWriter
from headrace.stream.events import all_of
from headrace.stream.functions import Call, Response
from headrace.stream.health import Health
from headrace.stream.membership import Permit
from headrace.stream.metrics import Metrics
from headrace.stream.poller import ShardPoller
from headrace.stream.report import Origin
from headrace.stream.retry import RetryPolicy
from headrace.stream.settings import Delivery
from headrace.stream.sources.kinesis import RecordFacts, to_records

SHARD = "shardId-000000000000"
ARN = "arn:aws:kinesis:eu-west-1:123456789012:stream/s"
FACTS = RecordFacts(ARN, "eu-west-1", "arn:aws:iam::123456789012:role/r")
PER_READ = 1_000


def entries(read: int) -> list[dict[str, Any]]:
    data = base64.b64encode(b"x" * 1024).decode()
    return [
        {
            "SequenceNumber": str(10**55 + read * PER_READ + number),
            "ApproximateArrivalTimestamp": 1.7e9,
            "PartitionKey": f"k{number % 97}",
            "Data": data,
        }
        for number in range(PER_READ)
    ]


class Stub:
    """A source of so many reads, a function that succeeds and a store that forgets."""

    write_interval = 0.0

    def __init__(self, reads: int) -> None:
        self.answers = [entries(read) for read in range(reads)]

    async def read(self, most: int = 10_000) -> Polled:
        if not self.answers:
            return Polled(ended=True)
        return Polled(to_records(self.answers.pop(0), SHARD, FACTS), 1.0)

    async def invoke(self, _: Call) -> Response:
        return Response(200, {}, b"{}")

    async def save(self, _shard: str, _checkpoint: Checkpoint) -> None:
        pass


async def drain(reads: int, batch: int, factor: int) -> None:
    health = Health()
    counting = Metrics(CollectorRegistry()).observer("shop", "orders", ARN, health)
    observer = all_of(health, counting)
    stub: Any = Stub(reads)
    delivery = Delivery(
        limits=BatchLimits(batch),
        policy=RetryPolicy(),
        origin=Origin("arn:f", ARN, SHARD),
        mapping_uid="11111111-2222-3333-4444-555555555555",
        lambda_protocol=True,
        report_failures=True,
        factor=factor,
    )
    permit = Permit()
    writer = CheckpointWriter(stub, SHARD, Checkpoint(), observer, lambda _: 1.0, permit.leave)
    assert await ShardPoller(SHARD, delivery, stub, stub, None, writer, observer, permit).run()
    assert counting.counts.invoked == reads * PER_READ


def calls_of(work: Callable[[], None]) -> int:
    """How many functions a piece of work calls, Python's own among them."""
    calls = 0

    def count(_frame: FrameType, event: str, _argument: object) -> None:
        nonlocal calls
        calls += event in ("call", "c_call")

    sys.setprofile(count)
    try:
        work()
    finally:
        sys.setprofile(None)
    return calls


def calls_per_record(batch: int, factor: int = 1, reads: int = 4) -> float:
    """Of one more read: what a start and an end cost is not in it."""
    few, many = (calls_of(lambda n=n: asyncio.run(drain(n, batch, factor))) for n in (1, 1 + reads))  # type: ignore[misc]
    return (many - few) / (reads * PER_READ)


@pytest.mark.parametrize(
    ("batch", "factor", "bound"), [(1, 1, 355), (10, 1, 52), (100, 1, 21.7), (1_000, 1, 18.6), (100, 10, 30.3)]
)
def test_a_record_costs_no_more_calls_than_this(batch: int, factor: int, bound: float) -> None:
    counted = calls_per_record(batch, factor)
    print(f"batch {batch}, {factor} lanes: {counted:.2f} calls a record")
    assert counted <= bound


@pytest.mark.parametrize("batch", [10, 100])
def test_a_record_of_a_long_backlog_costs_what_one_of_a_short_one_costs(batch: int) -> None:
    assert calls_per_record(batch, reads=16) <= 1.05 * calls_per_record(batch, reads=2)
