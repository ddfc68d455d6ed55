"""Single rules of windows.py, and of batches inside windows (contract B.7)."""

from __future__ import annotations

import orjson
import pytest

from headrace.records import Head, Window
from headrace.stream import windows
from headrace.stream.batching import BatchLimits, Buffer
from headrace.stream.encodings import LAMBDA_EVENT
from headrace.stream.windows import STATE_LIMIT, Tumbling, anew, final_head, grown
from tests.support.records import numbers, record, records

OPEN = Window(60, 120, "1", b'{"n":1}')
ARN = "arn:aws:kinesis:eu-west-1:123456789012:stream/s"


def tumbling(limits: BatchLimits, window: Window | None = None) -> Buffer:
    return Buffer(limits, 0.0, Tumbling(limits.tumbling, window))


@pytest.mark.parametrize(
    ("arrival", "start"), [(0.0, 0), (59.999, 0), (60.0, 60), (119.5, 60), (1573691884.8, 1573691880)]
)
def test_windows_are_half_open_and_begin_at_multiples_of_their_width(arrival: float, start: int) -> None:
    one = record(7, arrival=arrival)
    assert Tumbling(60).of(one) == Window(start, start + 60, "7")
    assert Tumbling(60).end_of(one) == start + 60


def test_without_a_width_there_are_no_windows() -> None:
    none = Tumbling(0)
    assert none.of(record(1)) is None
    assert none.end_of(record(1)) == float("inf")
    assert none.open_bytes == 0
    assert none.closing(record(1), ended=True) is None


def test_a_record_goes_to_the_window_that_is_open_until_its_end() -> None:
    held = Tumbling(60, OPEN)
    assert held.of(record(2, arrival=3.0)) == OPEN
    assert held.of(record(2, arrival=119.9)) == OPEN
    assert held.of(record(2, arrival=120.0)) == Window(120, 180, "2")


def test_a_window_that_is_closing_goes_on_closing_whatever_arrives() -> None:
    """After a restart, or when its state had grown too large."""
    final = Window(60, 120, "1", b"{}", final=True, early=True)
    assert Tumbling(60, final).closing(record(2, arrival=61.0), ended=False) == final


def test_a_window_keeps_the_state_that_the_last_call_gave_back() -> None:
    assert grown(OPEN, b'{"n":2}') == Window(60, 120, "1", b'{"n":2}')
    assert grown(OPEN, None) == OPEN


def test_a_state_over_a_megabyte_ends_its_window_early() -> None:
    assert not grown(OPEN, b"x" * STATE_LIMIT).final
    large = grown(OPEN, b"x" * (STATE_LIMIT + 1))
    assert (large.final, large.early, len(large.state or b"")) == (True, True, STATE_LIMIT + 1)


def test_after_an_early_end_the_same_time_begins_with_no_state() -> None:
    assert anew(grown(OPEN, b"x" * (STATE_LIMIT + 1)), records(5, 6)) == Window(60, 120, "5")


def test_the_final_call_is_known_by_its_windows_first_record() -> None:
    assert final_head(OPEN, 3) == Head("1", "1", 0, 3)


@pytest.mark.parametrize(("final", "early"), [(False, False), (True, False), (True, True)])
def test_a_call_says_whether_it_is_the_last_one_and_whether_that_is_early(final: bool, early: bool) -> None:
    body = windows.encoding(Window(60, 120, "1", b"{}", final, early), "shardId-0", ARN).encode(())
    last = orjson.loads(body)
    assert (last["isFinalInvokeForWindow"], last["isWindowTerminatedEarly"]) == (final, early)


def test_without_a_window_a_call_is_the_mappings_own() -> None:
    assert windows.encoding(None, "shardId-0", ARN) is LAMBDA_EVENT


def test_a_batch_never_mixes_windows() -> None:
    buffer = tumbling(BatchLimits(10, tumbling=60))
    buffer.add((record(1, arrival=58), record(2, arrival=59.9), record(3, arrival=60)), 0.0)
    batch, window = buffer.take_for_call(0.0)
    assert (numbers(batch), window) == ([1, 2], Window(0, 60, "1"))


def test_a_window_that_is_over_is_closed_before_the_next_one_begins() -> None:
    buffer = tumbling(BatchLimits(10, tumbling=60), Window(0, 60, "1", b"{}"))
    buffer.add((record(2, arrival=59), record(3, arrival=61)), 0.0)
    assert numbers(buffer.take_for_call(0.0)[0]) == [2]
    assert buffer.take_for_call(0.0) == ((), Window(0, 60, "1", b"{}", final=True))
    buffer.windows.open = None
    batch, window = buffer.take_for_call(0.0)
    assert (numbers(batch), window) == ([3], Window(60, 120, "3"))


def test_the_shards_end_closes_the_window_after_its_last_batch() -> None:
    buffer = tumbling(BatchLimits(10, window=300, tumbling=60), Window(0, 60, "1", b"{}"))
    buffer.add((record(2, arrival=3),), 0.0)
    assert buffer.take_for_call(0.0) == ((), None)
    buffer.end()
    assert numbers(buffer.take_for_call(0.0)[0]) == [2]
    assert buffer.take_for_call(0.0) == ((), Window(0, 60, "1", b"{}", final=True))


def test_a_batching_window_does_not_reach_over_the_tumbling_windows_end() -> None:
    buffer = tumbling(BatchLimits(10, window=300, tumbling=60))
    buffer.add((record(1, arrival=58),), 58.0)
    assert buffer.due() == 60.0


def test_the_state_counts_towards_the_largest_event() -> None:
    held = records(1, 2, 3, 4, arrival=61.0)
    window = Window(60, 120, "1", b'{"s":"' + b"x" * 1000 + b'"}')
    limit = len(windows.encoding(window, "shardId-000000000000", ARN).encode(held)) - 1
    buffer = tumbling(BatchLimits(10, tumbling=60, event_limit=limit), window)
    buffer.add(held, 61.0)
    batch, taken = buffer.take_for_call(61.0)
    assert taken == window
    assert 1 <= len(batch) < len(held)


def test_a_resumed_batch_from_before_there_were_windows_is_formed_anew() -> None:
    buffer = tumbling(BatchLimits(10, tumbling=60))
    buffer.resume(Head("1", "2", 2, attempts=1))
    buffer.add((record(1, arrival=59), record(2, arrival=60)), 0.0)
    assert numbers(buffer.take(0.0)) == [1]
