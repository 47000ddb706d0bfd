"""Comparing two versions request by request, where their prediction logs meet: copies of a request keep its id."""

import json
import math
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from statistics import NormalDist
from typing import Any

# Requests and rows in them name a prediction.
_Place = tuple[str, int]
_Z = NormalDist().inv_cdf(0.975)
_QUANTILES = (0.5, 0.95, 0.99, 1.0)
_MOST_CHANGES = 10


class CompareError(Exception):
    """The logs cannot be compared; the message is one sentence for the person who compares them."""


@dataclass(frozen=True)
class Prediction:
    """What one version said of one row; ``score`` is None where the model has none."""

    answer: Any
    score: float | None


@dataclass(frozen=True)
class Comparison:
    """What two logs say of the predictions that are in both.

    Attributes:
        pairs: how many predictions are in both logs.
        only_first: how many are in the first alone: not copied, not logged, or failed by the other version.
        only_second: how many are in the second alone.
        changed: how many pairs have different answers.
        changes: the changes that are most frequent: the first log's answer, the second's, how many.
        score_differences: quantiles of the absolute differences of scores, by their order; empty without scores.
    """

    pairs: int
    only_first: int
    only_second: int
    changed: int
    changes: tuple[tuple[str, str, int], ...]
    score_differences: dict[str, float]

    @property
    def share(self) -> float:
        """The share of pairs with different answers."""
        return self.changed / self.pairs

    @property
    def interval(self) -> tuple[float, float]:
        """The 95 % interval of that share, after Wilson (1927)."""
        n, p = self.pairs, self.share
        middle = p + _Z * _Z / (2 * n)
        half = _Z * math.sqrt(p * (1 - p) / n + _Z * _Z / (4 * n * n))
        scale = 1 + _Z * _Z / n
        return max((middle - half) / scale, 0.0), min((middle + half) / scale, 1.0)

    def to_dict(self) -> dict[str, Any]:
        """Write it as JSON data."""
        return {
            "pairs": self.pairs,
            "onlyFirst": self.only_first,
            "onlySecond": self.only_second,
            "changed": self.changed,
            "share": self.share,
            "interval": list(self.interval),
            "changes": [{"from": was, "to": is_now, "count": count} for was, is_now, count in self.changes],
            "scoreDifferences": self.score_differences,
        }

    def lines(self) -> Iterator[str]:
        """Say it in lines."""
        low, high = self.interval
        alone = f"{self.only_first} in the first alone, {self.only_second} in the second"
        yield f"{self.pairs} predictions are in both, {alone}"
        yield f"{self.changed} have another answer: {self.share:.2%} (95 % interval {low:.2%} to {high:.2%})"
        yield from (f"  {was} -> {is_now}: {count}" for was, is_now, count in self.changes)
        if self.score_differences:
            told = ", ".join(f"{name} {value:.3g}" for name, value in self.score_differences.items())
            yield f"scores differ by: {told}"


def compare(first: Path, second: Path) -> Comparison:
    """Join two versions' prediction logs by request and row; where one is repeated, its first line counts.

    Args:
        first: a log file of one version, or a folder of them.
        second: that of the other.

    Raises:
        CompareError: a file cannot be read or is no prediction log, or no prediction is in both.
    """
    known = dict[_Place, Prediction]()
    for place, prediction in _read(first):
        known.setdefault(place, prediction)
    seen = set[_Place]()
    only_second = 0
    changes = Counter[tuple[str, str]]()
    differences: list[float] = []
    for place, ours in _read(second):
        if place in seen:
            continue
        seen.add(place)
        theirs = known.get(place)
        if theirs is None:
            only_second += 1
            continue
        if ours.answer != theirs.answer:
            changes[json.dumps(theirs.answer), json.dumps(ours.answer)] += 1
        if ours.score is not None and theirs.score is not None:
            differences.append(abs(ours.score - theirs.score))
    pairs = len(seen) - only_second
    if not pairs:
        raise CompareError(
            f"No prediction is in both logs ({len(known)} in the first, {len(seen)} in the second): log the same "
            "requests with the same PREDICTION_LOG_SAMPLE, and let what is in front of the servers keep X-Request-Id"
        )
    return Comparison(
        pairs=pairs,
        only_first=len(known) - pairs,
        only_second=only_second,
        changed=changes.total(),
        changes=tuple((was, is_now, count) for (was, is_now), count in changes.most_common(_MOST_CHANGES)),
        score_differences=_quantiles(differences),
    )


def _quantiles(values: list[float]) -> dict[str, float]:
    if not values:
        return {}
    ordered = sorted(values)
    names = {quantile: "most" if quantile == 1.0 else f"p{100 * quantile:.0f}" for quantile in _QUANTILES}
    return {name: ordered[math.ceil(quantile * len(ordered)) - 1] for quantile, name in names.items()}


def _read(place: Path) -> Iterator[tuple[_Place, Prediction]]:
    for file in sorted(file for file in place.iterdir() if file.is_file()) if place.is_dir() else [place]:
        try:
            with file.open(encoding="utf-8") as lines:
                yield from _predictions(file, lines)
        except OSError as problem:
            raise CompareError(f"{file} cannot be read: {problem.strerror}") from problem
        except UnicodeDecodeError as problem:
            raise CompareError(f"{file} is no prediction log: it is not UTF-8") from problem


def _predictions(file: Path, lines: Iterable[str]) -> Iterator[tuple[_Place, Prediction]]:
    for number, line in enumerate(lines, start=1):
        if not line.endswith("\n"):
            # The server is still writing it.
            return
        try:
            document = json.loads(line)
            score = document.get("score")
            yield (
                (str(document["id"]), int(document["row"])),
                Prediction(document["answer"], float(score) if isinstance(score, int | float) else None),
            )
        except (ValueError, KeyError, TypeError, AttributeError) as problem:
            raise CompareError(f"{file}, line {number}, is no line of a prediction log ({problem!r})") from problem
