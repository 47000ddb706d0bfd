"""What happened to each run, and thresholds made equal."""

import math

import numpy as np
import pytest
from scipy import stats

from backstay_bench_judge.judging import NEVER, Judged, grouped, looks, stops, windowed
from backstay_bench_judge.measure import floor, matching, outcomes, wilson
from backstay_bench_judge.measured import quantile, ratio
from backstay_bench_judge.scenarios import Scenario
from backstay_bench_judge.shapes import EDGES
from backstay_bench_judge.simulate import batches


def test_the_first_score_that_reaches_the_threshold_decides() -> None:
    score = np.array([[0.0, 2.0, 3.0, 1.0], [NEVER, 1.9, 0.0, 0.0]])
    assert stops(score, 2.0).tolist() == [1, 4]
    assert stops(score, 2.0, lag=2).tolist() == [3, 4]
    assert stops(score, 2.0, lag=9).tolist() == [3, 4]


def test_windows_and_looks() -> None:
    increments = np.arange(8.0)[None, :]
    assert grouped(increments, 4).tolist() == [[6.0, 22.0]]
    assert windowed(np.array([[1.0, 2.0, 3.0, 4.0]]), 2).tolist() == [[1.0, 3.0, 5.0, 7.0]]
    assert looks(np.array([[5.0, 6.0]]), every=2, length=4).tolist() == [[NEVER, 5.0, NEVER, 6.0]]


def test_outcomes_count_what_was_served_until_the_rollback() -> None:
    rollouts = next(batches(Scenario(minutes=2, traffic=20.0, onset_minute=0.5), seed=1, runs=2))
    score = np.full(rollouts.served.shape, NEVER)
    score[0, 3] = 1.0
    found = outcomes(rollouts, Judged(score, 1.0), score=score, threshold=1.0)
    assert found.rolled_back.tolist() == [True, False]
    assert found.promoted.tolist() == [False, True]
    assert found.bad.tolist() == [rollouts.served[0, :4].sum(), rollouts.served[1].sum()]
    assert found.delay.tolist() == [0.5, 1.5]


@pytest.mark.parametrize("rate", [0.0, 0.05, 0.5])
def test_a_matched_threshold_gives_the_rate(rate: float) -> None:
    highest = np.random.default_rng(1).standard_normal(1000)
    assert (highest >= matching(highest, rate)).mean() == pytest.approx(rate, abs=1e-9)


def test_a_rule_that_always_fails_cannot_be_matched() -> None:
    assert matching(np.array([np.inf, np.inf]), 0.05) == math.inf
    highest = np.array([np.inf, 1.0, 2.0, 3.0])
    assert (highest >= matching(highest, 0.0)).mean() == 0.25


def test_wilsons_interval() -> None:
    low, high = wilson(5, 100)
    z = stats.norm.isf(0.025)
    middle, half = (5 + z**2 / 2) / (100 + z**2), z * math.sqrt(5 * 95 / 100 + z**2 / 4) / (100 + z**2)
    assert (low, high) == pytest.approx((middle - half, middle + half))
    assert wilson(0, 100)[0] == 0


@pytest.mark.parametrize(("effect", "expected"), [(1.5, 46.9), (2.0, 17.7), (5.0, 4.5)])
def test_the_floor_at_ten_percent(effect: float, expected: float) -> None:
    assert floor(0.10, effect) == pytest.approx(expected, abs=0.05)


def test_the_floor_at_one_percent_alpha() -> None:
    assert floor(0.10, 2.0, alpha=0.01) == pytest.approx(27, abs=0.3)


def test_a_quantile_is_linear_in_its_bucket() -> None:
    buckets = np.zeros(len(EDGES.seconds) + 1)
    buckets[4] = 10.0
    assert quantile(buckets, 0.5) == pytest.approx(0.075)
    assert np.isnan(quantile(np.zeros_like(buckets), 0.5))
    buckets[-1] = 1000.0
    assert quantile(buckets, 0.95) == pytest.approx(EDGES.seconds[-1])


def test_no_requests_give_no_ratio() -> None:
    assert np.isnan(ratio(np.array([0.0]), np.array([0.0])))[0]
