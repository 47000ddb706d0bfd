"""Flagger's rule, against pkg/controller/scheduler.go and scheduler_deployment_test.go of fluxcd/flagger."""

import math

import numpy as np
import pytest

from backstay_bench_judge.rivals.argo import kth_largest
from backstay_bench_judge.rivals.flagger import Range, tick


@pytest.mark.parametrize(
    ("value", "holds"), [(0.0, True), (50.0, True), (50.1, False), (-0.1, False), (100.0, False), (math.nan, True)]
)
def test_both_ends_of_a_range_are_allowed(*, value: float, holds: bool) -> None:
    """The range 0 to 50 is that of TestScheduler_DeploymentRollback, whose metric answers 100."""
    assert Range(0, 50).holds(value) is holds


def test_no_value_is_a_failed_check() -> None:
    assert not Range(0, 50).holds(None)


def test_the_tick_after_the_last_failed_check_rolls_back() -> None:
    """TestScheduler_DeploymentRollback starts with as many failed checks, 10, as the fixture's threshold."""
    assert tick(10, passes=False, threshold=10) == (10, True)
    assert tick(9, passes=False, threshold=10) == (10, False)
    assert tick(3, passes=True, threshold=10) == (3, False)


def test_the_default_threshold_is_one() -> None:
    assert tick(0, passes=False) == (1, False)
    assert tick(1, passes=True) == (1, True)


def test_the_benchmarks_score_and_lag_are_the_rule() -> None:
    """Failed checks never expire; the act comes one tick after the check that fills the count."""
    values = np.random.default_rng(4).random((50, 20))
    limit, threshold = 0.8, 3
    score = kth_largest(values, threshold)
    for run in range(len(values)):
        failed_checks, acted = 0, None
        for now, value in enumerate(values[run]):
            failed_checks, rolls_back = tick(failed_checks, passes=Range(high=limit).holds(value), threshold=threshold)
            if rolls_back:
                acted = now
                break
        reached = np.flatnonzero(score[run] > limit)
        expected = int(reached[0]) + 1 if len(reached) and reached[0] + 1 < values.shape[1] else None
        assert acted == expected
