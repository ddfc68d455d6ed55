"""docs/profile.md, from what a run of `make profile` found, and the words about it. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from tests.bench.page import table
from tests.bench.stages import DRAIN, IDLE, LEFT_OUT, names, shares

if TYPE_CHECKING:
    from collections.abc import Iterable


@dataclass
class Profile:
    """What was found, by peer: µs a record of each round, samples and allocations by stage, the most held in MB.

    `allocations` are numbers and bytes for `traced` records. `idle` is by peer and shards, the milliseconds of CPU a read
    took in each span.
    """

    made: str = ""
    versions: dict[str, str] = field(default_factory=dict)
    cpu: dict[str, list[float]] = field(default_factory=dict)
    samples: dict[str, dict[str, int]] = field(default_factory=dict)
    traced: int = 0
    allocations: dict[str, dict[str, list[int]]] = field(default_factory=dict)
    peak: dict[str, float] = field(default_factory=dict)
    idle: dict[str, list[float]] = field(default_factory=dict)
    idle_samples: dict[str, int] = field(default_factory=dict)


OPENING = "# Where the time goes\n"


def page(found: Profile) -> str:
    """The whole page."""
    return "\n".join((OPENING, drain(found), allocations(found), idle(found)))


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
    rows = [(*which.split(), f"{value:.2f}", f"{value / 10:.3f} %") for which, value in sorted(least.items())]
    known = table(("", "shards", "ms a read", "of a core a shard"), rows)
    own = max((which for which in least if which.startswith("headrace")), key=lambda which: int(which.split()[1]))
    parts = shares(found.idle_samples)
    stages = [
        (name, f"{parts.get(name, 0.0):.0%}".replace("%", " %"), f"{parts.get(name, 0.0) * least[own]:.2f}")
        for name in told(names(IDLE))
    ]
    return known + "\n" + table((f"with {own.split()[1]} shards", "of the CPU time", "ms a read"), stages)


def told(every: Iterable[str]) -> list[str]:
    return [name for name in every if name not in LEFT_OUT]


def micro(value: float) -> str:
    return f"{value:.1f}" if value else ""
