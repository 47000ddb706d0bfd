"""Flagger: each tick checks every metric against its range; failed checks are counted, and the next tick acts.

The rule is that of ``pkg/controller/scheduler.go`` and ``scheduler_metrics.go`` (fluxcd/flagger 1.44): no value is a
failed check, failed checks never expire, and a rollback comes at the first tick that *finds* as many as ``threshold``.
"""

from dataclasses import dataclass

import numpy as np

from backstay_bench_judge.judging import Judged, above, looks
from backstay_bench_judge.measured import limit, query
from backstay_bench_judge.rivals.argo import kth_largest
from backstay_bench_judge.scenarios import PER_MINUTE
from backstay_bench_judge.simulate import Rollouts


@dataclass(frozen=True, slots=True)
class Range:
    """A metric's ``thresholdRange``: both ends are allowed values."""

    low: float | None = None
    high: float | None = None

    def holds(self, value: float | None) -> bool:
        """Check one value; None is a query without a result."""
        if value is None:
            return False
        # Comparisons with NaN are false in Go as here, so NaN passes.
        return not ((self.low is not None and value < self.low) or (self.high is not None and value > self.high))


def tick(failed_checks: int, *, passes: bool, threshold: int = 0) -> tuple[int, bool]:
    """Run one tick of a progressing canary: return the failed checks after it, and whether it rolled back.

    A threshold of 0, the default, means 1.
    """
    if failed_checks >= max(threshold, 1):
        return failed_checks, True
    return failed_checks + (not passes), False


def default(rollouts: Rollouts) -> Judged:
    """Every minute over the last minute, threshold 1."""
    return _judged(rollouts, minutes=1, threshold=1)


def three_checks(rollouts: Rollouts) -> Judged:
    """The last five minutes every minute, threshold 3."""
    return _judged(rollouts, minutes=5, threshold=3)


def _judged(rollouts: Rollouts, *, minutes: int, threshold: int) -> Judged:
    # A tick is one check: it fails with any of the metrics.
    checks = [np.nan_to_num(query(metric, minutes=minutes), nan=np.inf) for metric in rollouts.family or (rollouts,)]
    value = kth_largest(np.max(checks, axis=0), threshold)
    score = looks(value, every=PER_MINUTE, length=rollouts.scenario.intervals)
    return Judged(score, above(limit(rollouts.scenario)), lag=PER_MINUTE)
