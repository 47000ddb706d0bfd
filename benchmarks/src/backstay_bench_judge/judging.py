"""What every judge here returns: a number after each interval, and the number from which it rolls back.

A rule with a limit, a test with a critical value and a supermartingale with a threshold are all of this form, so one
piece of code finds when each of them acts, and can move each threshold until all judges fail harmless versions equally
often.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from backstay_bench_judge.simulate import Bools, Floats, Ints, Rollouts

NEVER = -np.inf


@dataclass(frozen=True, slots=True)
class Judged:
    """A judge's course over a batch of rollouts.

    Attributes:
        score: ``[runs, intervals]``, NEVER where the judge did not look.
        threshold: it rolls back at the first score that reaches this.
        lag: intervals between that look and the act.
        passed: whether the version may be promoted if it was not rolled back; None: it always is.
        tunable: a statistic whose threshold can be moved, where that of ``score`` cannot sensibly be.
    """

    score: Floats
    threshold: float
    lag: int = 0
    passed: Bools | None = None
    tunable: Floats | None = None

    @property
    def dial(self) -> Floats:
        """The statistic whose threshold is moved for comparisons at equal false rollback."""
        return self.score if self.tunable is None else self.tunable


@dataclass(frozen=True, slots=True)
class Judge:
    """A judge under its name; ``configuration`` says in a line what it was set to, and why that is fair."""

    name: str
    configuration: str
    judge: Callable[[Rollouts], Judged]
    kinds: frozenset[str]


def stops(score: Floats, threshold: float, *, lag: int = 0) -> Ints:
    """Return the interval in which each run is rolled back, or the number of intervals where it is not.

    A decision whose act would fall beyond the end still counts: it acts in the last interval.
    """
    reached = score >= threshold
    length = score.shape[1]
    first = np.where(reached.any(axis=1), reached.argmax(axis=1), length)
    return np.asarray(np.where(first < length, np.minimum(first + lag, length - 1), length))


def looks(values: Floats, *, every: int, length: int) -> Floats:
    """Spread one value a look over the intervals: look k ends interval ``(k + 1) * every - 1``."""
    score = np.full((values.shape[0], length), NEVER)
    score[:, every - 1 :: every] = values
    return score


def grouped(increments: Floats, every: int) -> Floats:
    """Add up each ``every`` intervals: ``[runs, intervals, ...]`` to ``[runs, looks, ...]``."""
    runs, length = increments.shape[:2]
    return np.asarray(increments.reshape(runs, length // every, every, *increments.shape[2:]).sum(axis=2))


def windowed(increments: Floats, looks_back: int) -> Floats:
    """Add up the last ``looks_back`` values, fewer at the beginning."""
    total = np.cumsum(increments, axis=1)
    before = np.zeros_like(total)
    before[:, looks_back:] = total[:, :-looks_back]
    return np.asarray(total - before)


def above(limit: float) -> float:
    """Return the threshold that means "more than ``limit``"."""
    return float(np.nextafter(limit, np.inf))
