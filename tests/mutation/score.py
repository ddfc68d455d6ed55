"""What `make mutation` found: a table by module, every mutant that no test noticed, and whether enough were noticed."""

from __future__ import annotations

import collections
import json
import sys
from pathlib import Path

from mutmut.mutation.diff_apply import get_diff_for_mutant
from mutmut.stats import status_by_exit_code

LEAST = 0.9
"""Part of all mutants that the tests must notice."""
NOTICED = ("killed", "timeout")
"""A mutant that runs for ever is noticed too."""


def main() -> int:
    results = {
        str(meta.relative_to("mutants")).removesuffix(".meta"): json.loads(meta.read_text())["exit_code_by_key"]
        for meta in sorted(Path("mutants/headrace").rglob("*.meta"))
    }
    statuses = {path: {key: status_by_exit_code[code] for key, code in one.items()} for path, one in results.items()}
    unnoticed = [key for one in statuses.values() for key, status in one.items() if status not in NOTICED]
    for key in unnoticed:
        diff = get_diff_for_mutant(key).splitlines()[2:]
        print(key, *(line for line in diff if line.startswith(("-", "+"))), sep="\n  ")
    print("\n| Module | Mutants | Killed | Timed out | Not noticed | Score |\n|---|---|---|---|---|---|")
    total: collections.Counter[str] = collections.Counter()
    for path, one in statuses.items():
        if one:
            print(row(path.removeprefix("headrace/"), counted := collections.Counter(one.values())))
            total += counted
    print(row("**all**", total))
    return 0 if score(total) >= LEAST else 1


def score(counted: collections.Counter[str]) -> float:
    return sum(counted[status] for status in NOTICED) / counted.total()


def row(name: str, counted: collections.Counter[str]) -> str:
    rest = counted.total() - counted["killed"] - counted["timeout"]
    percent = f"{100 * score(counted):.1f} %"
    return f"| {name} | {counted.total()} | {counted['killed']} | {counted['timeout']} | {rest} | {percent} |"


if __name__ == "__main__":
    sys.exit(main())
