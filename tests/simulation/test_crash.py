"""A crash behind every action of one shard, with the real poller over fakes: the next life knows only what was stored."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from headrace.errors import DestinationError, Reason
from headrace.records import Checkpoint, Lease, Polled, Record, Shard, Start
from headrace.stream import poller
from headrace.stream.batching import BatchLimits
from headrace.stream.checkpoints import CheckpointWriter
from headrace.stream.functions import Call, NoResponse, Response
from headrace.stream.lanes import lane_of
from headrace.stream.membership import Permit
from headrace.stream.report import FailureRecord, Origin
from headrace.stream.retry import RetryPolicy
from headrace.stream.settings import Delivery
from tests.support.records import record

UID = "6ba7b810-9dad-11d1-80b4-00c04fd430c8"
ERROR = Response(200, {"x-amz-function-error": "Unhandled"}, b"{}")
BATCH = 3
OK, FAILS, AWAY, PARTIAL = range(4)
FIGURES: Counter[str] = Counter()


@dataclass(frozen=True)
class Plan:
    """A shard and its world: `outcomes` are those of the calls in order over all lives, success after them."""

    keys: str
    outcomes: list[int]
    lanes: int
    policy: RetryPolicy
    refusals: int
    write_interval: float


@dataclass
class World:
    """All that outlives a crash. Behind the action number `dies_at` nothing is done any more."""

    plan: Plan
    dies_at: int
    stored: Checkpoint = field(default_factory=Checkpoint)
    write_interval: float = 0.0
    actions: int = 0
    life: int = 0
    dead: asyncio.Event = field(default_factory=asyncio.Event)
    trace: list[tuple[str, int, tuple[int, ...]]] = field(default_factory=list)
    """What happened, in order, each with its life: calls, acknowledged, discarded and stored records."""
    ids: dict[str, bytes] = field(default_factory=dict)
    failed: Counter[str] = field(default_factory=Counter)

    def __post_init__(self) -> None:
        self.write_interval = self.plan.write_interval
        self.outcomes = iter(self.plan.outcomes)
        self.refusals = self.plan.refusals

    async def act(self) -> None:
        """An action is done; what waits for its end never hears of it after a crash."""
        self.actions += 1
        if self.life == 1 and self.actions >= self.dies_at:
            self.dead.set()
        await asyncio.sleep(0)
        await self.alive()

    async def alive(self) -> None:
        if self.life == 1 and self.dead.is_set():
            await asyncio.Event().wait()

    def note(self, kind: str, numbers: Sequence[int]) -> None:
        self.trace.append((kind, self.life, tuple(numbers)))

    # the store

    async def start(self) -> Start | None:
        return Start()

    async def pin(self, start: Start) -> Start:
        return start

    async def adopt(self, created: float, restart: Start) -> bool:
        return False

    async def load(
        self, _shards: Sequence[Shard], _makes: Callable[[str], bool] | None = None, /
    ) -> Mapping[str, Lease]:
        return {"shard": Lease(Shard("shard"), self.stored)}

    async def take(self, _shard_id: str) -> Checkpoint | None:
        return self.stored

    async def release(self, _shard_id: str) -> None:
        pass

    async def save(self, _shard_id: str, checkpoint: Checkpoint) -> None:
        await self.alive()
        self.stored = checkpoint
        decided = [int(one.decided) for one in checkpoint.lanes if one.decided is not None]
        self.note("stored", (int(checkpoint.sequence_number or 0), *decided))
        await self.act()

    # the function

    async def invoke(self, call: Call) -> Response | NoResponse:
        await self.alive()
        numbers = [one["n"] for one in json.loads(call.event)["Records"]]
        assert self.ids.setdefault(call.request_id, call.event) == call.event, "one request id, two batches"
        self.note("called", numbers)
        outcome = next(self.outcomes, OK)
        if outcome == AWAY:
            answer: Response = Response(503, {}, b"")
        elif outcome == FAILS or (outcome == PARTIAL and len(numbers) == 1):
            answer = ERROR
            self.failed[call.request_id] += 1
        elif outcome == PARTIAL:
            self.note("acknowledged", numbers[:1])
            answer = Response(
                200, {}, json.dumps({"batchItemFailures": [{"itemIdentifier": str(numbers[1])}]}).encode()
            )
        else:
            self.note("acknowledged", numbers)
            answer = Response(200, {}, b"null")
        await self.act()
        return answer

    # the destination

    async def check(self) -> None:
        pass

    async def publish(self, failure: FailureRecord) -> None:
        await self.alive()
        if self.refusals:
            self.refusals -= 1
            await self.act()
            raise DestinationError(Reason.UNREACHABLE, "away")
        self.note("discarded", [int(one.sequence_number) for one in failure.records])
        await self.act()

    async def aclose(self) -> None:
        pass


@dataclass
class Reader:
    """Two records a read, from behind the watermark of its life to the shard's end."""

    world: World
    records: list[Record]

    async def read(self, most: int = 10_000) -> Polled:
        await self.world.alive()
        batch, self.records = tuple(self.records[:2]), self.records[2:]
        await asyncio.sleep(0)
        return Polled(batch, behind=1.0) if batch else Polled(ended=True)


async def live(world: World) -> None:
    """One life, from what is stored; ends with the shard or where it dies, abandoned as it stands."""
    world.life += 1
    plan, permit, life = world.plan, Permit(), world.life
    all_records = [record(number, key=key) for number, key in enumerate(plan.keys, 1)]
    read = int(world.stored.sequence_number or 0)
    delivery = Delivery(
        BatchLimits(BATCH), plan.policy, Origin("arn:f", "arn:s", ""), UID,
        lambda_protocol=True, report_failures=True, factor=plan.lanes,
    )  # fmt: skip

    def observe(event: object) -> None:
        if type(event).__name__ == "RecordsDropped" and not (life == 1 and world.dead.is_set()):
            world.note("discarded", [int(one.sequence_number) for one in event.discard.records])  # type: ignore[attr-defined]

    writer = CheckpointWriter(world, "shard", world.stored, observe, lambda _: 0.001, permit.leave)
    destination = world if plan.policy.has_destination else None
    shard = poller.ShardPoller(
        "shard", delivery, Reader(world, all_records[read:]), world, destination, writer, observe, permit
    )
    running = asyncio.create_task(shard.run())
    death = asyncio.create_task(world.dead.wait() if world.life == 1 else asyncio.Event().wait())
    async with asyncio.timeout(10):
        await asyncio.wait({running, death}, return_when=asyncio.FIRST_COMPLETED)
    for task in (running, death):
        task.cancel()
    stored, traced = world.stored, len(world.trace)
    await asyncio.gather(running, death, return_exceptions=True)
    if world.life == 1 and world.dead.is_set():
        assert (world.stored, len(world.trace)) == (stored, traced), "the abandoned life left something behind"
    elif not running.cancelled():
        assert running.result()


async def crash_everywhere(plan: Plan) -> Counter[str]:
    figures: Counter[str] = Counter()
    for point in range(1, 500):
        world = World(plan, point)
        if world.write_interval:
            world.write_interval = 0.002
        await live(world)
        died = world.dead.is_set()
        if died and not world.stored.finished:
            await live(world)
        check(world, died=died)
        figures["points"] += died
        figures["repeats"] += len(acknowledged(world, 1) & acknowledged(world, 2))
        if not died:
            return figures
    pytest.fail("the first life does not end")


def acknowledged(world: World, life: int) -> set[int]:
    return {
        number for kind, lived, numbers in world.trace if (kind, lived) == ("acknowledged", life) for number in numbers
    }


def check(world: World, *, died: bool) -> None:
    plan, trace = world.plan, world.trace
    assert world.stored.finished
    settled = [n for kind, _, numbers in trace if kind in ("acknowledged", "discarded") for n in numbers]
    assert set(settled) == set(range(1, len(plan.keys) + 1)), f"lost: {trace}"
    for life in (1, 2):
        lived = [
            n for kind, of, numbers in trace if of == life and kind in ("acknowledged", "discarded") for n in numbers
        ]
        assert len(lived) == len(set(lived)), f"repeated within a life: {trace}"
        for lane in range(plan.lanes):
            mine = [number for number in lived if lane_of(plan.keys[number - 1], plan.lanes) == lane]
            assert mine == sorted(mine), f"out of order: {trace}"
    before = [(kind, numbers) for kind, life, numbers in trace if life == 1]
    again = Counter(
        lane_of(plan.keys[n - 1], plan.lanes)
        for n in {n for kind, life, numbers in trace if life == 2 and kind == "called" for n in numbers}
        & {n for kind, numbers in before if kind in ("acknowledged", "discarded") for n in numbers}
    )
    last_save = max((at for at, (kind, _) in enumerate(before) if kind == "stored"), default=-1)
    for lane, count in again.items():
        since = [
            n for at, (kind, numbers) in enumerate(before) if at > last_save or not plan.write_interval
            if kind in ("acknowledged", "discarded") for n in numbers if lane_of(plan.keys[n - 1], plan.lanes) == lane
        ]  # fmt: skip
        bound = BATCH if not plan.write_interval else max(BATCH, len(since) + BATCH)
        assert count <= bound, f"lane {lane} repeats {count} of at most {bound}: {trace}"
    # a discard is stored before its lane's next call
    for at, (kind, numbers) in enumerate(before):
        if kind != "discarded":
            continue
        lane = lane_of(plan.keys[numbers[0] - 1], plan.lanes)
        for later, (what, others) in enumerate(before[at + 1 :], at + 1):
            if what == "called" and lane_of(plan.keys[others[0] - 1], plan.lanes) == lane:
                assert any(kind == "stored" and max(seen) >= numbers[-1] for kind, seen in before[at:later]), f"{trace}"
                break
    if plan.policy.maximum_retries is not None:
        # a store that is written now and then does not know of the calls since the last time
        since_save = Counter(numbers for kind, numbers in before[last_save + 1 :] if kind == "called")
        unknown = max(since_save.values(), default=0) if plan.write_interval else 1
        most = plan.policy.maximum_retries + 1 + died * max(1, unknown)
        assert all(count <= most for count in world.failed.values()), f"too many attempts: {trace}"
    twice = Counter(numbers for kind, _, numbers in trace if kind == "discarded")
    assert sum(twice.values()) - len(twice) <= plan.lanes * died, f"failure records again: {trace}"


policies = st.builds(
    RetryPolicy,
    maximum_retries=st.sampled_from([0, 1, 2, None]),
    split=st.booleans(),
    initial_backoff=st.just(0.0001),
    maximum_backoff=st.just(0.0002),
    has_destination=st.booleans(),
    delivery_patience=st.sampled_from([None, 0.0]),
)
plans = st.builds(
    Plan,
    keys=st.text("abcd", min_size=1, max_size=7),
    outcomes=st.lists(st.integers(0, 3), max_size=8),
    lanes=st.integers(1, 3),
    policy=policies,
    refusals=st.integers(0, 2),
    write_interval=st.sampled_from([0.0, 0.002]),
)


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow], derandomize=True)
@given(plan=plans)
def _crash_everywhere(plan: Plan) -> None:
    FIGURES.update(asyncio.run(crash_everywhere(plan)))


def test_a_crash_behind_any_action_loses_nothing_and_repeats_a_batch_per_lane_at_most() -> None:
    FIGURES.clear()
    _crash_everywhere()
    print(dict(FIGURES))
    assert FIGURES["repeats"], "no crash fell between an answer and its checkpoint"
