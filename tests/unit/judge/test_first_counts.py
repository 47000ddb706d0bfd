"""Test (a): published check values, and the guarantee itself by enumeration."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backstay.judge.first_counts import GRID, Counts, exponents, log_evidence


def counts(c: float, s: float, n_c: float, n_s: float) -> Counts:
    return Counts(canary_requests=n_c, canary_events=c, stable_requests=n_s, stable_events=s)


@pytest.mark.parametrize(
    ("interval", "tolerance", "expected"),
    [
        (counts(20, 80, 100, 900), 1.0, 3.2258774),
        (counts(10, 90, 100, 900), 1.0, -1.5279550),
        (counts(20, 80, 100, 900), 1.25, 1.4251497229),
    ],
)
def test_check_values(interval: Counts, tolerance: float, expected: float) -> None:
    assert log_evidence(exponents(interval, tolerance=tolerance)) == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("tolerance", [1.0, 1.25, 2.0])
@pytest.mark.parametrize(("n_c", "n_s"), [(1, 9), (5, 45), (20, 20), (50, 5)])
@pytest.mark.parametrize("m", [1, 3, 8])
def test_expectation_never_exceeds_one_given_the_margins(n_c: int, n_s: int, m: int, tolerance: float) -> None:
    """Enumerate Fisher's noncentral hypergeometric at the edge of the null: odds ratio equal to the tolerance."""
    m = min(m, n_c + n_s)
    support = range(max(0, m - n_s), min(m, n_c) + 1)
    weights = {c: math.comb(n_c, c) * math.comb(n_s, m - c) * tolerance**c for c in support}
    total = sum(weights.values())
    expectation = sum(
        weight / total * math.exp(log_evidence(exponents(counts(c, m - c, n_c, n_s), tolerance=tolerance)))
        for c, weight in weights.items()
    )
    assert expectation <= 1 + 1e-9


@given(
    st.lists(
        st.tuples(st.integers(0, 50), st.integers(0, 50), st.integers(50, 500), st.integers(50, 500)),
        min_size=1,
        max_size=8,
    )
)
def test_intervals_add_up_in_the_exponents(intervals: list[tuple[int, int, int, int]]) -> None:
    added = [exponents(counts(*interval)) for interval in intervals]
    totals = [sum(column) for column in zip(*added, strict=True)]
    assert len(totals) == len(GRID)
    assert all(math.isfinite(total) for total in totals)


@pytest.mark.parametrize("interval", [counts(0, 5, 0, 100), counts(3, 0, 100, 0)])
def test_an_empty_arm_adds_nothing(interval: Counts) -> None:
    assert set(exponents(interval)) == {0.0}
