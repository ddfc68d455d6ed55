"""What is aimed at, and whether a run reached it. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from tests.bench.spread import LEAST_ROUNDS, figure, slope

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from tests.bench.results import Measured, Run
    from tests.bench.spread import Figure

MET, NOT_MET = "met", "**not met**"

OF_BARE, OF_KCL = 0.6, 2.0
P50_MS, P99_MS = 10.0, 50.0
"""Beyond half of what lies between two reads, and beyond all of it."""
EMULATOR_MS = 100.0
"""More of it in the bare loop's own p50 is the emulator's."""
LEAST_OF_P99 = 100
"""Records below which a p99 is the largest of them, or nearly."""
MOST_MISSING = 0.01
IDLE_PERCENT, IDLE_MB, SHARD_KB, MOST_SHARDS = 0.1, 80.0, 200.0, 256
START_SECONDS, RECOVERY_SECONDS = 3.0, 10.0


@dataclass(frozen=True)
class Target:
    """A sentence, what was found, and whether that is enough."""

    what: str
    found: str
    verdict: str


def judged(
    what: str, value: Figure | None, form: str, holds: Callable[[float], bool], least: int = LEAST_ROUNDS
) -> Target:
    """By the quartiles of so many rounds at least: what lies on both sides of a bound is not decided by its median."""
    if value is None:
        return Target(what, "", "not measured")
    found = form.format(value.median)
    if value.rounds < least:
        return Target(what, found, f"not decided: {found} in {value.rounds} of the {least} rounds that it takes")
    sides = {holds(value.lower), holds(value.median), holds(value.upper)}
    if len(sides) > 1:
        between = f"{form.format(value.lower)} to {form.format(value.upper)}"
        return Target(what, found, f"not decided: {found}, quartiles {between}")
    return Target(what, found, MET if sides.pop() else NOT_MET)


def targets(run: Run) -> list[Target]:
    """Every target in its order."""
    return [*of_drain(run), *of_latency(run), *of_idle(run), *of_recovery(run)]


def of_drain(run: Run) -> Iterable[Target]:
    own = run.one("drain", "headrace")
    for peer, least, words in (("bare", OF_BARE, "of the bare loop's"), ("kcl-rs", OF_KCL, "times kcl-rs's")):
        found = run.ratio("per CPU second", own, run.one("drain", peer))
        yield judged(
            f"≥ {least:g} {words} records a CPU second, 1 KB, batch 100",
            found.of if found else None,
            "{:.2f}",
            lambda value, least=least: value >= least,  # type: ignore[misc]
        )


def of_latency(run: Run) -> Iterable[Target]:
    """Each rate by itself, by the records of all rounds together."""
    found = [each for each in run.find("latency", "headrace") if each.pooled]
    for name, of_interval, most in (("p50", "half of ", P50_MS), ("p99", "", P99_MS)):
        bound = f"within {most:g} ms of {of_interval}what lies between two reads"
        if not found:
            yield Target(f"{name} from put to function: {bound}", "", "not measured")
        for each in found:
            what = f"{name} from put to function at {puts(each)}: {bound}"
            yield Target(what, f"{each.pooled[f'{name} beyond']:+.0f} ms", delayed(run, each, name, most))


def puts(each: Measured) -> str:
    """The rate of a latency."""
    return "1 put a second" if each.setting["rate"] == 1 else f"{each.setting['rate']:g} puts a second"


def delayed(run: Run, each: Measured, name: str, most: float) -> str:
    """The verdict on one quantile at one rate."""
    value, error = each.pooled[f"{name} beyond"], each.pooled[f"{name} error"]
    records, missing = each.pooled["records"], each.pooled["missing"]
    if is_emulator(run, each):
        return "left out: the emulator is the bound at this rate"
    if missing > MOST_MISSING * records:
        return f"not decided: {missing:,.0f} of {records + missing:,.0f} records did not come in time"
    if name == "p99" and records < LEAST_OF_P99:
        return f"not decided: {records:,.0f} records"
    if error >= most or value - error <= most < value + error:
        return f"not decided: {value:+.0f} ± {error:.0f} ms of {records:,.0f} records"
    return MET if value <= most else NOT_MET


def is_emulator(run: Run, each: Measured) -> bool:
    """Whether the bare loop, which read the same stream at the same time, was late itself."""
    bare = run.one("latency", "bare", **each.setting)
    return bare is not None and bare.pooled.get("p50 beyond", 0.0) > EMULATOR_MS


def of_idle(run: Run) -> Iterable[Target]:
    found = {int(each.setting["shards"]): each for each in run.find("idle", "headrace") if each.rounds}
    costs = [each.figure("CPU % per read a second") for each in found.values()]
    worst = max(costs, key=lambda cost: cost.median, default=None)
    yield judged(
        f"idle: < {IDLE_PERCENT:g} % of a core a shard read once a second, whichever size is worst",
        worst,
        "{:.3f} %",
        lambda value: value < IDLE_PERCENT,
    )
    one = found[1].figure("MB") if 1 in found else None
    yield judged(f"idle: ≤ {IDLE_MB:g} MB with one shard", one, "{:.1f} MB", lambda value: value <= IDLE_MB)
    more = per_shard(list(found.values()))
    yield judged(f"idle: ≤ {SHARD_KB:g} KB for each further shard", more, "{:.0f} KB", lambda value: value <= SHARD_KB)
    many = found[MOST_SHARDS].figure("reads per second") if MOST_SHARDS in found else None
    yield judged(
        f"{MOST_SHARDS} shards in one process, each read every second",
        many,
        "{:.0f} reads a second",
        lambda value: value >= 0.95 * MOST_SHARDS,
    )


def per_shard(found: Sequence[Measured]) -> Figure | None:
    """KB for each further shard, round by round; None with fewer than two sizes."""
    if len(found) < 2:
        return None
    memory = [[(each.setting["shards"], value) for value in each.values("MB")] for each in found]
    return figure([slope(points) * 1000 for points in zip(*memory, strict=False)])


def of_recovery(run: Run) -> Iterable[Target]:
    start = run.one("start", "headrace")
    killed = run.one("recovery", "headrace", signal=9)
    for words, each, most in (
        (f"first record < {START_SECONDS:g} s after the start", start, START_SECONDS),
        (f"taken over < {RECOVERY_SECONDS:g} s after kill -9", killed, RECOVERY_SECONDS),
    ):
        yield judged(
            words,
            figure([max(each.values("seconds"))]) if each else None,
            "{:.1f} s at worst",
            lambda value, most=most: value < most,  # type: ignore[misc]
            least=1,
        )
