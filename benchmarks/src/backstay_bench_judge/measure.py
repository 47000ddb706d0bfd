"""From scores to what happened: who was rolled back, when, after how many bad answers; and thresholds made equal."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

from backstay_bench_judge.judging import Judged, stops
from backstay_bench_judge.simulate import Bools, Floats, Ints, Rollouts


@dataclass(frozen=True, slots=True)
class Outcomes:
    """What one judge did to each run.

    Attributes:
        rolled_back: whether it took the version back.
        promoted: whether it let it pass; neither of both is inconclusive.
        bad: bad answers served until then, or until the end.
        delay: minutes from the onset until then, or until the end.
    """

    rolled_back: Bools
    promoted: Bools
    bad: Floats
    delay: Floats

    @staticmethod
    def join(parts: Sequence["Outcomes"]) -> "Outcomes":
        """Put batches together."""
        columns = zip(*((part.rolled_back, part.promoted, part.bad, part.delay) for part in parts), strict=True)
        return Outcomes(*(np.concatenate(column) for column in columns))


def outcomes(rollouts: Rollouts, judged: Judged, *, score: Floats, threshold: float) -> Outcomes:
    """Apply a threshold to a batch."""
    stop = stops(score, threshold, lag=judged.lag)
    length = rollouts.scenario.intervals
    rolled_back = stop < length
    passed = np.ones_like(rolled_back) if judged.passed is None else judged.passed
    minutes = (np.minimum(stop, length - 1) + 1) * rollouts.scenario.interval_minutes
    served = np.cumsum(rollouts.served, axis=1)
    return Outcomes(
        rolled_back,
        passed & ~rolled_back,
        _at(served, np.minimum(stop, length - 1)),
        np.maximum(minutes - rollouts.scenario.onset_minute, 0.0),
    )


def _at(values: Floats, index: Ints) -> Floats:
    return np.asarray(np.take_along_axis(values, index[:, None], axis=1)[:, 0])


def matching(highest: Floats, rate: float) -> float:
    """Return the threshold at which harmless runs are rolled back as nearly as can be at ``rate``.

    Args:
        highest: the highest score of each harmless run.
        rate: the share of the runs that may reach it.
    """
    values = np.unique(highest[np.isfinite(highest)])
    if not len(values):
        return math.inf
    candidates = np.append(values, np.nextafter(values[-1], np.inf))
    ordered = np.sort(highest)
    shares = (len(ordered) - np.searchsorted(ordered, candidates, side="left")) / len(ordered)
    return float(candidates[np.argmin(np.abs(shares - rate))])


def wilson(k: int, n: int, *, confidence: float = 0.95) -> tuple[float, float]:
    """Return Wilson's (1927) interval of a proportion, k of n."""
    if n == 0:
        return 0.0, 1.0
    interval = stats.binomtest(k, n).proportion_ci(confidence_level=confidence, method="wilson")
    return float(interval.low), float(interval.high)


def floor(share: float, ratio: float, *, alpha: float = 0.05) -> float:
    """Return the canary's events that no test of power one can do without on average: log(1/alpha) / KL.

    An event falls on the canary with chance ``share`` if it is harmless; if it multiplies the odds by ``ratio``, with
    chance share ratio / (1 - share + share ratio). KL is the divergence of the second chance from the first; and that
    part of the events is the canary's.
    """
    q = share * ratio / (1 - share + share * ratio)
    divergence = q * math.log(q / share) + (1 - q) * math.log((1 - q) / (1 - share))
    return q * math.log(1 / alpha) / divergence
