"""The score test that the statistical rivals share: the canary against its control, one stratum an interval.

Given the margins of each interval, the canary's events have the hypergeometric mean and variance; summed over intervals
that is the Mantel-Haenszel test. Strata keep it free of Simpson's paradox when shares or rates move, which a pooled
comparison is not: the rivals get the better form.
"""

import numpy as np
from scipy import stats

from backstay_bench_judge.scenarios import Kind
from backstay_bench_judge.shapes import BUCKETS
from backstay_bench_judge.simulate import Floats, Rollouts


def score_test(rollouts: Rollouts) -> tuple[Floats, Floats]:
    """Return the cumulated score U and its variance V under no difference, ``[runs, intervals]``.

    Errors and slow answers are events of weight one; for distributions the event's weight is its bucket's place.
    """
    canary, control = rollouts.canary, rollouts.control
    n_c, n_s = canary.requests, control.requests
    total = n_c + n_s
    if rollouts.scenario.kind is Kind.DISTRIBUTION:
        place = (np.arange(BUCKETS) + 0.5) / BUCKETS
        both = canary.buckets + control.buckets
        mean = _divide(both @ place, total)
        spread = _divide(both @ place**2, total) - mean**2
        u = canary.buckets @ place - n_c * mean
        v = _divide(n_c * n_s * spread, total - 1)
    else:
        events = canary.errors + control.errors
        rho = _divide(n_c, total)
        u = canary.errors - events * rho
        v = _divide(events * rho * (1 - rho) * (total - events), total - 1)
    return np.cumsum(u, axis=1), np.cumsum(np.maximum(v, 0.0), axis=1)


def z_of(u: Floats, v: Floats) -> Floats:
    """Return U over its standard deviation, 0 before there is any."""
    return _divide(u, np.sqrt(v))


def chi_square(rollouts: Rollouts) -> Floats:
    """Return Pearson's chi-square of the two cumulated histograms as the normal deviate of its p-value."""
    canary = np.cumsum(rollouts.canary.buckets, axis=1)
    control = np.cumsum(rollouts.control.buckets, axis=1)
    n_c, n_s = canary.sum(axis=-1), control.sum(axis=-1)
    both = canary + control
    cells = _divide((canary * n_s[..., None] - control * n_c[..., None]) ** 2, both)
    statistic = _divide(cells.sum(axis=-1), n_c * n_s)
    freedom = np.maximum((both > 0).sum(axis=-1) - 1, 1)
    return np.asarray(stats.norm.isf(stats.chi2.sf(statistic, freedom)))


def _divide(a: Floats, b: Floats) -> Floats:
    return np.divide(a, b, out=np.zeros(np.broadcast_shapes(a.shape, b.shape)), where=b > 0)
