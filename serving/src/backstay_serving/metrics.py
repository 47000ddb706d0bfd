"""The server's own metrics, under the names of the profile `backstay`."""

from dataclasses import dataclass
from typing import Literal

from prometheus_client import CollectorRegistry, Counter, Histogram, ProcessCollector, disable_created_metrics

from backstay_serving.feedback import Accepted, Conflict, Matured, Misfit, Received, Repeated, Unknown
from backstay_serving.outcome import Answered
from backstay_serving.predictionlog import DropReason
from backstay_serving.settings import Identity

ErrorKind = Literal["prediction", "not_ready", "overloaded", "internal"]
ERROR_KINDS: tuple[ErrorKind, ...] = ("prediction", "not_ready", "overloaded", "internal")

DROP_REASONS: tuple[DropReason, ...] = ("queue_full", "write_failed")
_RECEIVED: dict[type[Received], str] = {
    Accepted: "accepted",
    Repeated: "repeated",
    Unknown: "unknown",
    Conflict: "conflict",
    Misfit: "misfit",
}

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
        feedback: what labels were answered.
        labels: what has come of predictions whose label window is over.
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
    feedback: dict[type[Received], Counter]
    labels: "LabelMetrics"

    def count_prediction(self, answered: Answered) -> None:
        """Count what the model said."""
        for score in answered.scores:
            self.prediction.observe(score)
        for confidence in answered.confidences:
            self.confidence.observe(confidence)
        self.predictions.inc(answered.values)
        self.nulls.inc(answered.nulls)


@dataclass(frozen=True)
class LabelMetrics:
    """What is counted of predictions once their label window is over.

    Attributes:
        matured: all of them.
        labelled: those that had a label by then.
        correct: those whose label is what was predicted.
        positives: the scores of those labelled with a binary classifier's positive class.
        negatives: the scores of those labelled with the other.
        forgotten: predictions that are in none of these, for lack of room to remember them.
    """

    matured: Counter
    labelled: Counter
    correct: Counter
    positives: Histogram
    negatives: Histogram
    forgotten: Counter

    def count(self, matured: Matured) -> None:
        """Count one request's predictions."""
        self.matured.inc(matured.predictions)
        self.labelled.inc(matured.labelled)
        self.correct.inc(matured.correct)
        for score in matured.positives:
            self.positives.observe(score)
        for score in matured.negatives:
            self.negatives.observe(score)


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
    received = Counter("backstay_feedback_total", "Requests to /feedback", (*names, "outcome"), registry=registry)
    by_truth = Histogram(
        "backstay_labelled_score",
        "Score of labelled predictions, by their label",
        (*names, "truth"),
        registry=registry,
        buckets=score_edges,
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
        feedback={outcome: received.labels(*values, word) for outcome, word in _RECEIVED.items()},
        labels=LabelMetrics(
            matured=counter("backstay_matured_predictions_total", "Predictions whose label window is over"),
            labelled=counter("backstay_labelled_predictions_total", "Those that had a label by then"),
            correct=counter("backstay_correct_predictions_total", "Those whose label was predicted"),
            positives=by_truth.labels(*values, "positive"),
            negatives=by_truth.labels(*values, "negative"),
            forgotten=counter("backstay_forgotten_predictions_total", "Those there was no room to remember"),
        ),
    )
