"""Every sequence of outcomes, for batches of up to four records and every policy, walked to its end.

Two proofs over the same walk: invariants that must hold in every state, and an oracle: contract B.5 and B.6 written down a
second time, naively and differently (a recursive script of one lane), compared call by call and discard by discard.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace

import pytest

from headrace.records import Batch
from headrace.stream import retry
from headrace.stream.classify import (
    Failed,
    FailureKind,
    NotInvoked,
    Outcome,
    PartiallyFailed,
    Refused,
    Succeeded,
)
from headrace.stream.retry import Condition, RetryPolicy
from tests.support.records import numbers, record, records

FAILED = Failed(FailureKind.FUNCTION_ERROR, "Unhandled")
THROTTLED = NotInvoked(throttled=True, detail="HTTP 429")
ARRIVAL = 0.0
STEP = 10.0
"""Seconds that every call takes in these walks; with an age of 25 s records expire inside them."""

POLICIES = [
    RetryPolicy(
        maximum_retries=retries,
        maximum_age=age,
        split=split,
        initial_backoff=1.0,
        maximum_backoff=4.0,
        has_destination=destination,
        delivery_patience=patience,
    )
    for retries, age, split, (destination, patience) in itertools.product(
        (0, 1, 2, None), (None, 25.0), (False, True), ((False, None), (True, None), (True, 5.0))
    )
]


@dataclass
class Trace:
    """What a run did, from outside."""

    calls: list[tuple[list[int], int]] = field(default_factory=list)
    discards: list[tuple[list[int], Condition, int]] = field(default_factory=list)
    dropped: list[list[int]] = field(default_factory=list)
    acknowledged: list[int] = field(default_factory=list)


def outcomes(size: int) -> list[Outcome]:
    return [Succeeded(), FAILED, Refused(), THROTTLED, *(PartiallyFailed(first) for first in range(1, size))]


def play(batch: Batch, policy: RetryPolicy, script: Sequence[int], refusals: int) -> tuple[Trace, bool]:
    """Runs the machine on a script of outcome indexes, then on success; tells whether the script sufficed.

    The destination refuses its first `refusals` documents.
    """
    trace, now = Trace(), 0.0
    state = retry.start(batch)
    choices = iter(script)
    enough = True
    for _ in range(1_000):
        state, action = retry.decide(state, now, policy)
        assert_sound(batch, state, trace)
        event: retry.Event
        match action:
            case retry.Done():
                assert sorted(trace.acknowledged + [n for d in trace.discards for n in d[0]]) == numbers(batch)
                return trace, enough
            case retry.Wait(until):
                assert until > now
                now = until
                continue
            case retry.Invoke(called, attempt):
                assert called, "an empty batch is never invoked"
                assert policy.maximum_age is None or all(now - one.arrival < policy.maximum_age for one in called)
                assert policy.maximum_retries is None or attempt <= policy.maximum_retries + 1
                trace.calls.append((numbers(called), attempt))
                possible = outcomes(len(called))
                choice = next(choices, None)
                enough = enough and choice is not None
                outcome = possible[choice % len(possible)] if choice is not None else Succeeded()
                now += STEP
                event = retry.Called(outcome)
                if isinstance(outcome, Succeeded):
                    trace.acknowledged += numbers(called)
                elif isinstance(outcome, PartiallyFailed):
                    trace.acknowledged += numbers(called[: outcome.first])
            case retry.Publish(discard):
                assert policy.has_destination
                if refusals:
                    refusals -= 1
                    event = retry.NotPublished()
                else:
                    trace.discards.append((numbers(discard.records), discard.condition, discard.invocations))
                    event = retry.Published()
                now += 1.0
            case retry.Drop(discard):
                assert not policy.has_destination or policy.delivery_patience is not None
                trace.discards.append((numbers(discard.records), discard.condition, discard.invocations))
                trace.dropped.append(numbers(discard.records))
                event = retry.Dropped()
        state = retry.step(state, event, now, policy, 0.5)
    pytest.fail("the walk does not end")


def assert_sound(batch: Batch, state: retry.State, trace: Trace) -> None:
    """Each record is exactly one of acknowledged, discarded, pending, in order; the checkpoint passes no undecided one."""
    pending = numbers(state.head) + [n for rest in state.rest for n in numbers(rest)]
    decided = sorted(trace.acknowledged + [n for d in trace.discards for n in d[0]])
    assert decided + pending == numbers(batch)
    assert state.decided == (str(decided[-1]) if decided else None)


def scripts(length: int, width: int) -> Iterator[tuple[int, ...]]:
    return itertools.product(range(width), repeat=length)


@pytest.mark.parametrize("apart", [0.0, 12.0], ids=["arrived together", "arrived apart"])
@pytest.mark.parametrize("size", [1, 2, 3, 4])
def test_every_walk_is_sound_and_agrees_with_the_oracle(size: int, apart: float) -> None:
    batch = tuple(record(number, arrival=(number - 1) * apart) for number in range(1, size + 1))
    length = {1: 5, 2: 4, 3: 4, 4: 3}[size]
    walks = 0
    for policy in POLICIES:
        for script in scripts(length, 3 + size):
            trace, _ = play(batch, policy, script, refusals=0)
            assert trace == Oracle(policy, script).run(batch), (policy, script)
            walks += 1
    assert walks == len(POLICIES) * (3 + size) ** length


@pytest.mark.parametrize("policy", POLICIES, ids=str)
def test_a_destination_that_refuses_holds_the_batch_or_loses_it_as_the_policy_says(policy: RetryPolicy) -> None:
    policy = replace(policy, maximum_age=None)
    if policy.maximum_retries is None or not policy.has_destination:
        policy = replace(policy, maximum_retries=0, has_destination=True)
    always_failing = (1,) * 12
    for refusals in range(1, 25):
        trace, _ = play(records(1, 2, arrival=ARRIVAL), policy, always_failing, refusals)
        if policy.delivery_patience is None:
            assert trace.dropped == []
    if policy.delivery_patience is not None:
        assert trace.dropped, "a destination that never answers must be given up"


class Oracle:
    """B.5 and B.6 once more: records as numbers, one recursive procedure, a clock it moves itself."""

    def __init__(self, policy: RetryPolicy, script: Sequence[int]) -> None:
        self.policy = policy
        self.choices = iter(script)
        self.trace = Trace()
        self.now = 0.0

    def run(self, batch: Batch) -> Trace:
        self.arrivals = {int(one.sequence_number): one.arrival for one in batch}
        self.handle(numbers(batch))
        return self.trace

    def expires(self, number: int) -> float:
        return float("inf") if self.policy.maximum_age is None else self.arrivals[number] + self.policy.maximum_age

    def discard(self, batch: list[int], condition: Condition, count: int) -> None:
        self.trace.discards.append((batch, condition, count))
        if self.policy.has_destination:
            self.now += 1.0
        else:
            self.trace.dropped.append(batch)

    def handle(self, batch: list[int]) -> None:
        failures = pauses = 0
        while batch:
            expired = list(itertools.takewhile(lambda number: self.expires(number) <= self.now, batch))
            if expired:
                self.discard(expired, Condition.RECORD_AGE_EXCEEDED, max(1, failures))
                batch, failures, pauses = batch[len(expired) :], 0, 0
                continue
            self.trace.calls.append((batch, failures + 1))
            possible = outcomes(len(batch))
            choice = next(self.choices, None)
            outcome = possible[choice % len(possible)] if choice is not None else Succeeded()
            self.now += STEP
            if isinstance(outcome, Succeeded):
                self.trace.acknowledged += batch
                return
            if isinstance(outcome, PartiallyFailed):
                self.trace.acknowledged += batch[: outcome.first]
                batch, failures, pauses = batch[outcome.first :], 0, 0
                continue
            if isinstance(outcome, Failed) and self.policy.split and len(batch) > 1:
                self.handle(batch[: len(batch) // 2])
                self.handle(batch[len(batch) // 2 :])
                return
            if not isinstance(outcome, NotInvoked):
                failures += 1
                if self.policy.maximum_retries is not None and failures > self.policy.maximum_retries:
                    self.discard(batch, Condition.RETRY_ATTEMPTS_EXHAUSTED, failures)
                    return
            pauses += 1
            wake = self.now + 0.5 * min(4.0, 2.0 ** (pauses - 1))
            self.now = max(self.now, min(wake, self.expires(batch[0])))
