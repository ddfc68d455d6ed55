"""What happens to a batch (contract B.4, B.5, C.5). Pure: nothing else decides.

`decide` says what to do now, `step` what follows from what happened; the shell `delivering.py` goes round between them:

    decide ─ Invoke ──→ called ──────────────┐
       ↑ └── Wait                            │
       │ ├── Publish ─→ published, or not ───┤
       │ ├── Drop ────→ dropped ─────────────┤
       │ └── Done: the next batch            │
       └─────────────── step ←───────────────┘

Before this: `classify.py`. After this: the checkpoint, or `report.py` and a destination.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum
from typing import TYPE_CHECKING

from headrace.records import GivenUp
from headrace.stream.classify import Failed, FailureKind, NotInvoked, Outcome, PartiallyFailed, Refused, Succeeded
from headrace.stream.windows import anew, grown

if TYPE_CHECKING:
    from headrace.records import Batch, Window

DELIVERY_BACKOFF = 10.0
"""Longest pause in seconds between two tries to reach a destination."""
DROP_PATIENCE = 10.0
"""Seconds after which `deliveryPolicy: Drop` begins no further try."""
DELIVERY_GRACE = 5.0
"""Seconds that a try begun in time may still take."""


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """A mapping's settings; None stands for "without limit", 0 for none."""

    maximum_retries: int | None = None
    maximum_age: float | None = None
    split: bool = False
    initial_backoff: float = 1.0
    maximum_backoff: float = 60.0
    has_destination: bool = False
    delivery_patience: float | None = None
    """Seconds a destination is waited for: None waits until it took the record (`deliveryPolicy: Block`)."""


class Condition(StrEnum):
    """Why a batch was discarded, in the words of the failure record (C.1)."""

    RETRY_ATTEMPTS_EXHAUSTED = "RetryAttemptsExhausted"
    RECORD_AGE_EXCEEDED = "RecordAgeExceeded"


@dataclass(frozen=True, slots=True)
class Discard:
    """Records that leave without having been processed.

    `invocations` is the failure record's approximateInvokeCount; `failure` the last answer, None where the record has
    no responseContext; `called` the batch of the last call, whose request id the record carries; `at` is when, in
    epoch seconds. `window` is their tumbling window; without records it is its final call that was given up (B.7).
    """

    records: Batch
    condition: Condition
    invocations: int
    failure: Failed | None
    called: Batch
    at: float
    window: Window | None = None


@dataclass(frozen=True, slots=True)
class State:
    """Where a lane stands: the batch at its head, the halves behind it, and what the head has been through.

    `window` is the tumbling window that all of them belong to; while it is `final`, the head is its last call, which
    has no records.
    """

    head: Batch
    rest: tuple[Batch, ...] = ()
    attempts: int = 0
    """Calls of exactly this batch that count (B.4)."""
    setbacks: int = 0
    """Pauses in a row, whatever for: what the back-off grows with."""
    not_before: float = 0.0
    called: Batch | None = None
    discard: Discard | None = None
    decided: str | None = None
    """Sequence number up to which everything is decided, None while nothing is."""
    window: Window | None = None

    @property
    def closing(self) -> bool:
        """Whether the head is the final call of a window."""
        return self.window is not None and self.window.final


@dataclass(frozen=True, slots=True)
class Invoke:
    """Call the function with this batch; `attempt` counts from 1."""

    batch: Batch
    attempt: int
    window: Window | None = None


@dataclass(frozen=True, slots=True)
class Wait:
    """Do nothing until this time (epoch seconds)."""

    until: float


@dataclass(frozen=True, slots=True)
class Publish:
    """Hand these records' failure record to the destination; a try that has not ended `until` then has failed."""

    discard: Discard
    until: float


@dataclass(frozen=True, slots=True)
class Drop:
    """Say that these records are gone: no destination, or it did not take them in time."""

    discard: Discard


@dataclass(frozen=True, slots=True)
class Done:
    """Everything of the batch is decided."""


Action = Invoke | Wait | Publish | Drop | Done


@dataclass(frozen=True, slots=True)
class Called:
    """The function was called with the head."""

    outcome: Outcome


@dataclass(frozen=True, slots=True)
class Published:
    """The destination has the failure record."""


@dataclass(frozen=True, slots=True)
class NotPublished:
    """The destination did not take it."""


@dataclass(frozen=True, slots=True)
class Dropped:
    """The loss was made known."""


Event = Called | Published | NotPublished | Dropped


def start(batch: Batch, attempts: int = 0, window: Window | None = None, *, given_up: GivenUp | None = None) -> State:
    """A batch with a fresh budget, or, after a restart, with what was spent on exactly this one before.

    One that was given up is not called any more: only its failure record is left. The final call of a window is an
    empty batch.
    """
    state = State(head=batch, attempts=attempts, window=window)
    if given_up is None:
        return state
    answer = None
    if given_up.status is not None:
        kind = FailureKind.FUNCTION_ERROR
        answer = Failed(kind, given_up.function_error, given_up.status, given_up.executed_version)
    return replace(state, discard=_spent(state, answer, given_up.at))


def given_up(state: State) -> GivenUp | None:
    """What is to be kept of a head that was given up for its attempts; one that is too old needs nothing kept."""
    discard = state.discard
    if discard is None or discard.condition is not Condition.RETRY_ATTEMPTS_EXHAUSTED:
        return None
    if discard.failure is None:
        return GivenUp(discard.at)
    failure = discard.failure
    return GivenUp(discard.at, failure.status, failure.function_error, failure.executed_version)


def decide(state: State, now: float, policy: RetryPolicy) -> tuple[State, Action]:
    """What to do now. Age is looked at before every call, and only what is too old leaves (B.5)."""
    if state.discard is None:
        state = _expire(state, now, policy)
    if state.discard is not None:
        return state, _hand_over(state, state.discard, now, policy)
    if not state.head and not state.closing:
        return state, Done()
    if now < state.not_before:
        return state, Wait(min(state.not_before, _expiry(state, policy)))
    return state, Invoke(state.head, state.attempts + 1, state.window)


def just_given_up(state: State) -> bool:
    """Whether the records were given up by the last call and nothing has been tried since.

    A stop hands them over before it ends: to call the function for them once more would exceed the policy.
    """
    return state.discard is not None and not state.setbacks


def step(state: State, event: Event, now: float, policy: RetryPolicy, jitter: float) -> State:
    """What follows from an event; `jitter` in [0, 1] scales a pause (full jitter)."""
    match event:
        case Called(outcome):
            return _after_call(replace(state, called=state.head), outcome, now, policy, jitter)
        case Published() | Dropped():
            return _after_discard(state)
        case NotPublished():
            setbacks = state.setbacks + 1
            pause = backoff(setbacks, policy.initial_backoff, DELIVERY_BACKOFF, jitter)
            return replace(state, setbacks=setbacks, not_before=min(now + pause, _deadline(state, policy)))


def backoff(failures: int, initial: float, maximum: float, jitter: float) -> float:
    """Exponential with full jitter: the pause in seconds after so many failures in a row (B.5)."""
    doublings = min(failures - 1, 64)
    return float(jitter * min(maximum, initial * 2**doublings))


def _after_call(state: State, outcome: Outcome, now: float, policy: RetryPolicy, jitter: float) -> State:
    match outcome:
        case Succeeded(window_state):
            return _advance(state, len(state.head), window_state)
        case PartiallyFailed(first, window_state):
            return _advance(state, first, window_state)
        case Failed() if policy.split and len(state.head) > 1:
            return _split(state)
        case Refused(sent=False) if len(state.head) > 1:
            return _split(state)
        case Failed() | Refused():
            return _count(state, outcome, now, policy, jitter)
        case NotInvoked(retry_after=asked):
            return _pause(state, now, policy, jitter, asked or 0.0)


def _advance(state: State, count: int, window_state: bytes | None = None) -> State:
    """Acknowledges the first `count` records; what remains of the head is a new batch with a fresh budget."""
    if state.closing:
        return _after_window(state)
    head, rest = state.head[count:], state.rest
    if not head and rest:
        head, rest = rest[0], rest[1:]
    window = state.window and grown(state.window, window_state)
    if window is not None and window.final and head:
        head, rest = (), (head, *rest)  # the window's early end comes before what is left of the batch
    return State(head=head, rest=rest, decided=state.head[count - 1].sequence_number, window=window)


def _after_window(state: State) -> State:
    """The window is closed, its state gone; what follows in the same time opens another one."""
    if state.window is None or not state.rest:
        return State(head=(), decided=state.decided)
    return State(
        head=state.rest[0], rest=state.rest[1:], decided=state.decided, window=anew(state.window, state.rest[0])
    )


def _split(state: State) -> State:
    """Halves, left first, both with a fresh budget, at once."""
    middle = len(state.head) // 2
    left, right = state.head[:middle], state.head[middle:]
    return State(head=left, rest=(right, *state.rest), decided=state.decided, window=state.window)


def _count(state: State, failure: Failed | Refused, now: float, policy: RetryPolicy, jitter: float) -> State:
    attempts = state.attempts + 1
    state = replace(state, attempts=attempts)
    if policy.maximum_retries is None or attempts <= policy.maximum_retries:
        return _pause(state, now, policy, jitter)
    answer = failure if isinstance(failure, Failed) else None
    return replace(state, discard=_spent(state, answer, now), setbacks=0, not_before=0.0)


def _spent(state: State, answer: Failed | None, at: float) -> Discard:
    condition = Condition.RETRY_ATTEMPTS_EXHAUSTED
    return Discard(state.head, condition, state.attempts, answer, state.head, at, state.window)


def _pause(state: State, now: float, policy: RetryPolicy, jitter: float, at_least: float = 0.0) -> State:
    setbacks = state.setbacks + 1
    pause = backoff(setbacks, policy.initial_backoff, policy.maximum_backoff, jitter)
    pause = max(pause, min(at_least, policy.maximum_backoff))
    return replace(state, setbacks=setbacks, not_before=now + pause)


def _expire(state: State, now: float, policy: RetryPolicy) -> State:
    """Turns the too old records at the head into a discard, or a window's final call that comes too late."""
    if policy.maximum_age is None:
        return state
    count = 0
    while count < len(state.head) and now - state.head[count].arrival >= policy.maximum_age:
        count += 1
    if not count and not (state.closing and now >= _expiry(state, policy)):
        return state
    expired = state.head[:count]
    invocations = max(1, state.attempts)
    called = state.called or expired
    discard = Discard(expired, Condition.RECORD_AGE_EXCEEDED, invocations, None, called, now, state.window)
    return replace(state, discard=discard, setbacks=0, not_before=0.0)


def _expiry(state: State, policy: RetryPolicy) -> float:
    """When the head is too old; the final call of a window is as old as the window's start (B.7)."""
    if policy.maximum_age is None:
        return float("inf")
    since = state.window.start if state.closing and state.window is not None else state.head[0].arrival
    return since + policy.maximum_age


def _hand_over(state: State, discard: Discard, now: float, policy: RetryPolicy) -> Action:
    if not policy.has_destination:
        return Drop(discard)
    if state.setbacks and now >= _deadline(state, policy):
        return Drop(discard)
    if now < state.not_before:
        return Wait(state.not_before)
    return Publish(discard, _deadline(state, policy) + DELIVERY_GRACE)


def _deadline(state: State, policy: RetryPolicy) -> float:
    """When a destination that does not take the record is given up."""
    if policy.delivery_patience is None or state.discard is None:
        return float("inf")
    return state.discard.at + policy.delivery_patience


def _after_discard(state: State) -> State:
    if state.discard is None:
        return state
    return _advance(state, len(state.discard.records))
