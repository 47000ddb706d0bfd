"""What is judged: the signals of one rollout, each with its rule and its share of the error budget."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from functools import cached_property, lru_cache
from typing import NamedTuple, TypeAlias

from backstay.domain import signals as declared
from backstay.domain.resource import Analysis
from backstay.domain.signals import NoHarm
from backstay.judge import counts, latency, onset
from backstay.judge.combine import shares
from backstay.judge.objectives import Limit

# The error budget of the sample ratio test, beside alpha.
SPLIT_ALPHA = 0.001


@dataclass(frozen=True, slots=True)
class Count:
    """Events among requests. ``tolerance`` is a ratio of odds; without ``no_harm``, Pass means that no harm shows."""

    tolerance: float = 1.0
    no_harm: NoHarm | None = None

    @property
    def buckets(self) -> int:
        """Without and with the event."""
        return 2


@dataclass(frozen=True, slots=True)
class Latency:
    """A histogram of durations; ``edges`` are the buckets' upper ends in seconds, the last bucket lies beyond."""

    edges: tuple[float, ...]
    tolerance: float = 1.0
    no_harm: NoHarm | None = None

    @property
    def buckets(self) -> int:
        """One more than there are edges."""
        return len(self.edges) + 1


@dataclass(frozen=True, slots=True)
class Distribution:
    """A distribution over ``buckets``; ``smallest`` is the total variation that counts as none."""

    buckets: int
    smallest: float = 0.0
    ordered: bool = True


Compared: TypeAlias = Count | Latency | Distribution


class Kind(Enum):
    """How a process works: on what lies beyond edges, on a distribution, or on the split of the traffic."""

    TAILS = "tails"
    SHIFT = "shift"
    SPLIT = "split"


class Shape(NamedTuple):
    """What two processes must have in common to be computed together."""

    kind: Kind
    buckets: int
    ratios: tuple[float, ...] = ()
    refined: bool = True
    no_harm: bool = False
    ordered: bool = True
    smallest: bool = False


SPLIT = Shape(Kind.SPLIT, 1)


@dataclass(frozen=True, slots=True)
class Judged:
    """One signal; ``weight`` is its weight among the compared ones, in any unit."""

    name: str
    rule: Compared | Limit
    weight: float = 1.0


class Part(NamedTuple):
    """A compared signal with what follows from the panel: its shape and its share of alpha."""

    signal: Judged
    shape: Shape
    share: float


@dataclass(frozen=True)
class Panel:
    """All that is judged of a rollout.

    ``alpha`` is the chance of failing a harmless version in the whole rollout. ``split_tolerance`` is the factor by
    which the odds of the traffic's split may differ from the planned ones; 0 leaves the split unjudged. Without
    ``refinements`` every formula is its base form. ``awaited`` are names and weights of signals whose buckets are not
    known yet: they have no evidence, and keep their shares of alpha. ``kept`` is the share of a step's part of the
    evidence that is kept for defects which begin within the step.
    """

    alpha: float
    signals: tuple[Judged, ...]
    refinements: bool = True
    split_tolerance: float = 0.0
    awaited: tuple[tuple[str, float], ...] = ()
    kept: float = 0.0

    @cached_property
    def compared(self) -> tuple[Part, ...]:
        """The signals that are compared between the arms, in order."""
        signals = [(s, s.rule) for s in self.signals if not isinstance(s.rule, Limit)]
        every = [*(signal.weight for signal, _ in signals), *(weight for _, weight in self.awaited)]
        weights = shares(every)[: len(signals)] if signals else ()
        return tuple(
            Part(signal, shape_of(rule, refined=self.refinements), share)
            for (signal, rule), share in zip(signals, weights, strict=True)
        )

    @cached_property
    def limits(self) -> tuple[tuple[str, Limit], ...]:
        """The fixed limits, with their signals' names."""
        return tuple((signal.name, signal.rule) for signal in self.signals if isinstance(signal.rule, Limit))


def shape_of(rule: Compared, *, refined: bool) -> Shape:
    """Return the shape of a signal's process."""
    if isinstance(rule, Distribution):
        return Shape(Kind.SHIFT, rule.buckets, refined=refined, ordered=rule.ordered, smallest=rule.smallest > 0)
    ratios = (counts.WATCHED if isinstance(rule, Count) else latency.LATENCY) if refined else counts.BASE
    return Shape(Kind.TAILS, rule.buckets, ratios, refined, no_harm=rule.no_harm is not None)


def panel_of(analysis: Analysis, edges: Mapping[str, tuple[float, ...]] | None = None) -> Panel:
    """Return what a ModelDeployment's ``spec.analysis`` asks for.

    Args:
        analysis: what is declared.
        edges: of the histograms that have been read, by signal; one that is not named is awaited.
    """
    return _panel(analysis, tuple((edges or {}).items()))


@lru_cache(maxsize=4096)
def _panel(analysis: Analysis, edges: tuple[tuple[str, tuple[float, ...]], ...]) -> Panel:
    known, signals, awaited = dict(edges), [], []
    for signal in analysis.signals:
        rule = _rule(signal.rule, known.get(signal.name, ()))
        if rule is None:
            awaited.append((signal.name, signal.weight))
        else:
            signals.append(Judged(signal.name, rule, signal.weight))
    return Panel(
        alpha=analysis.alpha,
        signals=tuple(signals),
        split_tolerance=analysis.split_tolerance,
        awaited=tuple(awaited),
        kept=onset.KEPT,
    )


def _rule(rule: declared.Rule, edges: tuple[float, ...]) -> Compared | Limit | None:
    match rule:
        case declared.Comparison():
            return Count(rule.tolerance, rule.no_harm)
        case declared.Objective():
            return Limit(
                limit=rule.limit,
                window=rule.window,
                min_requests=rule.min_requests,
                violations=rule.violations,
                looks=rule.looks,
            )
        case declared.Latency():
            return Latency(edges, rule.tolerance, rule.no_harm) if edges else None
        case declared.Distribution():
            return Distribution(len(edges) + 1, rule.smallest) if edges else None
