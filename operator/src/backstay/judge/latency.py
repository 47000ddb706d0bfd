"""Comparing two histograms of durations: test (b).

For each edge "slower than this edge" is an event, and each edge has its own evidence from ``counts``. The signal's
evidence is the equally weighted mean over the edges, which costs at most log(edges) and needs no interpolation: it is
exact at the edges, the only places where a histogram says anything.

Many edges are of no use to a model: all of its answers are faster, or all are slower. An edge of which no more has been
seen yet does not bet, and its evidence is worth as much as that of the others (``lent``), so that an edge nobody needs
costs nothing. It keeps its part of the bet for the time when something is seen there.
"""

from collections.abc import Sequence

import numpy as np

from backstay.judge import counts
from backstay.judge.arrays import Bools, Floats, Like, logsumexp

LATENCY = (1.25, 2.0, 5.0)


def tails(buckets: Floats) -> Floats:
    """Count, for every edge, what lies beyond it.

    Args:
        buckets: counts per bucket (not cumulative) of shape [..., B], in the order of the edges, the last one beyond
            the last edge.

    Returns:
        Counts of shape [..., B - 1].
    """
    beyond = np.cumsum(buckets[..., ::-1], axis=-1)[..., ::-1]
    return np.ascontiguousarray(beyond[..., 1:])


def increments(
    canary: Floats,
    baseline: Floats,
    *,
    tolerance: Like = 1.0,
    ratios: Sequence[float] = LATENCY,
    refined: bool = True,
) -> Floats:
    """Return what each interval adds to the exponent of each edge and alternative.

    Args:
        canary: counts per bucket of shape [..., B].
        baseline: the same of the baseline; both have the same edges.
        tolerance: the ratio of odds that still counts as no harm, of shape [...].
        ratios: the alternatives, further ratios of odds.
        refined: as for ``counts.increments``.

    Returns:
        Exponents of shape [..., B - 1, len(ratios)], to be mixed with equal weights.

    Raises:
        ValueError: when the two histograms have different buckets.
    """
    if canary.shape[-1] != baseline.shape[-1]:
        raise ValueError(
            f"The canary's histogram has {canary.shape[-1]} buckets and the baseline's {baseline.shape[-1]}: "
            "both versions must export the same edges"
        )
    return counts.increments(
        tails(canary),
        tails(baseline),
        canary.sum(axis=-1)[..., np.newaxis],
        baseline.sum(axis=-1)[..., np.newaxis],
        tolerance=np.asarray(tolerance, dtype=np.float64)[..., np.newaxis],
        ratios=ratios,
        refined=refined,
    )


def lent(log_r: Floats, increments: Floats, asleep: Bools) -> Floats:
    """Give the edges that do not bet the growth of those that do, as one: that of the sum of their evidence.

    All evidence then grows by the factor by which that of the betting edges does, which has an expectation of at most 1
    if each of them has, whatever earlier intervals said about who bets (specialists: Freund, Schapire, Singer and
    Warmuth 1997).

    Args:
        log_r: the logarithm of each edge's and alternative's evidence before the interval, of shape [..., E, K]; the
            bets are finite.
        increments: what the interval adds if all bet, of the same shape.
        asleep: which edges do not, of shape [..., E], fixed before the interval. Where none would bet, all do.

    Returns:
        What the interval adds, of shape [..., E, K].
    """
    idle = asleep & ~asleep.all(axis=-1, keepdims=True)
    flat = (*log_r.shape[:-2], -1)
    betting = np.where(idle[..., np.newaxis], -np.inf, log_r)
    growth = logsumexp((betting + increments).reshape(flat)) - logsumexp(betting.reshape(flat))
    return np.where(idle[..., np.newaxis], growth[..., np.newaxis, np.newaxis], increments)
