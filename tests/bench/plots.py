"""The plots of docs/benchmarks.md, drawn by matplotlib in an environment of its own: RESULTS.json FOLDER."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import matplotlib as mpl

mpl.use("svg")
from matplotlib import pyplot as plt

from tests.bench.page import VARIED, varied
from tests.bench.results import Measured, Run, from_json
from tests.bench.targets import LEAST_OF_P99

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

COLOURS = {
    "headrace": "#1f6feb",
    "bare": "#8b949e",
    "kcl-rs": "#d29922",
    "async-kinesis": "#2da44e",
    "localstack": "#bf3989",
}


def bars(axes: Any, measured: Sequence[Measured], what: str) -> None:
    """One bar a peer, with its quartiles."""
    for place, each in enumerate(measured):
        value = each.figure(what)
        axes.bar(place, value.median, color=COLOURS[each.peer])
        axes.vlines(place, value.lower, value.upper, color="black")
    axes.set_xticks(range(len(measured)), [each.peer for each in measured])


def line(axes: Any, points: Sequence[tuple[float, Measured]], what: str, label: str, colour: str) -> None:
    """Medians over what was varied, with the quartiles as a band."""
    places = [place for place, _ in points]
    found = [each.figure(what) for _, each in points]
    axes.plot(places, [each.median for each in found], marker="o", label=label, color=colour)
    axes.fill_between(places, [each.lower for each in found], [each.upper for each in found], alpha=0.2, color=colour)


def ticks(axes: Any, scale: str, places: Sequence[float]) -> None:
    """A scale with a tick at each place, and no other."""
    axes.set_xscale(scale)
    axes.set_xticks(places, [f"{place:,.0f}" for place in places], fontsize=8)
    axes.minorticks_off()


def drain(run: Run) -> Any:
    drawing, axes = plt.subplots(1, 2, figsize=(9, 3), layout="constrained")
    for one, shards in zip(axes, (1, 16), strict=True):
        own = run.one("drain", "headrace", shards=shards)
        if own is not None:
            bars(one, [each for each in run.find("drain", None, **own.setting) if each.rounds], "per CPU second")
            one.set_title(f"records a CPU second, {shards} {'shard' if shards == 1 else 'shards'}", fontsize=10)
            one.tick_params("x", labelsize=7)
    return drawing


def sweep(run: Run) -> Any:
    drawing, axes = plt.subplots(1, 2, figsize=(9, 3), layout="constrained")
    for one, name in zip(axes, ("shards", "batch"), strict=True):
        own = varied(run, name)
        for peer in ("headrace", "bare"):
            found = [(each.setting[name], run.one("drain", peer, **each.setting)) for each in own]
            line(one, [(place, each) for place, each in found if each], "per CPU second", peer, COLOURS[peer])
        ticks(one, "log", [each.setting[name] for each in own])
        one.set_ylim(bottom=0)
        one.set_title(f"records a CPU second over {name}", fontsize=10)
        one.legend()
    return drawing


def latency(run: Run) -> Any:
    drawing, one = plt.subplots(figsize=(9, 3), layout="constrained")
    rates = sorted({each.setting["rate"] for each in run.find("latency")})
    peers = list(dict.fromkeys(each.peer for each in run.find("latency")))
    for number, peer in enumerate(peers):
        for at, rate in enumerate(rates):
            each = run.one("latency", peer, rate=rate)
            if each is not None:
                place = at + (number - len(peers) / 2) * 0.15
                tail = "p99" if each.pooled.get("records", 0) >= LEAST_OF_P99 else "p90"
                ends = each.figure("p50").median, each.pooled.get(tail, each.figure("p90").median)
                one.vlines(place, *ends, color=COLOURS[peer], linewidth=2)
                one.plot(place, each.figure("p50").median, "o", color=COLOURS[peer], label=peer if not at else None)
    one.set_xticks(range(len(rates)), [f"{rate:g} puts a second" for rate in rates])
    one.set_ylim(bottom=0)
    one.set_title("put to function, ms: p50 to p99 (p90 of fewer than 100 records)", fontsize=10)
    one.legend(fontsize=8)
    return drawing


def idle(run: Run) -> Any:
    drawing, axes = plt.subplots(1, 2, figsize=(9, 3), layout="constrained")
    found = [(each.setting["shards"], each) for each in run.find("idle", "headrace") if each.rounds]
    for one, what in zip(axes, ("CPU %", "MB"), strict=True):
        line(one, sorted(found, key=lambda point: point[0]), what, "headrace", COLOURS["headrace"])
        ticks(one, "linear", sorted(place for place, _ in found))
        one.set_ylim(bottom=0)
        one.set_title(f"idle: {'% of a core' if what == 'CPU %' else 'MB'} over shards", fontsize=10)
    return drawing


def growth(run: Run) -> Any:
    drawing, axes = plt.subplots(1, len(VARIED), figsize=(12, 2.6), layout="constrained", sharey=True)
    for one, (name, words) in zip(axes, VARIED.items(), strict=True):
        points = [(each.setting[name], each) for each in varied(run, name)]
        line(one, points, "µs per record", "headrace", COLOURS["headrace"])
        ticks(one, "linear" if name == "filters" else "log", [place for place, _ in points])
        one.set_yscale("log")
        one.set_title(words, fontsize=10)
    axes[0].set_ylabel("µs a record")
    return drawing


PLOTS: dict[str, tuple[str, Callable[[Run], Any]]] = {
    "drain": ("drain", drain),
    "sweep": ("drain", sweep),
    "latency": ("latency", latency),
    "idle": ("idle", idle),
    "growth": ("drain", growth),
}


def main() -> None:
    run = from_json(json.loads(Path(sys.argv[1]).read_text()))
    folder = Path(sys.argv[2])
    folder.mkdir(parents=True, exist_ok=True)
    mpl.rcParams["svg.hashsalt"] = "headrace"
    for name, (part, draw) in PLOTS.items():
        if run.find(part):
            drawing = draw(run)
            drawing.savefig(folder / f"{name}.svg", metadata={"Date": None})
            plt.close(drawing)


if __name__ == "__main__":
    main()
