"""What is done about labels in the field: a limit on the AUC, or a test read whenever labels come."""

import numpy as np
from scipy import stats

from backstay_bench_judge.judging import NEVER, Judged, above
from backstay_bench_judge.scenarios import LABEL_DELAY_COHORTS
from backstay_bench_judge.simulate import Floats, Rollouts

ALPHA = 0.05
LIMIT = 0.02


def fixed_limit(rollouts: Rollouts) -> Judged:
    """Roll back when the AUC over all labels so far is more than .02 below the running version's."""
    loss, _ = _cumulated(rollouts)
    return Judged(_late(loss), above(LIMIT))


def peeking(rollouts: Rollouts) -> Judged:
    """DeLong's test, one-sided at .05, after every cohort."""
    loss, variance = _cumulated(rollouts)
    z = np.divide(loss, np.sqrt(variance), out=np.zeros_like(loss), where=variance > 0)
    return Judged(_late(z), float(stats.norm.isf(ALPHA)))


def once(rollouts: Rollouts) -> Judged:
    """DeLong's test, one-sided at .05, once, when all labels are there."""
    judged = peeking(rollouts)
    score = np.full_like(judged.score, NEVER)
    score[:, -1] = judged.score[:, -1]
    return Judged(score, judged.threshold)


def _cumulated(rollouts: Rollouts) -> tuple[Floats, Floats]:
    if rollouts.cohorts is None:
        raise ValueError(f"The scenario {rollouts.scenario.name!r} has no labels")
    return rollouts.cohorts.loss, rollouts.cohorts.variance


def _late(values: Floats) -> Floats:
    """Move values to the interval in which the labels have come."""
    score = np.full_like(values, NEVER)
    score[:, LABEL_DELAY_COHORTS:] = values[:, :-LABEL_DELAY_COHORTS]
    return score
