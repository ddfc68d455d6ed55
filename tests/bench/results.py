"""What a run of the benchmark found, as it lies in docs/benchmarks.json. Pure."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from tests.bench.spread import LEAST_ROUNDS, Ratio, figure, ratio

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tests.bench.spread import Figure

Setting = dict[str, float]
"""What was varied: a number for each name."""


@dataclass(frozen=True)
class Measured:
    """One peer at one setting of one part: what each round found, in the order of the rounds.

    `round` is the number of a round where one may be missing; `pooled` is of the samples of all rounds together.
    """

    part: str
    peer: str
    setting: Setting
    rounds: list[dict[str, float]]
    pooled: dict[str, float] = field(default_factory=dict)

    def values(self, what: str) -> list[float]:
        return [each[what] for each in self.rounds]

    def by_round(self, what: str) -> dict[float, float]:
        return {each.get("round", place): each[what] for place, each in enumerate(self.rounds)}

    def figure(self, what: str) -> Figure:
        return figure(self.values(what))


@dataclass
class Run:
    """A whole run: how it was made, and everything that was measured."""

    command: str
    began: str
    seconds: float
    machine: str
    versions: dict[str, str]
    rounds: int
    measured: list[Measured] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)
    """Sentences about what could not be measured."""
    load: list[float] = field(default_factory=list)
    """The machine's load average, over a minute, at the beginning and over fifteen at the end."""

    def find(self, part: str, peer: str | None = None, **setting: float) -> list[Measured]:
        """What was measured of a part, of one peer if one is named, where the setting has these numbers."""
        return [
            each
            for each in self.measured
            if each.part == part
            and peer in {None, each.peer}
            and all(each.setting.get(name) == value for name, value in setting.items())
        ]

    def one(self, part: str, peer: str, **setting: float) -> Measured | None:
        """The first of these that has a round."""
        return next((each for each in self.find(part, peer, **setting) if each.rounds), None)

    def ratio(self, what: str, over: Measured | None, under: Measured | None) -> Ratio | None:
        """Of two peers in the rounds that both were in; None when these are too few to state anything."""
        if over is None or under is None:
            return None
        first, second = over.by_round(what), under.by_round(what)
        both = [number for number in first if number in second]
        if len(both) < min(LEAST_ROUNDS, self.rounds):
            return None
        return ratio([first[number] for number in both], [second[number] for number in both])

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def from_json(body: Mapping[str, Any]) -> Run:
    """The inverse of `to_json`."""
    return Run(**{**body, "measured": [Measured(**each) for each in body["measured"]]})
