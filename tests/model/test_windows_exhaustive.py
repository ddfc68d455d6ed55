"""Every sequence of outcomes inside a tumbling window (contract B.7), against invariants and the oracle."""

from __future__ import annotations

import pytest

from headrace.records import Window
from tests.support.oracle import LARGE, POLICIES, Oracle, Seen, Trace, play, scripts
from tests.support.records import record

WINDOW = Window(0, 60, "1")


@pytest.mark.parametrize("size", [1, 2, 3])
def test_every_walk_through_a_window_agrees_with_the_oracle(size: int) -> None:
    batch = tuple(record(number, arrival=float(number)) for number in range(1, size + 1))
    length, width = {1: 4, 2: 3, 3: 3}[size], 4 + 2 * size
    for policy in POLICIES:
        for script in scripts(length, width):
            trace = play(batch, policy, script, window=WINDOW)
            assert trace == Oracle(policy, script, start=0.0).run(batch), (policy, script)
            assert_states_are_handed_on(trace)


def test_every_walk_through_a_final_call_agrees_with_the_oracle() -> None:
    held = Window(0, 60, "1", b'{"n":7}', final=True)
    for policy in POLICIES:
        for script in scripts(4, 6):
            assert play((), policy, script, window=held) == Oracle(policy, script, start=0.0).close(b'{"n":7}')


def assert_states_are_handed_on(trace: Trace) -> None:
    """A repeat carries the same state; a large one goes to a final call and nowhere else."""
    before: Seen | None = None
    for call in trace.calls:
        assert call.early == call.final == (call.state == LARGE)
        assert call.final == (not call.records)
        if before is not None and call.attempt > 1:
            assert (call.records, call.state) == (before.records, before.state)
        before = call
