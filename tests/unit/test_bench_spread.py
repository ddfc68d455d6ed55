"""The benchmark's statistics: medians, spreads, and when a difference may be stated."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.bench.spread import LEAST_ROUNDS, figure, in_turn, quantile, quantile_error, ratio, slope

NUMBERS = st.lists(st.floats(0.001, 1e6), min_size=1, max_size=20)


def test_the_median_of_an_even_number_lies_between_the_middle_two() -> None:
    assert figure([4.0, 1.0, 3.0, 2.0]).median == 2.5


def test_quartiles_hold_the_middle_half_and_an_outlier_does_not_move_them() -> None:
    calm, wild = figure([1.0, 2.0, 3.0, 4.0, 5.0]), figure([1.0, 2.0, 3.0, 4.0, 500.0])
    assert (calm.lower, calm.upper, calm.spread, calm.rounds) == (2.0, 4.0, 2.0, 5)
    assert wild == calm


@given(NUMBERS, st.floats(0, 1))
def test_a_quantile_lies_within_the_values_and_grows_with_its_share(values: list[float], share: float) -> None:
    assert min(values) <= quantile(values, share) <= max(values)
    assert quantile(values, 0.0) == min(values)
    assert quantile(values, 1.0) == max(values)


def test_no_round_is_no_figure() -> None:
    with pytest.raises(ValueError, match="no round"):
        figure([])


def test_a_clear_difference_is_stated_with_the_ratio_round_by_round() -> None:
    found = ratio([20.0, 22.0, 18.0, 21.0, 19.0], [10.0, 11.0, 9.0, 10.5, 9.5])
    assert found.stated
    assert found.of.median == 2.0
    assert found.of.spread == 0.0, "a machine that is slower for a round is so for both"


def test_a_difference_smaller_than_the_spread_is_not_stated() -> None:
    assert not ratio([10.5, 12.5, 14.5, 16.5, 18.5], [10.0, 12.0, 14.0, 16.0, 18.0]).stated


def test_a_difference_is_not_stated_when_one_round_disagrees() -> None:
    assert not ratio([20.0, 20.0, 20.0, 20.0, 9.0], [10.0] * 5).stated


def test_equal_figures_are_not_different() -> None:
    assert not ratio([10.0] * 5, [10.0] * 5).stated


def test_too_few_rounds_state_nothing() -> None:
    assert not ratio([20.0] * (LEAST_ROUNDS - 1), [10.0] * (LEAST_ROUNDS - 1)).stated
    assert ratio([20.0] * LEAST_ROUNDS, [10.0] * LEAST_ROUNDS).stated


def test_rounds_are_compared_in_pairs_only() -> None:
    with pytest.raises(ValueError, match="shorter"):
        ratio([1.0, 2.0], [1.0])


@given(NUMBERS)
def test_whether_a_difference_is_stated_does_not_depend_on_which_comes_first(values: list[float]) -> None:
    others = [value * 1.5 for value in values]
    assert ratio(values, others).stated == ratio(others, values).stated


def test_the_slope_is_that_of_the_line_through_the_points() -> None:
    assert slope([(1.0, 12.0), (16.0, 42.0), (64.0, 138.0)]) == pytest.approx(2.0)
    with pytest.raises(ValueError, match="two different places"):
        slope([(1.0, 2.0), (1.0, 3.0)])


def test_who_is_first_in_one_round_is_last_in_the_next() -> None:
    assert [in_turn("ab", number) for number in range(3)] == [["a", "b"], ["b", "a"], ["a", "b"]]


def test_the_error_of_a_median_shrinks_with_the_root_of_the_samples() -> None:
    def error(samples: int) -> float:
        return quantile_error([1000 * place / samples for place in range(samples)], 0.5)

    assert error(2500) == pytest.approx(10.0, rel=0.01), "half of a second by the root of 2,500"
    assert error(10_000) == pytest.approx(5.0, rel=0.01)
    assert quantile_error([7.0] * 100, 0.99) == 0.0
