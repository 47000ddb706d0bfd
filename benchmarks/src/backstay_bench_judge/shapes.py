"""The shapes of latencies and of scores, as shares of buckets."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import optimize, stats

Floats = NDArray[np.float64]

BUCKETS = 10
_MEDIAN = 0.060
_SPREAD = 0.7


@dataclass(frozen=True, slots=True)
class Edges:
    """Bucket edges of the latency histogram, in seconds, and how many of the last buckets count as slow."""

    seconds: tuple[float, ...]
    slow: int


EDGES = Edges((0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0), slow=6)


def latency_shares(factor: float, *, tail: float) -> Floats:
    """Return the buckets' shares when the slowest ``tail`` of the answers takes ``factor`` times as long.

    Latencies are lognormal, median 60 ms. The tail is stretched from its own beginning, so that nothing below changes.
    """
    usual = stats.lognorm(_SPREAD, scale=_MEDIAN)
    start = float(usual.ppf(1 - tail))
    edges = np.asarray(EDGES.seconds)
    unstretched = np.where(edges <= start, edges, np.maximum(edges / factor, start))
    return np.diff(usual.cdf(unstretched), prepend=0.0, append=1.0)


def score_shares(psi: float, *, wider: bool = False) -> Floats:
    """Return ten buckets' shares, shifted from a hump in the middle by exactly ``psi``; or as wide again, unshifted."""
    at = np.arange(BUCKETS) / (BUCKETS - 1) - 0.5
    usual = np.exp(-0.5 * (at / 0.25) ** 2)
    usual /= usual.sum()
    if wider:
        spread = np.exp(-0.5 * (at / 0.32) ** 2)
        return np.asarray(spread / spread.sum())
    if psi == 0:
        return np.asarray(usual)
    tilt = optimize.brentq(lambda a: psi_of(_tilted(usual, at, a), usual) - psi, 0.0, 20.0, xtol=1e-12)
    return _tilted(usual, at, float(tilt))


def _tilted(shares: Floats, at: Floats, a: float) -> Floats:
    tilted = shares * np.exp(a * at)
    return np.asarray(tilted / tilted.sum())


def psi_of(shares: Floats, reference: Floats) -> float:
    """Return the population stability index of two distributions over the same buckets."""
    return float(np.sum((shares - reference) * np.log(shares / reference)))
