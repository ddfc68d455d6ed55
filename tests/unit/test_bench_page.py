"""The benchmark's page, from made-up results."""

from __future__ import annotations

import json
from argparse import Namespace
from typing import Any

import pytest

from tests.bench import drain
from tests.bench.__main__ import is_whole
from tests.bench.page import page
from tests.bench.peers import BARE, HEADRACE
from tests.bench.results import Measured, Run, from_json
from tests.bench.targets import targets

BASE = {"shards": 1.0, "batch": 100.0, "delay": 0.0, "parallel": 1.0, "filters": 0.0, "records": 1e5, "seconds": 30.0}


def drained(peer: str, *per_cpu_second: float, **setting: float) -> Measured:
    rounds = [
        {"per CPU second": each, "per second": each / 2, "µs per record": 1e6 / each, "MB": 80.0}
        for each in per_cpu_second
    ]
    return Measured("drain", peer, BASE | setting, rounds)


def run(*measured: Measured, **more: Any) -> Run:
    return Run("make bench", "2026-01-01 00:00 UTC", 1800.0, "2 cores", {"Python": "3.11"}, 5, list(measured), **more)


def verdicts(found: Run) -> dict[str, str]:
    return {each.what: each.verdict for each in targets(found)}


def test_results_survive_their_file() -> None:
    found = run(drained("bare", 100.0, 101.0, 99.0), left_out=["nothing"])
    assert from_json(json.loads(json.dumps(found.to_json()))) == found


def test_a_ratio_is_stated_where_the_rounds_agree_and_otherwise_not() -> None:
    close = (100.0, 110.0, 90.0, 105.0, 95.0)
    found = page(
        run(
            drained("bare", 200.0, 220.0, 180.0, 210.0, 190.0),
            drained("headrace", *close),
            drained("kcl-rs", *reversed(close)),
        )
    )
    assert "| 1 | bare | 200 (190 to 210) |" in found
    assert "**0.50** (0.50 to 0.50)" in found
    assert [line for line in found.splitlines() if "| kcl-rs |" in line and "no difference measured" in line]


def test_a_peer_that_missed_a_round_is_not_compared() -> None:
    found = run(drained("headrace", 100.0, 100.0, 100.0), drained("bare", 200.0, 200.0))
    assert found.ratio("per CPU second", found.one("drain", "headrace"), found.one("drain", "bare")) is None
    assert "**0.5" not in page(found)


def test_a_peer_that_failed_in_one_round_is_compared_in_the_others() -> None:
    own = drained("headrace", *[100.0] * 5)
    other = drained("bare", *[200.0] * 4, 400.0)
    other.rounds[:] = [{"round": number} | figures for number, figures in enumerate(other.rounds) if number != 1]
    found = run(own, other).ratio("per CPU second", own, other)
    assert found is not None
    assert (found.of.rounds, found.of.median, found.of.lower) == (4, 0.5, 0.4375), "the last round is its fifth still"


def test_rounds_that_failed_leave_the_others_while_three_remain() -> None:
    base = drain.Setting()
    done = drain.Rounds(5, {(base, BARE): [], (base, HEADRACE): []})
    for _ in range(2):
        done.note(base, BARE, "it ended")
    assert (base, BARE) in done.found
    for _ in range(3):
        done.note(base, HEADRACE, "it ended")
    assert (base, HEADRACE) not in done.found
    kept, gone = done.sentences()
    assert kept.startswith("bare with shards 1")
    assert kept.endswith("2 of 5 rounds left out: it ended")
    assert gone.endswith("left out: it ended")


def test_targets_are_judged_and_what_was_not_measured_is_said() -> None:
    found = verdicts(
        run(
            drained("headrace", *[130.0] * 5),
            drained("bare", *[200.0] * 5),
            drained("kcl-rs", *[80.0] * 5),
            Measured("start", "headrace", {}, [{"seconds": 2.0}, {"seconds": 3.5}]),
        )
    )
    said = {what.split(",", maxsplit=1)[0]: verdict for what, verdict in found.items()}
    assert said["≥ 0.6 of the bare loop's records a CPU second"] == "met"
    assert said["≥ 2 times kcl-rs's records a CPU second"] == "**not met**"
    assert said["first record < 3 s after the start"] == "**not met**", "the worst round counts"
    assert said["taken over < 10 s after kill -9"] == "not measured"


def test_a_ratio_is_judged_by_its_quartiles_and_not_by_its_median() -> None:
    def judged(*own: float) -> str:
        found = verdicts(run(drained("headrace", *own), drained("bare", *[100.0] * 5)))
        return next(iter(found.values()))

    assert judged(55.0, 59.0, 61.0, 70.0, 80.0) == "not decided: 0.61, quartiles 0.59 to 0.70"
    assert judged(55.0, 61.0, 61.0, 70.0, 80.0) == "met"
    assert judged(50.0, 51.0, 55.0, 59.0, 80.0) == "**not met**"


def test_too_few_rounds_decide_nothing() -> None:
    found = run(drained("headrace", 90.0, 90.0), drained("bare", 100.0, 100.0))
    found.rounds = 2
    assert next(iter(verdicts(found).values())) == "not decided: 0.90 in 2 of the 3 rounds that it takes"


def test_what_idling_costs_is_judged_by_its_quartiles() -> None:
    def idle(shards: float, *megabytes: float) -> Measured:
        figures = {"CPU %": 0.05, "CPU % per read a second": 0.05, "reads per second": shards}
        return Measured("idle", "headrace", {"shards": shards}, [figures | {"MB": each} for each in megabytes])

    found = list(verdicts(run(idle(1.0, 79.0, 79.0, 81.0, 81.0, 79.9), idle(256.0, *[100.0] * 5))).values())
    assert found[4:8] == ["met", "not decided: 79.9 MB, quartiles 79.0 MB to 81.0 MB", "met", "met"]


def late(
    peer: str, beyond: float, error: float = 1.0, records: int = 5000, missing: int = 0, turn: int = 0
) -> Measured:
    figures = {"p50": 500.0, "p90": 900.0, "p99": 1000.0, "records": records / 5, "missing": 0, "reads per second": 1.0}
    pooled = {name: figures[name] for name in ("p50", "p90", "p99")} | {"records": records, "missing": missing}
    pooled |= {"p50 beyond": beyond, "p50 error": error, "p99 beyond": beyond, "p99 error": error}
    return Measured("latency", peer, {"rate": 10.0, "turn": turn}, [figures] * 5, pooled)


@pytest.mark.parametrize(
    ("found", "p50", "p99"),
    [
        ([late("headrace", 6.0)], "met", "met"),
        ([late("headrace", 60.0)], "**not met**", "**not met**"),
        ([late("headrace", 6.0, error=12.0)], "not decided: +6 ± 12 ms of 5,000 records", "met"),
        ([late("headrace", 9.5)], "not decided: +10 ± 1 ms of 5,000 records", "met"),
        ([late("headrace", 0.0, records=90)], "met", "not decided: 90 records"),
        ([late("headrace", 0.0, missing=200)], *["not decided: 200 of 5,200 records did not come in time"] * 2),
        ([late("headrace", 6.0), late("bare", 101.0)], *["left out: the emulator is the bound at this rate"] * 2),
        ([late("headrace", 6.0), late("bare", 101.0, turn=1)], "met", "met"),
    ],
)
def test_latency_is_judged_by_all_records_of_a_rate_unless_the_bare_loop_was_late(
    found: list[Measured], p50: str, p99: str
) -> None:
    assert list(verdicts(run(*found)).values())[2:4] == [p50, p99]


def test_latency_shows_records_and_no_p99_of_a_few() -> None:
    few = late("headrace", 3.0, records=90, missing=2)
    assert "| 10 | headrace | 500 (500 to 500) | 900 (900 to 900) |  | 1.00 | 500 | +3 ± 1 | 90 | 2 |" in page(run(few))
    assert "| 1,000 of all | 1.00 |" in page(run(late("headrace", 3.0, records=400)))
    assert "| 1,000 (1,000 to 1,000) | 1.00 |" in page(run(late("headrace", 3.0)))
    assert "the emulator is the bound" in page(run(late("headrace", 3.0), late("bare", 200.0)))


def test_growth_shows_one_thing_varied_at_a_time_and_says_what_is_not_flat() -> None:
    found = page(
        run(
            drained("headrace", *[100.0] * 5),
            drained("headrace", *[100.0] * 5, shards=64.0),
            drained("headrace", *[10.0] * 5, batch=1.0),
            drained("headrace", *[50.0] * 5, batch=1.0, shards=64.0),
            drained("headrace", *[100.0] * 5, records=4e5),
        )
    )
    growth = found.partition("## Growth")[2]
    assert "| shards | 64 | 10,000.0 (10,000.0 to 10,000.0) | no difference measured |" in growth
    assert "| batch | 1 | 100,000.0 (100,000.0 to 100,000.0) | **10.00** (10.00 to 10.00) |" in growth
    assert "| records that wait | 400,000 |" in growth
    assert "20,000.0" not in growth, "where two things differ is another table"


def test_the_page_and_the_figures_name_the_commit_that_was_measured() -> None:
    found = run()
    found.versions = {"commit": "0123abc, changed", "Python": "3.11"}
    assert "Versions: commit 0123abc (changed), Python 3.11." in page(found)
    assert found.to_json()["versions"]["commit"] == "0123abc, changed"


@pytest.mark.parametrize(
    ("options", "whole"),
    [({}, True), ({"quick": True}, False), ({"parts": "idle"}, False), ({"rounds": 4}, False), ({"rounds": 7}, True)],
)
def test_only_a_whole_run_may_replace_the_page_in_docs(options: dict[str, Any], whole: bool) -> None:
    assert is_whole(Namespace(**{"quick": False, "parts": None, "rounds": 5} | options)) is whole


def test_what_was_left_out_is_said() -> None:
    assert "- kcl-rs cannot be had: no such package" in page(run(left_out=["kcl-rs cannot be had: no such package"]))
