"""What the stable version's past teaches the judge, before a canary has any traffic: bursts, and pods that differ.

Readings of raw counters at even times become counts by interval and pod. No I/O.
"""

from collections.abc import Mapping, Sequence

import numpy as np

from backstay.adapters.prometheus.client import Reading, Value
from backstay.adapters.prometheus.histograms import Histogram, edges_of
from backstay.controller.evidence.profiles import CounterPair
from backstay.controller.evidence.sources import Buckets, Source, read_by, sources
from backstay.domain.observed import Backend
from backstay.domain.resource import Analysis, Key
from backstay.domain.signals import Comparison, Latency
from backstay.judge import dependence
from backstay.judge.arrays import Floats
from backstay.judge.memory import Learnt

_TWO_PODS = 2

Times = Sequence[float]
_Series = Mapping[str, Sequence[Value | None]]


def learnable(analysis: Analysis) -> dict[str, Source]:
    """Return the signals of which anything can be learnt, with what they read: those that count events."""
    if not analysis.dependence.history:
        return {}
    read = sources(analysis)
    return {s.name: read[s.name] for s in analysis.signals if isinstance(s.rule, Comparison | Latency)}


class Past:
    """Readings of one model's stable version, gathered part by part, so that all of them are never there at once.

    Args:
        analysis: what is judged.
        key: the model.
        stable: whose past it is.
    """

    def __init__(self, analysis: Analysis, key: Key, stable: Backend) -> None:
        self._analysis = analysis
        self._key = key
        self._stable = stable
        self._length = 0
        self._series: dict[str, dict[str, list[Value | None]]] = {
            template: {} for source in learnable(analysis).values() for template in read_by(source)
        }
        # Where a pod first had a sample that is no count: from there on it has the counter, so that it is not zero.
        self._broken: dict[str, dict[str, int]] = {template: {} for template in self._series}

    def add(self, readings: Sequence[Reading]) -> None:
        """Take in the next readings, in order and evenly spaced."""
        for template, series in self._series.items():
            for index, reading in enumerate(readings, start=self._length):
                for place, value in reading.of(template, self._key).items():
                    if place.backend == self._stable:
                        own = series.setdefault(place.pod, [])
                        own += [None] * (index - len(own))
                        own.append(value)
                for place in reading.broken_of(template, self._key):
                    if place.backend == self._stable:
                        self._broken[template].setdefault(place.pod, index)
        self._length += len(readings)

    def learn(self) -> dict[str, Learnt]:
        """Learn from all of it; what is too little teaches nothing.

        A pod's interval counts where it is in both readings and its counters did not go back.
        """
        found = {}
        for name, source in learnable(self._analysis).items():
            match source:
                case CounterPair(events, total):
                    requests, happened = self._of(total), self._of(events)
                    counts = _counts(happened, beside=requests, broken=self._broken[events])
                    found[name] = _counted(counts, _counts(requests), pods=self._analysis.dependence.pods)
                case Buckets(histogram):
                    found[name] = _slow(self._of(histogram))
        return found

    def _of(self, template: str) -> _Series:
        """Return each pod's values at all times, None where it has none."""
        series = self._series[template]
        return {pod: series[pod] + [None] * (self._length - len(series[pod])) for pod in sorted(series)}


def _counted(events: Floats, requests: Floats, *, pods: bool) -> Learnt:
    """Learn from counts of shape [intervals, pods]."""
    requests = np.where(np.isnan(events), np.nan, requests)
    events = np.where(np.isnan(requests), np.nan, np.minimum(events, requests))
    events, requests = np.nan_to_num(events), np.nan_to_num(requests)
    served = requests.sum(axis=0) > 0
    sigma = 0.0
    if pods and served.sum() >= _TWO_PODS:
        sigma = dependence.pod_spread(events.sum(axis=0)[served], requests.sum(axis=0)[served])
    return Learnt(dependence.dispersion(events, requests), sigma)


def _slow(series: _Series) -> Learnt:
    """Learn from the requests beyond each edge of a histogram: the size of the largest clusters."""
    edges = edges_of(value for values in series.values() for value in values if isinstance(value, Histogram))
    if not edges:
        return Learnt()
    fitted = {
        pod: [value.into(edges) if isinstance(value, Histogram) else None for value in values]
        for pod, values in series.items()
    }
    empty = np.full(len(edges) + 1, np.nan)
    counts = np.array([[empty if one is None else one for one in values] for values in fitted.values()])
    added = np.diff(counts, axis=1)
    added = np.where((added < 0).any(axis=2, keepdims=True), np.nan, added)
    added = np.nan_to_num(added).transpose(1, 0, 2)
    requests = added.sum(axis=2)
    beyond = requests[:, :, np.newaxis] - added.cumsum(axis=2)[:, :, :-1]
    return Learnt(max(dependence.dispersion(beyond[:, :, edge], requests) for edge in range(len(edges))))


def _counts(series: _Series, *, beside: _Series | None = None, broken: Mapping[str, int] | None = None) -> Floats:
    """Return what each interval added, of shape [intervals, pods], NaN where that is not known.

    Args:
        series: a counter.
        beside: one of the same pods that is always there. Where a pod has that one, and not the counter nor has had it
            before, this is zero.
        broken: where a pod first had a sample of the counter that is no count.
    """
    rows = []
    for pod, others in (beside if beside is not None else series).items():
        own = series.get(pod) or [None] * len(others)
        first = next((at for at, value in enumerate(own) if value is not None), len(own)) if beside is not None else 0
        first = min(first, (broken or {}).get(pod, first))
        missing = [0.0 if at < first and other is not None else np.nan for at, other in enumerate(others)]
        rows.append([value if isinstance(value, float) else empty for value, empty in zip(own, missing, strict=True)])
    if not rows:
        return np.zeros((0, 0))
    added = np.diff(np.array(rows, dtype=np.float64), axis=1).T
    return np.where(added < 0, np.nan, added)
