"""`make bench`: measures everything in one run, and writes docs/benchmarks.md, its plots and docs/benchmarks.json.

Three quarters of an hour on two cores that have nothing else to do. `--quick` is a look of a few minutes, written to
build/bench/, as is every run of fewer parts or rounds.
KUBECONFIG names a cluster for the recovery of pollers, which is left out without one; an API server alone is enough.
"""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import time
import traceback
from argparse import ArgumentParser, Namespace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from tests.bench import drain, idle, latency, recovery, same, starting, stuck
from tests.bench.page import page
from tests.bench.peers import BARE, HEADRACE, KCL_RS, PEERS, Unavailable, environment
from tests.bench.processes import Bench, bench
from tests.bench.results import Measured, Run
from tests.bench.versions import machine, versions
from tests.support.servers import ROOT

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    Part = Callable[[Bench], Awaitable[tuple[list[Measured], list[str]]]]

RECORDS = 300_000
"""The most that one shard shows."""
FULL, QUICK = 5, 3
"""Rounds."""


def parts(rounds: int, *, quick: bool) -> dict[str, Part]:
    """What is measured, in this order."""
    if quick:
        return {
            "drain": lambda at: drain.measure(at, drain.quick_grid(), rounds),
            "latency": lambda at: latency.measure(at, latency.FEW, rounds),
            "idle": lambda at: idle.measure(at, idle.FEW, rounds, 3.0),
            "start": lambda at: starting.measure(at, rounds, slow=False),
            "stuck": lambda at: stuck.measure(at, stuck.FEW, 8.0),
        }
    return {
        "drain": lambda at: drain.measure(at, drain.grid(), rounds),
        "latency": lambda at: latency.measure(at, latency.ALL, rounds),
        "idle": lambda at: idle.measure(at, idle.ALL, rounds, 12.0),
        "start": lambda at: starting.measure(at, rounds, slow=True),
        "recovery": lambda at: recovery.measure(at, rounds),
        "stuck": lambda at: stuck.measure(at, stuck.ALL, 20.0),
    }


async def measure(options: Namespace) -> Run:
    """Everything that was asked for; raises `same.Different` before anything is measured in vain."""
    began = time.monotonic()
    run = Run(
        command=f'make bench BENCH="{" ".join(sys.argv[1:])}"' if sys.argv[1:] else "make bench",
        began=datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        seconds=0.0,
        machine=machine(),
        versions=versions(),
        rounds=options.rounds,
        load=[os.getloadavg()[0]],
    )
    chosen = parts(options.rounds, quick=options.quick)
    async with bench(RECORDS) as at:
        run.left_out += await same.check(at, (BARE, HEADRACE, KCL_RS) if options.quick else PEERS.values())
        for name in options.parts.split(",") if options.parts else chosen:
            try:
                measured, left_out = await chosen[name](at)
            except Exception as error:  # noqa: BLE001 - the other parts, of many minutes, are not lost by it
                traceback.print_exc()
                measured, left_out = [], [f"{name} failed: {type(error).__name__}"]
            run.measured += measured
            run.left_out = list(dict.fromkeys([*run.left_out, *left_out]))
    run.seconds = time.monotonic() - began
    run.load.append(os.getloadavg()[2])
    return run


def write(run: Run, folder: Path) -> None:
    """The page, the figures, and the plots where matplotlib can be had."""
    folder.mkdir(parents=True, exist_ok=True)
    figures = folder / "benchmarks.json"
    figures.write_text(json.dumps(run.to_json(), indent=1, ensure_ascii=False) + "\n")
    (folder / "benchmarks.md").write_text(page(run))
    try:
        python = environment("bench-plots") / "bin" / "python"
    except Unavailable as error:
        print(f"no plots: {error}")
        return
    command = [python, "-m", "tests.bench.plots", figures, folder / "benchmarks"]
    subprocess.run(list(map(str, command)), cwd=ROOT, check=True)


def is_whole(options: Namespace) -> bool:
    """Whether docs/ may be written from it: every part, in as many rounds as it takes."""
    return not options.quick and not options.parts and options.rounds >= FULL


def main() -> None:
    parser = ArgumentParser(prog="make bench", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer points, peers and seconds")
    parser.add_argument("--rounds", type=int, help=f"default: {FULL}, {QUICK} with --quick")
    parser.add_argument("--parts", help="only these, with commas between: " + ", ".join(parts(0, quick=False)))
    parser.add_argument(
        "--output", type=Path, help="folder for the results; default: docs, build/bench for less than a whole run"
    )
    options = parser.parse_args()
    options.rounds = options.rounds or (QUICK if options.quick else FULL)
    folder = options.output or (ROOT / "docs" if is_whole(options) else ROOT / "build" / "bench")
    try:
        run = asyncio.run(measure(options))
    except same.Different as error:
        sys.exit(f"nothing was measured: {error}")
    write(run, folder)
    if not options.output and not is_whole(options):
        print("a part of the benchmark does not replace docs/benchmarks.md, which is of one whole run")
    print(*(f"left out: {line}" for line in run.left_out), sep="\n", end="\n" * bool(run.left_out))
    print(f"{run.seconds:.0f} s; see {folder / 'benchmarks.md'}")


if __name__ == "__main__":
    main()
