"""Single rules of retry.py that the exhaustive walk does not spell out (contract B.5, C.5)."""

from __future__ import annotations

from dataclasses import replace

import pytest

from headrace.records import Batch, Window
from headrace.stream import retry
from headrace.stream.classify import Failed, FailureKind, NotInvoked, Outcome, PartiallyFailed, Refused, Succeeded
from headrace.stream.retry import Condition, Discard, RetryPolicy, backoff
from headrace.stream.windows import STATE_LIMIT
from tests.support.records import numbers, record, records

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


def outcome(
    state: retry.State, answer: Outcome, policy: RetryPolicy, now: float = 0.0
) -> tuple[retry.State, retry.Action]:
    return retry.decide(retry.step(state, retry.Called(answer), now, policy, 1.0), now, policy)


def test_halves_keep_what_was_decided_before_them_and_follow_each_other() -> None:
    policy = RetryPolicy(split=True)
    state, _ = outcome(retry.start(records(1, 2, 3, 4, 5)), PartiallyFailed(1), policy)
    state, _ = outcome(state, FAILED, policy)
    assert (numbers(state.head), [numbers(one) for one in state.rest], state.decided) == ([2, 3], [[4, 5]], "1")
    state, _ = outcome(state, FAILED, policy)
    calls = []
    while state.head:
        calls.append(numbers(state.head))
        state, _ = outcome(state, Succeeded(), policy)
    assert calls == [[2], [3], [4, 5]]
    assert state.decided == "5"


def test_halves_belong_to_the_window_of_the_whole() -> None:
    window = Window(0, 60, "1", b'{"n":1}')
    _, action = outcome(retry.start(records(1, 2), window=window), FAILED, RetryPolicy(split=True))
    assert action == retry.Invoke(records(1), 1, window)


def test_the_halves_behind_an_early_end_go_on_in_a_window_of_their_own_and_nothing_decided_is_forgotten() -> None:
    policy = RetryPolicy(split=True)
    state, _ = outcome(retry.start(records(1, 2, 3, 4), window=Window(0, 60, "1")), FAILED, policy)
    state, _ = outcome(state, FAILED, policy)
    state, action = outcome(state, Succeeded(b"x" * (STATE_LIMIT + 1)), policy)
    assert action == retry.Invoke((), 1, Window(0, 60, "1", b"x" * (STATE_LIMIT + 1), final=True, early=True))
    state, action = outcome(state, Succeeded(), policy)
    assert action == retry.Invoke(records(2), 1, Window(0, 60, "2"))
    assert ([numbers(one) for one in state.rest], state.decided) == ([[3, 4]], "1")


def test_a_final_call_leaves_what_was_decided_as_it_is() -> None:
    state, _ = outcome(
        retry.start(records(1), window=Window(0, 60, "1")), Succeeded(b"x" * (STATE_LIMIT + 1)), RetryPolicy()
    )
    state, action = outcome(state, Succeeded(), RetryPolicy())
    assert (action, state.decided) == (retry.Done(), "1")


def test_pauses_grow_with_each_failure_in_a_row_whatever_its_kind() -> None:
    policy = RetryPolicy()
    state, pauses = retry.start(records(1)), []
    for answer in (FAILED, NotInvoked(True, "429"), Refused(), FAILED):
        state = retry.step(state, retry.Called(answer), 0.0, policy, 1.0)
        pauses.append(state.not_before)
    assert pauses == [1.0, 2.0, 4.0, 8.0]


def test_a_failure_pauses_as_short_as_the_jitter_says() -> None:
    state = retry.step(retry.start(records(1)), retry.Called(FAILED), 5.0, RetryPolicy(), 0.0)
    assert state.not_before == 5.0


def test_the_age_of_a_batch_in_an_open_window_is_that_of_its_first_record() -> None:
    policy = RetryPolicy(maximum_age=60.0, initial_backoff=1000.0, maximum_backoff=1000.0)
    _, action = outcome(retry.start(records(30), window=Window(0, 60, "30")), FAILED, policy, now=50.0)
    assert action == retry.Wait(90.0)


@pytest.mark.parametrize("arrivals", [(0, 0, 100), (0, 0, 0, 100), (0, 100, 0)])
def test_the_expired_ones_are_the_longest_run_at_the_head(arrivals: tuple[int, ...]) -> None:
    batch = tuple(record(number, arrival=float(at)) for number, at in enumerate(arrivals, 1))
    state, _ = retry.decide(retry.start(batch), 60.0, RetryPolicy(maximum_age=60.0))
    assert state.discard is not None
    assert len(state.discard.records) == arrivals.index(100)


@pytest.mark.parametrize(("answer", "kept"), [(FAILED, FAILED), (Refused(), None)])
def test_a_batch_is_discarded_once_its_retries_are_spent_with_what_its_record_tells(
    answer: Failed | Refused, kept: Failed | None
) -> None:
    policy = RetryPolicy(maximum_retries=1, has_destination=True, delivery_patience=30.0)
    window = Window(0, 60, "1")
    state, action = outcome(retry.start(records(1, 2), window=window), answer, policy, now=5.0)
    assert action == retry.Wait(6.0)
    state, action = outcome(state, answer, policy, now=7.0)
    discard = Discard(
        records(1, 2), Condition.RETRY_ATTEMPTS_EXHAUSTED, 2, kept, called=records(1, 2), at=7.0, window=window
    )
    assert action == retry.Publish(discard, until=7.0 + 30.0 + retry.DELIVERY_GRACE)
    assert (state.setbacks, state.not_before) == (0, 0.0)


def test_expired_records_are_discarded_with_the_last_call_in_which_they_were() -> None:
    policy = RetryPolicy(maximum_age=60.0)
    window = Window(0, 60, "1")
    state, _ = outcome(retry.start(records(1, 2, 50), window=window), FAILED, policy, now=55.0)
    state, action = retry.decide(state, 62.0, policy)
    discard = Discard(
        records(1, 2), Condition.RECORD_AGE_EXCEEDED, 1, None, called=records(1, 2, 50), at=62.0, window=window
    )
    assert action == retry.Drop(discard)
    assert (state.setbacks, state.not_before) == (0, 0.0)
    _, action = retry.decide(retry.start(records(1, 2, 50)), 62.0, policy)
    assert action == retry.Drop(Discard(records(1, 2), Condition.RECORD_AGE_EXCEEDED, 1, None, records(1, 2), 62.0))


def test_a_destination_that_does_not_take_it_is_asked_again_after_pauses_that_grow_until_its_time_is_up() -> None:
    policy = RetryPolicy(maximum_retries=0, has_destination=True, delivery_patience=10.0)
    state, _ = outcome(retry.start(records(1)), FAILED, policy, now=100.0)
    pauses, now = [], 100.0
    while True:
        state = retry.step(state, retry.NotPublished(), now, policy, 1.0)
        state, action = retry.decide(state, now, policy)
        if not isinstance(action, retry.Wait):
            break
        pauses.append(action.until - now)
        now = action.until
    assert pauses == [1.0, 2.0, 4.0, 3.0]
    assert isinstance(action, retry.Drop)
    assert now == 110.0


def test_a_batch_too_large_to_be_sent_is_halved_and_one_that_was_refused_is_not() -> None:
    policy = RetryPolicy(split=True)
    _, action = outcome(retry.start(records(1, 2)), Refused(sent=False), policy)
    assert action == retry.Invoke(records(1), 1)
    state, action = outcome(retry.start(records(1)), Refused(sent=False), policy)
    assert (action, state.attempts) == (retry.Wait(1.0), 1)
    state, action = outcome(retry.start(records(1, 2)), Refused(), policy)
    assert (action, state.attempts) == (retry.Wait(1.0), 1)


def test_a_batch_of_two_is_halved() -> None:
    _, action = outcome(retry.start(records(1, 2)), FAILED, RetryPolicy(split=True))
    assert action == retry.Invoke(records(1), 1)


def test_after_a_restart_what_was_spent_is_spent_and_the_last_call_counts_on() -> None:
    """Also where fewer retries are allowed now than were made: the failure record tells how many there were."""
    policy = RetryPolicy(maximum_retries=1)
    state = retry.start(records(1), 5)
    assert retry.decide(state, 0.0, policy)[1] == retry.Invoke(records(1), 6)
    _, action = outcome(state, FAILED, policy)
    assert isinstance(action, retry.Drop)
    assert action.discard.invocations == 6


@pytest.mark.parametrize("answer", [FAILED, Refused()])
@pytest.mark.parametrize("batch", [records(1, 2), ()])
def test_after_a_restart_what_was_given_up_is_handed_over_as_it_was_and_not_called(
    answer: Failed | Refused, batch: Batch
) -> None:
    policy = RetryPolicy(maximum_retries=0, has_destination=True, delivery_patience=60.0)
    window = Window(0, 60, "1", b"{}", final=not batch)
    state = retry.step(retry.start(batch, 3, window), retry.Called(answer), 5.0, policy, 1.0)
    again = retry.start(batch, state.attempts, window, given_up=retry.given_up(state))
    before, after = retry.decide(state, 9.0, policy)[1], retry.decide(again, 9.0, policy)[1]
    assert isinstance(before, retry.Publish)
    assert isinstance(after, retry.Publish)
    assert after.until == before.until, "patience is not renewed"
    kept = after.discard.failure and replace(after.discard.failure, kind=FAILED.kind, detail=FAILED.detail)
    assert replace(after.discard, failure=kept) == before.discard


def test_what_is_not_given_up_for_its_attempts_keeps_no_answer() -> None:
    policy = RetryPolicy(maximum_age=60.0, has_destination=True)
    assert retry.given_up(retry.start(records(1), 3)) is None
    assert retry.given_up(retry.decide(retry.start(records(1), 3), 1000.0, policy)[0]) is None


def test_what_the_last_call_gave_up_is_handed_over_before_a_stop_unless_that_has_failed() -> None:
    policy = RetryPolicy(maximum_retries=0, has_destination=True)
    state = retry.start(records(1))
    assert not retry.just_given_up(state)
    state = retry.step(state, retry.Called(FAILED), 0.0, policy, 1.0)
    assert retry.just_given_up(state)
    assert not retry.just_given_up(retry.step(state, retry.NotPublished(), 0.0, policy, 1.0))
    assert not retry.just_given_up(retry.step(state, retry.Published(), 0.0, policy, 1.0))
