"""Two lanes of one shard, every interleaving of their calls and every outcome, with a crash after each of them.

Five records in every distribution over the lanes, batches of two. What must hold: the checkpoint passes no undecided
record and never falls; what comes again after the crash is just what was undecided, in order, with its attempts spent.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence

import pytest

from headrace.records import Batch, Checkpoint, Record
from headrace.stream import delivering, retry
from headrace.stream.batching import BatchLimits
from headrace.stream.classify import Failed, FailureKind, Outcome, PartiallyFailed, Succeeded
from headrace.stream.lanes import Lane, Lanes, lane_of
from headrace.stream.retry import RetryPolicy
from tests.support.records import numbers, record

FAILED = Failed(FailureKind.FUNCTION_ERROR, "Unhandled")
LIMITS = BatchLimits(2)
RECORDS = 5
KEYS = [next(f"k{n}" for n in itertools.count() if lane_of(f"k{n}", 2) == lane) for lane in (0, 1)]
POLICIES = [RetryPolicy(maximum_retries=retries, split=split) for retries in (0, 1, None) for split in (False, True)]


class Shard:
    """The lanes at work as the shell keeps them, one call at a time; nothing is remembered but the checkpoint."""

    def __init__(self, records: Batch, factor: int, policy: RetryPolicy, checkpoint: Checkpoint) -> None:
        self.policy = policy
        self.lanes = Lanes(factor, LIMITS, checkpoint, 0.0)
        above = int(checkpoint.sequence_number or 0)
        self.lanes.add([(one, True) for one in records if int(one.sequence_number) > above], 0.0)
        self.lanes.end(0.0)
        self.states: dict[int, retry.State] = {}
        self.delivered: list[Record] = []
        self.decided: set[int] = set()

    @property
    def busy(self) -> list[Lane]:
        """The lanes that have something to do, with a batch at hand."""
        for lane in self.lanes.all:
            if lane.index not in self.states and (batch := lane.buffer.take(0.0)):
                begun = lane.begun_with(batch)
                self.states[lane.index] = retry.start(batch, begun.attempts if begun is not None else 0)
        return [lane for lane in self.lanes.all if lane.index in self.states]

    def call(self, lane: Lane, choice: int) -> None:
        """One call of a lane's batch and what follows, discards included."""
        state = self.states[lane.index]
        state, action = retry.decide(state, 1e9, self.policy)
        assert isinstance(action, retry.Invoke)
        self.delivered += action.batch
        state = self.note(lane, state, retry.Called(outcome(choice, action.batch)))
        while state.discard is not None:
            state = self.note(lane, state, retry.Dropped())
        if state.head:
            self.states[lane.index] = state
        else:
            del self.states[lane.index]

    def note(self, lane: Lane, before: retry.State, event: retry.Event) -> retry.State:
        state = retry.step(before, event, 0.0, self.policy, 0.0)
        step = delivering._step(before, state, event)
        watermark = int(self.lanes.watermark or 0)
        if step.decided is not None:
            left = set(numbers(state.head)) | {n for rest in state.rest for n in numbers(rest)}
            self.decided |= set(numbers(before.head)) - left
            self.lanes.decide(lane, step.decided)
        self.lanes.begin(lane, step.head, stuck=step.stuck)
        assert int(self.lanes.watermark or 0) >= watermark
        return state


def outcome(choice: int, batch: Batch) -> Outcome:
    return (Succeeded(), FAILED, PartiallyFailed(1) if len(batch) > 1 else FAILED)[choice]


def patterns() -> Iterator[Batch]:
    for lanes in itertools.product((0, 1), repeat=RECORDS):
        yield tuple(record(number, key=KEYS[lane]) for number, lane in enumerate(lanes, start=1))


def played(records: Batch, factor: int, policy: RetryPolicy, script: Sequence[tuple[int, int]]) -> Shard | None:
    """None where the script asks for a lane that has nothing to do, as another script then does the same."""
    shard = Shard(records, factor, policy, Checkpoint())
    for which, choice in script:
        busy = shard.busy
        if which >= len(busy):
            return None
        shard.call(busy[which], choice)
    return shard


def finish(shard: Shard) -> None:
    while busy := shard.busy:
        shard.call(busy[0], 0)


def in_order(records: Sequence[Record]) -> bool:
    """Whether each key's records come in order, repeats of one aside."""
    for key in KEYS:
        firsts = list(dict.fromkeys(int(one.sequence_number) for one in records if one.key == key))
        if firsts != sorted(firsts):
            return False
    return True


@pytest.mark.parametrize("factor", [1, 2])
@pytest.mark.parametrize("policy", POLICIES, ids=str)
def test_a_crash_after_any_call_of_any_lane_forgets_nothing_and_repeats_nothing_decided(
    policy: RetryPolicy, factor: int
) -> None:
    walks = 0
    for records in patterns():
        for length in range(4):
            for script in itertools.product(itertools.product(range(factor), range(3)), repeat=length):
                shard = played(records, factor, policy, script)
                if shard is None:
                    continue
                walks += 1
                checkpoint = shard.lanes.checkpoint()
                undecided = set(numbers(records)) - shard.decided
                assert int(checkpoint.sequence_number or 0) < min(undecided, default=RECORDS + 1)
                spent = {lane.index: lane.head.attempts for lane in shard.lanes.all if lane.head is not None}
                after = Shard(records, factor, policy, checkpoint)
                for lane in after.busy:
                    assert after.states[lane.index].attempts == spent.get(lane.index, 0)
                finish(after)
                assert set(numbers(tuple(after.delivered))) == undecided
                assert in_order(shard.delivered)
                assert in_order(after.delivered)
                assert after.lanes.finished
                assert after.lanes.watermark == str(RECORDS)
    assert walks > 32 * 9
