"""Which PromQL each signal reads: the metrics of a model server's profile, or the user's own."""

from dataclasses import dataclass
from functools import lru_cache
from typing import TypeAlias

from backstay.controller.evidence.profiles import METRICS, CounterPair
from backstay.domain.resource import Analysis
from backstay.domain.signals import (
    Comparison,
    Distribution,
    Events,
    Latency,
    Measure,
    Objective,
    OwnCounters,
    OwnHistogram,
    Profile,
    Rule,
)


@dataclass(frozen=True, slots=True)
class Buckets:
    """The template of a histogram."""

    histogram: str


Source: TypeAlias = CounterPair | Buckets


@lru_cache(maxsize=1024)
def sources(analysis: Analysis) -> dict[str, Source]:
    """Return what each signal reads, by its name."""
    return {signal.name: _source(signal.rule, analysis.profile) for signal in analysis.signals}


@lru_cache(maxsize=1024)
def templates(analysis: Analysis) -> frozenset[str]:
    """Return every template that a model's evidence needs."""
    metrics = METRICS[analysis.profile]
    wanted = {metrics.requests, metrics.present}
    for source in sources(analysis).values():
        wanted |= set(read_by(source))
    return frozenset(wanted)


@lru_cache(maxsize=1024)
def steady(analysis: Analysis) -> tuple[str, ...]:
    """Return the compared signals of which it can be told whether they count while requests flow, by name.

    Labels come when people send them, and what is counted among the requests themselves flows with them.
    """
    requests = METRICS[analysis.profile].requests
    return tuple(
        signal.name
        for signal in analysis.signals
        if not isinstance(signal.rule, Objective)
        and not (isinstance(signal.rule, Comparison) and signal.rule.source is Events.WRONG)
        and requests not in read_by(sources(analysis)[signal.name])
    )


def read_by(source: Source) -> tuple[str, ...]:
    """Return the templates of one source."""
    match source:
        case CounterPair(events, total):
            return events, total
        case Buckets(histogram):
            return (histogram,)


def _source(rule: Rule, profile: Profile) -> Source:
    """Return what a rule reads; that the profile has it is seen to by the resource's schema."""
    metrics = METRICS[profile]
    match rule:
        case Comparison(source=OwnCounters(events, total)):
            return CounterPair(events, total or metrics.requests)
        case Comparison(source=Events() as events):
            return metrics.events[events]
        case Objective():
            return metrics.events[Events.ERRORS]
        case Latency(source=OwnHistogram(query)) | Distribution(source=OwnHistogram(query)):
            return Buckets(query)
        case Distribution(source=Measure() as measure):
            return Buckets(metrics.measures[measure])
        case Latency():
            return Buckets(metrics.duration)
        case _:
            raise TypeError(f"No source for {rule}")
