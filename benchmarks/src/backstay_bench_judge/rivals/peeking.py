"""A fixed-sample test read again and again: what a dashboard with a p-value on it does."""

import numpy as np
from scipy import stats

from backstay_bench_judge.comparison import chi_square, score_test, z_of
from backstay_bench_judge.judging import NEVER, Judged
from backstay_bench_judge.scenarios import PER_MINUTE, Kind
from backstay_bench_judge.simulate import Rollouts

ALPHA = 0.05


def every_minute(rollouts: Rollouts) -> Judged:
    """One-sided z (chi-square for distributions) at .05 every minute, over everything so far."""
    scores = []
    for member in rollouts.family or (rollouts,):
        kind = member.scenario.kind
        z = chi_square(member) if kind is Kind.DISTRIBUTION else z_of(*score_test(member))
        score = np.full_like(z, NEVER)
        score[:, PER_MINUTE - 1 :: PER_MINUTE] = z[:, PER_MINUTE - 1 :: PER_MINUTE]
        scores.append(score)
    return Judged(np.max(scores, axis=0), float(stats.norm.isf(ALPHA)))
