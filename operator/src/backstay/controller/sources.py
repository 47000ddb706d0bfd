"""Which PromQL each signal reads: the metrics of a model server's profile, or the user's own."""

from dataclasses import dataclass
from functools import lru_cache
from typing import TypeAlias

from backstay.adapters.prometheus import REVISIONS
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
    Rule,
)


def _profile(metric: str) -> str:
    """Select a metric of ours; a pod that two jobs scrape, or two Prometheus servers, is one pod all the same."""
    copies = "job, instance, endpoint, prometheus, prometheus_replica, replica"
    return f'max without ({copies}) ({metric}{{revision=~"{REVISIONS}"}})'


REQUESTS = _profile("backstay_requests_total")
"""The requests to every backend: what decides how much was seen, and whether a drained backend is quiet."""

_PREDICTIONS = _profile("backstay_predictions_total")
_EVENTS = {
    Events.ERRORS: ("backstay_errors_total", REQUESTS),
    Events.NULLS: ("backstay_null_predictions_total", _PREDICTIONS),
}
_DURATION = _profile("backstay_request_duration_seconds_bucket")
_MEASURES = {
    Measure.PREDICTION: _profile("backstay_prediction_bucket"),
    Measure.CONFIDENCE: _profile("backstay_confidence_bucket"),
}


@dataclass(frozen=True, slots=True)
class CounterPair:
    """Two templates: a counter of events, and the one of everything they happen to."""

    events: str
    total: str


@dataclass(frozen=True, slots=True)
class Buckets:
    """The template of a histogram."""

    histogram: str


Source: TypeAlias = CounterPair | Buckets


@lru_cache(maxsize=1024)
def sources(analysis: Analysis) -> dict[str, Source]:
    """Return what each signal reads, by its name."""
    return {signal.name: _source(signal.rule) for signal in analysis.signals}


@lru_cache(maxsize=1024)
def templates(analysis: Analysis) -> frozenset[str]:
    """Return every template that a model's evidence needs."""
    wanted = {REQUESTS}
    for source in sources(analysis).values():
        match source:
            case CounterPair(events, total):
                wanted |= {events, total}
            case Buckets(histogram):
                wanted.add(histogram)
    return frozenset(wanted)


def _source(rule: Rule) -> Source:
    match rule:
        case Comparison(source=OwnCounters(events, total)):
            return CounterPair(events, total or REQUESTS)
        case Comparison(source=Events() as events):
            metric, among = _EVENTS[events]
            return CounterPair(_profile(metric), among)
        case Objective():
            metric, among = _EVENTS[Events.ERRORS]
            return CounterPair(_profile(metric), among)
        case Latency(source=OwnHistogram(query)) | Distribution(source=OwnHistogram(query)):
            return Buckets(query)
        case Distribution(source=Measure() as measure):
            return Buckets(_MEASURES[measure])
        case Latency():
            return Buckets(_DURATION)
        case _:
            raise TypeError(f"No source for {rule}")
