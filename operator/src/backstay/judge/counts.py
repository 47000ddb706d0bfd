"""Comparing two counts of events: errors, nulls, wrong predictions. Test (a), and its mirror for promotion.

One interval has n_c and n_s requests and c and s events in the canary and the baseline; m = c + s, N = n_c + n_s. For
an alternative that multiplies the canary's odds of an event by e^d beyond the tolerance psi, the exponent grows by
c d - L, where L bounds log E[e^(c d)] given the margins (m, n_c, n_s) for any odds ratio up to psi. So exp(exponent) is
a test supermartingale, and so is every mixture over d: by Ville's inequality the chance that it ever reaches 1/alpha is
at most alpha, however often anybody looks.

The base form is the next-event test of Lindon and Malek (NeurIPS 2022) with the interval's own share of the requests.
Given the margins it holds by Hoeffding's (1963) bound of the hypergeometric distribution by the binomial. The refined
form takes the smallest of four such bounds: events on the canary, the canary's draws, and each for what did not
happen. It is tighter where events are common.
"""

from collections.abc import Sequence

import numpy as np

from backstay.judge.arrays import Floats, Like, broadcast

# Further ratios of odds that are mixed over, with equal weights.
BASE = (1.25, 1.5, 2.0, 3.0, 5.0, 10.0)
ERRORS = (1.5, 2.0, 3.0, 5.0)
# What is bet on by default: those, and a smaller one for a lot of traffic. A bet on 1.5 gains nothing on harm below 1.2
# times, however long it goes on. Mostly the small one only costs, log(1 / .95), so its weight is small.
WATCHED = (1.1, *ERRORS)
WATCHED_WEIGHTS = (0.05, *(0.95 / len(ERRORS) for _ in ERRORS))


def increments(  # noqa: PLR0913 - the four counts of the convention, and three options
    c: Like,
    s: Like,
    n_c: Like,
    n_s: Like,
    *,
    tolerance: Like = 1.0,
    ratios: Sequence[float] = ERRORS,
    refined: bool = True,
) -> Floats:
    """Return what each interval adds to each alternative's exponent.

    Args:
        c: events on the canary, of any shape [...]; the other counts broadcast with it.
        s: events on the baseline.
        n_c: requests of the canary.
        n_s: requests of the baseline. An interval in which an arm has none adds nothing.
        tolerance: psi >= 1, the ratio of odds that still counts as no harm.
        ratios: the alternatives e^d > 1, further ratios of odds beyond the tolerance.
        refined: take the smallest of four bounds instead of the first.

    Returns:
        Exponents of shape [..., len(ratios)].
    """
    c, s, n_c, n_s, psi = (value[..., np.newaxis] for value in _lively(c, s, n_c, n_s, tolerance))
    grid = np.asarray(ratios, dtype=np.float64)
    d, up, down = np.log(grid), grid - 1.0, 1.0 / grid - 1.0
    m = c + s
    weighted = n_c * psi
    bound = m * np.log1p(weighted / (weighted + n_s) * up)
    if refined:
        rest = np.maximum(n_c + n_s - m, 0.0)
        draws = psi * m / (psi * m + rest)
        np.minimum(bound, n_c * np.log1p(draws * up), out=bound)
        np.minimum(bound, d * m + n_s * np.log1p(m / (m + psi * rest) * down), out=bound)
        np.minimum(bound, d * n_c + rest * np.log1p(n_c / (n_c + psi * n_s) * down), out=bound)
    return np.asarray(c * d - bound)


def no_harm(  # noqa: PLR0913 - the four counts of the convention, and two options
    c: Like, s: Like, n_c: Like, n_s: Like, *, ratio: Like = 2.0, theta: Like = 1.0
) -> Floats:
    """Return what each interval adds to the evidence that the canary does no harm.

    The null is the opposite of the test's above: the canary's odds of an event are at least ``ratio`` times the
    baseline's. Given the margins, c follows Fisher's noncentral hypergeometric distribution; it is bounded by a
    binomial of t = min(m, n_c) draws with the same approximate mean mu* (Cornfield's).

    Args:
        c: events on the canary, of any shape [...]; the other counts broadcast with it.
        s: events on the baseline.
        n_c: requests of the canary.
        n_s: requests of the baseline.
        ratio: psi1 > 1, the smallest ratio of odds that would be harm.
        theta: the ratio of odds that the evidence grows fastest under, below ``ratio``.

    Returns:
        Additions to log E, of shape [...]; 0 where there is nothing to learn from.
    """
    c, s, n_c, n_s, psi, target = _lively(c, s, n_c, n_s, ratio, theta)
    m = c + s
    d = np.log(target / psi)
    draws = np.minimum(m, n_c)
    b = n_s - m + psi * (n_c + m)
    # The discriminant of a quadratic with real roots: it is below zero only by rounding.
    root = np.sqrt(np.maximum(b * b + 4.0 * (1.0 - psi) * psi * n_c * m, 0.0))
    mean = 2.0 * psi * n_c * m / (b + root)
    some = draws > 0
    share = np.where(some, mean / np.where(some, draws, 1.0), 0.0)
    return np.where(some, c * d - draws * np.log1p(share * np.expm1(d)), 0.0)


def _lively(c: Like, s: Like, n_c: Like, n_s: Like, *more: Like) -> list[Floats]:
    """Bring counts to one shape; empty the intervals in which an arm has no requests.

    An event belongs to a request, so an arm with more events than requests (its two counters were read apart) is given
    as many requests.
    """
    c, s, n_c, n_s, *rest = broadcast(c, s, n_c, n_s, *more)
    both = (n_c > 0) & (n_s > 0)
    c, s = np.where(both, c, 0.0), np.where(both, s, 0.0)
    n_c, n_s = np.maximum(np.where(both, n_c, 1.0), c), np.maximum(np.where(both, n_s, 1.0), s)
    return [c, s, n_c, n_s, *rest]
