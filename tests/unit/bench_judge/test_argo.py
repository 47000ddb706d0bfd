"""Argo Rollouts' rule, against the cases of its own tests.

The cases are those of analysis/analysis_test.go (TestAssessMetricStatus...) and utils/evaluate/evaluate_test.go in
argoproj/argo-rollouts, entered anew.
"""

import numpy as np
import pytest

from backstay_bench_judge.rivals.argo import Limits, Phase, Tally, assess, evaluate, kth_largest


@pytest.mark.parametrize(
    ("success", "failure", "expected"),
    [
        (True, False, Phase.SUCCESSFUL),
        (True, True, Phase.FAILED),
        (False, False, Phase.INCONCLUSIVE),
        (None, False, Phase.SUCCESSFUL),
        (False, None, Phase.FAILED),
        (None, None, Phase.SUCCESSFUL),
    ],
)
def test_a_measurement_is_what_its_conditions_say(
    *, success: bool | None, failure: bool | None, expected: Phase
) -> None:
    assert evaluate(success=success, failure=failure) is expected


@pytest.mark.parametrize(
    ("tally", "limits", "running", "terminating"),
    [
        (Tally(failed=3), Limits(failure=2), Phase.FAILED, Phase.FAILED),
        (Tally(failed=3), Limits(failure=3), Phase.RUNNING, Phase.SUCCESSFUL),
        (Tally(failed=1), Limits(), Phase.FAILED, Phase.FAILED),
        (Tally(inconclusive=3), Limits(inconclusive=2), Phase.INCONCLUSIVE, Phase.INCONCLUSIVE),
        (Tally(inconclusive=3), Limits(inconclusive=3), Phase.RUNNING, Phase.SUCCESSFUL),
        (Tally(consecutive_error=5), Limits(), Phase.ERROR, Phase.ERROR),
        (Tally(consecutive_error=4), Limits(), Phase.RUNNING, Phase.SUCCESSFUL),
        (Tally(successful=10), Limits(count=10), Phase.SUCCESSFUL, Phase.SUCCESSFUL),
        (Tally(successful=5, inconclusive=5), Limits(count=10), Phase.INCONCLUSIVE, Phase.INCONCLUSIVE),
    ],
)
def test_a_metric_is_what_its_limits_say(tally: Tally, limits: Limits, running: Phase, terminating: Phase) -> None:
    assert assess(tally, limits) is running
    assert assess(tally, limits, terminating=True) is terminating


def test_an_error_ends_with_any_measurement_and_is_not_counted() -> None:
    tally = Tally()
    for phase in (Phase.ERROR, Phase.ERROR, Phase.SUCCESSFUL, Phase.ERROR):
        tally = tally.add(phase)
    assert tally == Tally(successful=1, consecutive_error=1)


@pytest.mark.parametrize("failure_limit", [0, 1, 2])
def test_the_benchmarks_score_is_the_rule(failure_limit: int) -> None:
    """A score above the limit says the same as counting measurement after measurement, without a provider's errors."""
    values = np.random.default_rng(3).random((50, 20))
    limit = 0.9
    score = kth_largest(values, failure_limit + 1)
    for run in range(len(values)):
        tally = Tally()
        for look, value in enumerate(values[run]):
            tally = tally.add(evaluate(success=None, failure=bool(value > limit)))
            failed = assess(tally, Limits(failure=failure_limit)) is Phase.FAILED
            assert failed == (score[run, look] > limit)
