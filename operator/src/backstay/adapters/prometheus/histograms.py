"""Prometheus' two kinds of histograms, read into one form, and brought to the buckets that a signal is judged in."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from backstay.judge.arrays import Floats

# A native histogram is judged in at most so many buckets that had observations when it was first read, and has so many
# beyond for a version that is slower, or surer, than any before.
_WIDEST = 12
_ABOVE = 4
_COARSEST, _FINEST = -4, 8
_CLOSE = 1e-9


@dataclass(frozen=True, slots=True)
class Histogram:
    """Observations so far, by bucket: ``counts[i]`` lie in (``lowers[i]``, ``uppers[i]``]; all buckets rise.

    ``native`` buckets are those that have observations; the others exist all the same.
    """

    uppers: tuple[float, ...]
    counts: tuple[float, ...]
    lowers: tuple[float, ...] = ()
    native: bool = False

    @property
    def total(self) -> float:
        """Count all observations."""
        return sum(self.counts)

    def into(self, edges: Sequence[float]) -> Floats | None:
        """Return the counts in the buckets that ``edges`` cut, the last lying beyond; None where they do not fit."""
        if not self.native:
            return np.array(self.counts) if _same(self.uppers[:-1], edges) else None
        counts = np.zeros(len(edges) + 1)
        for lower, upper, count in zip(self.lowers, self.uppers, self.counts, strict=True):
            index = _bucket(edges, upper)
            if index and lower < edges[index - 1] * (1 - _CLOSE):
                return None
            counts[index] += count
        return counts


def classic(buckets: Mapping[str, float]) -> Histogram:
    """Read the cumulative counts of a classic histogram, by the text of their label ``le``.

    Raises:
        ValueError: there is no bucket +Inf, the counts fall, or one of them is no count.
    """
    rising = sorted((float(le), count) for le, count in buckets.items())
    if not rising or rising[-1][0] != math.inf:
        raise ValueError("a histogram has no bucket with le=+Inf")
    below = [0.0, *(count for _, count in rising[:-1])]
    counts = tuple(count - before for (_, count), before in zip(rising, below, strict=True))
    _refuse_what_is_no_count(counts)
    return Histogram(tuple(edge for edge, _ in rising), counts)


def native(document: Mapping[str, Any]) -> Histogram:
    """Read a native histogram as Prometheus' HTTP API writes it: ``buckets`` of [rule, lower, upper, count].

    Raises:
        ValueError: one of its counts is no count.
    """
    rising = sorted(
        (float(lower), float(upper), float(count)) for _, lower, upper, count in document.get("buckets", ())
    )
    _refuse_what_is_no_count(tuple(count for _, _, count in rising))
    return Histogram(
        uppers=tuple(upper for _, upper, _ in rising),
        counts=tuple(count for _, _, count in rising),
        lowers=tuple(lower for lower, _, _ in rising),
        native=True,
    )


def is_count(number: float) -> bool:
    """Tell whether a number can be a counter's value: NaN, infinite and negative ones cannot."""
    return math.isfinite(number) and number >= 0


def _refuse_what_is_no_count(counts: Sequence[float]) -> None:
    wrong = next((count for count in counts if not is_count(count)), None)
    if wrong is not None:
        raise ValueError(f"a bucket of a histogram counts {wrong:g}: cumulative counts never fall, and are finite")


def edges_of(histograms: Iterable[Histogram]) -> tuple[float, ...]:
    """Choose the edges in which histograms are judged; none while there is nothing to choose from.

    Classic ones are judged in their own buckets. Native ones have powers of 2^(2^-n) as edges, and any finer one's
    buckets lie within a coarser one's: the finest n is taken that all have and that needs few buckets.
    """
    known = [histogram for histogram in histograms if histogram.uppers]
    if not known:
        return ()
    whole = max((histogram.uppers[:-1] for histogram in known if not histogram.native), key=len, default=())
    if whole:
        return whole
    bounds = [
        (lower, upper)
        for histogram in known
        for lower, upper in zip(histogram.lowers, histogram.uppers, strict=True)
        if lower > 0 and math.isfinite(upper)
    ]
    if not bounds:
        return ()
    coarsest = max(math.log2(upper / lower) for lower, upper in bounds)
    lowest, highest = min(lower for lower, _ in bounds), max(upper for _, upper in bounds)
    finest = max(min(_FINEST, round(-math.log2(coarsest))), _COARSEST)
    for schema in range(finest, _COARSEST - 1, -1):
        first = math.floor(math.log2(lowest) * 2.0**schema + _CLOSE)
        last = math.ceil(math.log2(highest) * 2.0**schema - _CLOSE)
        if last - first <= _WIDEST:
            break
    return tuple(2.0 ** (index / 2.0**schema) for index in range(first + 1, last + _ABOVE + 1))


def _bucket(edges: Sequence[float], upper: float) -> int:
    """Return the index of the first edge that a bucket with this upper end does not go beyond."""
    return int(np.searchsorted(np.asarray(edges) * (1 + _CLOSE), upper))


def _same(one: Sequence[float], other: Sequence[float]) -> bool:
    return len(one) == len(other) and all(math.isclose(a, b, rel_tol=_CLOSE) for a, b in zip(one, other, strict=True))
