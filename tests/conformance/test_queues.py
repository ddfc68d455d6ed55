"""Every row of a queue through the real data plane in virtual time, around a queue that hides, locks and redrives."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import pytest

from headrace.stream.events import RecordsFiltered
from tests.conformance.rows_queues import QUEUE_ROWS, QueueRow
from tests.conformance.table import call_step, steps
from tests.support.fake_queue import CalledWith, QueueWorld

EVERY = pytest.mark.parametrize("row", QUEUE_ROWS, ids=[row.name for row in QUEUE_ROWS])
NEAR = 0.6
"""Seconds by which receiving, deleting and looking at the queue may shift a call."""


@cache
def _played(name: str) -> QueueWorld:
    (row,) = (row for row in QUEUE_ROWS if row.name == name)
    made: list[CalledWith] = []

    def answer(call: CalledWith) -> object:
        made.append(call)
        if callable(row.answer):
            return row.answer(call)
        return row.answer[min(len(made), len(row.answer)) - 1](call)

    world = QueueWorld(
        row.sent, answer, dict(row.spec), fifo=row.fifo, visibility=row.visibility, max_receives=row.max_receives  # type: ignore[arg-type]
    )  # fmt: skip
    world.play(*row.lives)
    return world


@EVERY
def test_the_function_sees_exactly_these_calls(row: QueueRow) -> None:
    world = _played(row.name)
    seen = [
        call_step(sorted(map(int, call.ids)) if row.side_by_side else list(map(int, call.ids)), call.mark)
        for call in world.calls
    ]
    seen += [f"→DLQ{{{one.id}}}" for one in world.queue.dead]
    expected = list(_steps(row.then, seen))
    assert (sorted(seen) if row.side_by_side else seen) == (sorted(expected) if row.side_by_side else expected)


def _steps(then: str, seen: list[str]) -> list[str]:
    """Written out; `[1]T×…` is as often as it was seen, at least twice."""
    found: list[str] = []
    for token in then.split():
        if token.endswith("×…"):
            step = next(iter(steps(token.removesuffix("×…"))))
            found += [step] * max(2, seen.count(step))
        else:
            found += steps(token)
    return found


@EVERY
def test_what_is_not_called_with_success_is_where_it_belongs(row: QueueRow) -> None:
    """Each message is deleted, among the dead letters, or left; filtered and failed ones are counted once each."""
    world = _played(row.name)
    assert sorted(one.id for one in world.queue.lying) == sorted(row.left.split())
    assert len(world.queue.deleted) + len(world.queue.dead) + len(world.queue.lying) == len(row.sent)
    assert world.counts.filtered_out == row.filtered
    assert sum(event.count for event in world.events if isinstance(event, RecordsFiltered)) == row.filtered
    assert world.counts.deleted == len(world.queue.deleted)
    assert row.failed is None or world.counts.failed_invoke == row.failed
    assert not world.in_flight


@EVERY
def test_calls_come_when_and_as_often_received_as_they_should(row: QueueRow) -> None:
    world = _played(row.name)
    if row.at:
        assert [call.at for call in world.calls] == pytest.approx(row.at, abs=NEAR)
    if row.receives:
        received = [max(call.receives) for call in world.calls]
        assert received == list(row.receives) or (len(row.receives) == 1 and set(received) == set(row.receives))
    if row.in_flight is not None:
        assert world.most_in_flight == row.in_flight


def test_a_row_that_is_played_outside_names_its_test() -> None:
    text = (Path(__file__).parents[1] / "integration" / "test_queues.py").read_text()
    missing = [row.name for row in QUEUE_ROWS if row.outside and row.outside not in text]
    assert missing == []
