"""docs/benchmarks.md, from what a run found. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.bench.targets import LEAST_OF_P99, is_emulator, per_shard, puts, targets

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from tests.bench.results import Measured, Run
    from tests.bench.spread import Figure, Ratio

OPENING = """\
# Benchmarks

This page, its plots and [benchmarks.json](benchmarks.json) are written by `{command}`.

{rounds} rounds, in each of which everybody had their turn, the first of one round last in the next: a machine that is slower for a while is so for
all of them. A figure is the median of the rounds, in brackets the quartiles: half of the rounds lie between them. A ratio is that of two figures
of the same round. It is stated only where every round agrees which is larger and the medians lie farther apart than either spreads; else it says
*no difference measured*. A target is met or not where both quartiles say so; else it is not decided.

Made on {machine}, in {minutes:.0f} minutes from {began}. Servers and functions had one core, what is measured another.
Load average: {load}; the benchmark alone makes about 2 of it, and what is more took time from everybody.
Versions: {versions}.

- **bare** is the least loop there is: signed `GetRecords`, orjson, a POST per batch over aiohttp, on asyncio's own event loop as Headrace is. It
  guarantees nothing: no checkpoint, no retry, no order kept when a call fails. It is the limit on this machine, not a choice.
- **kcl-rs**, **async-kinesis** and LocalStack's `KinesisPoller` are libraries; a loop of ours posts what they hand over (`tests/bench/loops/`).
- All send the function the same Lambda event, field by field; a run begins by checking that, and ends if they do not.
- Where Headrace's time goes, and what would lower it: [profile.md](profile.md).
"""

DRAIN = """\
## Drain

A stream full of records of 1 KB, served as prepared bytes; a function that answers at once. CPU is that of the consumer's whole process group, from
the moment it may read. Headrace keeps its checkpoints in SQLite, kcl-rs in a DynamoDB emulator once for each read, the others nowhere. kcl-rs reads a
shard five times a second at most, async-kinesis likewise; LocalStack reads a batch and pauses: their records a second say less than those a CPU second.
"""

LATENCY = """\
## Latency

From put to function, milliseconds; records of 1 KB at random instants (a Poisson process) into one shard of ministack, read by all peers of a stream
at the same time, meant to be once a second each. At 100 puts a second one or two read beside the bare loop, as the emulator is kept busy by every
reader; rows of a stream follow one another. The least there can be at the median is half of what lies between two reads; how far the p50 of the records
of all rounds lies beyond that stands with its standard error. A p99 is that of 100 records at least, of all rounds together where one has fewer.
Missing is what had not come 4 s after its round.
"""

IDLE = """\
## Idle

Streams without records, each size by itself or beside one that takes little, one span a round. What a shard costs is
given at the reads that were made: % of a core for one read a second. async-kinesis sleeps after an empty read before it looks at the next shard, so
that it reads less often.
"""

RECOVERY = """\
## Start and recovery

From the start of a process to the first record in its function; from a signal to a process that reads a shard to the first record by way of
another that stood by (Headrace: pollers beside an API server; kcl-rs: workers with a lease table). kcl-rs as it comes, with a minute between
two looks at the shards; for recovery a second.
"""

GROWTH = """\
## Growth

CPU of Headrace for a record, in µs: it must not grow with how much there is. Each row varies one thing of one shard, batches of 100, one lane.
Small batches cost more, as a call has a price of its own; so do filters, which look into the data of each record.
"""


def page(run: Run) -> str:
    """The whole page."""
    versions = ", ".join(named(name, version) for name, version in run.versions.items())
    opening = OPENING.format(
        command=run.command,
        rounds=run.rounds,
        machine=run.machine,
        minutes=run.seconds / 60,
        began=run.began,
        load=" before, ".join(f"{each:.1f}" for each in run.load) + " over the last quarter of an hour",
        versions=versions,
    )
    parts = [opening, aims(run)]
    parts += [section(text, tables) for text, tables in sections(run) if any(tables)]
    if run.left_out:
        parts.append("## Left out\n\n" + "\n".join(f"- {line}" for line in run.left_out) + "\n")
    return "\n".join(parts)


def named(name: str, version: str) -> str:
    """A name and its version, of which a comma of its own is no part."""
    return f"{name} {version}".replace(", changed", " (changed)")


def sections(run: Run) -> Iterable[tuple[str, list[str]]]:
    yield DRAIN, [peers(run), plot("drain"), sweep(run), plot("sweep")] if run.find("drain") else []
    yield LATENCY, [latency(run), plot("latency")] if run.find("latency") else []
    yield IDLE, [idle(run), plot("idle")] if run.find("idle") else []
    yield RECOVERY, [recovery(run)] if run.find("start") else []
    yield GROWTH, [*([growth(run), plot("growth")] if run.find("drain") else []), stuck(run)]


def section(text: str, tables: list[str]) -> str:
    return "\n".join([text, *tables])


def plot(name: str) -> str:
    return f"![{name}](benchmarks/{name}.svg)\n"


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    first, *others = ("| " + " | ".join(line) + " |" for line in (head, *rows))
    return "\n".join([first, "|" + "---|" * len(head), *others]) + "\n"


def told(value: Figure, form: str = ",.0f") -> str:
    """Median (quartile to quartile)."""
    return f"{value.median:{form}} ({value.lower:{form}} to {value.upper:{form}})"


def compared(value: Ratio | None) -> str:
    if value is None:
        return ""
    return (
        f"**{value.of.median:.2f}** ({value.of.lower:.2f} to {value.of.upper:.2f})"
        if value.stated
        else "no difference measured"
    )


def aims(run: Run) -> str:
    rows = [(each.what, each.found, each.verdict) for each in targets(run)]
    return "## Targets\n\n" + table(("target", "measured", ""), rows)


def peers(run: Run) -> str:
    """Everybody at the points where more than two were measured."""
    rows = []
    for shards in (1, 16):
        own = run.one("drain", "headrace", shards=shards, batch=100, delay=0, parallel=1, filters=0)
        rows += [
            (
                f"{shards}",
                each.peer,
                told(each.figure("per CPU second")),
                told(each.figure("per second")),
                f"{each.figure('MB').median:.0f}",
                "" if each is own else compared(run.ratio("per CPU second", own, each)),
            )
            for each in (run.find("drain", None, **own.setting) if own else ())
            if each.rounds
        ]
    head = ("shards", "", "records a CPU second", "records a second", "MB", "Headrace's a CPU second over this")
    return table(head, rows)


def sweep(run: Run) -> str:
    rows = []
    for own in run.find("drain", "headrace", filters=0):
        other = run.one("drain", "bare", **own.setting)
        if other is not None and own.rounds:
            rows.append(
                (
                    f"{own.setting['shards']:.0f}",
                    f"{own.setting['batch']:,.0f}",
                    f"{own.setting['delay'] * 1000:.0f} ms",
                    f"{own.setting['parallel']:.0f}",
                    told(own.figure("per CPU second")),
                    told(own.figure("per second")),
                    f"{own.figure('MB').median:.0f}",
                    compared(run.ratio("per CPU second", own, other)),
                    compared(run.ratio("per second", own, other)),
                )
            )
    head = ("shards", "batch", "function takes", "calls a shard", "records a CPU second", "records a second", "MB")
    return table((*head, "over bare, a CPU second", "over bare, a second"), rows)


def latency(run: Run) -> str:
    found = [each for each in run.find("latency") if each.rounds and each.pooled]
    rows = []
    for each in found:
        interval = 1000 / each.figure("reads per second").median
        rows.append(
            (
                f"{each.setting['rate']:g}",
                each.peer,
                *(told(each.figure(name)) for name in ("p50", "p90")),
                late(each),
                f"{each.figure('reads per second').median:.2f}",
                f"{interval / 2:.0f}",
                f"{each.pooled['p50 beyond']:+.0f} ± {each.pooled['p50 error']:.0f}",
                f"{each.pooled['records']:,.0f}",
                f"{each.pooled['missing']:,.0f}",
            )
        )
    head = (
        "puts a second",
        "",
        "p50",
        "p90",
        "p99",
        "reads a second",
        "half of what lies between, ms",
        "p50 beyond it",
    )
    rates = dict.fromkeys(puts(each) for each in found if is_emulator(run, each))
    bound = [f"\nAt {rate} the emulator is the bound: the bare loop is late itself.\n" for rate in rates]
    return table((*head, "records", "missing"), rows) + "".join(bound)


def late(each: Measured) -> str:
    """The p99, where there are records enough to have one: of the rounds, or else of all of them together."""
    if min(each.values("records")) >= LEAST_OF_P99:
        return told(each.figure("p99"))
    return f"{each.pooled['p99']:,.0f} of all" if each.pooled["records"] >= LEAST_OF_P99 else ""


def idle(run: Run) -> str:
    rows = [
        (
            f"{each.setting['shards']:.0f}",
            each.peer,
            told(each.figure("CPU %"), ".2f"),
            told(each.figure("CPU % per read a second"), ".3f"),
            f"{each.figure('reads per second').median:.1f}",
            f"{each.figure('requests per second').median:.1f}",
            f"{each.figure('MB').median:.0f}",
        )
        for each in sorted(run.find("idle"), key=lambda each: (each.peer != "headrace", each.setting["shards"]))
        if each.rounds
    ]
    head = ("shards", "", "% of a core", "the same for one read a second", "reads a second", "requests a second", "MB")
    more = per_shard([each for each in run.find("idle", "headrace") if each.rounds])
    grows = f"\nHeadrace holds {told(more)} KB more for each further shard.\n" if more else ""
    return table(head, rows) + grows


def recovery(run: Run) -> str:
    rows = [("start", each.peer, told(each.figure("seconds"), ".2f")) for each in run.find("start") if each.rounds]
    signals = {9: "`kill -9`", 15: "SIGTERM"}
    rows += [
        (signals[int(each.setting["signal"])], each.peer, told(each.figure("seconds"), ".2f"))
        for each in run.find("recovery")
        if each.rounds
    ]
    return table(("", "", "seconds to the first record"), rows)


VARIED = {
    "shards": "shards",
    "parallel": "lanes",
    "batch": "batch",
    "records": "records that wait",
    "filters": "filter patterns",
}


def varied(run: Run, name: str) -> list[Measured]:
    """Headrace where only this differs from the base, from the least to the largest."""
    base = run.one("drain", "headrace")
    if base is None:
        return []
    fixed = {
        other: base.setting[other] for other in ("shards", "parallel", "batch", "filters", "delay") if other != name
    }
    found = {each.setting[name]: each for each in reversed(run.find("drain", "headrace", **fixed)) if each.rounds}
    return [found[value] for value in sorted(found)]


def growth(run: Run) -> str:
    base = run.one("drain", "headrace")
    rows = []
    for name, words in VARIED.items():
        for each in varied(run, name):
            over = "" if each is base else compared(run.ratio("µs per record", each, base))
            rows.append((words, f"{each.setting[name]:,.0f}", told(each.figure("µs per record"), ",.1f"), over))
    return table(("", "", "µs a record", "over the base"), rows)


def stuck(run: Run) -> str:
    rows = [
        (
            f"{each.setting['shards']:.0f}",
            f"{each.setting['backlog']:,.0f}",
            f"{each.setting.get('bytes', 1024) / 1024:.0f} KB",
            f"{each.rounds[-1].get('MB sent', 0.0):,.0f}",
            f"{max(each.values('MB')):.0f}",
            f"{each.rounds[-1]['MB'] - each.rounds[len(each.rounds) // 2]['MB']:+.1f}",
        )
        for each in run.find("stuck")
        if each.rounds
    ]
    if not rows:
        return ""
    head = (
        "shards",
        "records that wait in each",
        "of",
        "MB it was sent",
        "MB at most",
        "MB over the second half of the time",
    )
    return (
        "A function that takes calls and never answers, and what Headrace then holds; one read of Kinesis is 10 MB at most:\n\n"
        + table(head, rows)
    )
