"""Every state that pollers, shards, a store and clocks can come to in whole ticks, by the real lease rules, whatever goes wrong.

`lease_ticks.py` says what a tick is, `test_leases_exhaustive.py` walks what is smaller than one. The larger sizes run
with `--larger`. What these walks notice, each tried once by hand, is listed in docs/proof.md.
"""

from __future__ import annotations

from typing import NamedTuple

import pytest

from headrace.heartbeat import RENEW_INTERVAL, TERM
from headrace.stream.leases import LINGER, MARGIN
from tests.support.lease_choices import Choices
from tests.support.lease_ticks import Story, Ticks
from tests.support.walking import walk

TERM_TICKS = round(TERM / RENEW_INTERVAL)
LINGER_TICKS = round(LINGER / RENEW_INTERVAL)
MARGIN_TICKS = MARGIN / RENEW_INTERVAL
"""A tick is the time between two renewals; the margin is less than one."""
A_TICK = 1.0
"""The margin that a clock needs that leaves out a tick in a term."""
CRASHES, OUTAGES, LEAVES, SILENCES = Story(crashes=True), Story(outages=True), Story(leaves=True), Story(silences=True)


class Size(NamedTuple):
    pollers: int
    shards: int
    story: Story
    margin: float = MARGIN_TICKS
    larger: bool = False


def sizes(*sizes: Size) -> pytest.MarkDecorator:
    larger = (pytest.mark.larger, pytest.mark.timeout(0))
    return pytest.mark.parametrize(
        "size", [pytest.param(one, id=named(one), marks=larger if one.larger else ()) for one in sizes]
    )


def named(size: Size) -> str:
    what = "-".join(f"{name}" for name, there in vars(size.story).items() if there)
    return f"{size.pollers}x{size.shards}-{what}"


def every_state(size: Size, longest: int = 0, term: int = TERM_TICKS) -> None:
    world = Ticks(Choices(term, size.margin), size.pollers, size.shards, size.story, longest)
    walked = walk([world.start], world.steps)
    assert walked.whole
    assert walked.states > 100
    print(f"{named(size)}: {walked.states} states, {walked.steps} steps")


@sizes(
    Size(2, 4, CRASHES),
    Size(2, 2, Story(crashes=True, leaves=True)),
    Size(3, 2, CRASHES),
    Size(3, 1, Story(crashes=True, leaves=True)),
    Size(3, 3, CRASHES, larger=True),
    Size(3, 4, CRASHES, larger=True),
)
def test_whoever_crashes_or_starts_no_shard_is_without_an_owner_for_more_than_a_term_and_a_round(size: Size) -> None:
    every_state(size, longest=longest_wait(size) + 1)


def longest_wait(size: Size) -> int:
    """In ticks; what the dead may linger counts where another starts so late that it gives them a term of its own."""
    return TERM_TICKS + 1 + (LINGER_TICKS if size.pollers > 2 else 0)


def test_nor_in_ticks_of_half_that() -> None:
    every_state(Size(2, 2, CRASHES, margin=2 * MARGIN_TICKS), longest=2 * TERM_TICKS + 1 + 1, term=2 * TERM_TICKS)


@sizes(
    Size(2, 1, SILENCES),
    Size(2, 2, SILENCES, larger=True),
    Size(3, 1, SILENCES, larger=True),
)
def test_nor_when_one_is_halted_or_cut_off(size: Size) -> None:
    every_state(size, longest=longest_wait(size) + 1)


@sizes(
    Size(2, 4, LEAVES),
    Size(3, 2, LEAVES),
    Size(3, 3, LEAVES, larger=True),
    Size(3, 4, LEAVES, larger=True),
)
def test_what_one_leaves_or_gives_another_has_within_two_rounds(size: Size) -> None:
    every_state(size, longest=2 + 1)


@sizes(
    Size(2, 4, OUTAGES),
    Size(3, 1, OUTAGES),
    Size(2, 2, Story(outages=True, slow=1), margin=A_TICK),
    Size(3, 2, OUTAGES, larger=True),
    Size(3, 3, OUTAGES, larger=True),
    Size(3, 4, OUTAGES, larger=True),
)
def test_an_outage_of_the_store_moves_nothing_and_takes_nothing_from_anybody(size: Size) -> None:
    every_state(size, longest=2 + 1)


@sizes(
    Size(2, 1, Story(crashes=True, silences=True, slow=1), margin=A_TICK),
    Size(2, 2, Story(crashes=True, silences=True, slow=1), margin=A_TICK, larger=True),
)
def test_whatever_goes_wrong_nobody_starts_anything_on_what_another_holds_or_may_take(size: Size) -> None:
    every_state(size)
