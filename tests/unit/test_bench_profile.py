"""The profile's attribution of stacks, and its page, from made-up results."""

from __future__ import annotations

import pytest

from tests.bench.profile_page import TRIED, Profile, page
from tests.bench.stages import DRAIN, IDLE, LEFT_OUT, REST, START, WAITING, Stage, names, parse, shares, stage_of, tally
from tests.support.servers import ROOT

LOOP = ("asyncio/runners.py:run", "asyncio/base_events.py:_run_once")
READ = (*LOOP, "headrace/stream/poller.py:_read", "headrace/stream/sources/kinesis.py:read")
NOTED = (
    *LOOP,
    "headrace/stream/poller.py:_work_lane",
    "headrace/stream/delivering.py:settle",
    "headrace/stream/poller.py:note",
)
CALLED = (*LOOP, "headrace/stream/delivering.py:_invoke", "headrace/stream/functions/http.py:invoke")


@pytest.mark.parametrize(
    ("stack", "stage"),
    [
        ((*READ, "headrace/stream/sources/kinesis.py:to_records"), "records, as they stand in the event"),
        ((*READ, "/here/operator/headrace/stream/answers.py:_handle_json_body"), "GetRecords: the answer decoded"),
        ((*READ, "headrace/stream/sources/kinesis.py:call"), "GetRecords: signed, sent, its headers"),
        ((*READ, "headrace/stream/lanes.py:add"), "lanes and batches"),
        ((*NOTED, "headrace/stream/lanes.py:decide"), "lanes and batches"),
        ((*NOTED, "headrace/stream/checkpoints.py:advance"), "the checkpoint, committed to SQLite"),
        ((*NOTED, "headrace/stream/events.py:observe"), "what is told of it: metrics, health, log"),
        ((*CALLED, "aiohttp/client.py:_request"), "the call: POST, its headers and time-outs"),
        ((*LOOP, "bare.py:shard", "bare.py:call", "bare.py:encoded"), "the call's body"),
        ((*LOOP, "asyncio/events.py:_run"), REST),
        ((*LOOP, "selectors.py:select"), WAITING),
        (("headrace/__main__.py:main", "headrace/cli.py:run"), START),
        ((), START),
    ],
)  # fmt: skip
def test_a_stack_belongs_to_the_narrowest_part_of_the_work_that_it_is_in(stack: tuple[str, ...], stage: str) -> None:
    assert stage_of(stack, DRAIN) == stage


def test_a_mark_is_the_end_of_a_path_and_not_of_a_name() -> None:
    stage = Stage("one", ("client.py:call", "lanes.py:"))
    known = ("client.py:call", "aiobotocore/client.py:call", "stream/lanes.py:add")
    others = ("my_client.py:call", "client.py:recall", "client.py:calling", "planes.py:add", "lanes.py/x.py:add")
    assert [frame for frame in (*known, *others) if stage.knows(frame)] == list(known)


def test_frames_of_py_spy_are_read_with_classes_spaces_and_semicolons_apart() -> None:
    raw = "<module> (a.py:1);Lanes.add (stream/lanes.py:12);add.<locals>.<listcomp> (stream/lanes.py:13) 7\n\nrun (<frozen runpy>:8) 2\n"
    assert parse(raw) == [
        (("a.py:<module>", "stream/lanes.py:add", "stream/lanes.py:<listcomp>"), 7),
        (("<frozen runpy>:run",), 2),
    ]


def test_everything_is_counted_once_and_shares_leave_out_what_waits() -> None:
    stacks = [(READ, 3), (CALLED, 4), (NOTED, 1), (LOOP, 2), ((*LOOP, "selectors.py:select"), 90), ((), 50)]
    counted = tally(stacks, DRAIN)
    assert sum(counted.values()) == 150
    assert tuple(counted) == names(DRAIN)
    parts = shares(counted)
    assert sum(parts.values()) == pytest.approx(1.0)
    assert (parts[REST], parts["the call: POST, its headers and time-outs"]) == (0.2, 0.4)
    assert not set(LEFT_OUT) & set(parts)


def test_of_nothing_there_are_no_shares() -> None:
    assert shares({WAITING: 5}) == {}


def test_the_page_divides_the_least_of_the_rounds_by_the_samples() -> None:
    half = {"GetRecords: the answer decoded": 50, REST: 50, WAITING: 1000}
    found = page(
        Profile(
            cpu={"headrace": [30.0, 20.0, 25.0], "bare": [10.0, 12.0]},
            samples={"headrace": half, "bare": half},
            traced=100,
            allocations={
                "headrace": {"GetRecords: the answer decoded": [700, 200_000], START: [9_000, 9_000]},
                "bare": {REST: [100, 100]},
            },
            peak={"headrace": 12.0, "bare": 5.0},
            idle={"headrace 64": [2.0, 1.5], "headrace 1": [3.0], "bare 64": [0.5], "bare 1": [0.6]},
            idle_samples={"64": {"botocore: signing": 3, REST: 1, WAITING: 90}, "1": {REST: 1}},
            memory={"run": 79.4, "libraries": 45.0, "cluster": 12.0},
        )
    )
    assert "| GetRecords: the answer decoded | 50 % | 10.0 | 5.0 |" in found
    assert "| GetRecords: the answer decoded | 7.0 | 2,000 | 0.0 | 0 |" in found
    assert "| headrace | 64 | 1.50 | 2.00 | 0.150 % |" in found
    assert "which needs 0.060 % of a core for it" in found
    assert "| botocore: signing | 0 % | 0.00 | 75 % | 1.12 |" in found
    assert "| samples | 1 |  | 4 |  |" in found
    assert "`headrace run` of one shard, idling, holds 79 MB" in found
    assert [name for name in names(IDLE) if name not in LEFT_OUT and f"| {name} |" not in found] == []


def test_the_page_in_docs_has_the_figures_of_what_was_tried_from_here() -> None:
    assert TRIED in (ROOT / "docs" / "profile.md").read_text()
