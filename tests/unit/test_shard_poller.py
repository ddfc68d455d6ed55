"""The shell around one shard, with fakes for everything it does: what it keeps when its world misbehaves."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import pytest

from headrace.errors import DestinationError, LeaseLost, Reason, SourceError, StoreError, Throttled
from headrace.records import Batch, Checkpoint, Head, LaneProgress, Lease, Polled, Shard, Start
from headrace.stream import ahead, checkpoints, poller
from headrace.stream.batching import BatchLimits
from headrace.stream.checkpoints import CheckpointWriter
from headrace.stream.events import CallEnded, ConditionObserved, ConditionType, Event, Faulted, Pending, Waiting
from headrace.stream.functions import Call, NoResponse, Response
from headrace.stream.membership import Permit
from headrace.stream.report import FailureRecord, Origin
from headrace.stream.retry import RetryPolicy
from headrace.stream.settings import Delivery
from tests.support.records import record, records

OK = Response(200, {}, b"null")
ERROR = Response(200, {"x-amz-function-error": "Unhandled"}, b"{}")


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(poller, "SOURCE_BACKOFF", 0.002)


@dataclass
class Reader:
    """Answers as scripted, then at the tip for ever."""

    script: list[Polled | Exception]
    reads: int = 0

    async def read(self, most: int = 10_000) -> Polled:
        self.reads += 1
        await asyncio.sleep(0)
        if not self.script:
            return Polled()
        answer = self.script.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer


@dataclass
class Function:
    answer: Callable[[Call], Response] = lambda _: OK
    calls: list[Call] = field(default_factory=list)
    delay: float = 0.0

    async def invoke(self, call: Call) -> Response | NoResponse:
        self.calls.append(call)
        await asyncio.sleep(self.delay)
        return self.answer(call)

    async def aclose(self) -> None:
        pass

    @property
    def events(self) -> list[str]:
        return [call.event.decode() for call in self.calls]


@dataclass
class Destination:
    refusals: int = 0
    documents: list[bytes] = field(default_factory=list)
    log: list[str] = field(default_factory=list)

    async def check(self) -> None:
        pass

    async def publish(self, record: FailureRecord) -> None:
        if self.refusals:
            self.refusals -= 1
            raise DestinationError(Reason.UNREACHABLE, "away")
        self.log.append("published")
        self.documents.append(record.message())

    async def aclose(self) -> None:
        pass


@dataclass
class Store:
    write_interval: float = 0.0
    saved: list[Checkpoint] = field(default_factory=list)
    faults: list[Exception] = field(default_factory=list)
    log: list[str] = field(default_factory=list)
    hangs: bool = False

    async def start(self) -> Start | None:
        return None

    async def pin(self, start: Start) -> Start:
        return start

    async def adopt(self, created: float, restart: Start) -> bool:
        return False

    async def load(self, shards: Sequence[Shard], makes: Callable[[str], bool] | None = None, /) -> Mapping[str, Lease]:
        return {shard.shard_id: Lease(shard) for shard in shards}

    async def take(self, shard_id: str) -> Checkpoint | None:
        return Checkpoint()

    async def release(self, shard_id: str) -> None:
        pass

    async def save(self, shard_id: str, checkpoint: Checkpoint) -> None:
        if self.hangs:
            await asyncio.Event().wait()
        if self.faults:
            raise self.faults.pop(0)
        self.log.append(f"saved {checkpoint.sequence_number}")
        self.saved.append(checkpoint)

    async def aclose(self) -> None:
        pass


@dataclass
class Bench:
    """A shard and its surroundings; `policy` and `limits` may be set before `run`."""

    reader: Reader
    function: Function = field(default_factory=Function)
    destination: Destination | None = None
    store: Store = field(default_factory=Store)
    limits: BatchLimits = field(default_factory=lambda: BatchLimits(10))
    policy: RetryPolicy = field(default_factory=lambda: RetryPolicy(initial_backoff=0.001, maximum_backoff=0.002))
    permit: Permit = field(default_factory=Permit)
    events: list[Event] = field(default_factory=list)
    pause: float = 0.001
    """Between two tries to store."""
    pace: float = 0.001
    """Between two reads at the tip."""

    async def run(self) -> bool:
        origin = Origin("arn:f", "arn:s", "")
        uid = "6ba7b810-9dad-11d1-80b4-00c04fd430c8"
        delivery = Delivery(
            self.limits, self.policy, origin, uid, lambda_protocol=True, report_failures=False, poll_interval=self.pace
        )
        observer = self.events.append
        writer = CheckpointWriter(self.store, "shard", Checkpoint(), observer, lambda _: self.pause, self.permit.leave)
        shard = poller.ShardPoller(
            "shard", delivery, self.reader, self.function, self.destination, writer, observer, self.permit
        )
        async with asyncio.timeout(5):
            return await shard.run()

    def of(self, kind: type) -> list[Event]:
        return [event for event in self.events if isinstance(event, kind)]


def ending(*batches: Batch) -> Reader:
    return Reader([*(Polled(batch, behind=1.0) for batch in batches), Polled(ended=True)])


async def test_a_shard_is_finished_once_its_last_record_is_decided() -> None:
    bench = Bench(ending(records(1, 2), records(3)), limits=BatchLimits(2))
    assert await bench.run()
    assert bench.function.events == ['{"Records":[{"n":1},{"n":2}]}', '{"Records":[{"n":3}]}']
    assert bench.store.saved == [Checkpoint("2"), Checkpoint("3"), Checkpoint("3", finished=True)]


async def test_a_shard_without_a_record_is_finished_too() -> None:
    bench = Bench(ending())
    assert await bench.run()
    assert (bench.function.calls, bench.store.saved) == ([], [Checkpoint(None, finished=True)])


async def test_throttles_and_faults_of_the_source_lose_no_place() -> None:
    away = SourceError(Reason.UNREACHABLE, "away")
    bench = Bench(
        Reader([Polled(records(1)), Throttled("slow"), away, Throttled("slow"), Polled(records(2)), Polled(ended=True)])
    )
    assert await bench.run()
    assert bench.function.events == ['{"Records":[{"n":1}]}', '{"Records":[{"n":2}]}']
    seen = [
        (event.holds, event.reason)
        for event in bench.of(ConditionObserved)
        if isinstance(event, ConditionObserved) and event.type is ConditionType.SOURCE_REACHABLE
    ]
    assert (True, Reason.THROTTLED) in seen
    assert (False, Reason.UNREACHABLE) in seen
    assert seen[-1] == (True, Reason.REACHABLE)


async def test_reading_pauses_while_enough_lies_ready() -> None:
    bench = Bench(Reader([Polled((record(n),), behind=9.0) for n in range(1, 500)]), limits=BatchLimits(3))
    bench.function.delay = 60
    running = asyncio.create_task(bench.run())
    await asyncio.sleep(0.1)
    assert bench.reader.reads == 3 + 6, "the batch in flight, and two more"
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running


async def test_reading_pauses_while_too_many_bytes_lie_ready(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ahead, "MOST", 1000)
    big = [Polled((record(n, event=b"x" * 400),), behind=9.0) for n in range(1, 100)]
    bench = Bench(Reader(list(big)), limits=BatchLimits(10_000))
    bench.function.delay = 60
    running = asyncio.create_task(bench.run())
    await asyncio.sleep(0.1)
    assert bench.reader.reads < 8
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running


async def test_a_checkpoint_is_written_before_the_call_after_a_discard() -> None:
    log: list[str] = []
    destination, store = Destination(refusals=2, log=log), Store(write_interval=60.0, log=log)
    bench = Bench(ending(records(1), records(2)), destination=destination, store=store, limits=BatchLimits(1))
    bench.policy = RetryPolicy(maximum_retries=0, has_destination=True, initial_backoff=0.001)

    def answer(call: Call) -> Response:
        log.append(f"called {len(bench.function.calls)}")
        return ERROR if len(bench.function.calls) == 1 else OK

    bench.function.answer = answer
    assert await bench.run()
    assert log == ["called 1", "saved None", "published", "saved 1", "called 2", "saved 2"]


async def test_a_store_that_is_away_holds_the_lane_and_loses_nothing() -> None:
    away = [StoreError(Reason.API_ERROR, "away") for _ in range(3)]
    bench = Bench(ending(records(1, 2)), store=Store(faults=list(away)))
    assert await bench.run()
    assert bench.store.saved == [Checkpoint("2"), Checkpoint("2", finished=True)]
    assert len(bench.function.calls) == 1


async def test_a_slow_store_gets_the_newest_checkpoint_alone() -> None:
    bench = Bench(ending(*(records(n) for n in range(1, 31))), store=Store(write_interval=60.0), limits=BatchLimits(1))
    assert await bench.run()
    assert len(bench.function.calls) == 30
    assert bench.store.saved[-1] == Checkpoint("30", finished=True)
    assert len(bench.store.saved) <= 2


async def test_a_lost_lease_stops_the_shard_at_once_and_without_a_checkpoint() -> None:
    bench = Bench(ending(records(1), records(2)), limits=BatchLimits(1), store=Store(faults=[LeaseLost("theirs")]))
    with pytest.raises(BaseExceptionGroup) as caught:
        await bench.run()
    assert caught.group_contains(LeaseLost)
    assert (len(bench.function.calls), bench.store.saved) == (1, [])


async def test_a_stop_finishes_the_call_in_flight_and_starts_no_other() -> None:
    bench = Bench(ending(records(1), records(2)), limits=BatchLimits(1), store=Store(write_interval=60.0))
    bench.function.delay = 0.05
    running = asyncio.create_task(bench.run())
    while not bench.function.calls:
        await asyncio.sleep(0.001)
    bench.permit.leave.set()
    assert not await running
    assert (len(bench.function.calls), bench.store.saved) == (1, [Checkpoint("1")])


async def test_a_stop_leaves_a_waiting_batch_where_it_is() -> None:
    bench = Bench(ending(records(1)))
    bench.policy = RetryPolicy(initial_backoff=60.0, maximum_backoff=60.0)
    bench.function.answer = lambda _: ERROR
    running = asyncio.create_task(bench.run())
    while not bench.of(Waiting):
        await asyncio.sleep(0.001)
    bench.permit.leave.set()
    assert not await running
    assert len(bench.function.calls) == 1
    (kept,) = bench.store.saved
    assert kept == Checkpoint(None, lanes=(LaneProgress(1, 0, None, Head("1", "1", 1, attempts=1)),))
    assert [each.oldest for each in bench.events if isinstance(each, Pending)][-1] is not None, "it is still undecided"


async def test_a_stop_does_not_wait_for_a_store_that_stays_away(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checkpoints, "LAST_CHECKPOINT", 0.05)
    away = Store(faults=[StoreError(Reason.API_ERROR, "away") for _ in range(100_000)])
    bench = Bench(Reader([Polled(records(1))]), store=away)
    running = asyncio.create_task(bench.run())
    while not bench.function.calls:
        await asyncio.sleep(0.001)
    bench.permit.leave.set()
    assert not await running
    assert away.saved == []


@pytest.mark.parametrize("ended", [False, True], ids=["at the tip", "at the shard's end"])
async def test_a_stop_does_not_wait_for_a_store_that_never_answers(
    monkeypatch: pytest.MonkeyPatch, ended: bool
) -> None:
    monkeypatch.setattr(checkpoints, "LAST_CHECKPOINT", 0.05)
    bench = Bench(Reader([Polled(records(1)), *[Polled(ended=True)] * ended]), store=Store(hangs=True))
    running = asyncio.create_task(bench.run())
    while not bench.function.calls:
        await asyncio.sleep(0.001)
    await asyncio.sleep(0.01)
    bench.permit.leave.set()
    assert not await running, "what is not stored is not finished"
    assert [type(event.error) for event in bench.of(Faulted) if isinstance(event, Faulted)] == [TimeoutError] * 2


async def test_a_stop_is_not_kept_waiting_by_a_pause_between_two_tries_to_store() -> None:
    away = Store(write_interval=0.001, faults=[StoreError(Reason.API_ERROR, "away")])
    bench = Bench(Reader([Polled(records(1))]), store=away, pause=60.0)
    running = asyncio.create_task(bench.run())
    while not bench.of(Faulted):
        await asyncio.sleep(0.001)
    bench.permit.leave.set()
    assert not await running
    assert away.saved == [Checkpoint("1")]


async def test_a_lease_that_is_lost_at_the_last_checkpoint_is_lost_and_no_fault() -> None:
    bench = Bench(Reader([Polled(records(1, 2))]), store=Store(write_interval=60.0), limits=BatchLimits(1))
    running = asyncio.create_task(bench.run())
    while len(bench.of(CallEnded)) < 2:
        await asyncio.sleep(0.001)
    bench.store.faults = [LeaseLost("theirs", "b")]
    bench.permit.leave.set()
    with pytest.raises(LeaseLost):
        await running
    assert bench.of(Faulted) == []


async def test_what_a_former_life_could_not_store_is_stored_though_nothing_comes_any_more() -> None:
    store = Store(write_interval=60.0)
    stop = asyncio.Event()
    writer = CheckpointWriter(store, "shard", Checkpoint("7"), lambda _: None, lambda _: 0.001, stop, stored=False)
    await writer.close()
    assert store.saved == [Checkpoint("7")]


async def test_an_event_too_large_to_send_is_refused_unsent_and_spends_its_retries() -> None:
    """Contract K.1 row 10."""
    destination = Destination()
    huge = record(2, event=b'"' + b"x" * 300 + b'"')
    bench = Bench(
        ending((record(1), huge, record(3))), destination=destination, limits=BatchLimits(10, event_limit=200)
    )
    bench.policy = RetryPolicy(maximum_retries=2, has_destination=True, initial_backoff=0.001)
    assert await bench.run()
    assert bench.function.events == ['{"Records":[{"n":1}]}', '{"Records":[{"n":3}]}']
    refused = [event for event in bench.of(CallEnded) if isinstance(event, CallEnded) and not event.sent]
    assert len(refused) == 3
    (document,) = destination.documents
    assert b"responseContext" not in document
    assert b'"approximateInvokeCount":3' in document


async def test_request_ids_are_the_same_for_the_same_batch_in_every_life() -> None:
    seen = set()
    for _ in range(2):
        bench = Bench(ending(records(1, 2)))
        assert await bench.run()
        seen |= {call.request_id for call in bench.function.calls}
    assert len(seen) == 1
    other = Bench(ending(records(1, 2, 3)))
    assert await other.run()
    assert other.function.calls[0].request_id not in seen


async def test_whatever_reading_meets_the_call_in_flight_goes_on() -> None:
    bench = Bench(
        Reader([Polled(records(1)), KeyError("Records"), TypeError("garbage"), Polled(records(2)), Polled(ended=True)])
    )
    bench.function.delay = 0.05
    assert await bench.run()
    assert bench.function.events == ['{"Records":[{"n":1}]}', '{"Records":[{"n":2}]}']
    assert [call.attempt for call in bench.function.calls] == [1, 1]
    assert len(bench.of(Faulted)) == 2


@pytest.mark.parametrize(("behind", "least", "most"), [(0.0, 3, 8), (1.0, 30, 10_000)], ids=["at the tip", "behind"])
async def test_reading_keeps_its_pace_at_the_tip_and_makes_no_pause_while_behind(
    behind: float, least: int, most: int
) -> None:
    """Contract B.1, with seconds made short."""
    bench = Bench(Reader([Polled(behind=behind) for _ in range(100_000)]), pace=0.05)
    running = asyncio.create_task(bench.run())
    await asyncio.sleep(0.3)
    reads = bench.reader.reads
    bench.permit.leave.set()
    assert not await running
    assert least <= reads <= most
