"""What a query gives: a ratio, a quantile or an index over a window, as rules with fixed limits and Kayenta see it."""

import numpy as np

from backstay_bench_judge.judging import grouped, windowed
from backstay_bench_judge.scenarios import PER_MINUTE, Kind, Scenario
from backstay_bench_judge.shapes import BUCKETS, EDGES, latency_shares
from backstay_bench_judge.simulate import Arm, Floats, Rollouts

QUANTILE = 0.95
PSI_LIMIT = 0.25


def query(rollouts: Rollouts, *, minutes: int) -> Floats:
    """Return the canary's value every minute over the last ``minutes``; NaN where it had no requests.

    Errors: their ratio. Latency: the 95th percentile. Distributions: the PSI against the running version.
    """
    canary = _windows(rollouts.canary, minutes)
    match rollouts.scenario.kind:
        case Kind.LATENCY:
            return quantile(canary.buckets, QUANTILE)
        case Kind.DISTRIBUTION:
            return psi(canary.buckets, _windows(rollouts.baseline + rollouts.stable, minutes).buckets)
        case _:
            return ratio(canary.errors, canary.requests)


def limit(scenario: Scenario) -> float:
    """Return the limit of somebody who knows what is usual: twice the base rate, or 1.25 times the usual quantile."""
    match scenario.kind:
        case Kind.LATENCY:
            return 1.25 * float(quantile(latency_shares(1.0, tail=scenario.base)[None, None, :], QUANTILE)[0, 0])
        case Kind.DISTRIBUTION:
            return PSI_LIMIT
        case _:
            return 2 * scenario.base


def points(arm: Arm, kind: Kind) -> Floats:
    """Return one value a minute for a comparison of samples: percent of errors, p95 in milliseconds, mean score."""
    minute = _windows(arm, 1)
    match kind:
        case Kind.LATENCY:
            return 1000 * quantile(minute.buckets, QUANTILE)
        case Kind.DISTRIBUTION:
            return 100 * ratio(minute.buckets @ (np.arange(BUCKETS) + 0.5) / BUCKETS, minute.requests)
        case _:
            return 100 * ratio(minute.errors, minute.requests)


def _windows(arm: Arm, minutes: int) -> Arm:
    def window(increments: Floats) -> Floats:
        return windowed(grouped(increments, PER_MINUTE), minutes)

    buckets = window(arm.buckets) if arm.buckets.size else arm.buckets
    return Arm(window(arm.requests), window(arm.errors), buckets)


def ratio(events: Floats, requests: Floats) -> Floats:
    """Divide, NaN where there were no requests."""
    return np.divide(events, requests, out=np.full_like(events, np.nan), where=requests > 0)


def quantile(buckets: Floats, q: float) -> Floats:
    """Return what ``histogram_quantile`` does: linear inside the bucket, the last finite edge beyond it."""
    edges = np.asarray((0.0, *EDGES.seconds))
    total = buckets.sum(axis=-1)
    cumulative = np.cumsum(buckets, axis=-1)
    rank = q * total
    at = np.minimum((cumulative < rank[..., None]).sum(axis=-1), len(EDGES.seconds))
    inside = np.take_along_axis(buckets, at[..., None], axis=-1)[..., 0]
    below = np.take_along_axis(cumulative, at[..., None], axis=-1)[..., 0] - inside
    low = edges[at]
    high = edges[np.minimum(at + 1, len(edges) - 1)]
    part = np.divide(rank - below, inside, out=np.zeros_like(rank), where=inside > 0)
    return np.where(total > 0, low + (high - low) * part, np.nan)


def psi(canary: Floats, control: Floats) -> Floats:
    """Return the PSI with half a count added to each bucket; NaN where an arm is empty."""
    first = (canary + 0.5) / (canary + 0.5).sum(axis=-1, keepdims=True)
    second = (control + 0.5) / (control + 0.5).sum(axis=-1, keepdims=True)
    index = np.sum((first - second) * np.log(first / second), axis=-1)
    return np.where((canary.sum(axis=-1) > 0) & (control.sum(axis=-1) > 0), index, np.nan)
