"""How large a difference is: what is told to people. Nothing is decided on these numbers.

A rollout changes its shares while traffic drifts, so crude totals mislead: a harmless version's crude ratio of errors
may read 4 (Simpson's paradox). These effects compare within intervals.
"""

from typing import NamedTuple

import numpy as np

from backstay.judge.arrays import Floats, Like, broadcast


class Strata(NamedTuple):
    """Sums over intervals, to be added up: ``over`` c n_s / N, ``under`` s n_c / N, ``size`` n_c n_s / N."""

    over: Floats
    under: Floats
    size: Floats


def strata(c: Like, s: Like, n_c: Like, n_s: Like) -> Strata:
    """Return each interval's terms of the Mantel-Haenszel estimate; zeros where an arm has no requests."""
    c, s, n_c, n_s = broadcast(c, s, n_c, n_s)
    both = (n_c > 0) & (n_s > 0)
    n = np.where(both, n_c + n_s, 1.0)
    return Strata(
        over=np.where(both, c * n_s / n, 0.0),
        under=np.where(both, s * n_c / n, 0.0),
        size=np.where(both, n_c * n_s / n, 0.0),
    )


def mantel_haenszel(over: Like, under: Like) -> Floats:
    """Return the common ratio of rates, sum(c n_s / N) / sum(s n_c / N) (Greenland and Robins 1985).

    Infinite where only the canary had events, 1 where neither had.
    """
    over, under = broadcast(over, under)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where((over == 0) & (under == 0), 1.0, over / under)


def debiased_psi(canary: Floats, expected: Floats, *, squares: Like) -> Floats:
    """Return the population stability index, less what it is on average between equal distributions.

    PSI between equal distributions is about (1/n + 1/m) chi2(B - 1), which at a small canary exceeds the usual limit of
    0.1 by itself.

    Args:
        canary: the canary's counts in all intervals, of shape [..., B].
        expected: the sum over intervals of n_c s_b / n_s: what the canary would have had with the baseline's
            distribution, free of drift.
        squares: the sum over intervals of n_c^2 / n_s, from which the size of the second sample follows.

    Returns:
        The index of shape [...]; it may be slightly below 0.
    """
    buckets = canary.shape[-1]
    n = np.maximum(canary.sum(axis=-1), 1.0)
    p, q = canary + 0.5, expected + 0.5
    p, q = p / p.sum(axis=-1, keepdims=True), q / q.sum(axis=-1, keepdims=True)
    psi = ((p - q) * np.log(p / q)).sum(axis=-1)
    return np.asarray(psi - (buckets - 1) * (1.0 / n + np.asarray(squares) / (n * n)))
