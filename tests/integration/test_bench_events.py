"""The benchmark compares like with like."""

from __future__ import annotations

import copy

from tests.bench.peers import BARE, HEADRACE
from tests.bench.processes import bench
from tests.bench.same import RECORDS, calls_of, difference, sizes


async def test_headrace_and_the_bare_loop_send_the_same_events() -> None:
    """A run of the benchmark asks the same of every peer that can be had."""
    async with bench(RECORDS) as at:
        bare, headrace = await calls_of(at, BARE), await calls_of(at, HEADRACE)
    assert difference(bare, headrace) is None
    assert sizes(headrace) == [100, 100, 50]
    changed = copy.deepcopy(headrace)
    changed[2]["Records"][7]["kinesis"]["data"] = "eA=="
    assert "record 207, kinesis.data" in str(difference(bare, changed))
    assert "[100, 100]" in str(difference(bare, headrace[:2]))
