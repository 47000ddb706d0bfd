"""What a rollout will be able to see: how long until a harmful version is found, and what no step can find.

For a rate of requests, a share and an effect, an alternative's exponent grows on average by a fixed amount a request
(the kernels' own increment of the expected counts) and spreads around that like a random walk. A version is found when
the exponent has reached log(1/alpha) and the prices of not knowing: the number of alternatives, and of steps at which
the defect may begin. Times are those by which four in five of such versions are found.

The baseline is taken to be all of the stable version's requests; while pods warm up it is less, so a short first step
sees less than is said here.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np

from backstay.domain.split import FULL, pods
from backstay.judge import counts, dependence, onset
from backstay.judge.arrays import Floats

# The share of harmful versions found by the times that are told.
POWER = 0.8
_CDF = NormalDist().cdf
# Effects beyond this are not looked for.
LARGEST = 1000.0
_TIGHT = 1e-4
# Larger exponents have a factor of zero beside them.
_MOST = 700.0


@dataclass(frozen=True, slots=True)
class Stage:
    """A step: its weight in per cent, its time in seconds, and the canary's requests that it waits for.

    In the shadow the weight is that of copies: the canary answers them, and the stable version all requests beside it.
    """

    weight: int
    seconds: float
    min_requests: int = 0
    shadow: bool = False

    @property
    def canary(self) -> float:
        """The requests that the canary answers, for each request to the model."""
        return self.weight / FULL

    @property
    def stable(self) -> float:
        """The requests that the stable version answers, for each request to the model."""
        return 1.0 if self.shadow else 1.0 - self.canary

    def lasts(self, rate: float) -> float:
        """Return how long the step takes, in seconds, at a rate of requests to the model."""
        return max(self.seconds, self.min_requests / (rate * self.canary))


@dataclass(frozen=True, slots=True)
class Watched:
    """A counted signal: the share of requests with the event now, its tolerance, and its part of alpha."""

    name: str
    base: float
    tolerance: float = 1.0
    share: float = 1.0


@dataclass(frozen=True, slots=True)
class Outlook:
    """What is planned for: requests a second to the whole model, alpha, the steps.

    ``pod_spread`` is the standard deviation of the pods' log rates; it needs ``replicas``, the pods of the stable
    version.
    """

    rate: float
    alpha: float
    stages: tuple[Stage, ...]
    pod_spread: float = 0.0
    replicas: int = 1

    @property
    def compared(self) -> tuple[Stage, ...]:
        """The steps in which there is something to compare with."""
        return tuple(stage for stage in self.stages if stage.shadow or stage.weight < FULL)


@dataclass(frozen=True, slots=True)
class Found:
    """When a defect is found: seconds since the first step's begin, requests of the canary, its events till then."""

    seconds: float
    requests: float
    events: float


def found(outlook: Outlook, signal: Watched, effect: float) -> Found | None:
    """Say when an effect that is there from the start is found, or None where the steps end before."""
    price, before = _price(outlook, signal), _Walk.start()
    seconds = requests = 0.0
    for stage in outlook.compared:
        growth = _growth(outlook, signal, stage, effect)
        ours = outlook.rate * stage.canary
        lasts = stage.lasts(outlook.rate)
        if before.after(growth, lasts * outlook.rate).reaches(price):
            taken = _when(before, growth, price, lasts * outlook.rate) / outlook.rate
            requests += ours * taken
            return Found(seconds + taken, requests, requests * signal.base * effect)
        before = before.after(growth, lasts * outlook.rate)
        seconds, requests = seconds + lasts, requests + ours * lasts
    return None


def smallest(outlook: Outlook, signal: Watched) -> list[float | None]:
    """Say, for each compared step, the smallest effect found by its end if it is there from the start.

    None where no effect up to 1,000, or up to every request having the event, is found.
    """
    most = min(LARGEST, 1.0 / signal.base)
    return [_smallest(outlook, signal, outlook.compared[: end + 1], most) for end in range(len(outlook.compared))]


def _smallest(outlook: Outlook, signal: Watched, stages: Sequence[Stage], most: float) -> float | None:
    price = _price(outlook, signal)

    def seen(effect: float) -> bool:
        walk = _Walk.start()
        for stage in stages:
            growth = _growth(outlook, signal, stage, effect)
            walk = walk.after(growth, stage.lasts(outlook.rate) * outlook.rate)
        return walk.reaches(price)

    if not seen(most):
        return None
    low, high = 1.0, most
    while high / low > 1 + _TIGHT:
        middle = math.sqrt(low * high)
        low, high = (low, middle) if seen(middle) else (middle, high)
    return high


def _price(outlook: Outlook, signal: Watched) -> Floats:
    """Return what each exponent must reach: the threshold, and what the mixture over alternatives and onsets costs."""
    alpha = outlook.alpha * signal.share / (2.0 if outlook.pod_spread else 1.0)
    starts = onset.hazard(np.array([True]), max(len(outlook.compared), 1), onset.KEPT)
    return -np.log(starts) - np.log(alpha * np.asarray(counts.WATCHED_WEIGHTS))


@dataclass(frozen=True, slots=True)
class _Growth:
    """Mean and variance that one request to the model adds to each alternative's exponent."""

    mean: Floats
    variance: Floats


@dataclass(frozen=True, slots=True)
class _Walk:
    """Mean and variance of each alternative's exponent."""

    mean: Floats
    variance: Floats

    @staticmethod
    def start() -> "_Walk":
        return _Walk(np.zeros(len(counts.WATCHED)), np.zeros(len(counts.WATCHED)))

    def after(self, growth: _Growth, requests: float) -> "_Walk":
        return _Walk(self.mean + requests * growth.mean, self.variance + requests * growth.variance)

    def reaches(self, prices: Floats) -> bool:
        """Tell whether an alternative has reached its price at any time till now, with the chance ``POWER``.

        The first passage of a Brownian motion with this mean and variance (an inverse Gaussian time).
        """
        return any(
            variance > 0
            and _CDF((mean - price) / math.sqrt(variance))
            + math.exp(min(2.0 * mean * price / variance, _MOST)) * _CDF(-(mean + price) / math.sqrt(variance))
            >= POWER
            for mean, variance, price in zip(self.mean.tolist(), self.variance.tolist(), prices.tolist(), strict=True)
            if mean > 0
        )


def _growth(outlook: Outlook, signal: Watched, stage: Stage, effect: float) -> _Growth:
    n_c, n_s = stage.canary, stage.stable
    tolerance = float(
        dependence.widened(
            signal.tolerance,
            sigma=outlook.pod_spread,
            canary_pods=pods(outlook.replicas, stage.weight),
            baseline_pods=outlook.replicas,
        )
    )
    p, q = min(signal.base * effect, 1.0), signal.base
    mean = counts.increments(n_c * p, n_s * q, n_c, n_s, tolerance=tolerance, ratios=counts.WATCHED)
    grid = np.asarray(counts.WATCHED)
    weighted = n_c * tolerance
    both = np.log1p(weighted / (weighted + n_s) * (grid - 1))
    variance = n_c * p * (1 - p) * (np.log(grid) - both) ** 2 + n_s * q * (1 - q) * both**2
    return _Growth(mean, variance)


def _when(before: _Walk, growth: _Growth, price: Floats, most: float) -> float:
    """Return after how many requests the price is reached, of at most so many, after which it is."""
    low, high = 0.0, most
    while high - low > most * _TIGHT:
        middle = (low + high) / 2
        low, high = (low, middle) if before.after(growth, middle).reaches(price) else (middle, high)
    return high
