"""Many signals, one error budget: the weighted mean of their evidence, in the log domain.

A weighted mean of test supermartingales is one, whatever the dependence between the signals. It reaches 1/alpha no
later than the first rejection of the e-value version of Holm's procedure would come.
"""

import math
from collections.abc import Sequence

import numpy as np

from backstay.judge.arrays import Floats, Like, logsumexp


def shares(weights: Sequence[float]) -> tuple[float, ...]:
    """Scale weights to sum to one."""
    total = math.fsum(weights)
    return tuple(weight / total for weight in weights)


def log_mean(log_e: Floats, weights: Like) -> Floats:
    """Return the logarithm of sum_i w_i E_i / sum_i w_i along the last axis.

    Args:
        log_e: of shape [..., signals].
        weights: of shape [..., signals], not negative.
    """
    w = np.asarray(weights, dtype=np.float64)
    with np.errstate(divide="ignore"):
        return np.asarray(logsumexp(log_e + np.log(w)) - np.log(w.sum(axis=-1)))


def attribution(log_e: Floats, weights: Like) -> Floats:
    """Return each signal's part w_i E_i / sum of the evidence, of shape [..., signals]."""
    with np.errstate(divide="ignore"):
        parts = log_e + np.log(np.asarray(weights, dtype=np.float64))
    return np.asarray(np.exp(parts - logsumexp(parts)[..., np.newaxis]))


def closed(log_e: Sequence[float], weights: Sequence[float], *, alpha: float) -> tuple[bool, ...]:
    """Tell which signals may be named as failing, with alpha for all of them together.

    The closure principle: a signal is named when every set of signals that holds it has a weighted mean of at least
    1/alpha. The hardest set for signal i holds, beside it, the signals with the least evidence, so only those sets are
    looked at.
    """
    order = sorted(range(len(log_e)), key=lambda index: log_e[index])
    named = []
    for index in range(len(log_e)):
        chosen, worst = [index], log_e[index]
        for other in order:
            if other != index:
                chosen.append(other)
                mean = log_mean(np.array([log_e[k] for k in chosen]), np.array([weights[k] for k in chosen]))
                worst = min(worst, float(mean))
        named.append(worst >= -math.log(alpha))
    return tuple(named)
