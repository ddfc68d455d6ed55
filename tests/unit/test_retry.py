"""Single rules of retry.py that the exhaustive walk does not spell out (contract B.5, C.5)."""

from __future__ import annotations

import pytest

from headrace.stream import retry
from headrace.stream.classify import Failed, FailureKind, NotInvoked
from headrace.stream.retry import RetryPolicy, backoff
from tests.support.records import numbers, records

FAILED = Failed(FailureKind.FUNCTION_ERROR, "Unhandled")


def test_the_back_off_doubles_to_its_bound_with_full_jitter() -> None:
    assert [backoff(n, 1.0, 60.0, 1.0) for n in (1, 2, 3, 6, 7, 8)] == [1, 2, 4, 32, 60, 60]
    assert backoff(3, 1.0, 60.0, 0.0) == 0.0
    assert backoff(10_000, 1.0, 60.0, 1.0) == 60.0


def test_an_unchanged_retry_is_the_same_batch_and_the_next_attempt() -> None:
    policy = RetryPolicy(maximum_retries=None)
    state = retry.start(records(1, 2))
    for attempt in range(1, 50):
        state, action = retry.decide(state, 1e9, policy)
        assert isinstance(action, retry.Invoke)
        assert (numbers(action.batch), action.attempt) == ([1, 2], attempt)
        state = retry.step(state, retry.Called(FAILED), 0.0, policy, 1.0)


def test_a_throttle_waits_as_long_as_it_asks_within_the_bound() -> None:
    policy = RetryPolicy(maximum_backoff=60.0)
    for asked, wait in ((30.0, 30.0), (1e6, 60.0), (None, 0.0)):
        state = retry.step(retry.start(records(1)), retry.Called(NotInvoked(True, "429", asked)), 100.0, policy, 0.0)
        assert state.not_before == 100.0 + wait


def test_a_pause_ends_when_the_head_expires() -> None:
    policy = RetryPolicy(maximum_age=60.0, initial_backoff=1000.0, maximum_backoff=1000.0)
    state = retry.step(retry.start(records(10)), retry.Called(FAILED), 50.0, policy, 1.0)
    _, action = retry.decide(state, 50.0, policy)
    assert action == retry.Wait(70.0)
    _, action = retry.decide(state, 70.0, policy)
    assert isinstance(action, retry.Drop)


def test_only_what_is_too_old_leaves() -> None:
    policy = RetryPolicy(maximum_age=60.0, has_destination=True)
    state, action = retry.decide(retry.start(records(1, 2, 100)), 62.0, policy)
    assert isinstance(action, retry.Publish)
    assert numbers(action.discard.records) == [1, 2]
    state = retry.step(state, retry.Published(), 62.0, policy, 0.0)
    _, action = retry.decide(state, 62.0, policy)
    assert isinstance(action, retry.Invoke)
    assert numbers(action.batch) == [100]


@pytest.mark.parametrize(("patience", "given_up"), [(None, False), (10.0, True)])
def test_block_waits_for_ever_and_drop_does_not(patience: float | None, given_up: bool) -> None:
    policy = RetryPolicy(maximum_retries=0, has_destination=True, delivery_patience=patience)
    state = retry.step(retry.start(records(1)), retry.Called(FAILED), 0.0, policy, 1.0)
    now, tries = 0.0, 0
    for _ in range(200):
        state, action = retry.decide(state, now, policy)
        match action:
            case retry.Wait(until):
                assert until - now <= retry.DELIVERY_BACKOFF + 1e-6
                now = until
            case retry.Publish():
                tries += 1
                now += 0.1
                state = retry.step(state, retry.NotPublished(), now, policy, 1.0)
            case retry.Drop():
                assert given_up
                assert 10.0 <= now < 15.0
                return
    assert not given_up
    assert tries > 20


def test_a_discard_is_decided_only_once_it_is_delivered() -> None:
    policy = RetryPolicy(maximum_retries=0, has_destination=True)
    state = retry.step(retry.start(records(1, 2)), retry.Called(FAILED), 0.0, policy, 1.0)
    assert state.decided is None
    state = retry.step(state, retry.NotPublished(), 0.0, policy, 1.0)
    assert state.decided is None
    assert retry.step(state, retry.Published(), 0.0, policy, 1.0).decided == "2"
