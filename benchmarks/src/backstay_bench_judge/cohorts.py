"""Labels that come late: cohorts of requests of two hours, a part of which is labelled six hours later."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from backstay.judge.labels import Placements

Floats = NDArray[np.float64]

LABELLED = 0.2
USUAL_AUC = 0.85
_LEAST = 2


@dataclass(frozen=True, slots=True)
class Cohorts:
    """How much lower the canary's area under the ROC curve is than the running version's, cumulated.

    Attributes:
        loss: ``[runs, cohorts]``, the mean over the cohorts so far, weighted by their labelled positives.
        variance: of its error, by DeLong within each cohort.
    """

    loss: Floats
    variance: Floats


def cohorts(rng: np.random.Generator, canary: Floats, stable: Floats, *, positives: float, loss: float) -> Cohorts:
    """Label a part of each cohort and compare the two versions' AUC; scores are normal in both classes."""
    runs, length = canary.shape
    value, variance, weight = np.zeros((runs, length)), np.zeros((runs, length)), np.zeros((runs, length))
    for run in range(runs):
        for k in range(length):
            first, second = (
                _scores(rng, int(arm[run, k]), positives=positives, auc=USUAL_AUC - lost)
                for arm, lost in ((canary, loss), (stable, 0.0))
            )
            if first is None or second is None:
                continue
            harm = Placements.of(*second).auc().minus(Placements.of(*first).auc())
            value[run, k], variance[run, k], weight[run, k] = harm.value, harm.variance, len(first[0])
    total = np.maximum(np.cumsum(weight, axis=1), 1.0)
    return Cohorts(
        np.cumsum(weight * value, axis=1) / total,
        np.cumsum(weight**2 * variance, axis=1) / total**2,
    )


def _scores(rng: np.random.Generator, requests: int, *, positives: float, auc: float) -> tuple[Floats, Floats] | None:
    """Draw the labelled scores of one arm's cohort, positives and negatives; None where too few are labelled."""
    labelled = rng.binomial(requests, LABELLED)
    some = rng.binomial(labelled, positives)
    if min(some, labelled - some) < _LEAST:
        return None
    apart = float(np.sqrt(2) * stats.norm.ppf(auc))
    return rng.normal(apart, 1.0, some), rng.normal(0.0, 1.0, labelled - some)
