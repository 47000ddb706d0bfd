"""The Mann-Whitney test with its interval for the shift, as R's ``wilcox.test`` and Kayenta compute them: many at once.

Samples are rows, NaN where a value is missing. The statistic is a step function of the shift, so where many values are
tied the interval's ends are wherever the root finder stops: Kayenta keeps R's, a Brent search with tolerance 1e-4, and
so does this module, because its verdicts on rare errors depend on it.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy import stats

from backstay_bench_judge.simulate import Bools, Floats, Ints

TOLERANCE = 1e-4
_ITERATIONS = 1000


@dataclass(frozen=True, slots=True)
class Shift:
    """The interval and the estimate of how much larger x is than y; NaN where all values are tied or missing."""

    low: Floats
    high: Floats
    estimate: Floats


class RankSum:
    """The standardised rank sum of x - mu against y, with continuity and tie correction, for rows of samples."""

    def __init__(self, x: Floats, y: Floats) -> None:
        self.x, self.y = x, y
        self.n = (~np.isnan(x)).sum(axis=1)
        self.m = (~np.isnan(y)).sum(axis=1)
        differences = (x[:, :, None] - y[:, None, :]).reshape(len(x), x.shape[1] * y.shape[1])
        self._sorted = np.sort(differences, axis=1)  # NaN last
        self._pairs = self.n * self.m
        self._tied_x = (x[:, :, None] == x[:, None, :]).sum(axis=2)
        self._tied_y = (y[:, :, None] == y[:, None, :]).sum(axis=2)
        self._ties = _cubes(self._tied_x) + _cubes(self._tied_y)
        with np.errstate(invalid="ignore"):
            self.lowest = np.where(self._pairs > 0, self._sorted[:, 0], np.nan)
            last = np.maximum(self._pairs - 1, 0)[:, None]
            self.highest = np.where(self._pairs > 0, np.take_along_axis(self._sorted, last, axis=1)[:, 0], np.nan)

    def z(self, mu: Floats) -> Floats:
        """Return the statistic at one shift a row; 0 where its variance is 0."""
        below = self._count(mu, np.less)
        upto = self._count(mu, np.less_equal)
        tied = upto - below
        dz = self._pairs - upto + 0.5 * tied - 0.5 * self._pairs
        return _standardised(dz, self.n, self.m, self._ties + self._between(mu, tied))

    def _count(self, mu: Floats, compare: Callable[[Floats, Floats], Bools]) -> Ints:
        """Count the differences before ``mu`` by bisection in every row."""
        low = np.zeros(len(mu), dtype=np.int64)
        high = self._pairs.astype(np.int64)
        while (low < high).any():
            middle = (low + high) // 2
            value = np.take_along_axis(self._sorted, np.minimum(middle, self._sorted.shape[1] - 1)[:, None], axis=1)[
                :, 0
            ]
            before = compare(value, mu) & (low < high)
            high = np.where(before | (low >= high), high, middle)
            low = np.where(before, middle + 1, low)
        return low

    def _between(self, mu: Floats, tied: Ints) -> Floats:
        """Return what ties between the two samples add: 3ab(a + b) for a group of a and b."""
        extra = np.zeros(len(mu))
        for row in np.flatnonzero(tied):
            equal = self.x[row][:, None] - self.y[row][None, :] == mu[row]
            extra[row] = 3 * (equal * (self._tied_x[row][:, None] + self._tied_y[row][None, :])).sum()
        return extra


def z_at(x: Floats, y: Floats, mu: float) -> Floats:
    """Return the same statistic at one shift for all rows, by comparing every pair: quicker for a single shift."""
    n, m = (~np.isnan(x)).sum(axis=1), (~np.isnan(y)).sum(axis=1)
    shifted = (x - mu)[:, :, None]
    wins = (shifted > y[:, None, :]).sum(axis=(1, 2)) + 0.5 * (equal := shifted == y[:, None, :]).sum(axis=(1, 2))
    tied_x = (x[:, :, None] == x[:, None, :]).sum(axis=2)
    tied_y = (y[:, :, None] == y[:, None, :]).sum(axis=2)
    between = (equal.sum(axis=2) * tied_x).sum(axis=1) + (equal.sum(axis=1) * tied_y).sum(axis=1)
    ties = _cubes(tied_x) + _cubes(tied_y) + 3.0 * between
    return _standardised(wins - 0.5 * n * m, n, m, ties)


def _standardised(dz: Floats, n: Ints, m: Ints, ties: Floats) -> Floats:
    total = (n + m).astype(np.float64)
    inner = total + 1 - np.divide(ties, total * (total - 1), out=np.zeros_like(total), where=total > 1)
    sigma = np.sqrt(n * m / 12 * np.maximum(inner, 0.0))
    return np.divide(dz - 0.5 * np.sign(dz), sigma, out=np.zeros_like(sigma), where=sigma > 0)


def _cubes(tied: Ints) -> Floats:
    return np.asarray(np.where(tied > 0, tied.astype(np.float64) ** 2 - 1, 0.0).sum(axis=1))


def shift(x: Floats, y: Floats, *, confidence: float) -> Shift:
    """Estimate how much larger ``x`` is than ``y``, row by row."""
    ranks = RankSum(x, y)
    usable = (ranks.n > 0) & (ranks.m > 0)
    quantile = float(stats.norm.isf((1 - confidence) / 2))
    return Shift(
        np.where(usable, _crossing(ranks, quantile), np.nan),
        np.where(usable, _crossing(ranks, -quantile), np.nan),
        np.where(usable, _crossing(ranks, 0.0), np.nan),
    )


def _crossing(ranks: RankSum, quantile: float) -> Floats:
    low, high = np.nan_to_num(ranks.lowest), np.nan_to_num(ranks.highest)
    at_low, at_high = ranks.z(low) - quantile, ranks.z(high) - quantile
    root = zero(lambda mu: ranks.z(mu) - quantile, (low, high), (at_low, at_high))
    return np.where(at_low <= 0, low, np.where(at_high >= 0, high, root))


class _Bracket:
    """What Brent's method carries in each row: b is the best point, a the last; the root is between b and c."""

    def __init__(self, a: Floats, b: Floats, fa: Floats, fb: Floats) -> None:
        self.a, self.b, self.fa, self.fb = a.copy(), np.where(fa == 0, a, b), fa.copy(), fb.copy()
        self.c, self.fc = self.a.copy(), self.fa.copy()
        self.done = (fa * fb > 0) | (fa == 0) | (fb == 0)

    def order(self) -> None:
        """Make b the point with the smaller value."""
        swap = ~self.done & (np.abs(self.fc) < np.abs(self.fb))
        a, b, c, fa, fb, fc = self.a, self.b, self.c, self.fa, self.fb, self.fc
        self.a, self.b, self.c = np.where(swap, b, a), np.where(swap, c, b), np.where(swap, b, c)
        self.fa, self.fb, self.fc = np.where(swap, fb, fa), np.where(swap, fc, fb), np.where(swap, fb, fc)

    def step(self, previous: Floats, tolerance: Floats) -> Floats:
        """Return the interpolated step where it is trusted, else half the bracket; never less than the tolerance."""
        width = self.c - self.b
        with np.errstate(divide="ignore", invalid="ignore"):
            q, r, s = self.fa / self.fc, self.fb / self.fc, self.fb / self.fa
            linear = self.a == self.c
            p = np.where(linear, width * s, s * (width * q * (q - r) - (self.b - self.a) * (r - 1)))
            d = np.where(linear, 1 - s, (q - 1) * (r - 1) * (s - 1))
            d, p = np.where(p > 0, -d, d), np.abs(p)
            trusted = (np.abs(previous) >= tolerance) & (np.abs(self.fa) > np.abs(self.fb))
            trusted &= (p < 0.75 * width * d - np.abs(tolerance * d) / 2) & (p < np.abs(previous * d / 2))
            step = np.where(trusted, p / d, width / 2)
        return np.where(np.abs(step) < tolerance, np.where(step > 0, tolerance, -tolerance), step)

    def move(self, step: Floats, f: Callable[[Floats], Floats]) -> None:
        """Go to the next point, and keep the root between b and c."""
        self.a, self.fa = np.where(self.done, self.a, self.b), np.where(self.done, self.fa, self.fb)
        self.b = np.where(self.done, self.b, self.b + step)
        self.fb = np.where(self.done, self.fb, f(self.b))
        same = ~self.done & (np.sign(self.fb) == np.sign(self.fc)) & (self.fb != 0)
        self.c, self.fc = np.where(same, self.a, self.c), np.where(same, self.fa, self.fc)


def zero(f: Callable[[Floats], Floats], ends: tuple[Floats, Floats], values: tuple[Floats, Floats]) -> Floats:
    """Find a root in each row by Brent's method (Algorithms for Minimization without Derivatives, 1973, chapter 4).

    Interpolates where that is trusted, bisects where it is not, and stops when the bracket is within the tolerance.

    Args:
        f: the function, on all rows at once.
        ends: both ends of each row's bracket.
        values: the function there, of different signs; rows in which they are not are left at their second end.
    """
    bracket = _Bracket(*ends, *values)
    for _ in range(_ITERATIONS):
        if bracket.done.all():
            break
        previous = bracket.b - bracket.a
        bracket.order()
        tolerance = 2 * np.finfo(float).eps * np.abs(bracket.b) + TOLERANCE / 2
        bracket.done |= (np.abs(bracket.c - bracket.b) / 2 <= tolerance) | (bracket.fb == 0)
        bracket.move(bracket.step(previous, tolerance), f)
    return bracket.b
