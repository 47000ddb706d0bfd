"""When requests are not independent: bursts of errors, and pods that differ for good. These are heuristics.

The tests take events as independent given the interval. Two things break that. Errors that come in clusters (a retry
repeats the same failure) make every count look surer than it is: exponents are divided by phi, the size of clusters.
And where pods of one version differ for good (one bad node), the pod is the unit, and no number of requests mends that:
the tolerance is widened by how far two groups of pods differ by chance.

Both numbers are learnt from stable's pods before the canary gets traffic, never while it is judged.
"""

import math
from statistics import NormalDist

import numpy as np

from backstay.judge.arrays import Floats, Like

_Z = NormalDist().inv_cdf(0.975)
_TWO_PODS = 2
# With fewer degrees of freedom an estimate is mostly chance: its standard deviation is sqrt(2 / freedom).
_ENOUGH = 20


def dispersion(events: Floats, requests: Floats) -> float:
    """Estimate phi, the variance of counts in units of what independent events would have; at least 1.

    Pearson's statistic over pods and intervals, each interval with its own rate, so that a drift that all pods share
    is not taken for bursts. Clusters of k errors give k. What is too little to learn from gives 1, and one pod always
    is.

    Args:
        events: of shape [intervals, pods].
        requests: the same.
    """
    total = requests.sum(axis=-1, keepdims=True)
    rate = events.sum(axis=-1, keepdims=True) / np.where(total > 0, total, 1.0)
    variance = requests * rate * (1.0 - rate)
    informative = variance > 0
    statistic = float(
        (np.where(informative, events - requests * rate, 0.0) ** 2 / np.where(informative, variance, 1.0)).sum()
    )
    freedom = int(np.maximum(informative.sum(axis=-1) - 1, 0).sum())
    return max(1.0, statistic / freedom) if freedom >= _ENOUGH else 1.0


def pod_spread(events: Floats, requests: Floats, *, confidence: float = 0.95) -> float:
    """Return the upper confidence limit of sigma, the standard deviation of the pods' log rates.

    The variance seen between the pods, at its upper limit by the chi-squared distribution, less what counting alone
    explains.

    Args:
        events: each pod's events in all of the time, of shape [pods].
        requests: each pod's requests.
        confidence: of the limit.

    Raises:
        ValueError: with fewer than two pods, from which nothing can be learnt about their differences.
    """
    pods = events.shape[-1]
    if pods < _TWO_PODS:
        raise ValueError("How far pods differ cannot be learnt from one pod: run at least two of the stable version")
    logs = np.log((events + 0.5) / (requests + 0.5))
    seen = float(logs.var(ddof=1))
    counting = float((1.0 / (events + 0.5)).mean())
    freedom = pods - 1
    return math.sqrt(max(freedom * seen / _chi2_quantile(1.0 - confidence, freedom) - counting, 0.0))


def _chi2_quantile(p: float, freedom: int) -> float:
    """Approximate a quantile of the chi-squared distribution (Wilson and Hilferty 1931); exact for one degree."""
    if freedom == 1:
        return NormalDist().inv_cdf((1.0 + p) / 2.0) ** 2
    spread = 2.0 / (9.0 * freedom)
    return float(freedom * (1.0 - spread + NormalDist().inv_cdf(p) * math.sqrt(spread)) ** 3)


def widened(tolerance: Like, *, sigma: Like, canary_pods: Like, baseline_pods: Like) -> Floats:
    """Return psi_eff = psi0 exp(1.96 sigma sqrt(1/K_c + 1/K_s)), to be tested at half of alpha.

    The other half covers the chance that two groups of so many pods differ by more than this. ``sigma`` 0 changes
    nothing.
    """
    one = np.asarray(1.0)
    pods = one / np.maximum(canary_pods, 1.0) + one / np.maximum(baseline_pods, 1.0)
    return np.asarray(tolerance * np.exp(_Z * np.asarray(sigma) * np.sqrt(pods)))
