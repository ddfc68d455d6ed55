"""The retry machine walked on scripts of outcomes, and an oracle to compare it with, call by call and discard by discard.

The oracle is contract B.5 to B.7 written down a second time, naively and differently: a recursive procedure of one lane.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import pytest

from headrace.records import Batch, Window
from headrace.stream import retry
from headrace.stream.classify import Failed, FailureKind, NotInvoked, Outcome, PartiallyFailed, Refused, Succeeded
from headrace.stream.retry import Condition, RetryPolicy
from headrace.stream.windows import STATE_LIMIT
from tests.support.records import numbers

FAILED = Failed(FailureKind.FUNCTION_ERROR, "Unhandled")
THROTTLED = NotInvoked(throttled=True, detail="HTTP 429")
STEP = 10.0
"""Seconds that every call takes in these walks; with an age of 25 s records expire inside them."""
LARGE = b'"' + b"x" * STATE_LIMIT + b'"'

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


@dataclass(frozen=True)
class Seen:
    """A call as the function sees it; `state` is None outside of windows."""

    records: list[int]
    attempt: int
    state: bytes | None = None
    final: bool = False
    early: bool = False


@dataclass
class Trace:
    """What a run did, from outside."""

    calls: list[Seen] = field(default_factory=list)
    discards: list[tuple[list[int], Condition, int]] = field(default_factory=list)
    dropped: list[list[int]] = field(default_factory=list)
    acknowledged: list[int] = field(default_factory=list)


@functools.cache
def outcomes(size: int, *, window: bool = False) -> list[Outcome]:
    """Everything a call of so many records can come to; in a window with a state of either kind."""
    plain: list[Outcome] = [FAILED, Refused(), THROTTLED]
    if not window:
        return [Succeeded(), *plain, *(PartiallyFailed(first) for first in range(1, size))]
    states = (b'{"n":%d}' % size, LARGE)
    partial = [PartiallyFailed(first, state) for first in range(1, size) for state in states]
    return [*(Succeeded(state) for state in states), *plain, Refused(sent=False), *partial]


def scripts(length: int, width: int) -> Iterator[tuple[int, ...]]:
    """Every sequence of choices."""
    return itertools.product(range(width), repeat=length)


def chooser(script: Sequence[int]) -> Callable[[int, bool], Outcome]:
    """Outcomes as a script chooses them, success once it has run out."""
    choices = iter(script)

    def choose(size: int, window: bool) -> Outcome:
        possible = outcomes(size, window=window)
        choice = next(choices, None)
        return possible[choice % len(possible)] if choice is not None else possible[0]

    return choose


def play(
    batch: Batch, policy: RetryPolicy, script: Sequence[int], refusals: int = 0, window: Window | None = None
) -> Trace:
    """Runs the machine to its end; the destination refuses its first `refusals` documents."""
    trace, now = Trace(), 0.0
    state = retry.start(batch, window=window)
    choose = chooser(script)
    for _ in range(1_000):
        state, action = retry.decide(state, now, policy)
        assert_sound(batch, state, trace)
        event: retry.Event
        match action:
            case retry.Done():
                assert sorted(trace.acknowledged + [n for d in trace.discards for n in d[0]]) == numbers(batch)
                return trace
            case retry.Wait(until):
                assert until > now
                now = until
                continue
            case retry.Invoke(called, attempt, inside):
                assert called or (inside is not None and inside.final), "an empty batch is only a window's final call"
                assert policy.maximum_age is None or all(now - one.arrival < policy.maximum_age for one in called)
                assert policy.maximum_retries is None or attempt <= policy.maximum_retries + 1
                told = (inside.state or b"{}", inside.final, inside.early) if inside is not None else ()
                trace.calls.append(Seen(numbers(called), attempt, *told))
                outcome = choose(len(called), inside is not None)
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


class Oracle:
    """B.5 and B.6 once more: records as numbers, one recursive procedure, a clock it moves itself; B.7 with `start`.

    `start` is that of the window all records lie in, `state` what it holds; None without windows.
    """

    def __init__(self, policy: RetryPolicy, script: Sequence[int], start: float | None = None) -> None:
        self.policy = policy
        self.choose = chooser(script)
        self.start = start
        self.state = b"{}" if start is not None else None
        self.trace = Trace()
        self.now = 0.0

    def run(self, batch: Batch) -> Trace:
        self.arrivals = {int(one.sequence_number): one.arrival for one in batch}
        self.handle(numbers(batch))
        return self.trace

    def close(self, state: bytes) -> Trace:
        """Only the final call of a window that ended in its time."""
        self.state = state
        self.final_call(early=False)
        return self.trace

    def final_call(self, *, early: bool) -> None:
        self.handle([], final=True, early=early)
        self.state = b"{}"

    def expires(self, batch: list[int]) -> float:
        if self.policy.maximum_age is None:
            return float("inf")
        return (self.arrivals[batch[0]] if batch else self.start or 0.0) + self.policy.maximum_age

    def discard(self, batch: list[int], condition: Condition, count: int) -> None:
        self.trace.discards.append((batch, condition, count))
        if self.policy.has_destination:
            self.now += 1.0
        else:
            self.trace.dropped.append(batch)

    def acknowledge(self, batch: list[int], outcome: Succeeded | PartiallyFailed) -> None:
        self.trace.acknowledged += batch
        if batch and self.start is not None:
            self.state = outcome.state
            if self.state == LARGE:
                self.final_call(early=True)

    def handle(self, batch: list[int], *, final: bool = False, early: bool = False) -> None:
        failures = pauses = 0
        while batch or final:
            expired = list(itertools.takewhile(lambda number: self.expires([number]) <= self.now, batch))
            if expired or (final and self.expires([]) <= self.now):
                self.discard(expired, Condition.RECORD_AGE_EXCEEDED, max(1, failures))
                batch, failures, pauses = batch[len(expired) :], 0, 0
                if final:
                    return
                continue
            self.trace.calls.append(Seen(batch, failures + 1, self.state, final, early))
            outcome = self.choose(len(batch), self.start is not None)
            self.now += STEP
            if isinstance(outcome, Succeeded):
                self.acknowledge(batch, outcome)
                return
            if isinstance(outcome, PartiallyFailed):
                self.acknowledge(batch[: outcome.first], outcome)
                batch, failures, pauses = batch[outcome.first :], 0, 0
                continue
            unsent = isinstance(outcome, Refused) and not outcome.sent
            if ((isinstance(outcome, Failed) and self.policy.split) or unsent) and len(batch) > 1:
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
            self.now = max(self.now, min(wake, self.expires(batch)))
