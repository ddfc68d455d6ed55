"""docs/profile.md, from what a run of `make profile` found, and the words about it. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from tests.bench.page import named, table
from tests.bench.stages import DRAIN, IDLE, LEFT_OUT, names, shares

if TYPE_CHECKING:
    from collections.abc import Iterable


@dataclass
class Profile:
    """What was found, by peer: µs a record of each round, samples and allocations by stage, the most held in MB.

    `allocations` are numbers and bytes for `traced` records. `idle` is by peer and shards, the milliseconds of CPU a read
    took in each span; `idle_samples` are by shards. `memory` is in MB: of a run that idles, of its libraries, of what it leaves out.
    """

    made: str = ""
    versions: dict[str, str] = field(default_factory=dict)
    cpu: dict[str, list[float]] = field(default_factory=dict)
    samples: dict[str, dict[str, int]] = field(default_factory=dict)
    traced: int = 0
    allocations: dict[str, dict[str, list[int]]] = field(default_factory=dict)
    peak: dict[str, float] = field(default_factory=dict)
    idle: dict[str, list[float]] = field(default_factory=dict)
    idle_samples: dict[str, dict[str, int]] = field(default_factory=dict)
    memory: dict[str, float] = field(default_factory=dict)


OPENING = """\
# Where the time goes

This page is written by `make profile`: {made}. Versions: {versions}.

Two targets of [benchmarks.md](benchmarks.md) are about CPU time, in a drain and in idling; this page says where it goes and what would lower it. CPU is
that of the least of {rounds} rounds, in which Headrace and the bare loop took turns: a machine that others use too only ever adds to it. So a figure here is
lower than one of benchmarks.md, which is the median of its rounds, and the two are not to be compared. How it divides is told by
[py-spy](https://github.com/benfred/py-spy), 500 samples a second, without those that wait; what is allocated by
[memray](https://github.com/bloomberg/memray), with Python's own allocator. One stack of calls is in one row (`tests/bench/stages.py`).

## CPU of a drain

One shard of 1 KB records in batches of 100, checkpoints in SQLite.
"""

FLOOR = """\
Rounds lay between {lowest} µs and {highest} µs for Headrace, {bare_lowest} µs and {bare_highest} µs for the bare loop.

{lacks:.1f} µs are in rows that the bare loop does not have: what is decided, stored and told of each batch, and the lanes that keep an order per key. Without
any of it Headrace would be at {most:.2f} of the bare loop. The rest of the difference is in what both do:

- **Records.** The bare loop makes a dict of each; Headrace the JSON of its event, since an event is kept until it is delivered and its size is to be known
  before a batch is formed. That is a copy of all data, which waits for memory.
- **The call.** Six headers that tell a function what it needs to be idempotent, a time-out to connect and another for the answer, an answer read up
  to a bound, a task that outlives whoever waits for it.
- **GetRecords.** Signed by botocore, which keeps credentials, endpoints and errors.
"""

ALLOCATED = """\
## What a record allocates

Of {traced:,} records; at most {peak:.0f} MB of it were held at a time ({bare_peak:.0f} MB by the bare loop).
"""

TRIED = """\
**Memory is what the first rows wait for.** A read of 1,000 records is 1.4 MB; orjson takes 20 MB to decode it, and 11 KB for each text of 1.3 KB that it
writes, which falls out of the processor's second cache. So data are written by it only if something in the answer was escaped.

## What was tried

One run by hand on 2026-11-26, of which these figures are all that was kept; no command repeats it, and Headrace has changed since. µs of CPU a record, the
least of 30 rounds of 10,000 records, all processes in turn, on a machine that others used. At batches of 100 the quartiles of each ratio to Headrace as
it was hold 1: no difference is larger than the spread.

| | µs a record | |
|---|---|---|
| as it was | 12.4 | |
| 2,000 records a read instead of 1,000 | 13.9 | dearer, if anything |
| 500 records a read | 14.2 | dearer, if anything |
| larger thresholds of the garbage collector | 12.8 | |
| uvloop | 12.1 | with batches of 1: 424 µs instead of 485, and there every quartile says so (0.84 to 0.97); not taken for that alone: another dependency, 2 MB |
| msgspec for orjson, data left undecoded | 11.5 | not taken for another dependency |
| no tracing of a call's connection by aiohttp | 12.4, 12.8 before | taken: 16 µs less a call, of 176 |
| the bare loop | 5.9 | 5.9 on uvloop |
| kcl-rs | 13.3 | |

## What would lower it

- Events that are put together when their batch leaves, from a body that stays as it came (msgspec's `Raw`): no copy that waits. The size of a batch would have
  to be known from the answer's own bytes.
- A compiled loop from answer to event; calls of more records; uvloop where batches are small.
- kcl-rs reads in Rust and hands records over to Python. Twice its records a CPU second would be 0.89 of the bare loop's: more than Headrace would reach
  without any of the rows that the bare loop does not have.
"""

IDLING = """\
## CPU of idling

Streams without records, each shard read once a second; one size after the other, Headrace and the bare loop beside each other.
"""

IDLED = """\
One shard read alone costs several times what it costs among {shards}, in the bare loop too, which needs {one:.3f} % of a core for it and does
nothing with botocore; the target is 0.1 % with everything. Cold caches would explain that: nothing keeps them warm between two reads. The samples of
one shard are few, as it hardly runs.

Most of a read is botocore's and aiobotocore's: what is signed, put together and sent, and hooks around it. One user agent for the process, no second
validation, and one look at the endpoint's rules for each operation are what could be left out of it from outside. A bare loop that signs by itself is the
floor; between the two is nothing that keeps credentials, endpoints and errors botocore's.

Tried by hand on 2026-11-26, beside what there was, in six spans of six seconds: a signer of our own under botocore's, which keeps the day's key and goes
through the headers once, takes 40 µs instead of 121 when it runs hot, and 6 % off the CPU of 64 idle shards (0.113 % of a core each, from 0.121 %).
Not taken: signing stays botocore's for as long as that decides nothing.

## Memory

`headrace run` of {fewest}, idling, holds {run:.0f} MB, of which botocore, aiohttp and pydantic are {libraries:.0f}; a client of Kubernetes, {cluster:.0f} MB,
is not loaded by it.
"""


def page(found: Profile) -> str:
    """The whole page."""
    versions = ", ".join(named(name, version) for name, version in found.versions.items())
    opening = OPENING.format(made=found.made, versions=versions, rounds=len(found.cpu["headrace"]))
    allocated = ALLOCATED.format(traced=found.traced, peak=found.peak["headrace"], bare_peak=found.peak["bare"])
    return (
        "\n".join(
            (
                opening,
                drain(found),
                floor(found),
                allocated,
                allocations(found),
                TRIED,
                IDLING,
                idle(found),
                idled(found),
            )
        ).rstrip()
        + "\n"
    )


def floor(found: Profile) -> str:
    """What the bare loop lacks, and where Headrace would be without it."""
    own, bare = found.cpu["headrace"], found.cpu["bare"]
    parts = shares(found.samples["headrace"])
    lacks = min(own) * sum(share for name, share in parts.items() if not found.samples["bare"].get(name))
    return FLOOR.format(
        lowest=f"{min(own):.1f}",
        highest=f"{max(own):.1f}",
        bare_lowest=f"{min(bare):.1f}",
        bare_highest=f"{max(bare):.1f}",
        lacks=lacks,
        most=min(bare) / (min(own) - lacks),
    )


def idled(found: Profile) -> str:
    """What is said of idling."""
    fewest = min((which for which in found.idle if which.startswith("bare")), key=shards_of)
    shards = shards_of(fewest)
    return IDLED.format(
        one=min(found.idle[fewest]) / 10,
        shards=max(map(shards_of, found.idle)),
        fewest="one shard" if shards == 1 else f"{shards} shards",
        **found.memory,
    )


def shards_of(which: str) -> int:
    """Of `headrace 64`."""
    return int(which.split()[1])


def drain(found: Profile) -> str:
    """CPU of a drain: the share of each stage in the samples, of the least CPU a record took."""
    least = {peer: min(rounds) for peer, rounds in found.cpu.items()}
    parts = {peer: shares(counted) for peer, counted in found.samples.items()}
    rows = []
    for name in told(names(DRAIN)):
        own, bare = (parts[peer].get(name, 0.0) for peer in ("headrace", "bare"))
        rows.append(
            (name, f"{own:.0%}".replace("%", " %"), micro(own * least["headrace"]), micro(bare * least["bare"]))
        )
    rows.append(("**together**", "", f"**{least['headrace']:.1f}**", f"**{least['bare']:.1f}**"))
    return table(("", "of Headrace's CPU time", "µs a record", "bare loop, µs a record"), rows)


def allocations(found: Profile) -> str:
    """Allocations and bytes a record, by stage."""
    rows = []
    sums = [0.0] * 4
    for name in told(names(DRAIN)):
        values = [
            value / found.traced for peer in ("headrace", "bare") for value in found.allocations[peer].get(name, (0, 0))
        ]
        sums = [total + value for total, value in zip(sums, values, strict=True)]
        rows.append((name, f"{values[0]:.1f}", f"{values[1]:,.0f}", f"{values[2]:.1f}", f"{values[3]:,.0f}"))
    rows.append(
        ("**together**", f"**{sums[0]:.1f}**", f"**{sums[1]:,.0f}**", f"**{sums[2]:.1f}**", f"**{sums[3]:,.0f}**")
    )
    return table(("", "allocations a record", "bytes a record", "bare loop, allocations", "bare loop, bytes"), rows)


def idle(found: Profile) -> str:
    """CPU of one read of an empty shard."""
    least = {which: min(spans) for which, spans in found.idle.items()}
    rows = [
        (*which.split(), f"{value:.2f}", f"{max(found.idle[which]):.2f}", f"{value / 10:.3f} %")
        for which, value in sorted(least.items(), key=lambda one: (shards_of(one[0]), one[0]))
    ]
    known = table(("", "shards", "ms a read, at least", "at most", "of a core a shard, at least"), rows)
    return known + "\n" + idle_stages(found)


def idle_stages(found: Profile) -> str:
    """What a read of an empty shard divides into, with few shards beside with many."""
    sizes = sorted(found.idle_samples, key=int)
    parts = {size: shares(found.idle_samples[size]) for size in sizes}
    rows = []
    for name in told(names(IDLE)):
        cells: list[str] = []
        for size in sizes:
            share = parts[size].get(name, 0.0)
            cells += f"{share:.0%}".replace("%", " %"), f"{share * min(found.idle[f'headrace {size}']):.2f}"
        rows.append((name, *cells))
    counted = [
        sum(number for name, number in found.idle_samples[size].items() if name not in LEFT_OUT) for size in sizes
    ]
    rows.append(("samples", *(cell for number in counted for cell in (f"{number:,}", ""))))
    head = [cell for size in sizes for cell in (f"of the CPU time with {size}", "ms a read")]
    return table(("shards", *head), rows)


def told(every: Iterable[str]) -> list[str]:
    return [name for name in every if name not in LEFT_OUT]


def micro(value: float) -> str:
    return f"{value:.1f}" if value else ""
