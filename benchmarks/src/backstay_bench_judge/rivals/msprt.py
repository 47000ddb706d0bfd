"""The mixture sequential probability ratio test (Robbins 1970; Johari, Pekelis, Walsh 2015), read at every interval.

The estimate U/V of the log odds ratio is about normal with variance 1/V; the ratio is mixed over a half-normal prior of
the alternatives, because only a worse canary is of interest (over a whole normal one for distributions).
"""

import numpy as np
from scipy import stats

from backstay_bench_judge.comparison import score_test
from backstay_bench_judge.judging import Judged
from backstay_bench_judge.scenarios import Kind
from backstay_bench_judge.simulate import Floats, Rollouts

ALPHA = 0.05
# The standard deviation of the log odds ratios looked for: the middle of the effects simulated.
SCALE = float(np.log(2))
# For distributions, of the mean's log tilt: a PSI of about .1.
SCALE_OF_TILT = 1.5


def log_ratio(u: Floats, v: Floats, *, scale: float, one_sided: bool = True) -> Floats:
    """Return the log of the mixed likelihood ratio of N(V theta, V) against N(0, V) at U."""
    spread = 1 + v * scale**2
    whole = u**2 * scale**2 / (2 * spread) - np.log(spread) / 2
    return whole + np.log(2) + stats.norm.logcdf(u * scale / np.sqrt(spread)) if one_sided else whole


def every_interval(rollouts: Rollouts) -> Judged:
    """Threshold 1/alpha; of several signals each gets its part of alpha."""
    members = rollouts.family or (rollouts,)
    ratios = []
    for member in members:
        shifted = member.scenario.kind is Kind.DISTRIBUTION
        scale = SCALE_OF_TILT if shifted else SCALE
        ratios.append(log_ratio(*score_test(member), scale=scale, one_sided=not shifted))
    return Judged(np.max(ratios, axis=0), float(np.log(len(members) / ALPHA)))
