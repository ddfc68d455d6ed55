"""How much work a record is, in calls of functions: the same on every machine, unlike time.

A bound that is passed is no fault by itself; it asks whether the work is worth it on the way of every record. Counts do
not vary from run to run; each bound is the count and 6 %. `python -m pytest tests/unit/test_work_per_record.py -rP`
counts anew.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from typing import Any

import pytest

from headrace.stream import batching, lanes
from tests.support.work import bytes_of, calls_of, draining, instructions_of, per_record


@pytest.mark.parametrize(
    ("batch", "factor", "bound"), [(1, 1, 355), (10, 1, 52), (100, 1, 21.7), (1_000, 1, 18.6), (100, 10, 30.3)]
)
def test_a_record_costs_no_more_calls_than_this(batch: int, factor: int, bound: float) -> None:
    counted = per_record(calls_of, batch, factor)
    print(f"batch {batch}, {factor} lanes: {counted:.2f} calls a record")
    assert counted <= bound


@pytest.mark.parametrize("batch", [10, 100])
def test_a_record_of_a_long_backlog_costs_what_one_of_a_short_one_costs(batch: int) -> None:
    assert per_record(calls_of, batch, reads=16) <= 1.05 * per_record(calls_of, batch, reads=2)


@pytest.mark.parametrize(("batch", "factor", "bound"), [(10, 1, 26_600), (100, 1, 20_200), (100, 10, 21_600)])
def test_a_record_of_a_kilobyte_asks_for_no_more_bytes_than_this(batch: int, factor: int, bound: float) -> None:
    asked = per_record(bytes_of, batch, factor, reads=1)
    print(f"batch {batch}, {factor} lanes: {asked:.0f} bytes a record")
    assert asked <= bound


class Walked(deque[Any]):
    """A deque that counts which of its elements are looked at in passing."""

    looks = 0

    def __iter__(self) -> Iterator[Any]:
        for one in super().__iter__():
            Walked.looks += 1
            yield one

    def __contains__(self, one: object) -> bool:
        Walked.looks += len(self)
        return super().__contains__(one)


RECORDS = 1_000


@pytest.mark.parametrize("batch", [10, 100])
def test_a_record_out_of_a_large_buffer_is_as_many_instructions_as_one_out_of_a_small_one(batch: int) -> None:
    small, large = (
        instructions_of(draining(RECORDS // held, batch, per_read=held, size=9)) / RECORDS for held in (100, RECORDS)
    )
    print(f"batch {batch}: {small:.0f} and {large:.0f} instructions a record")
    assert large <= 1.02 * small


@pytest.mark.parametrize("batch", [10, 100])
def test_nothing_goes_through_the_buffer_for_a_record(batch: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Walked, "looks", 0)
    for module in (batching, lanes):
        monkeypatch.setattr(module, "deque", Walked)
    draining(1, batch, per_read=RECORDS, size=9)()
    print(f"batch {batch}: {Walked.looks / RECORDS:.2f} looks a record")
    assert Walked.looks <= RECORDS / 10
