"""A fixed-sample test read again and again: what a dashboard with a p-value on it does."""

import numpy as np
from scipy import stats

from backstay_bench_judge.comparison import chi_square, score_test, z_of
from backstay_bench_judge.judging import NEVER, Judged
from backstay_bench_judge.scenarios import PER_MINUTE, Kind
from backstay_bench_judge.simulate import Rollouts

ALPHA = 0.05


def every_minute(rollouts: Rollouts) -> Judged:
    """One-sided z (chi-square for distributions) at .05 every minute, over everything so far.

    With its threshold moved, it looks at every interval.
    """
    found = [
        chi_square(member) if member.scenario.kind is Kind.DISTRIBUTION else z_of(*score_test(member))
        for member in rollouts.family or (rollouts,)
    ]
    z = np.max(found, axis=0)
    score = np.full_like(z, NEVER)
    score[:, PER_MINUTE - 1 :: PER_MINUTE] = z[:, PER_MINUTE - 1 :: PER_MINUTE]
    return Judged(score, float(stats.norm.isf(ALPHA)), tunable=z)
