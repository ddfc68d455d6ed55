"""Single rules of lanes.py (contract B.3, B.8): restarts, changed factors, room."""

from __future__ import annotations

from dataclasses import replace

import pytest

from headrace.records import Batch, Checkpoint, GivenUp, Head, LaneProgress, Window
from headrace.stream import ahead
from headrace.stream.batching import BatchLimits
from headrace.stream.lanes import Lane, Lanes, lane_of
from tests.support.records import numbers, record, records

LIMITS = BatchLimits(10)
ZERO, ONE = (next(f"k{n}" for n in range(99) if lane_of(f"k{n}", 2) == lane) for lane in (0, 1))
"""Keys of the first and the second of two lanes."""


def on(key: str, *wanted: int) -> list[tuple[int, str]]:
    return [(number, key) for number in wanted]


def read(lanes: Lanes, *entries: tuple[int, str], now: float = 0.0) -> None:
    lanes.add([(record(number, key=key), True) for number, key in sorted(entries)], now)


def restored(factor: int, checkpoint: Checkpoint, limits: BatchLimits = LIMITS) -> Lanes:
    return Lanes(factor, limits, checkpoint, 0.0)


def taken(lanes: Lanes) -> list[tuple[int, int, list[int]]]:
    """What each lane, named by factor and index, has for a call now."""
    batches = [(lane, lane.buffer.take(0.0)) for lane in lanes.all]
    return [(lane.factor, lane.index, numbers(batch)) for lane, batch in batches if batch]


def lane(lanes: Lanes, factor: int, index: int) -> Lane:
    return next(one for one in lanes.all if (one.factor, one.index) == (factor, index))


# ---- restarts


def test_what_a_lane_had_decided_above_the_watermark_does_not_come_again() -> None:
    lanes = restored(2, Checkpoint("1", lanes=(LaneProgress(2, 1, "4"),)))
    read(lanes, *on(ZERO, 2, 3), *on(ONE, 4, 5))
    assert taken(lanes) == [(2, 0, [2, 3]), (2, 1, [5])]
    assert lanes.watermark == "1"
    lanes.decide(lane(lanes, 2, 0), "3")
    assert lanes.watermark == "4"


def test_records_behind_what_a_lane_had_decided_are_its_own_again() -> None:
    lanes = restored(1, Checkpoint(None, lanes=(LaneProgress(1, 0, "2"),)))
    read(lanes, *on(ZERO, 1, 2))
    read(lanes, *on(ZERO, 3))
    read(lanes, *on(ZERO, 4))
    assert taken(lanes) == [(1, 0, [3, 4])]


def test_a_head_is_formed_again_as_it_was_and_its_attempts_are_spent() -> None:
    head = Head("1", "2", 2, attempts=3)
    lanes = restored(1, Checkpoint(None, lanes=(LaneProgress(1, 0, None, head),)))
    assert lane(lanes, 1, 0).head == head
    read(lanes, *on(ZERO, 1, 2, 3))
    assert taken(lanes) == [(1, 0, [1, 2])]
    assert taken(lanes) == [(1, 0, [3])]


HEAD = Head("3", "4", 2, attempts=5)


def spent(held: Lane, batch: Batch, window: Window | None = None) -> int:
    begun = held.begun_with(batch, window)
    return begun.attempts if begun is not None else 0


@pytest.mark.parametrize(
    ("batch", "attempts"), [(records(3, 4), 5), (records(3), 0), (records(3, 4, 5), 0), (records(2, 4), 0), ((), 0)]
)
def test_only_exactly_the_same_batch_has_spent_attempts(batch: Batch, attempts: int) -> None:
    held = lane(restored(1, Checkpoint("2", lanes=(LaneProgress(1, 0, None, HEAD),))), 1, 0)
    assert spent(held, batch) == attempts


def test_a_lane_that_had_begun_nothing_has_spent_nothing() -> None:
    assert spent(restored(1, Checkpoint()).all[0], records(1)) == 0


def test_the_final_call_of_exactly_the_same_window_has_spent_attempts() -> None:
    window = Window(0, 60, "7", b"{}", final=True)
    final = LaneProgress(1, 0, None, Head("7", "7", 0, attempts=2))
    held = lane(restored(1, Checkpoint("9", lanes=(final,), window=window), BatchLimits(10, tumbling=60)), 1, 0)
    assert spent(held, (), window) == 2
    assert spent(held, (), Window(0, 60, "8", b"{}", final=True)) == 0
    assert spent(held, records(7), window) == 0
    assert spent(held, ()) == 0


def test_what_was_given_up_is_known_for_exactly_the_same_batch() -> None:
    given_up = replace(HEAD, given_up=GivenUp(5.0, 200, "Unhandled"))
    held = lane(restored(1, Checkpoint("2", lanes=(LaneProgress(1, 0, None, given_up),))), 1, 0)
    assert held.begun_with(records(3, 4)) == given_up
    assert held.begun_with(records(3)) is None


def test_an_open_window_goes_on_after_a_restart() -> None:
    window = Window(0, 60, "1", b'{"n":1}')
    lanes = restored(1, Checkpoint("1", window=window), BatchLimits(10, tumbling=60))
    assert lanes.checkpoint() == Checkpoint("1", window=window)
    assert lanes.windows.open == window
    read(lanes, (2, ZERO))
    batch, belongs_to = lanes.all[0].buffer.take_for_call(0.0)
    assert (numbers(batch), belongs_to) == ([2], window)


def test_a_shard_with_an_open_window_is_not_finished() -> None:
    lanes = restored(1, Checkpoint("1", window=Window(0, 60, "1", b"{}")), BatchLimits(10, tumbling=60))
    lanes.end(0.0)
    assert not lanes.finished
    lanes.windows.open = None
    assert lanes.finished


def test_a_window_closes_once_the_tip_was_read_long_after_its_end() -> None:
    window = Window(0, 60, "1", b"{}")
    lanes = restored(1, Checkpoint("1", window=window), BatchLimits(10, tumbling=60))
    assert lanes.all[0].buffer.take_for_call(1e9) == ((), None)
    lanes.read_to_tip(1e9)
    closing = lanes.all[0].buffer.take_for_call(1e9)[1]
    assert closing is not None
    assert closing.final


# ---- a changed factor


def begun(index: int, first: int, last: int, **more: object) -> LaneProgress:
    return LaneProgress(2, index, head=Head(str(first), str(last), last - first + 1, 1), **more)  # type: ignore[arg-type]


def test_nothing_new_is_admitted_before_the_former_lanes_have_drained() -> None:
    lanes = restored(1, Checkpoint(None, lanes=(begun(0, 1, 1), begun(1, 2, 2))))
    read(lanes, (1, ZERO), (2, ONE), (3, ZERO), (4, ONE))
    assert not lanes.has_room
    assert taken(lanes) == [(2, 0, [1]), (2, 1, [2])]
    lanes.decide(lane(lanes, 2, 0), "1")
    lanes.release(0.0)
    assert taken(lanes) == []
    assert not lanes.has_room
    lanes.decide(lane(lanes, 2, 1), "2")
    lanes.release(0.0)
    assert lanes.has_room
    assert taken(lanes) == [(1, 0, [3, 4])]
    lanes.decide(lane(lanes, 1, 0), "4")
    assert lanes.checkpoint() == Checkpoint("4")


def test_a_former_lane_that_is_stuck_keeps_its_keys_and_the_others_move_on() -> None:
    lanes = restored(1, Checkpoint(None, lanes=(begun(0, 1, 1), begun(1, 2, 2))))
    read(lanes, (1, ZERO), (2, ONE), (3, ZERO), (4, ONE))
    stuck = lane(lanes, 2, 0)
    assert taken(lanes) == [(2, 0, [1]), (2, 1, [2])]
    lanes.begin(stuck, Head("1", "1", 1, 2), stuck=True)
    lanes.decide(lane(lanes, 2, 1), "2")
    lanes.release(0.0)
    assert taken(lanes) == [(2, 0, [3]), (1, 0, [4])]
    lanes.decide(lane(lanes, 1, 0), "4")
    assert lanes.checkpoint().lanes == (
        LaneProgress(2, 0, None, Head("1", "1", 1, 2), open=True),
        LaneProgress(2, 1, "2"),
        LaneProgress(1, 0, "4"),
    )
    lanes.decide(stuck, "3")
    read(lanes, (5, ZERO))
    assert taken(lanes) == [(1, 0, [5])]


def test_a_lane_that_is_still_open_keeps_its_keys_over_a_restart() -> None:
    lanes = restored(1, Checkpoint("1", lanes=(LaneProgress(2, 0, "3", open=True),)))
    read(lanes, (2, ONE), (3, ZERO))
    assert taken(lanes) == [(1, 0, [2])]
    assert lanes.watermark == "1"
    again = restored(1, Checkpoint("1", lanes=(LaneProgress(2, 0, None, open=True), LaneProgress(2, 1, "6"))))
    read(again, (5, ZERO), (6, ONE), (7, ONE))
    assert taken(again) == [(2, 0, [5])]


def test_the_head_of_a_former_lane_is_formed_again_with_its_attempts() -> None:
    lanes = restored(1, Checkpoint(None, lanes=(begun(1, 1, 2),)))
    read(lanes, *on(ONE, 1, 2, 3))
    former = lane(lanes, 2, 1)
    assert spent(former, records(1, 2)) == 1
    assert former.open
    assert taken(lanes) == [(2, 1, [1, 2])]


def test_lanes_of_the_same_factor_are_the_current_ones_however_many_had_begun() -> None:
    lanes = restored(2, Checkpoint(None, lanes=(begun(0, 1, 1), begun(1, 2, 2))))
    assert [(one.factor, one.index) for one in lanes.all] == [(2, 0), (2, 1)]
    read(lanes, (1, ZERO), (2, ONE), (3, ZERO), (4, ONE))
    assert taken(lanes) == [(2, 0, [1]), (2, 1, [2])]
    assert taken(lanes) == [(2, 0, [3]), (2, 1, [4])]


def test_the_end_of_a_shard_waits_for_what_is_held_back() -> None:
    lanes = restored(1, Checkpoint(None, lanes=(begun(0, 1, 1),)), BatchLimits(10, window=300))
    read(lanes, (1, ZERO), (2, ZERO))
    lanes.end(0.0)
    assert not lanes.finished
    assert taken(lanes) == [(2, 0, [1])]
    lanes.decide(lane(lanes, 2, 0), "1")
    assert not lanes.finished
    lanes.release(0.0)
    assert taken(lanes) == [(1, 0, [2])], "the batching window does not hold up the last batch"
    lanes.decide(lane(lanes, 1, 0), "2")
    assert lanes.finished


def test_lanes_of_before_there_were_windows_keep_what_they_decided_and_claim_nothing() -> None:
    checkpoint = Checkpoint("1", lanes=(begun(0, 2, 2, decided="5", open=True), LaneProgress(1, 0, "3")))
    lanes = restored(1, checkpoint, BatchLimits(10, tumbling=60))
    read(lanes, (2, ONE), (3, ONE), (4, ONE), (5, ZERO), (6, ZERO))
    assert taken(lanes) == [(1, 0, [4, 6])]


def test_the_one_lane_of_before_there_were_windows_goes_on_with_its_head() -> None:
    lanes = restored(1, Checkpoint("1", lanes=(LaneProgress(1, 0, None, HEAD),)), BatchLimits(10, tumbling=60))
    assert spent(lane(lanes, 1, 0), records(3, 4)) == 5


# ---- filtered records, room, age


def test_filtered_records_are_passed_by_the_watermark_and_never_delivered() -> None:
    lanes = restored(1, Checkpoint())
    lanes.add([(record(1), False), (record(2), True), (record(3), False)], 0.0)
    assert lanes.watermark == "1"
    assert taken(lanes) == [(1, 0, [2])]
    lanes.decide(lanes.all[0], "2")
    assert lanes.watermark == "3"


def test_reading_pauses_while_a_lane_holds_two_batches() -> None:
    lanes = restored(2, Checkpoint(), BatchLimits(2))
    read(lanes, *on(ZERO, 1, 2, 3))
    assert lanes.has_room
    read(lanes, (4, ZERO))
    assert not lanes.has_room
    assert taken(lanes) == [(2, 0, [1, 2])]
    assert lanes.has_room


def test_of_many_shards_each_holds_no_more_than_its_share_and_a_batch() -> None:
    lanes = restored(1, Checkpoint(), BatchLimits(2))
    lanes.share = 1000
    lanes.add([(record(1, event=b"x" * 600), True)], 0.0)
    assert lanes.has_room, "one of two is no batch: it is read on until there is one"
    assert lanes.room == 1000 // 600
    lanes.add([(record(2, event=b"x"), True)], 0.0)
    assert not lanes.has_room
    assert len(taken(lanes)) == 1
    assert lanes.has_room
    lanes.add([(record(number, event=b"x" * 100), True) for number in (3, 4)], 0.0)
    assert lanes.room == 1000 // 100, "a read goes by the records that came last"


def test_the_first_read_of_many_shards_asks_for_few_records_and_one_shard_for_all() -> None:
    assert ahead.records(ahead.share(16), None) == 10_000, "a batch of records that small may be of as many"
    assert ahead.records(ahead.share(256), None) * 1_400 < ahead.share(256)
    assert ahead.records(1, 6e6) == 1, "a record larger than the share is read all the same"


@pytest.mark.parametrize("shards", [1, 16, 64, 256, 512])
def test_what_waits_of_all_shards_together_is_bounded(shards: int) -> None:
    assert shards * ahead.share(shards) <= ahead.IN_ALL
    assert ahead.LEAST <= ahead.share(shards) <= ahead.MOST


def test_reading_pauses_while_all_lanes_together_hold_eight_megabytes() -> None:
    lanes = restored(2, Checkpoint(), BatchLimits(1000))
    half = b"x" * (ahead.MOST // 2)
    lanes.add([(record(1, key=ZERO, event=half), True), (record(2, key=ONE, event=half[1:]), True)], 0.0)
    assert lanes.has_room
    lanes.add([(record(3, key=ONE, event=b"x"), True)], 0.0)
    assert not lanes.has_room


def test_the_oldest_record_that_waits_is_found_in_any_lane_and_among_those_held_back() -> None:
    lanes = restored(2, Checkpoint())
    assert lanes.oldest is None
    lanes.add([(record(1, key=ZERO, arrival=9.0), True), (record(2, key=ONE, arrival=5.0), True)], 0.0)
    assert lanes.oldest == 5.0
    held = restored(1, Checkpoint(None, lanes=(begun(0, 1, 1),)))
    held.add([(record(1, key=ZERO, arrival=3.0), True), (record(2, key=ONE, arrival=2.0), True)], 0.0)
    held.add([(record(3, key=ONE, arrival=1.0), True)], 0.0)
    assert held.oldest == 2.0
    assert taken(held) == [(2, 0, [1])]
    assert held.oldest == 2.0


def test_a_lane_with_a_batching_window_waits_from_when_it_was_made() -> None:
    lanes = Lanes(1, BatchLimits(10, window=5), Checkpoint(), 100.0)
    lanes.add([(record(1), True)], 101.0)
    assert lanes.all[0].buffer.due() == 105.0
    former = Lanes(1, BatchLimits(10, window=5), Checkpoint(None, lanes=(LaneProgress(2, 0, open=True),)), 100.0)
    former.add([(record(1, key=ZERO), True)], 101.0)
    assert [one.buffer.due() for one in former.all if len(one.buffer)] == [105.0]


def test_a_restart_forgets_nothing_that_was_stored() -> None:
    stored = Checkpoint("1", lanes=(LaneProgress(2, 0, "5", HEAD), LaneProgress(2, 1, "4")))
    assert restored(2, stored).checkpoint() == stored


def test_a_lane_that_gets_on_is_stuck_no_more() -> None:
    lanes = restored(1, Checkpoint())
    read(lanes, *on(ZERO, 1, 2))
    only = lanes.all[0]
    lanes.begin(only, Head("1", "2", 2, 1), stuck=True)
    assert only.stuck
    lanes.decide(only, "1")
    assert (only.stuck, only.head) == (False, None)


def test_a_shard_that_nothing_was_read_of_is_not_finished() -> None:
    lanes = restored(1, Checkpoint())
    assert not lanes.finished
    lanes.end(0.0)
    assert lanes.finished


def test_what_former_lanes_leave_is_spread_over_the_new_ones() -> None:
    lanes = restored(2, Checkpoint(None, lanes=(LaneProgress(3, 0, "1", open=True), LaneProgress(3, 1, "2"))))
    read(lanes, *on(ZERO, 10, 12), *on(ONE, 11, 13))
    batches = taken(lanes)
    assert sorted(number for *_, batch in batches for number in batch) == [10, 11, 12, 13]
    assert (2, 1, [11, 13]) in batches or lane_of(ONE, 3) == 0


def test_lanes_of_one_factor_that_were_opened_before_another_stay_former_ones() -> None:
    """The factor went from 2 to 1 and back while the first of two lanes was stuck."""
    opened = (LaneProgress(2, 0, None, Head("1", "1", 1, 1), open=True), LaneProgress(1, 0, "4"))
    lanes = restored(2, Checkpoint(None, lanes=(*opened, LaneProgress(2, 1, "6"))))
    assert [(one.factor, one.index) for one in lanes.all] == [(2, 0), (1, 0), (2, 0), (2, 1)]
    assert lanes.all[0].open


@pytest.mark.parametrize("size", [1, 2, 100])
def test_a_stored_head_that_is_larger_than_what_is_buffered_now_is_not_waited_for(size: int) -> None:
    """The batch size was lowered: reading pauses long before the head is whole again."""
    head = Checkpoint(None, lanes=(LaneProgress(1, 0, head=Head("1", "3000", 3000, 7)),))
    lanes = Lanes(1, BatchLimits(size), head, 0.0)
    (lane,) = lanes.all
    lanes.add([(record(number, key="k"), True) for number in range(1, 1001)], 0.0)
    assert not lanes.has_room
    assert len(lane.buffer.take(0.0)) == size


def test_a_head_that_is_not_whole_is_not_waited_for_while_a_stuck_lane_holds_up_reading() -> None:
    checkpoint = Checkpoint(None, lanes=(LaneProgress(2, 1, head=Head("1", "9", 2, 3)),))
    lanes = Lanes(2, BatchLimits(2), checkpoint, 0.0)
    full, partial = lanes.all
    read(lanes, *on(ONE, 1), *on(ZERO, *range(2, 8)))
    assert not lanes.has_room
    assert partial.buffer.take(0.0) == ()
    batch = full.buffer.take(0.0)
    lanes.begin(full, Head(batch[0].sequence_number, batch[-1].sequence_number, 2, 4), stuck=True)
    assert [one.sequence_number for one in partial.buffer.take(0.0)] == ["1"]


def test_a_head_of_which_nothing_was_read_yet_is_still_formed_again() -> None:
    checkpoint = Checkpoint(None, lanes=(LaneProgress(2, 1, head=Head("8", "9", 2, 3)),))
    lanes = Lanes(2, BatchLimits(2), checkpoint, 0.0)
    full, waiting = lanes.all
    read(lanes, *on(ZERO, 1, 2, 3, 4, 5, 6))
    full.buffer.take(0.0)
    lanes.begin(full, Head("1", "2", 2, 4), stuck=True)
    assert not lanes.has_room
    read(lanes, *on(ONE, 8, 9))
    batch = waiting.buffer.take(0.0)
    assert (numbers(batch), spent(waiting, batch)) == ([8, 9], 3)
