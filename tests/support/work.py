"""A shard's records on their way to a function, and what that way costs in countable work."""

from __future__ import annotations

import asyncio
import base64
import sys
import tracemalloc
from collections.abc import Callable
from types import FrameType
from typing import Any

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


def entries(read: int, count: int = PER_READ, size: int = 1024) -> list[dict[str, Any]]:
    data = base64.b64encode(b"x" * size).decode()
    return [
        {
            "SequenceNumber": str(10**55 + read * count + number),
            "ApproximateArrivalTimestamp": 1.7e9,
            "PartitionKey": f"k{number % 97}",
            "Data": data,
        }
        for number in range(count)
    ]


class Stub:
    """A source of so many reads, a function that succeeds and a store that forgets."""

    write_interval = 0.0

    def __init__(self, answers: list[list[dict[str, Any]]]) -> None:
        self.answers = answers

    async def read(self, most: int = 10_000) -> Polled:
        if not self.answers:
            return Polled(ended=True)
        return Polled(to_records(self.answers.pop(0), SHARD, FACTS, plain=True), 1.0)

    async def invoke(self, _: Call) -> Response:
        return Response(200, {}, b"{}")

    async def save(self, _shard: str, _checkpoint: Checkpoint) -> None:
        pass


async def drain(answers: list[list[dict[str, Any]]], batch: int, factor: int = 1) -> None:
    """From the answers of a shard's reads to the function, and to the checkpoint behind the last of them."""
    records = sum(len(answer) for answer in answers)
    health = Health()
    counting = Metrics(CollectorRegistry()).observer("shop", "orders", ARN, health)
    observer = all_of(health, counting)
    stub: Any = Stub(list(answers))
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
    assert counting.counts.invoked == records


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


def bytes_of(work: Callable[[], None]) -> int:
    """How many bytes a piece of work asks for, those it gives back at once among them: looked at between any two calls."""
    total = held = 0

    def count(_frame: FrameType, _event: str, _argument: object) -> None:
        nonlocal total, held
        total += max(0, tracemalloc.get_traced_memory()[1] - held)
        tracemalloc.reset_peak()
        held = tracemalloc.get_traced_memory()[0]

    tracemalloc.start()
    held = tracemalloc.get_traced_memory()[0]
    sys.setprofile(count)
    try:
        work()
    finally:
        sys.setprofile(None)
        tracemalloc.stop()
    return total


def instructions_of(work: Callable[[], None]) -> int:
    """How many instructions of Python a piece of work executes: rounds of loops without a call in them, too."""
    instructions = 0

    def trace(frame: FrameType, event: str, _argument: object) -> Any:
        nonlocal instructions
        frame.f_trace_opcodes, frame.f_trace_lines = True, False
        instructions += event == "opcode"
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        work()
    finally:
        sys.settrace(before)
    return instructions


def draining(reads: int, batch: int, factor: int = 1, per_read: int = PER_READ, size: int = 1024) -> Callable[[], None]:
    """The work of so many reads; the answers are there before it begins."""
    answers = [entries(read, per_read, size) for read in range(reads)]
    return lambda: asyncio.run(drain(answers, batch, factor))


def per_record(measure: Callable[[Callable[[], None]], int], batch: int, factor: int = 1, reads: int = 4) -> float:
    """Of one more read: what a start and an end cost is not in it."""
    few, many = (measure(draining(count, batch, factor)) for count in (1, 1 + reads))
    return (many - few) / (reads * PER_READ)
