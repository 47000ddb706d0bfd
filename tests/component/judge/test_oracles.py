"""The judge's numbers beside those of other people's packages, where their questions are the same.

Where they ask another question, it is the special case in which both must give one answer that is compared.
"""

import math
from typing import Any

import numpy as np
import pytest
import statsmodels.api as sm
from savvi.multinomial import Multinomial
from statsmodels.stats.contingency_tables import StratifiedTable

from backstay.judge import counts, dependence, effects, ratio

pytestmark = pytest.mark.component

# Their prior is a Dirichlet distribution, ours a few alternatives. Nearly all of theirs lies on one alternative when it
# is worth so many observations, and rounding errors are still small.
ALMOST_CERTAIN = 1e7
CLOSE = 2e-2


def likelihood_ratio(theirs: Multinomial, alternative: float, canary: int, other: int) -> float:
    """Let savvi compare one alternative share of the canary with its null, on these counts."""
    theirs.alpha_0 = ALMOST_CERTAIN * np.array([alternative, 1.0 - alternative])
    theirs.update(np.array([canary, other]))
    return math.log(theirs.odds)


@pytest.mark.parametrize(("n_c", "n_s", "planned"), [(60, 940, 0.05), (75, 925, 0.05), (300, 700, 0.25), (5, 3, 0.5)])
def test_the_split_of_the_traffic_is_savvis_sample_ratio_test_with_our_alternatives(
    n_c: int, n_s: int, planned: float
) -> None:
    ours = ratio.increments(n_c, n_s, planned, tolerance=1.0)
    null = np.array([planned, 1.0 - planned])
    for factor, more, less in zip(ratio.GRID, ours.more, ours.less, strict=True):
        for found, odds in ((more, factor), (less, 1.0 / factor)):
            share = planned * odds / (1.0 - planned + planned * odds)
            assert found == pytest.approx(likelihood_ratio(Multinomial(0.05, null), share, n_c, n_s), abs=CLOSE)


def test_the_split_over_several_intervals_is_savvis_after_as_many_updates() -> None:
    theirs = Multinomial(0.05, np.array([0.1, 0.9]))
    factor = ratio.GRID[-1]
    share = 0.1 * factor / (0.9 + 0.1 * factor)
    theirs.alpha_0 = ALMOST_CERTAIN * np.array([share, 1.0 - share])
    total = 0.0
    for n_c, n_s in ((12, 88), (15, 90), (9, 101)):
        theirs.update(np.array([n_c, n_s]))
        total += ratio.increments(n_c, n_s, 0.1, tolerance=1.0).more[-1]
    assert total == pytest.approx(math.log(theirs.odds), abs=CLOSE)


@pytest.mark.parametrize(("c", "s", "n_c", "n_s"), [(20, 80, 100, 900), (10, 90, 100, 900), (3, 0, 50, 50)])
def test_errors_are_savvis_test_of_whose_they_are_given_how_many_there_were(c: int, s: int, n_c: int, n_s: int) -> None:
    """Base form, tolerance 1: each error is the canary's with a chance of its share, under the null."""
    rho = n_c / (n_c + n_s)
    ours = counts.increments(c, s, n_c, n_s, ratios=counts.BASE, refined=False)
    for odds, found in zip(counts.BASE, ours, strict=True):
        theirs = Multinomial(0.05, np.array([rho, 1.0 - rho]))
        share = rho * odds / (1.0 - rho + rho * odds)
        assert found == pytest.approx(likelihood_ratio(theirs, share, c, s), abs=CLOSE)


def test_the_ratio_that_is_told_is_statsmodels_mantel_haenszel_ratio_of_rates() -> None:
    intervals = [(1, 9, 10, 990), (5, 9, 50, 950), (25, 8, 250, 750), (150, 150, 500, 500)]
    told = effects.strata(*np.array(intervals, dtype=float).T)
    # Rates of person-time are risks where events are rare: a thousand times the requests make them so.
    tables = [np.array([[c, 1000 * n_c - c], [s, 1000 * n_s - s]], dtype=float) for c, s, n_c, n_s in intervals]
    theirs: Any = StratifiedTable(tables)
    ours = effects.mantel_haenszel(told.over.sum(), told.under.sum())
    assert float(ours) == pytest.approx(theirs.riskratio_pooled, rel=1e-9)


def test_the_size_of_bursts_is_pearsons_statistic_of_a_binomial_regression() -> None:
    rng = np.random.default_rng(20261126)
    requests = np.asarray(rng.integers(50, 400, size=(30, 4)), dtype=np.float64)
    events = np.asarray(3.0 * rng.binomial(requests.astype(int) // 3, 0.05), dtype=np.float64)
    interval = np.repeat(np.eye(30), 4, axis=0)
    answers = np.column_stack([events.ravel(), (requests - events).ravel()])
    theirs = sm.GLM(answers, interval, family=sm.families.Binomial()).fit()
    assert dependence.dispersion(events, requests) == pytest.approx(theirs.pearson_chi2 / theirs.df_resid, rel=1e-6)
    assert 2.0 < dependence.dispersion(events, requests) < 4.0
