"""Quality measured on labels that arrive later. Test (d).

Accuracy is a count (wrong predictions among labelled ones) and goes through ``counts``, on cohorts of requests whose
labels have matured equally long in both arms. What is here belongs to the rest: whether labels arrive alike, the area
under the ROC curve, a gap between groups. The last two are monitored by an asymptotic confidence sequence: it may be
read at any time, and holds as far as the central limit theorem does.
"""

import math
from dataclasses import dataclass

import numpy as np

from backstay.judge import counts
from backstay.judge.arrays import Floats, Like

# Below this the normal distribution's tail is computed by its series, to 1e-5 of itself.
_FAR = -20.0


@dataclass(frozen=True, slots=True)
class Estimate:
    """An estimate and the variance of its error."""

    value: float
    variance: float

    def minus(self, other: "Estimate", *, covariance: float = 0.0) -> "Estimate":
        """Return the difference of two estimates, independent unless a covariance is given."""
        return Estimate(self.value - other.value, self.variance + other.variance - 2.0 * covariance)


def arrival(c: Like, s: Like, n_c: Like, n_s: Like) -> Floats:
    """Return the increments of a test that labels arrive equally often in both arms, in either direction.

    Args:
        c: labelled requests of the canary's cohort, of any shape [...].
        s: the same of the baseline's.
        n_c: all requests of the canary's cohort.
        n_s: all requests of the baseline's.

    Returns:
        Exponents of shape [..., 2 K], to be mixed with equal weights.
    """
    oftener = counts.increments(c, s, n_c, n_s)
    rarer = counts.increments(s, c, n_s, n_c)
    return np.concatenate([oftener, rarer], axis=-1)


@dataclass(frozen=True, slots=True)
class Placements:
    """DeLong's structural components of one score: each event's and each non-event's share of pairs won."""

    events: Floats
    others: Floats

    @staticmethod
    def of(events: Floats, others: Floats) -> "Placements":
        """Compute them from the scores of events and non-events, a tie being half a win; in O(n log n)."""
        low, high = np.sort(others), np.sort(events)
        won = np.searchsorted(low, events, "left") + np.searchsorted(low, events, "right")
        lost = np.searchsorted(high, others, "left") + np.searchsorted(high, others, "right")
        return Placements(won / (2.0 * len(others)), 1.0 - lost / (2.0 * len(events)))

    def auc(self) -> Estimate:
        """Return the area under the ROC curve with DeLong's variance."""
        variance = self.events.var(ddof=1) / len(self.events) + self.others.var(ddof=1) / len(self.others)
        return Estimate(float(self.events.mean()), float(variance))

    def covariance(self, other: "Placements") -> float:
        """Return DeLong's covariance with another score of the very same requests, as in shadow traffic."""
        events = np.cov(self.events, other.events)[0, 1] / len(self.events)
        others = np.cov(self.others, other.others)[0, 1] / len(self.others)
        return float(events + others)


def gap(events: tuple[float, float], requests: tuple[float, float]) -> Estimate:
    """Return the difference of the rates of two groups within one arm."""
    rates = [(e + 0.5) / (n + 1.0) for e, n in zip(events, requests, strict=True)]
    variance = math.fsum(p * (1.0 - p) / n for p, n in zip(rates, requests, strict=True))
    return Estimate(events[0] / requests[0] - events[1] / requests[1], variance)


def log_evidence(harm: Estimate, *, margin: float = 0.0, tuned_at: float) -> float:
    """Return log E against "the harm is at most the margin".

    A half-normal mixture over harm (Robbins 1970) in the estimate's own information I = 1 / variance: with S =
    I (value - margin), eta the inverse of the mixture's squared scale, w = I + eta and Phi the normal distribution's
    function, E = 2 sqrt(eta / w) exp(S^2 / (2 w)) Phi(S / sqrt(w)). No mass lies on a canary that is better, so up to
    log 2 is gained over the whole normal mixture, which ``radius`` belongs to.

    Args:
        harm: how much worse the canary is.
        margin: how much worse it may be.
        tuned_at: eta, such as 1 / (loss that matters)^2. A loss of that size shows, and the evidence is strongest, at
            about eight times that information (alpha 0.05).
    """
    information = 1.0 / harm.variance
    whole = information + tuned_at
    z = information * (harm.value - margin) / math.sqrt(whole)
    return math.log(2.0) + 0.5 * math.log(tuned_at / whole) + _log_growth(z)


def _log_growth(z: float) -> float:
    """Return log(exp(z^2 / 2) Phi(z))."""
    if z < _FAR:
        return -math.log(-z * math.sqrt(2.0 * math.pi)) + math.log1p(-1.0 / (z * z))
    return z * z / 2.0 + math.log(math.erfc(-z / math.sqrt(2.0)) / 2.0)


def radius(variance: float, *, alpha: float, tuned_at: float) -> float:
    """Return the half-width of the confidence sequence of level 1 - alpha around an estimate.

    The sequence is two-sided (the whole normal mixture). ``log_evidence`` has reached 1/alpha wherever all of it lies
    beyond the margin, and may a little earlier, since it looks in one direction only.
    """
    information = 1.0 / variance
    whole = information + tuned_at
    return math.sqrt(whole * (math.log(whole / tuned_at) - 2.0 * math.log(alpha))) / information
