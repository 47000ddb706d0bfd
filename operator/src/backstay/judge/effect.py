"""The size of a signal's effect, read from its process: what people are told beside the evidence."""

import math
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np

from backstay.judge import effects
from backstay.judge.arrays import Floats, logsumexp
from backstay.judge.panel import Count, Distribution, Kind, Latency, Part, Shape
from backstay.judge.process import asleep, layout


@dataclass(frozen=True, slots=True)
class Shifted:
    """A distribution's effect: the population stability index, less its bias, over ``requests`` of the canary."""

    requests: float
    psi: float

    def to_dict(self) -> dict[str, Any]:
        """Write it as JSON data."""
        return {"requests": self.requests, "psi": self.psi}


@dataclass(frozen=True, slots=True)
class Rated:
    """A count's effect: the shares of requests with the event, and their Mantel-Haenszel ratio.

    ``requests`` are the canary's that were compared. Of latency all belong to ``edge`` (seconds; 0 for a count), the
    one with the most evidence, and the shares are weighted like the ratio.
    """

    requests: float
    canary: float
    baseline: float
    ratio: float
    edge: float = 0.0

    def to_dict(self) -> dict[str, Any]:
        """Write it as JSON data; a ratio without events on the baseline is null."""
        document = {
            "requests": self.requests,
            "canary": self.canary,
            "baseline": self.baseline,
            "ratio": self.ratio if math.isfinite(self.ratio) else None,
        }
        return {**document, "edge": self.edge} if self.edge else document


Effect: TypeAlias = Rated | Shifted


def seen(shape: Shape, row: Floats) -> bool:
    """Tell whether a process has taken an interval with both arms."""
    at = layout(shape).slices
    return bool(row[at["pooled" if shape.kind is Kind.SHIFT else "size"]].any())


def effect_of(part: Part, row: Floats) -> Effect:
    """Read a compared signal's effect from its row."""
    at = layout(part.shape).slices
    match part.signal.rule:
        case Distribution():
            canary = row[at["canary"]]
            psi = effects.debiased_psi(canary, row[at["standard"]], squares=row[at["squares"]][0])
            return Shifted(requests=float(canary.sum()), psi=float(psi))
        case Count():
            c, s, n_c, n_s = (float(x) for x in row[at["totals"]])
            return Rated(n_c, c / n_c, s / n_s, _ratio(row, part.shape, 0))
        case Latency() as rule:
            mixed = logsumexp(row[at["log_r"]].reshape(len(rule.edges), -1))
            idle = asleep(part.shape, row)
            best = int(np.where(idle & ~idle.all(), -np.inf, mixed).argmax())
            size = float(row[at["size"]][0])
            return Rated(
                requests=float(row[at["totals"]][-2]),
                canary=float(row[at["over"]][best]) / size,
                baseline=float(row[at["under"]][best]) / size,
                ratio=_ratio(row, part.shape, best),
                edge=rule.edges[best],
            )
        case _:
            raise TypeError(f"Signal {part.signal.name} is not compared between the arms")


def _ratio(row: Floats, shape: Shape, edge: int) -> float:
    """Return what ``effects.mantel_haenszel`` does, for a single pair."""
    at = layout(shape).slices
    over, under = float(row[at["over"]][edge]), float(row[at["under"]][edge])
    if under:
        return over / under
    return math.inf if over else 1.0
