"""The arithmetic under every table."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.harness.figures import Spread, number, percentile, ratio, spread


def test_spread_is_the_middle_and_both_ends() -> None:
    assert spread([5.0, 1.0, 9.0]) == Spread(5.0, 1.0, 9.0)
    assert spread([1.0, 2.0]) == Spread(1.5, 1.0, 2.0)


def test_nothing_measured_is_no_figure() -> None:
    with pytest.raises(ValueError, match="nothing was measured"):
        spread([])
    with pytest.raises(ValueError, match="nothing was measured"):
        percentile([], 0.5)


def test_a_slow_round_cancels_out_of_the_ratio() -> None:
    ours, theirs = [1000.0, 500.0, 1000.0], [200.0, 100.0, 200.0]
    assert ratio(ours, theirs) == Spread(5.0, 5.0, 5.0)


def test_the_range_of_a_ratio_is_of_rounds_and_not_of_ends() -> None:
    assert ratio([100.0, 300.0], [100.0, 100.0]) == Spread(2.0, 1.0, 3.0)
    assert ratio([100.0, 300.0], [50.0, 100.0]) == Spread(2.5, 2.0, 3.0)


def test_sides_measured_in_different_rounds_are_not_compared() -> None:
    with pytest.raises(ValueError, match="argument 2 is shorter"):
        ratio([1.0, 2.0], [1.0])


def test_percentiles_are_values_that_were_seen() -> None:
    hundred = [float(value) for value in range(100, 0, -1)]
    assert percentile(hundred, 0.5) == 50.0
    assert percentile(hundred, 0.99) == 99.0
    assert percentile([*hundred, 1000.0], 0.99) == 100.0
    assert percentile([7.0], 0.99) == 7.0


@given(st.lists(st.floats(0, 1e6), min_size=1), st.floats(0.01, 1))
def test_a_percentile_is_not_exceeded_by_its_share(values: list[float], share: float) -> None:
    found = percentile(values, share)
    assert found in values
    assert sum(value <= found for value in values) / len(values) >= share - 1e-9


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0"),
        (0.01234, "0.0123"),
        (1.418, "1.42"),
        (14.18, "14.2"),
        (141.8, "142"),
        (1418.0, "1,420"),
        (25971, "26,000"),
    ],
)
def test_figures_have_three_digits(value: float, text: str) -> None:
    assert number(value) == text
