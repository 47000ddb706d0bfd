"""Comparing two distributions over buckets: predictions, confidence, a feature. Test (c).

Counts c_b and s_b in bucket b; T_b = c_b + s_b, the interval's pooled shares are pi_b = T_b / N, the canary's share of
its requests is rho. For weights w fixed before the interval there are two forms (``increments``):

    given the pooled counts   log E += sum_b c_b log w_b - n_c log sum_b pi_b w_b
    by labels                 log E += sum_b (c_b log w_b - T_b log g_b),   g_b = 1 + rho (w_b - 1)

The first is a test supermartingale for any distribution that both arms share, however it drifts, and whatever made the
pooled counts: drawing n_c of N requests without replacement is dominated by drawing with (Hoeffding 1963, Theorem 4).
It bets on what the canary draws and not on what the baseline draws, so at equal arms it needs twice the requests.

The second bets on both: rho w_b / g_b is the chance that a request in bucket b is the canary's if w is the ratio of the
two distributions. It needs requests that are independent, with one distribution within the interval: with A the
expectation of w/g and B that of 1/g, an interval's factor has the expectation A^n_c B^n_s <= (rho A + (1 - rho) B)^N =
1. Unlike the first it depends on the scale of w, so w is brought to mean 1 over the baseline's distribution so far
(``centred``).

Weights come from earlier intervals (``history_weights``), or from a fixed family of tilts where buckets have an order.

With a smallest shift that counts (the null: the total variation between the arms is at most tau), the second form pays
N log(1 + rho tau range(w/g)) beside.
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
        expected: E_b, what the canary would have had: the sum over earlier intervals of n_c pi_b, or of n_c s_b / n_s
            for weights that compare with the baseline alone, as the form by labels does.
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


def centred(weights: Floats, usual: Floats) -> Floats:
    """Scale weights to mean 1 over the baseline's distribution so far.

    Args:
        weights: of shape [..., F, B].
        usual: what has been seen of that distribution, of shape [..., B]; weights stay as they are where nothing has.
    """
    total = usual.sum(axis=-1)[..., np.newaxis]
    mean = (usual[..., np.newaxis, :] * weights).sum(axis=-1) / np.where(total > 0, total, 1.0)
    return np.asarray(weights / np.where(total > 0, mean, 1.0)[..., np.newaxis])


def increments(canary: Floats, baseline: Floats, weights: Floats, *, smallest: Like | None = None) -> Floats:
    """Return what each interval adds to log E under each set of weights.

    Args:
        canary: c_b of shape [..., B].
        baseline: s_b of shape [..., B].
        weights: w_b of shape [..., F, B], F sets of weights that were fixed before the interval.
        smallest: None for the form given the pooled counts; else the form by labels, with tau in [0, 1) of shape
            [...], the total variation that still counts as none.

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
        added = gained - (pooled * np.log(g)).sum(axis=-1)
        tau = np.asarray(smallest, dtype=np.float64)[..., np.newaxis]
        if tau.any():
            h = weights / g
            added -= total * np.log1p(rho * tau * (h.max(axis=-1) - h.min(axis=-1)))
    return np.where(both[..., np.newaxis], added, 0.0)
