"""The server's own metrics, under the names of the profile `backstay`."""

from dataclasses import dataclass
from typing import Literal

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector, disable_created_metrics

from backstay_contract import metrics as exported
from backstay_serving.distributions import Distributions
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


@dataclass(frozen=True)
class Metrics:
    """What a server counts; every series exists, at zero, from the start.

    Attributes:
        registry: for `/metrics`.
        requests: every answered request to `/invocations`.
        errors: those answered 5xx, by kind.
        waiting: requests that wait for the model's answer now.
        calls: calls of the model, each for one or more requests.
        duration: seconds from a request's arrival to its answer, waiting included.
        distributions: of features, predictions and confidences.
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
    waiting: Gauge
    calls: Counter
    duration: Histogram
    distributions: Distributions
    predictions: Counter
    nulls: Counter
    logged: Counter
    unlogged: dict[DropReason, Counter]
    feedback: dict[type[Received], Counter]
    labels: "LabelMetrics"

    def count_prediction(self, answered: Answered) -> None:
        """Count what the model said."""
        self.distributions.count(answered)
        self.predictions.inc(answered.values)
        self.nulls.inc(answered.nulls)

    def count_labels(self, matured: Matured) -> None:
        """Count a request whose label window is over."""
        self.labels.matured.inc(matured.predictions)
        self.labels.labelled.inc(matured.labelled)
        self.labels.wrong.inc(matured.labelled - matured.correct)
        self.distributions.count_labels(matured)


@dataclass(frozen=True)
class LabelMetrics:
    """What is counted of predictions once their label window is over.

    Attributes:
        matured: all of them.
        labelled: those that had a label by then.
        wrong: those whose label is another than what was predicted.
        forgotten: predictions that are in none of these, for lack of room to remember them.
    """

    matured: Counter
    labelled: Counter
    wrong: Counter
    forgotten: Counter


def make_metrics(identity: Identity, score_edges: tuple[float, ...]) -> Metrics:
    """Make the metrics of one server.

    Args:
        identity: whose they are: the labels `model` and `version`.
        score_edges: upper edges of the prediction histogram; empty for those of the model's profile, or the usual.
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
        exported.PREDICTION_LOG_DROPPED, "Lines that were not written", (*names, "reason"), registry=registry
    )
    received = Counter(exported.FEEDBACK, "Requests to /feedback", (*names, "outcome"), registry=registry)
    distributions = Distributions(identity, score_edges)
    registry.register(distributions)
    errors = Counter(exported.ERRORS, "Requests answered 5xx", (*names, "kind"), registry=registry)
    return Metrics(
        registry=registry,
        requests=counter(exported.REQUESTS, "Answered requests to /invocations"),
        errors={kind: errors.labels(*values, kind) for kind in ERROR_KINDS},
        waiting=Gauge(exported.WAITING, "Requests that wait for the model's answer", names, registry=registry).labels(
            *values
        ),
        calls=counter(exported.MODEL_CALLS, "Calls of the model, each for one or more requests"),
        duration=histogram(exported.REQUEST_DURATION, "Seconds from request to answer", DURATION_EDGES),
        distributions=distributions,
        predictions=counter(exported.PREDICTIONS, "Predicted values"),
        nulls=counter(exported.NULL_PREDICTIONS, "Predicted values that are null or not a number"),
        logged=counter(exported.PREDICTION_LOG_LINES, "Lines of the prediction log that were written"),
        unlogged={reason: unlogged.labels(*values, reason) for reason in DROP_REASONS},
        feedback={outcome: received.labels(*values, word) for outcome, word in _RECEIVED.items()},
        labels=LabelMetrics(
            matured=counter(exported.MATURED_PREDICTIONS, "Predictions whose label window is over"),
            labelled=counter(exported.LABELLED_PREDICTIONS, "Those that had a label by then"),
            wrong=counter(exported.WRONG_PREDICTIONS, "Those whose label is another"),
            forgotten=counter(exported.FORGOTTEN_PREDICTIONS, "Those there was no room to remember"),
        ),
    )
