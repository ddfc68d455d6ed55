"""Lanes under any interleaving of reading, deciding, restarting and changing the factor (contract B.3, B.8)."""

from __future__ import annotations

from dataclasses import dataclass, field

from hypothesis import given, settings
from hypothesis import strategies as st

from headrace.records import Batch, Checkpoint, Head, Record
from headrace.stream.batching import BatchLimits
from headrace.stream.lanes import Lane, Lanes, lane_of
from tests.support.records import numbers, record

LIMITS = BatchLimits(3)
KEYS = "abcdefgh"


@dataclass
class World:
    """A shard's records, what was decided of them, and a poller that may die between any two actions."""

    records: list[Record]
    filtered: set[int]
    factor: int
    stored: Checkpoint = field(default_factory=Checkpoint)
    decided: list[int] = field(default_factory=list)
    heads: dict[Lane, Batch] = field(default_factory=dict)
    read: int = 0
    ended: bool = False

    def __post_init__(self) -> None:
        self.lanes = Lanes(self.factor, LIMITS, self.stored, 0.0)

    @property
    def watermark(self) -> int:
        return int(self.stored.sequence_number or 0)

    def restart(self, factor: int) -> None:
        """The next life reads on behind the watermark and knows only what was stored."""
        self.factor, self.heads, self.read, self.ended = factor, {}, self.watermark, False
        self.lanes = Lanes(factor, LIMITS, self.stored, 0.0)

    def poll(self, count: int) -> bool:
        if self.ended or not self.lanes.has_room:
            return False
        batch = self.records[self.read : self.read + count]
        self.read += len(batch)
        self.lanes.add([(one, int(one.sequence_number) not in self.filtered) for one in batch], 0.0)
        if self.read == len(self.records):
            self.ended = True
            self.lanes.end(0.0)
        self.store()
        return True

    def work(self, lane: Lane, count: int, *, fails: bool) -> bool:
        """Takes a batch if the lane has none, then decides a prefix of it, or fails on it."""
        batch = self.heads.pop(lane, ()) or lane.buffer.take(0.0)
        if not batch:
            return False
        assert not set(numbers(batch)) & set(self.decided), "decided records never come again"
        if fails:
            begun = lane.begun_with(batch)
            spent = begun.attempts if begun is not None else 0
            head = Head(batch[0].sequence_number, batch[-1].sequence_number, len(batch), spent + 1)
            self.lanes.begin(lane, head, stuck=True)
            self.heads[lane] = batch
        else:
            done, rest = batch[:count], batch[count:]
            self.lanes.decide(lane, done[-1].sequence_number)
            self.decided += numbers(done)
            if rest:
                self.heads[lane] = rest
        self.lanes.release(0.0)
        self.store()
        return True

    def store(self) -> None:
        before = self.watermark
        self.stored = self.lanes.checkpoint()
        assert self.watermark >= before, "the checkpoint never falls"
        settled = set(self.decided) | self.filtered
        assert all(number in settled for number in range(1, self.watermark + 1)), "it passes no undecided record"

    def check_order(self) -> None:
        for key in KEYS:
            mine = [number for number in self.decided if self.records[number - 1].key == key]
            assert mine == sorted(mine), f"order of key {key}"


actions = st.lists(
    st.one_of(
        st.tuples(st.just("poll"), st.integers(1, 5)),
        st.tuples(st.just("work"), st.integers(0, 19), st.integers(1, 3), st.booleans()),
        st.tuples(st.just("restart"), st.sampled_from([1, 2, 3, 10])),
    ),
    max_size=60,
)


@settings(max_examples=400, deadline=None)
@given(
    keys=st.lists(st.sampled_from(KEYS), min_size=1, max_size=30),
    filtered=st.sets(st.integers(1, 30), max_size=10),
    factor=st.sampled_from([1, 2, 3, 10]),
    plan=actions,
)
def test_nothing_is_lost_repeated_or_reordered(
    keys: str, filtered: set[int], factor: int, plan: list[tuple[object, ...]]
) -> None:
    world = World(
        [record(n, key=key) for n, key in enumerate(keys, 1)], filtered & set(range(1, len(keys) + 1)), factor
    )
    for action in plan:
        match action:
            case ("poll", int(count)):
                world.poll(count)
            case ("work", int(index), int(count), bool(fails)):
                world.work(world.lanes.all[index % len(world.lanes.all)], count, fails=fails)
            case ("restart", int(changed)):
                world.restart(changed)
    for _ in range(1000):  # then all goes well to the end
        progress = world.poll(5)
        for lane in world.lanes.all:
            progress |= world.work(lane, 3, fails=False)
        if not progress:
            break
    assert world.lanes.finished
    assert sorted(world.decided) == sorted(set(range(1, len(keys) + 1)) - world.filtered)
    assert world.watermark == len(keys)
    assert world.stored.lanes == ()
    world.check_order()


def test_keys_spread_over_all_lanes_and_stay_where_they_are() -> None:
    lanes = [lane_of(f"customer {number}", 10) for number in range(1000)]
    assert set(lanes) == set(range(10))
    assert min(lanes.count(lane) for lane in range(10)) > 50
    assert lane_of("customer 1", 1) == 0
    assert [lane_of(key, 10) for key in ("a", "b", "é")] == [7, 1, 6], "stored checkpoints depend on it"
