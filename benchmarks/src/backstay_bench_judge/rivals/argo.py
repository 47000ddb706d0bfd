"""Argo Rollouts: each measurement succeeds or fails against a condition, and failures are counted.

The rule is that of ``analysis/analysis.go`` (argoproj/argo-rollouts 1.9): a metric fails when more than
``failureLimit`` measurements have failed, however far apart; is inconclusive when more than ``inconclusiveLimit`` were
neither; errs when more than ``consecutiveErrorLimit`` in a row could not be taken; and otherwise succeeds when
``count`` is reached.
"""

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum

import numpy as np

from backstay_bench_judge.judging import NEVER, Judged, above, looks
from backstay_bench_judge.measured import limit, query
from backstay_bench_judge.scenarios import PER_MINUTE
from backstay_bench_judge.simulate import Floats, Rollouts


class Phase(StrEnum):
    """A measurement's or a metric's phase."""

    RUNNING = "Running"
    SUCCESSFUL = "Successful"
    FAILED = "Failed"
    INCONCLUSIVE = "Inconclusive"
    ERROR = "Error"


@dataclass(frozen=True, slots=True)
class Limits:
    """What an AnalysisTemplate says of a metric; the defaults are its own."""

    failure: int = 0
    inconclusive: int = 0
    consecutive_error: int = 4
    count: int | None = None


@dataclass(frozen=True, slots=True)
class Tally:
    """How many measurements ended how."""

    successful: int = 0
    failed: int = 0
    inconclusive: int = 0
    consecutive_error: int = 0

    def add(self, phase: Phase) -> "Tally":
        """Count one more measurement. An error is not counted, and anything else ends a row of errors."""
        if phase is Phase.ERROR:
            return Tally(self.successful, self.failed, self.inconclusive, self.consecutive_error + 1)
        return Tally(
            self.successful + (phase is Phase.SUCCESSFUL),
            self.failed + (phase is Phase.FAILED),
            self.inconclusive + (phase is Phase.INCONCLUSIVE),
        )


def evaluate(*, success: bool | None, failure: bool | None) -> Phase:
    """Say what a measurement is by its two conditions; None: the template has none."""
    if failure:
        return Phase.FAILED
    if success is None:
        return Phase.SUCCESSFUL
    if success:
        return Phase.SUCCESSFUL
    return Phase.FAILED if failure is None else Phase.INCONCLUSIVE


def assess(tally: Tally, limits: Limits, *, terminating: bool = False) -> Phase:
    """Say what a metric is by its measurements so far."""
    phase = Phase.RUNNING
    if tally.failed > limits.failure:
        phase = Phase.FAILED
    if tally.inconclusive > limits.inconclusive:
        phase = Phase.INCONCLUSIVE
    if tally.consecutive_error > limits.consecutive_error:
        phase = Phase.ERROR
    if phase is not Phase.RUNNING:
        return phase
    counted = tally.successful + tally.failed + tally.inconclusive
    reached = limits.count is not None and counted >= limits.count
    return Phase.SUCCESSFUL if reached or terminating else Phase.RUNNING


def kth_largest(values: Floats, k: int) -> Floats:
    """Return the k-th largest of the values up to each look: more than k - 1 of them exceed a limit if it does."""
    best = np.full((values.shape[0], k), NEVER)
    result = np.empty_like(values)
    for look in range(values.shape[1]):
        worst = np.maximum(best[:, 0], values[:, look])
        best[:, 0] = worst
        best.sort(axis=1)
        result[:, look] = best[:, 0]
    return result


def default(rollouts: Rollouts) -> Judged:
    """Every minute over the last minute, ``failureLimit`` 0 and a success condition, which NaN does not meet."""
    return _any_metric(rollouts, lambda metric: kth_largest(np.nan_to_num(query(metric, minutes=1), nan=np.inf), 1))


def careful(rollouts: Rollouts) -> Judged:
    """The last five minutes every minute, a failure condition, ``failureLimit`` 2, ``initialDelay`` the warm-up."""
    return _any_metric(rollouts, lambda metric: kth_largest(_delayed(metric, minutes=5), 3))


def three_in_a_row(rollouts: Rollouts) -> Judged:
    """Three minutes in a row above the limit: no setting of Argo Rollouts, but a query can say it."""

    def row(metric: Rollouts) -> Floats:
        value = _delayed(metric, minutes=1)
        result = np.full_like(value, NEVER)
        result[:, 2:] = np.minimum(np.minimum(value[:, 2:], value[:, 1:-1]), value[:, :-2])
        return result

    return _any_metric(rollouts, row)


def _delayed(metric: Rollouts, *, minutes: int) -> Floats:
    value = np.nan_to_num(query(metric, minutes=minutes), nan=NEVER)
    value[:, : int(metric.scenario.nuisance.warm_up_minutes)] = NEVER
    return value


def _any_metric(rollouts: Rollouts, value: Callable[[Rollouts], Floats]) -> Judged:
    """Fail with the worst metric, as an AnalysisRun does."""
    worst = np.max([value(metric) for metric in rollouts.family or (rollouts,)], axis=0)
    score = looks(worst, every=PER_MINUTE, length=rollouts.scenario.intervals)
    return Judged(score, above(limit(rollouts.scenario)))
