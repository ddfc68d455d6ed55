"""What is aimed at, and whether a run reached it. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from tests.bench.spread import slope

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from tests.bench.results import Run

OF_BARE, OF_KCL = 0.6, 2.0
P50_MS, P99_MS = 10.0, 50.0
"""Beyond half of what lies between two reads, and beyond all of it."""
IDLE_PERCENT, IDLE_MB, SHARD_KB, MOST_SHARDS = 0.1, 80.0, 200.0, 256
START_SECONDS, RECOVERY_SECONDS = 3.0, 10.0


@dataclass(frozen=True)
class Target:
    """A sentence, what was found, and whether that is enough."""

    what: str
    found: str
    verdict: str


def judged(what: str, value: float | None, form: str, holds: Callable[[float], bool]) -> Target:
    if value is None:
        return Target(what, "", "not measured")
    return Target(what, form.format(value), "met" if holds(value) else "**not met**")


def targets(run: Run) -> list[Target]:
    """Every target in its order."""
    return [*of_drain(run), *of_latency(run), *of_idle(run), *of_recovery(run)]


def of_drain(run: Run) -> Iterable[Target]:
    own = run.one("drain", "headrace")
    for peer, least, words in (("bare", OF_BARE, "of the bare loop's"), ("kcl-rs", OF_KCL, "times kcl-rs's")):
        found = run.ratio("per CPU second", own, run.one("drain", peer))
        yield judged(
            f"≥ {least:g} {words} records a CPU second, 1 KB, batch 100",
            found.of.median if found else None,
            "{:.2f}",
            lambda value, least=least: value >= least,  # type: ignore[misc]
        )


def of_latency(run: Run) -> Iterable[Target]:
    """The worst of all rates."""
    for name, share, most in (("p50", 0.5, P50_MS), ("p99", 1.0, P99_MS)):
        beyond = [
            each.figure(name).median - share * 1000 / each.figure("reads per second").median
            for each in run.find("latency", "headrace")
            if each.rounds and each.figure("reads per second").median
        ]
        yield judged(
            f"{name} from put to function: within {most:g} ms of {'half of ' if share < 1 else ''}what lies between two reads",
            max(beyond, default=None),
            "{:+.0f} ms at worst",
            lambda value, most=most: value <= most,  # type: ignore[misc]
        )


def of_idle(run: Run) -> Iterable[Target]:
    found = {int(each.setting["shards"]): each for each in run.find("idle", "headrace") if each.rounds}
    worst = max((each.figure("CPU % per shard").median for each in found.values()), default=None)
    yield judged(
        f"idle: < {IDLE_PERCENT:g} % of a core a shard", worst, "{:.3f} % at worst", lambda value: value < IDLE_PERCENT
    )
    one = found[1].figure("MB").median if 1 in found else None
    yield judged(f"idle: ≤ {IDLE_MB:g} MB with one shard", one, "{:.0f} MB", lambda value: value <= IDLE_MB)
    points = [(float(shards), each.figure("MB").median) for shards, each in found.items()]
    more = slope(points) * 1000 if len(points) > 1 else None
    yield judged(f"idle: ≤ {SHARD_KB:g} KB for each further shard", more, "{:.0f} KB", lambda value: value <= SHARD_KB)
    many = found[MOST_SHARDS].figure("requests per second").median if MOST_SHARDS in found else None
    yield judged(
        f"{MOST_SHARDS} shards in one process, each read every second",
        many,
        "{:.0f} reads a second",
        lambda value: value >= 0.95 * MOST_SHARDS,
    )


def of_recovery(run: Run) -> Iterable[Target]:
    start = run.one("start", "headrace")
    killed = run.one("recovery", "headrace", signal=9)
    for words, each, most in (
        (f"first record < {START_SECONDS:g} s after the start", start, START_SECONDS),
        (f"taken over < {RECOVERY_SECONDS:g} s after kill -9", killed, RECOVERY_SECONDS),
    ):
        yield judged(
            words,
            max(each.values("seconds")) if each else None,
            "{:.1f} s at worst",
            lambda value, most=most: value < most,  # type: ignore[misc]
        )
