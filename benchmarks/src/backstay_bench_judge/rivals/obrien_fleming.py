"""A group-sequential design with O'Brien and Fleming's boundary (1979): looks and length are fixed beforehand."""

from functools import lru_cache
from itertools import pairwise

import numpy as np
from scipy import optimize, stats

from backstay_bench_judge.comparison import score_test, z_of
from backstay_bench_judge.judging import NEVER, Judged
from backstay_bench_judge.scenarios import PER_MINUTE, Kind
from backstay_bench_judge.simulate import Floats, Rollouts

ALPHA = 0.05
_POINTS = 121
_REACH = 5.0


@lru_cache(maxsize=64)
def boundary(times: tuple[float, ...], alpha: float, *, two_sided: bool = False) -> float:
    """Return C so that Brownian motion on (0, 1] looked at in ``times`` ever exceeds C with chance ``alpha``.

    Then z at information fraction t is compared with C / sqrt(t). By Armitage, McPherson and Rowe's recursion.
    """
    return float(optimize.brentq(lambda c: _crossing(times, c, two_sided=two_sided) - alpha, 0.5, 6.0, xtol=1e-4))


def _crossing(times: tuple[float, ...], c: float, *, two_sided: bool) -> float:
    low = -c if two_sided else -_REACH
    grid, width = np.linspace(low, c, _POINTS, retstep=True)
    weights = _simpson(_POINTS) * width
    density = stats.norm.pdf(grid, scale=np.sqrt(times[0]))
    for before, after in pairwise(times):
        step = np.sqrt(after - before)
        density = stats.norm.pdf((grid[:, None] - grid[None, :]) / step) / step @ (weights * density)
    return 1 - float(weights @ density)


def _simpson(points: int) -> Floats:
    weights = np.ones(points)
    weights[1:-1:2], weights[2:-1:2] = 4.0, 2.0
    return weights / 3


def information(rollouts: Rollouts) -> Floats:
    """Return the planned fraction of the information at each interval's end."""
    share = np.asarray(rollouts.scenario.shares)[rollouts.step]
    control = np.where(rollouts.warm, 1 - share, np.minimum(share, (1 - share) / 2))
    gained = np.cumsum(share * control / (share + control))
    return np.asarray(gained / gained[-1])


def twelve_looks(rollouts: Rollouts) -> Judged:
    """Twelve looks evenly over the rollout, whose length and traffic are known; one-sided (two for distributions)."""
    return _looks(rollouts, every=rollouts.scenario.intervals // 12)


def every_minute(rollouts: Rollouts) -> Judged:
    """A look every minute."""
    return _looks(rollouts, every=PER_MINUTE)


def _looks(rollouts: Rollouts, *, every: int) -> Judged:
    members = rollouts.family or (rollouts,)
    at = np.arange(every - 1, rollouts.scenario.intervals, every)
    fraction = information(rollouts)
    two_sided = rollouts.scenario.kind is Kind.DISTRIBUTION
    scores = []
    for member in members:
        z = z_of(*score_test(member))
        score = np.full_like(z, NEVER)
        score[:, at] = (np.abs(z) if two_sided else z)[:, at] * np.sqrt(fraction[at])
        scores.append(score)
    times = tuple(float(t) for t in fraction[at])
    return Judged(np.max(scores, axis=0), boundary(times, ALPHA / len(members), two_sided=two_sided))
