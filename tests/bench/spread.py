"""Medians, spreads, and when two of them may be called different. Pure."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Sequence

Anybody = TypeVar("Anybody")

LEAST_ROUNDS = 3
"""Below this nothing is stated: two rounds agree by chance half of the time."""


@dataclass(frozen=True)
class Figure:
    """What was measured in several rounds: the median, and the quartiles between which half of the rounds lie."""

    median: float
    lower: float
    upper: float
    rounds: int

    @property
    def spread(self) -> float:
        """How far the middle half of the rounds lies apart."""
        return self.upper - self.lower


def quantile(values: Sequence[float], share: float) -> float:
    """The value below which that share of the values lies, interpolated between neighbours; `share` from 0 to 1."""
    ordered = sorted(values)
    place = share * (len(ordered) - 1)
    below = int(place)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (ordered[above] - ordered[below]) * (place - below)


def quantile_error(values: Sequence[float], share: float) -> float:
    """The standard error of a quantile of independent samples, whatever they are distributed like.

    So many samples lie below the true one as a coin of that share would show heads: half of what lies between one
    standard deviation of that number fewer and more.
    """
    step = math.sqrt(share * (1 - share) / len(values))
    return (quantile(values, min(1.0, share + step)) - quantile(values, max(0.0, share - step))) / 2


def figure(values: Sequence[float]) -> Figure:
    """Of one or more rounds; ValueError without any."""
    if not values:
        raise ValueError("no round was measured")
    return Figure(quantile(values, 0.5), quantile(values, 0.25), quantile(values, 0.75), len(values))


def in_turn(everybody: Sequence[Anybody], number: int) -> list[Anybody]:
    """Who is first in one round is last in the next: being first may cost or save something."""
    return list(everybody) if number % 2 == 0 else list(reversed(everybody))


@dataclass(frozen=True)
class Ratio:
    """One thing over another, round by round of one run; `stated` is whether it may be called different from 1."""

    of: Figure
    stated: bool


def ratio(over: Sequence[float], under: Sequence[float]) -> Ratio:
    """The ratio in each round, as the two of a round met the same machine.

    It is stated only when there are enough rounds, every one of them agrees on which is larger, and the medians lie
    farther apart than either spreads: a difference smaller than the spread is none.
    """
    rounds = [one / other for one, other in zip(over, under, strict=True)]
    first, second = figure(over), figure(under)
    agreed = all(each > 1 for each in rounds) or all(each < 1 for each in rounds)
    apart = abs(first.median - second.median) > max(first.spread, second.spread)
    return Ratio(figure(rounds), len(rounds) >= LEAST_ROUNDS and agreed and apart)


def slope(points: Sequence[tuple[float, float]]) -> float:
    """How much the second grows with the first: the least squares' line through the points; ValueError below two."""
    if len({x for x, _ in points}) < 2:
        raise ValueError("a slope needs two different places")
    mean_x = sum(x for x, _ in points) / len(points)
    mean_y = sum(y for _, y in points) / len(points)
    return sum((x - mean_x) * (y - mean_y) for x, y in points) / sum((x - mean_x) ** 2 for x, _ in points)
