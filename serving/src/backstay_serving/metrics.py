"""The server's own metrics, under the names of the profile `backstay`."""

from dataclasses import dataclass
from typing import Literal

from prometheus_client import CollectorRegistry, Counter, Histogram, ProcessCollector, disable_created_metrics

from backstay_serving.outcome import Answered
from backstay_serving.predictionlog import DropReason
from backstay_serving.settings import Identity

ErrorKind = Literal["prediction", "not_ready", "overloaded", "internal"]
ERROR_KINDS: tuple[ErrorKind, ...] = ("prediction", "not_ready", "overloaded", "internal")

DROP_REASONS: tuple[DropReason, ...] = ("queue_full", "write_failed")

DURATION_EDGES = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)  # seconds
SCORE_EDGES = tuple(round(0.05 * step, 2) for step in range(1, 21))
# Confidences crowd near 1, where a change of the model shows first.
CONFIDENCE_EDGES = (0.1, 0.2, 0.3, 0.4, 0.5, 0.55, 0.6, 0.65, 0.7, 0.75, 0.8, 0.85, 0.9, 0.95, 0.98, 0.99, 0.999, 1.0)


@dataclass(frozen=True)
class Metrics:
    """What a server counts; every series exists, at zero, from the start.

    Attributes:
        registry: for `/metrics`.
        requests: every answered request to `/invocations`.
        errors: those answered 5xx, by kind.
        duration: seconds from a request's arrival to its answer, waiting included.
        prediction: scores or predicted values.
        confidence: the likeliest class's probability.
        predictions: predicted values.
        nulls: those that are null or not a number.
        logged: lines of the prediction log that were written.
        unlogged: lines that were not, by reason.
    """

    registry: CollectorRegistry
    requests: Counter
    errors: dict[ErrorKind, Counter]
    duration: Histogram
    prediction: Histogram
    confidence: Histogram
    predictions: Counter
    nulls: Counter
    logged: Counter
    unlogged: dict[DropReason, Counter]

    def count_prediction(self, answered: Answered) -> None:
        """Count what the model said."""
        for score in answered.scores:
            self.prediction.observe(score)
        for confidence in answered.confidences:
            self.confidence.observe(confidence)
        self.predictions.inc(answered.values)
        self.nulls.inc(answered.nulls)


def make_metrics(identity: Identity, score_edges: tuple[float, ...]) -> Metrics:
    """Make the metrics of one server.

    Args:
        identity: whose they are: the labels `model` and `version`.
        score_edges: upper edges of the prediction histogram; `+Inf` is added.
    """
    disable_created_metrics()  # type: ignore[no-untyped-call]  # a creation time for each series would double them
    registry = CollectorRegistry()
    ProcessCollector(registry=registry)
    names = ("model", "version")
    values = (identity.name, identity.version)

    def counter(name: str, text: str) -> Counter:
        return Counter(name, text, names, registry=registry).labels(*values)

    def histogram(name: str, text: str, edges: tuple[float, ...]) -> Histogram:
        return Histogram(name, text, names, registry=registry, buckets=edges).labels(*values)

    unlogged = Counter(
        "backstay_prediction_log_dropped_total", "Lines that were not written", (*names, "reason"), registry=registry
    )
    errors = Counter("backstay_errors_total", "Requests answered 5xx", (*names, "kind"), registry=registry)
    return Metrics(
        registry=registry,
        requests=counter("backstay_requests_total", "Answered requests to /invocations"),
        errors={kind: errors.labels(*values, kind) for kind in ERROR_KINDS},
        duration=histogram("backstay_request_duration_seconds", "Seconds from request to answer", DURATION_EDGES),
        prediction=histogram("backstay_prediction", "Predicted score or value", score_edges),
        confidence=histogram("backstay_confidence", "Probability of the likeliest class", CONFIDENCE_EDGES),
        predictions=counter("backstay_predictions_total", "Predicted values"),
        nulls=counter("backstay_null_predictions_total", "Predicted values that are null or not a number"),
        logged=counter("backstay_prediction_log_lines_total", "Lines of the prediction log that were written"),
        unlogged={reason: unlogged.labels(*values, reason) for reason in DROP_REASONS},
    )
