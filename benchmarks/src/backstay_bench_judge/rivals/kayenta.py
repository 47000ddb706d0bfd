"""Kayenta's NetflixACAJudge: a Mann-Whitney test a metric, a score over the groups of metrics, two score limits.

The rule is that of ``MannWhitneyClassifier.scala``, ``WeightedSumScorer.scala`` and ``NetflixACAJudge.scala``
(spinnaker/kayenta): a metric is High when the lower end of the 98 % interval of the shift exceeds a quarter of the
estimated shift, Low the other way round; a group's score is the percentage of its metrics that pass, 100 where none had
data; half or more without data score 0; and a canary fails at once at or below the marginal score, at its end below the
pass score.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
from scipy import stats

from backstay_bench_judge.judging import NEVER, Judged
from backstay_bench_judge.measured import points
from backstay_bench_judge.rivals.mann_whitney import TOLERANCE as TOLERANCE_OF_ROOTS
from backstay_bench_judge.rivals.mann_whitney import shift, z_at
from backstay_bench_judge.scenarios import PER_MINUTE, Kind
from backstay_bench_judge.simulate import Bools, Floats, Rollouts

CONFIDENCE = 0.98
TOLERANCE = 0.25
PASS, MARGINAL = 95.0, 75.0
ENOUGH_WITHOUT_DATA = 0.5
EVERY_MINUTES = 10
_NOISE = 1e-5


class Direction(StrEnum):
    """Which way a metric may not go."""

    INCREASE = "increase"
    DECREASE = "decrease"
    EITHER = "either"


class Label(StrEnum):
    """What a metric was found to be."""

    PASS = "Pass"  # noqa: S105 - a verdict, not a password
    HIGH = "High"
    LOW = "Low"
    NO_DATA = "Nodata"


@dataclass(frozen=True, slots=True)
class Metric:
    """A classified metric: its label, its groups, and whether it alone decides."""

    label: Label
    groups: tuple[str, ...] = ("metrics",)
    critical: bool = False


def classify(  # noqa: PLR0913 - two samples, and what Kayenta lets one configure
    canary: Floats,
    control: Floats,
    *,
    direction: Direction = Direction.EITHER,
    tolerance: float = TOLERANCE,
    confidence: float = CONFIDENCE,
    replace_nan: bool = False,
) -> list[Label]:
    """Classify one metric in many canaries; rows are samples, NaN where a value is missing."""
    if replace_nan:
        canary, control = np.nan_to_num(canary), np.nan_to_num(control)
    empty = np.asarray(np.isnan(canary).all(axis=1) | np.isnan(control).all(axis=1))
    same = _same(canary, control)
    canary, control = _with_noise(canary, control)
    high, low = np.zeros(len(canary), dtype=np.bool_), np.zeros(len(canary), dtype=np.bool_)
    rows = np.flatnonzero(_promising(canary, control, direction=direction, confidence=confidence) & ~empty & ~same)
    found = shift(canary[rows], control[rows], confidence=confidence)
    bound = tolerance * np.abs(found.estimate)
    high[rows] = (found.low > bound) & (direction is not Direction.DECREASE)
    low[rows] = (found.high < -bound) & (direction is not Direction.INCREASE)
    labels = []
    for row in range(len(canary)):
        if empty[row]:
            labels.append(Label.PASS if replace_nan else Label.NO_DATA)
        elif same[row] or not (high[row] or low[row]):
            labels.append(Label.PASS)
        else:
            labels.append(Label.HIGH if high[row] else Label.LOW)
    return labels


def _promising(canary: Floats, control: Floats, *, direction: Direction, confidence: float) -> Bools:
    """Tell where the interval may lie beyond zero at all: the statistic falls with the shift, so one look suffices."""
    quantile = float(stats.norm.isf((1 - confidence) / 2))
    beyond = 2 * TOLERANCE_OF_ROOTS
    high = (z_at(canary, control, -beyond) >= quantile) & (direction is not Direction.DECREASE)
    low = (z_at(canary, control, beyond) <= -quantile) & (direction is not Direction.INCREASE)
    return high | low


def _same(canary: Floats, control: Floats) -> Bools:
    """Tell where the samples are the same, or all values are."""
    width = max(canary.shape[1], control.shape[1])
    first, second = (np.pad(a, ((0, 0), (0, width - a.shape[1])), constant_values=np.nan) for a in (canary, control))
    first, second = np.sort(first, axis=1), np.sort(second, axis=1)
    equal = (first == second) | (np.isnan(first) & np.isnan(second))
    both = np.concatenate([first, second], axis=1)
    filled = np.where(np.isnan(both), np.inf, both).min(axis=1), np.where(np.isnan(both), NEVER, both).max(axis=1)
    return np.asarray(equal.all(axis=1) | (filled[0] == filled[1]))


def _with_noise(canary: Floats, control: Floats) -> tuple[Floats, Floats]:
    """Add a little Gaussian noise, in proportion, where each arm has one value only and they differ."""
    constant = _constant(canary) & _constant(control)
    if not constant.any():
        return canary, control
    rng = np.random.default_rng(0)
    noisy = [
        np.where(constant[:, None], arm * (1 + _NOISE * rng.standard_normal(arm.shape)), arm)
        for arm in (canary, control)
    ]
    return noisy[0], noisy[1]


def _constant(values: Floats) -> Bools:
    low = np.where(np.isnan(values), np.inf, values).min(axis=1)
    high = np.where(np.isnan(values), NEVER, values).max(axis=1)
    return np.asarray(low == high)


def score(metrics: Sequence[Metric], weights: Mapping[str, float] | None = None) -> float:
    """Return the summary score of one canary, 0 to 100."""
    weights = weights or {}
    if any(metric.critical and metric.label is not Label.PASS for metric in metrics):
        return 0.0
    if sum(metric.label is Label.NO_DATA for metric in metrics) >= ENOUGH_WITHOUT_DATA * len(metrics):
        return 0.0
    groups: dict[str, list[Label]] = {}
    for metric in metrics:
        for group in metric.groups:
            groups.setdefault(group, []).append(metric.label)
    unnamed = [group for group in groups if group not in weights]
    rest = (100 - sum(weights.values())) / len(unnamed) if unnamed else 0.0
    total = 0.0
    for group, found in groups.items():
        judged = [label for label in found if label is not Label.NO_DATA]
        passing = 100 * sum(label is Label.PASS for label in judged) / len(judged) if judged else 100.0
        total += passing * weights.get(group, rest) / 100
    return round(total, 2)


def canary(rollouts: Rollouts) -> Judged:
    """Every ten minutes over all minutes so far, against the fresh baseline, as its documentation advises."""
    members = rollouts.family or (rollouts,)
    length = rollouts.scenario.intervals
    every = EVERY_MINUTES * PER_MINUTE
    fails = np.full((rollouts.runs, length), NEVER)
    dial = np.full((rollouts.runs, length), NEVER)
    for end in range(every, length + 1, every):
        labels, best = [], np.full(rollouts.runs, NEVER)
        for member in members:
            first, second, direction = _samples(member, end // PER_MINUTE)
            labels.append(classify(first, second, direction=direction))
            z = z_at(first, second, 0.0)
            best = np.maximum(best, np.abs(z) if direction is Direction.EITHER else z)
        scores = np.asarray([score([Metric(label) for label in run]) for run in zip(*labels, strict=True)])
        bad = scores < PASS if end == length else scores <= MARGINAL
        fails[:, end - 1] = bad
        dial[:, end - 1] = best
    return Judged(fails, 1.0, tunable=dial)


def _samples(rollouts: Rollouts, minutes: int) -> tuple[Floats, Floats, Direction]:
    kind = rollouts.scenario.kind
    direction = Direction.EITHER if kind is Kind.DISTRIBUTION else Direction.INCREASE
    return points(rollouts.canary, kind)[:, :minutes], points(rollouts.baseline, kind)[:, :minutes], direction
