"""The rules of queues: how long messages are held, what becomes of a batch, how many calls there are at a time."""

from __future__ import annotations

from dataclasses import replace

import pytest

from headrace.stream.batching import BatchLimits
from headrace.stream.classify import (
    Failed,
    FailureKind,
    NotInvoked,
    Outcome,
    PartiallyFailed,
    Refused,
    Succeeded,
)
from headrace.stream.queues.concurrency import MOST, Concurrency, begin
from headrace.stream.queues.gathering import Gathering
from headrace.stream.queues.messages import Message
from headrace.stream.queues.put_off import MOST_APART, PutOff
from headrace.stream.queues.receiving import ahead
from headrace.stream.queues.settling import Again, Settled, counted, settle
from headrace.stream.queues.visibility import asked_for, extension, lapsed, still_held, too_short
from tests.support.messages import ids, message

HOURS = 3600.0

# ---- visibility


@pytest.mark.parametrize(
    ("queue", "window", "function", "expected"),
    [
        (30, 0, 3, 30),
        (30, 0, 60, 30),
        (30, 10, 10, 30),
        (30, 20, 10, 30),
        (30, 21, 10, 61),
        (600, 300, 300, 600),
        (599, 300, 300, 630),
        (0, 0, 3, 5),
        (0, 5, 3, 38),
        (43_200, 300, 900, 43_200),
    ],
)
def test_messages_are_received_for_the_queues_own_time_or_for_window_and_function_where_that_is_too_short(
    queue: float, window: float, function: float, expected: float
) -> None:
    assert asked_for(queue, window, function) == expected


def test_more_time_is_asked_for_when_half_of_it_has_passed() -> None:
    one = message(1, received=0.0, expires=60.0)
    assert extension(one, 60.0, 29.0) is None
    assert extension(one, 60.0, 30.0) == 60.0
    assert extension(one._replace(expires=90.0), 60.0, 60.0) == 60.0


def test_a_queue_with_a_short_time_is_asked_for_no_more_than_that_at_a_time() -> None:
    assert extension(message(1, received=0.0, expires=5.0), 5.0, 2.4) is None
    assert extension(message(1, received=0.0, expires=5.0), 5.0, 2.5) == 5.0


def test_no_message_is_held_for_more_than_twelve_hours_from_its_receive() -> None:
    received = 100.0
    one = message(1, received=received, expires=received + 12 * HOURS - 20)
    assert extension(one, 60.0, received + 12 * HOURS - 30) == 29.0
    held = one._replace(expires=received + 12 * HOURS - 1)
    assert extension(held, 60.0, received + 12 * HOURS - 10) is None
    assert lapsed(held, held.expires)
    assert not lapsed(held, held.expires - 0.1)


def test_a_time_that_is_too_short_for_the_function_is_told_with_both_numbers_and_a_better_one() -> None:
    assert too_short(30.0, 30.0) is None
    said = too_short(30.0, 31.0)
    assert said is not None
    assert "30 s" in said
    assert "31 s" in said
    assert "186 s" in said


# ---- settling

BATCH = [message(1), message(2), message(3)]


@pytest.mark.parametrize(
    ("outcome", "deleted", "left"),
    [
        (Succeeded(), [1, 2, 3], []),
        (PartiallyFailed(1, failures=frozenset({"2"})), [1, 3], [2]),
        (Failed(FailureKind.PARTIAL, None, failures=frozenset({"1", "3"})), [2], [1, 3]),
        (Failed(FailureKind.PARTIAL, None, failures=frozenset({"1", "2", "3"})), [], [1, 2, 3]),
        (Failed(FailureKind.FUNCTION_ERROR, "Unhandled"), [], [1, 2, 3]),
        (Failed(FailureKind.INVALID_RESPONSE, None), [], [1, 2, 3]),
        (Refused(), [], [1, 2, 3]),
        (Refused(sent=False), [], [1, 2, 3]),
    ],
)
def test_what_an_answer_deletes_and_leaves(outcome: Outcome, deleted: list[int], left: list[int]) -> None:
    settled = settle(BATCH, outcome)
    assert isinstance(settled, Settled)
    assert (ids(settled.delete), ids(settled.leave)) == (deleted, left)


def test_a_function_that_did_not_run_settles_nothing() -> None:
    assert settle(BATCH, NotInvoked(True, "HTTP 429", 7.0)) == Again(throttled=True, connected=False, retry_after=7.0)
    assert settle(BATCH, NotInvoked(False, "HTTP 503", status=503)) == Again(False, connected=True, retry_after=None)
    assert settle(BATCH, NotInvoked(False, "refused")) == Again(throttled=False, connected=False, retry_after=None)


def test_of_a_partial_answer_as_many_messages_count_as_failed_as_it_names() -> None:
    two = frozenset({"1", "3"})
    assert counted(3, Failed(FailureKind.PARTIAL, None, failures=two)) == PartiallyFailed(1, failures=two)
    assert counted(3, Succeeded()) == Succeeded()
    error = Failed(FailureKind.FUNCTION_ERROR, "Unhandled")
    assert counted(3, error) == error


# ---- concurrency


def test_calls_double_with_each_round_while_there_is_a_backlog() -> None:
    one = Concurrency()
    for expected in (10, 20, 40):
        for _ in range(int(one.now)):
            one = one.answered(backlog=True)
        assert one.allowed == expected


def test_calls_do_not_grow_beyond_what_is_needed_or_allowed() -> None:
    assert Concurrency().answered(backlog=False).allowed == 5
    assert Concurrency(now=7, share=7).answered(backlog=True).allowed == 7


def test_a_throttle_halves_the_calls_once_for_all_that_meet_it() -> None:
    one = Concurrency(now=40).throttled(100.0, 2.0)
    assert one.allowed == 20
    assert one.throttled(101.9, 2.0).allowed == 20
    assert one.throttled(102.0, 2.0).allowed == 10


def test_one_call_is_always_left_and_a_provisioned_mapping_keeps_its_least() -> None:
    assert Concurrency(now=1).throttled(0.0, 1.0).allowed == 1
    one = begin(None, (2, 200))
    assert one.allowed == 20
    assert one.throttled(0.0, 1.0).allowed == 20
    assert one.answered(backlog=True).throttled(0.0, 1.0).allowed == 20


def test_of_what_a_provisioned_mapping_always_has_each_poller_has_as_large_a_part_as_of_the_rest() -> None:
    one = begin(None, (3, 200)).within(1000)
    assert one.allowed == 15
    assert one.answered(backlog=True).allowed == 16
    assert replace(one, now=40).throttled(0.0, 1.0).throttled(1.0, 1.0).throttled(2.0, 1.0).allowed == 15
    assert one.within(0).allowed == 0
    assert begin(None, (2, 3)).within(10).allowed == 7, "rounded up, lest pollers together have less"


def test_a_share_of_nothing_lets_nothing_start() -> None:
    assert Concurrency().within(0).allowed == 0
    assert Concurrency().within(3).allowed == 3
    assert Concurrency().within(3).within(50).allowed == 5


@pytest.mark.parametrize(
    ("maximum", "pollers", "first", "most"),
    [(None, None, 5, MOST), (2, None, 2, 2), (None, (2, 200), 20, 2000), (None, (3, 4), 30, 40)],
)
def test_the_bounds_of_a_mapping(maximum: int | None, pollers: tuple[int, int] | None, first: int, most: int) -> None:
    one = begin(maximum, pollers)
    assert (one.allowed, replace(one, now=9e9).allowed) == (first, most)


# ---- gathering


def gathering(size: int = 10, window: float = 0.0, *, fifo: bool = False, limit: int = 6_000_000) -> Gathering:
    return Gathering(BatchLimits(size, window, event_limit=limit), fifo=fifo)


def test_without_a_window_what_is_there_is_a_batch() -> None:
    one = gathering(2)
    one.add([message(1), message(2), message(3)], 0.0)
    assert [ids(one.take(0.0)) for _ in range(3)] == [[1, 2], [3], []]


def test_a_batch_of_exactly_the_size_waits_for_no_window() -> None:
    one = gathering(2, window=5.0)
    one.add([message(1), message(2)], 10.0)
    assert ids(one.take(10.0)) == [1, 2]


def test_a_window_is_waited_for_from_its_first_message_on_unless_the_batch_is_full() -> None:
    one = gathering(3, window=5.0)
    assert one.due() is None
    one.add([message(1)], 10.0)
    one.add([message(2)], 14.0)
    assert one.due() == 15.0
    assert not one.take(14.9)
    one.add([message(3), message(4)], 14.9)
    assert ids(one.take(14.9)) == [1, 2, 3]
    assert one.due() == 19.9
    assert ids(one.take(19.9)) == [4]


def test_the_next_window_starts_when_the_call_before_it_ends() -> None:
    """Contract B.2."""
    one = gathering(3, window=5.0)
    one.add([message(1)], 10.0)
    batch = one.take(15.0)
    one.settle(batch, 17.0)
    one.add([message(2)], 20.0)
    assert one.due() == 22.0
    one.settle(one.take(22.0), 22.5)
    one.add([message(3)], 40.0)
    assert one.due() == 45.0, "a window without a message begins anew with the first"


def test_a_window_whose_messages_wait_already_is_not_put_off_by_the_end_of_other_calls() -> None:
    one = gathering(3, window=5.0)
    one.add([message(1)], 10.0)
    batch = one.take(15.0)
    one.add([message(2)], 16.0)
    one.settle(batch, 19.0)
    assert one.due() == 20.0


def test_a_message_that_failed_counts_for_the_oldest_until_it_comes_again_or_is_overdue() -> None:
    one = gathering(1)
    one.add([message(1)], 0.0)
    batch = one.take(0.0)
    one.settle(batch, 1.0, failed=batch)
    assert one.oldest is None
    assert one.oldest_left == batch[0].record.arrival
    one.drop_lapsed(batch[0].expires + 59.0)
    assert one.oldest_left is not None
    one.add(batch, 2.0)
    assert one.oldest_left is None
    one.settle(one.take(2.0), 3.0, failed=batch)
    one.drop_lapsed(batch[0].expires + 60.0)
    assert one.oldest_left is None, "another poller has it, or a queue of dead letters"


def test_a_batch_is_no_larger_than_an_event_may_be() -> None:
    size = len(b'{"Records":[]}') + 2 * len(message(1).record.event) + 1
    one = gathering(10, window=60.0, limit=size)
    one.add([message(1), message(2), message(3)], 0.0)
    assert ids(one.take(0.0)) == [1, 2]
    assert not one.take(0.0)
    alone = gathering(10, limit=1)
    alone.add([message(1), message(2)], 0.0)
    assert [ids(alone.take(0.0)), ids(alone.take(0.0))] == [[1], [2]]


def test_a_message_that_is_received_again_is_called_once_and_deleted_with_its_newer_receipt() -> None:
    one = gathering()
    one.add([message(1, receipt="old"), message(2)], 0.0)
    one.add([message(1, receipt="new")], 1.0)
    batch = one.take(1.0)
    assert [(each.message_id, each.receipt) for each in batch] == [("1", "new"), ("2", "r2")]
    one.add([message(2, receipt="newer")], 2.0)
    assert not one.take(2.0)
    assert one.newest(batch[1]).receipt == "newer"


def test_more_time_counts_for_the_receipt_that_it_was_given_to() -> None:
    one = gathering(1)
    one.add([message(1), message(2)], 0.0)
    (called,) = one.take(0.0)
    one.renew(called, 50.0)
    one.renew(message(2, receipt="of another receive"), 60.0)
    assert one.newest(called).expires == 50.0
    assert [each.expires for each in one.held] == [1e9, 50.0]


def test_what_has_lapsed_while_it_waited_is_not_called() -> None:
    one = gathering()
    one.add([message(1, expires=10.0), message(2, expires=11.0)], 0.0)
    one.drop_lapsed(10.0)
    assert ids(one.take(10.0)) == [2]


def test_what_waits_behind_a_message_of_its_group_that_has_lapsed_is_not_called_before_it() -> None:
    one = gathering(fifo=True)
    one.add([message(1, "a", expires=10.0), message(2, "a"), message(3, "b")], 0.0)
    one.drop_lapsed(10.0)
    assert ids(one.take(10.0)) == [3]


def test_a_group_is_in_one_batch_at_a_time_and_others_go_on() -> None:
    one = gathering(2, fifo=True)
    one.add([message(1, "a"), message(2, "b"), message(3, "a"), message(4, "c"), message(5, "b")], 0.0)
    first = one.take(0.0)
    second = one.take(0.0)
    assert (ids(first), ids(second)) == ([1, 2], [4])
    assert one.due() is None
    one.settle(second, 0.0)
    assert not one.take(0.0)
    one.settle(first, 0.0)
    assert ids(one.take(0.0)) == [3, 5]


def test_what_waits_behind_a_failed_message_of_its_group_is_let_lapse() -> None:
    one = gathering(1, fifo=True)
    one.add([message(1, "a"), message(2, "a"), message(3, "b")], 0.0)
    batch = one.take(0.0)
    one.settle(batch, 0.0, failed=batch)
    assert [ids(one.take(0.0)), ids(one.take(0.0))] == [[3], []]
    assert len(one) == 0


def test_what_waits_is_given_back_whole() -> None:
    one = gathering(1)
    one.add([message(1), message(2), message(3)], 0.0)
    one.take(0.0)
    assert (len(one), one.calling, one.oldest) == (2, 1, 1.0)
    assert ids(one.give_back()) == [2, 3]
    assert (len(one), one.waiting_bytes, ids(one.held)) == (0, 0, [1])


# ---- batches that the function did not take


BUSY = {"throttled": True, "connected": True}
AWAY = {"throttled": False, "connected": False}
UNKNOWN = {"throttled": False, "connected": True}


def test_a_function_that_is_busy_gets_nothing_new_and_one_more_try_for_each_answer() -> None:
    off = PutOff()
    assert off.failed("a", 0.0, **BUSY)
    assert off.failed("b", 0.0, **BUSY)
    for now in (0.0, 3600.0):
        assert (off.blocks(now), off.probing(now), off.apart(now), off.free(5, 2, now)) == (True, False, 0, 3)
    assert off.answered() == {"a"}
    assert off.answered() == {"b"}
    assert not off.blocks(0.0)


def test_a_function_that_cannot_be_connected_to_gets_nothing_new_until_it_answers() -> None:
    off = PutOff()
    for one in "ab":
        assert off.failed(one, 0.0, **AWAY)
        off.tried(one)
    for now in (0.0, 3600.0):
        assert (off.blocks(now), off.probing(now), off.apart(now)) == (True, False, 0)
    assert off.answered() == {"a", "b"}


def test_a_batch_that_something_else_answers_asks_for_another_at_once_and_for_one_more_each_minute() -> None:
    off = PutOff()
    assert off.failed("a", 10.0, **UNKNOWN)
    assert (off.blocks(10.0), off.probing(10.0), off.apart(10.0), off.free(5, 1, 10.0)) == (False, True, 1, 1)
    assert off.free(5, 2, 10.0) == 0, "the probe is out"
    assert off.failed("b", 11.0, **UNKNOWN)
    assert (off.blocks(69.9), off.probing(69.9), off.apart(69.9)) == (True, False, 0)
    assert (off.blocks(70.0), off.probing(70.0), off.apart(70.0)) == (False, True, 2)
    assert off.failed("c", 71.0, **UNKNOWN)
    assert off.blocks(129.9)
    assert off.answered() == {"a", "b", "c"}, "it is there again"
    assert off.failed("d", 500.0, **UNKNOWN)
    assert off.failed("e", 501.0, **UNKNOWN)
    assert off.blocks(501.0), "the minute counts from the first failure since"


def test_a_batch_that_fails_though_others_are_answered_waits_by_itself_for_good() -> None:
    off = PutOff()
    off.failed("a", 0.0, **UNKNOWN)
    assert off.answered() == {"a"}
    for now in (1.0, 2.0, 3.0):
        off.tried("a")
        assert not off.failed("a", now, **UNKNOWN)
        assert (off.blocks(now), off.probing(now), off.apart(now)) == (False, False, 1)
        assert off.answered() == frozenset(), "it keeps its own pauses"
    off.ended("a")
    assert off.apart(4.0) == 0


def test_no_more_than_a_hundred_batches_wait_by_themselves() -> None:
    off = PutOff()
    for number in range(MOST_APART + 5):
        off.failed(str(number), 0.0, **UNKNOWN)
    off.answered()
    assert off.apart(0.0) == MOST_APART
    assert off.blocks(1e9)


@pytest.mark.parametrize(
    ("allowed", "in_flight", "expected"),
    [(5, 0, 80), (5, 5, 30), (0, 0, 0), (300, 0, 1000)],
)
def test_what_may_be_called_and_half_as_much_is_received_ahead(allowed: int, in_flight: int, expected: int) -> None:
    assert ahead(PutOff(), in_flight, 0.0, allowed=allowed, size=10, at_once=10) == expected


def test_ahead_of_a_function_that_takes_nothing_no_more_than_a_probe_is_received() -> None:
    off = PutOff()
    off.failed("a", 0.0, **UNKNOWN)
    assert ahead(off, 1, 0.0, allowed=5, size=3, at_once=10) == 3
    off.failed("b", 0.0, **BUSY)
    assert ahead(off, 2, 0.0, allowed=5, size=3, at_once=10) == 0


# ---- what has lapsed


def test_of_a_group_nothing_is_held_behind_a_message_that_has_lapsed() -> None:
    def one(number: int, group: str, expires: float) -> Message:
        found = message(number, received=0.0, expires=expires)
        return found._replace(record=found.record._replace(key=group))

    batch = [one(1, "a", 9.0), one(2, "b", 5.0), one(3, "b", 9.0), one(4, "a", 9.0), one(5, "c", 9.0)]
    assert ids(still_held(batch, 6.0)) == [1, 4, 5]
    alone = [one(1, "", 5.0), one(2, "", 9.0)]
    assert ids(still_held(alone, 6.0)) == [2], "without groups each is by itself"
