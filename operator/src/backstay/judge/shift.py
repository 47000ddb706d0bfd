"""Comparing two distributions over buckets: predictions, confidence, a feature. Test (c).

Counts c_b and s_b in bucket b; the interval's pooled shares are pi_b = (c_b + s_b) / N. For weights w fixed before the
interval,

    log E += sum_b c_b log w_b - n_c log sum_b pi_b w_b

is a test supermartingale for any distribution that both arms share, however it drifts: drawing n_c of N requests
without replacement is dominated by drawing with (Hoeffding 1963, Theorem 4). Weights come from earlier intervals
(``history_weights``), or from a fixed family of tilts where buckets have an order.

With a smallest shift that counts (the null: the total variation between the arms is at most tau), the shares g_b =
1 + rho (w_b - 1) take the place of the normaliser: sum_b (c_b log w_b - T_b log g_b) - N log(1 + rho tau range(w/g)).
"""

import numpy as np

from backstay.judge.arrays import Floats, Like

KAPPA_BASE = 50.0
KAPPA = 200.0
_STRENGTHS = (0.3, 0.75, 1.5, -0.3, -0.75, -1.5)


def history_weights(canary: Floats, expected: Floats, pooled: Floats, *, kappa: float = KAPPA) -> Floats:
    """Return how much oftener than expected the canary has fallen into each bucket so far, drawn towards 1.

    Args:
        canary: C_b, the canary's counts in earlier intervals, of shape [..., B].
        expected: E_b, the sum over earlier intervals of n_c pi_b.
        pooled: the sum over earlier intervals of the counts of both arms; only its shares P_b matter.
        kappa: the number of requests that weigh as much as what has been seen.

    Returns:
        w_b of shape [..., B]; 1 in the first interval and in buckets never seen.
    """
    total = pooled.sum(axis=-1, keepdims=True)
    prior = kappa * pooled / np.where(total > 0, total, 1.0)
    seen = prior > 0
    return np.where(seen, (canary + prior) / np.where(seen, expected + prior, 1.0), 1.0)


def tilts(buckets: int) -> Floats:
    """Return the family of tilts over ordered buckets, of shape [12, buckets].

    With x from -1/2 to 1/2 over the buckets: exp(a x), a shift of the location, and exp(4 a x^2), one of the spread.
    """
    x = np.linspace(-0.5, 0.5, buckets) if buckets > 1 else np.zeros(1)
    a = np.asarray(_STRENGTHS)[:, np.newaxis]
    return np.concatenate([np.exp(a * x), np.exp(4.0 * a * x * x)])


def increments(canary: Floats, baseline: Floats, weights: Floats, *, smallest: Like | None = None) -> Floats:
    """Return what each interval adds to log E under each set of weights.

    Args:
        canary: c_b of shape [..., B].
        baseline: s_b of shape [..., B].
        weights: w_b of shape [..., F, B], F sets of weights that were fixed before the interval.
        smallest: tau in [0, 1) of shape [...], the total variation that still counts as none; None for the exact form
            of the null that there is no shift at all.

    Returns:
        Additions to log E of shape [..., F]; 0 where an arm has no requests.
    """
    n_c, n_s = canary.sum(axis=-1), baseline.sum(axis=-1)
    both = (n_c > 0) & (n_s > 0)
    total = np.where(both, n_c + n_s, 1.0)[..., np.newaxis]
    c, pooled = canary[..., np.newaxis, :], (canary + baseline)[..., np.newaxis, :]
    gained = (c * np.log(weights)).sum(axis=-1)
    if smallest is None:
        mean = (pooled * weights).sum(axis=-1) / total
        added = gained - n_c[..., np.newaxis] * np.log(np.where(both[..., np.newaxis], mean, 1.0))
    else:
        rho = np.where(both, n_c, 0.0)[..., np.newaxis] / total
        g = 1.0 + rho[..., np.newaxis] * (weights - 1.0)
        h = weights / g
        spread = h.max(axis=-1) - h.min(axis=-1)
        tau = np.asarray(smallest, dtype=np.float64)[..., np.newaxis]
        added = gained - (pooled * np.log(g)).sum(axis=-1) - total * np.log1p(rho * tau * spread)
    return np.where(both[..., np.newaxis], added, 0.0)
