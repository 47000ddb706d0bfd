"""The histograms of what went into the model and came out, in the buckets that its training asks for."""

import math
from collections.abc import Iterable, Sequence
from itertools import accumulate

from prometheus_client import Histogram, Metric
from prometheus_client.core import CounterMetricFamily, HistogramMetricFamily
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString

from backstay_contract import metrics as exported
from backstay_contract.profile import Edges, Profile
from backstay_serving.feedback import Matured
from backstay_serving.outcome import Answered, FeatureCount
from backstay_serving.settings import Identity

SCORE_EDGES = tuple(round(0.05 * step, 2) for step in range(1, 21))
# Confidences crowd near 1, where a change of the model shows first.
CONFIDENCE_EDGES = (0.1, 0.2, 0.3, 0.4, 0.5, 0.55, 0.6, 0.65, 0.7, 0.75, 0.8, 0.85, 0.9, 0.95, 0.98, 0.99, 0.999, 1.0)
_LABELS = ("model", "version")


class Distributions(Collector):
    """Histograms whose buckets are known once the model is loaded, and that exist from the start all the same.

    Used on the event loop's thread only.

    Args:
        identity: whose they are: the labels `model` and `version`.
        score_edges: upper edges for predictions; empty for those of the profile, or the usual.
    """

    def __init__(self, identity: Identity, score_edges: Edges) -> None:
        self._values = (identity.name, identity.version)
        self._score_edges = score_edges
        self.adopt(Profile(features={}))

    def adopt(self, profile: Profile) -> None:
        """Take the buckets of a model's profile; what was counted before is forgotten."""
        edges = self._score_edges or profile.prediction or SCORE_EDGES
        self._prediction = self._histogram(exported.PREDICTION, "Predicted score or value", edges)
        self._confidence = self._histogram(
            exported.CONFIDENCE, "Probability of the likeliest class", profile.confidence or CONFIDENCE_EDGES
        )
        self._labelled = Histogram(
            exported.LABELLED_SCORE,
            "Score of labelled predictions, by their label",
            (*_LABELS, "truth"),
            registry=None,
            buckets=edges,
        )
        self._positives, self._negatives = (
            self._labelled.labels(*self._values, truth) for truth in ("positive", "negative")
        )
        self._features = {name: _Feature(edges) for name, edges in profile.features.items()}

    def count(self, answered: Answered) -> None:
        """Count one answer."""
        for score in answered.scores:
            self._prediction.labels(*self._values).observe(score)
        for confidence in answered.confidences:
            self._confidence.labels(*self._values).observe(confidence)
        for feature, count in zip(self._features.values(), answered.features, strict=False):
            feature.add(count)

    def count_labels(self, matured: Matured) -> None:
        """Count the scores of labelled predictions."""
        for score in matured.positives:
            self._positives.observe(score)
        for score in matured.negatives:
            self._negatives.observe(score)

    def collect(self) -> Iterable[Metric]:
        """Yield all of them, for Prometheus."""
        yield from self._prediction.collect()
        yield from self._confidence.collect()
        yield from self._labelled.collect()
        values = HistogramMetricFamily(exported.FEATURE, "Feature's value", labels=(*_LABELS, "feature"))
        nulls = CounterMetricFamily(
            exported.NULL_FEATURES, "Features without a finite number", labels=(*_LABELS, "feature")
        )
        for name, feature in self._features.items():
            values.add_metric((*self._values, name), feature.buckets(), feature.sum)
            nulls.add_metric((*self._values, name), feature.nulls)
        yield values
        yield nulls

    def _histogram(self, name: str, text: str, edges: Edges) -> Histogram:
        histogram = Histogram(name, text, _LABELS, registry=None, buckets=edges)
        histogram.labels(*self._values)
        return histogram


class _Feature:
    """The counts of one feature so far; they come as counts already, which the library's histogram does not take."""

    def __init__(self, edges: Edges) -> None:
        self._uppers = tuple(map(floatToGoString, (*edges, math.inf)))
        self._counts = [0] * len(self._uppers)
        self.sum = 0.0
        self.nulls = 0

    def add(self, count: FeatureCount) -> None:
        self._counts = [before + more for before, more in zip(self._counts, count.buckets, strict=True)]
        self.sum += count.sum
        self.nulls += count.nulls

    def buckets(self) -> Sequence[tuple[str, float]]:
        return list(zip(self._uppers, accumulate(self._counts), strict=True))
