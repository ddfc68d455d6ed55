"""When batches close (contract B.2)."""

from __future__ import annotations

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace.records import Batch, Head
from headrace.stream.batching import EVENT_LIMIT, BatchLimits, Buffer
from headrace.stream.encodings import LAMBDA_EVENT
from tests.support.records import numbers, record, records


def filled(limits: BatchLimits, batch: Batch, now: float = 0.0) -> Buffer:
    buffer = Buffer(limits, now)
    buffer.add(batch, now)
    return buffer


def test_without_a_window_whatever_is_there_leaves_at_once() -> None:
    buffer = filled(BatchLimits(10), records(1, 2, 3))
    assert numbers(buffer.take(0.0)) == [1, 2, 3]
    assert buffer.take(0.0) == ()


def test_a_full_batch_leaves_at_once_and_in_order() -> None:
    buffer = filled(BatchLimits(3, window=300), records(1, 2, 3, 4, 5, 6, 7))
    assert [numbers(buffer.take(0.0)) for _ in range(3)] == [[1, 2, 3], [4, 5, 6], []]
    assert len(buffer) == 1


def test_a_window_holds_records_until_it_has_elapsed() -> None:
    buffer = filled(BatchLimits(10, window=5), records(1, 2, 3, arrival=0))
    assert buffer.due() == 5.0
    assert buffer.take(4.9) == ()
    assert numbers(buffer.take(5.0)) == [1, 2, 3]


def test_the_next_window_starts_when_the_invocation_completes() -> None:
    buffer = filled(BatchLimits(10, window=5), records(1))
    assert numbers(buffer.take(5.0)) == [1]
    buffer.add(records(2), 6.0)
    buffer.restart_window(7.0)
    assert buffer.due() == 12.0


def test_an_empty_window_that_ran_out_begins_anew_with_its_first_record() -> None:
    buffer = Buffer(BatchLimits(10, window=5), 0.0)
    buffer.add(records(1), 100.0)
    assert buffer.due() == 105.0


def test_a_window_never_holds_a_record_past_its_age() -> None:
    buffer = filled(BatchLimits(10, window=300, maximum_age=60), records(1, arrival=0), now=10)
    due = buffer.due()
    assert due is not None
    assert due < 60
    assert numbers(buffer.take(due)) == [1]


def test_the_end_of_the_shard_closes_the_window() -> None:
    buffer = filled(BatchLimits(10, window=300), records(1, 2))
    buffer.end()
    assert numbers(buffer.take(0.0)) == [1, 2]


def test_ten_records_of_a_megabyte_go_in_batches_of_four_four_two() -> None:
    megabyte = b'"' + b"x" * (1024 * 1024 * 4 // 3) + b'"'
    buffer = filled(BatchLimits(100), tuple(record(n, event=megabyte) for n in range(1, 11)))
    assert [len(buffer.take(0.0)) for _ in range(4)] == [4, 4, 2, 0]


def test_a_record_too_large_for_any_event_makes_a_batch_of_its_own() -> None:
    huge = b'"' + b"x" * EVENT_LIMIT + b'"'
    buffer = filled(BatchLimits(100), (record(1), record(2, event=huge), record(3)))
    assert [numbers(buffer.take(0.0)) for _ in range(3)] == [[1], [2], [3]]


def test_an_event_of_exactly_the_limit_is_not_cut() -> None:
    limits = BatchLimits(100, event_limit=len(LAMBDA_EVENT.encode(records(1, 2, 3))))
    assert numbers(filled(limits, records(1, 2, 3, 4)).take(0.0)) == [1, 2, 3]


def test_an_event_that_would_be_one_byte_over_the_limit_is_cut() -> None:
    limits = BatchLimits(100, event_limit=len(LAMBDA_EVENT.encode(records(1, 2, 3))) - 1)
    assert numbers(filled(limits, records(1, 2, 3)).take(0.0)) == [1, 2]


def test_the_event_is_the_records_as_they_are() -> None:
    assert orjson.loads(LAMBDA_EVENT.encode(records(1, 2))) == {"Records": [{"n": 1}, {"n": 2}]}
    assert LAMBDA_EVENT.encode(records(1)) == b'{"Records":[{"n":1}]}'


@given(
    sizes=st.lists(st.integers(2, 60), max_size=40),
    batch_size=st.integers(1, 7),
    event_limit=st.integers(40, 120),
    window=st.sampled_from([0.0, 5.0]),
    steps=st.lists(st.floats(0, 4), max_size=40),
)
def test_nothing_is_lost_reordered_or_oversized(
    sizes: list[int], batch_size: int, event_limit: int, window: float, steps: list[float]
) -> None:
    """However records and time come in, what leaves is what came, in order, within the limits."""
    limits = BatchLimits(batch_size, window=window, event_limit=event_limit)
    buffer, now, out = Buffer(limits, 0.0), 0.0, []
    for index, size in enumerate(sizes):
        now += steps[index] if index < len(steps) else 0.0
        buffer.add((record(index, event=b'"' + b"x" * (size - 2) + b'"'),), now)
        while batch := buffer.take(now):
            out.append(batch)
            buffer.restart_window(now)
    buffer.end()
    while batch := buffer.take(now):
        out.append(batch)
    assert [n for batch in out for n in numbers(batch)] == list(range(len(sizes)))
    assert all(len(batch) <= batch_size for batch in out)
    assert all(len(LAMBDA_EVENT.encode(batch)) <= event_limit or len(batch) == 1 for batch in out)
    assert (len(buffer), buffer.record_bytes) == (0, 0)


def test_a_resumed_batch_is_the_same_again_however_much_has_come_since() -> None:
    buffer = Buffer(BatchLimits(10, window=300), 0.0)
    buffer.resume(Head("1", "2", 2, attempts=3))
    buffer.add(records(1), 0.0)
    assert (buffer.due(), buffer.take(1000.0)) == (None, ())
    buffer.add(records(2, 3), 0.0)
    assert numbers(buffer.take(0.0)) == [1, 2]
    assert buffer.take(0.0) == ()


@pytest.mark.parametrize("how", ["read to the tip", "the shard ended"])
def test_a_resumed_batch_that_cannot_be_had_again_holds_up_nothing(how: str) -> None:
    """Its records were trimmed, or a new filter takes them out."""
    buffer = Buffer(BatchLimits(10), 0.0)
    buffer.resume(Head("1", "3", 3, attempts=3))
    buffer.add(records(2, 3), 0.0)
    assert buffer.take(0.0) == ()
    buffer.forgo_resumed() if how == "read to the tip" else buffer.end()
    assert numbers(buffer.take(0.0)) == [2, 3]


def test_another_batch_than_the_resumed_one_is_an_ordinary_one() -> None:
    buffer = Buffer(BatchLimits(10), 0.0)
    buffer.resume(Head("1", "2", 2, attempts=3))
    buffer.add(records(2, 3, 4), 0.0)
    assert numbers(buffer.take(0.0)) == [2, 3, 4]


def test_bytes_held_are_those_of_the_records_that_have_not_left() -> None:
    buffer = filled(BatchLimits(2), tuple(record(n, event=b"x" * n) for n in (1, 2, 3, 4)))
    assert buffer.record_bytes == 10
    buffer.take(0.0)
    assert buffer.record_bytes == 7


def test_the_record_that_comes_next_is_the_oldest_one_held() -> None:
    buffer = Buffer(BatchLimits(1), 0.0)
    assert buffer.first is None
    buffer.add(records(1, 2), 0.0)
    assert buffer.first == record(1)
    buffer.take(0.0)
    assert buffer.first == record(2)


def test_reading_nothing_does_not_begin_a_window() -> None:
    buffer = Buffer(BatchLimits(10, window=5), 0.0)
    buffer.add((), 100.0)
    buffer.add(records(1), 103.0)
    assert buffer.due() == 108.0


@pytest.mark.parametrize(("read_at", "due"), [(4.9, 5.0), (5.0, 10.0)])
def test_an_empty_window_that_is_still_open_goes_on(read_at: float, due: float) -> None:
    buffer = Buffer(BatchLimits(10, window=5), 0.0)
    buffer.add(records(1), read_at)
    assert buffer.due() == due
    buffer.add(records(2), 1000.0)
    assert buffer.due() == due, "records that follow do not begin it anew"


def test_a_record_leaves_a_second_before_its_age() -> None:
    assert filled(BatchLimits(10, window=300, maximum_age=60), records(1, 2, arrival=10), now=10).due() == 69.0
    assert filled(BatchLimits(10, window=5, maximum_age=60), records(1, arrival=10), now=10).due() == 15.0


def test_the_second_record_counts_for_the_limit_by_what_is_sent_of_it() -> None:
    limits = BatchLimits(10, window=300, event_limit=len(LAMBDA_EVENT.encode(records(1, 2))))
    assert filled(limits, records(1, 2)).take(0.0) == (), "the window is open and there may be room"
    assert numbers(filled(limits, records(1, 2, 3)).take(0.0)) == [1, 2]


def test_a_resumed_batch_is_resumed_once() -> None:
    buffer = Buffer(BatchLimits(10), 0.0)
    buffer.resume(Head("1", "2", 2, attempts=3))
    buffer.add(records(1, 2, 3, 4), 0.0)
    assert [numbers(buffer.take(0.0)) for _ in range(3)] == [[1, 2], [3, 4], []]


def test_a_resumed_batch_may_be_larger_than_the_batch_size_is_now() -> None:
    buffer = Buffer(BatchLimits(1), 0.0)
    buffer.resume(Head("1", "2", 2, attempts=3))
    buffer.add(records(1, 2, 3), 0.0)
    assert [numbers(buffer.take(0.0)) for _ in range(2)] == [[1, 2], [3]]


@pytest.mark.parametrize("head", [Head("1", "9", 2, 1), Head("9", "2", 2, 1), Head("1", "1", 0, 1)])
def test_what_is_not_the_resumed_batch_from_first_to_last_leaves_as_if_there_were_none(head: Head) -> None:
    buffer = Buffer(BatchLimits(3), 0.0)
    buffer.resume(head)
    buffer.add(records(1, 2, 3, 4), 0.0)
    assert numbers(buffer.take(0.0)) == [1, 2, 3]


def test_the_tip_means_nothing_while_the_resumed_batch_is_there() -> None:
    buffer = Buffer(BatchLimits(10), 0.0)
    buffer.resume(Head("1", "2", 2, attempts=3))
    buffer.add(records(1, 2, 3), 0.0)
    buffer.forgo_resumed()
    assert numbers(buffer.take(0.0)) == [1, 2]


def test_a_resumed_batch_waits_for_no_window() -> None:
    buffer = Buffer(BatchLimits(10, window=300), 0.0)
    buffer.resume(Head("1", "2", 2, attempts=3))
    buffer.add(records(1, 2), 0.0)
    assert numbers(buffer.take(0.0)) == [1, 2]


@pytest.mark.parametrize("count", [0, 1, 2, 3, 10])
def test_the_size_reckoned_of_a_body_is_that_of_the_body(count: int) -> None:
    batch = records(*range(1, count + 1))
    elements = sum(len(LAMBDA_EVENT.element(one)) for one in batch)
    assert LAMBDA_EVENT.size(count, elements) == len(LAMBDA_EVENT.encode(batch))
