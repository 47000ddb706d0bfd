"""Labels that arrive after the answer: which prediction a label belongs to, and what has come of old predictions.

Every prediction waits for its label for the same time, the window, and is counted at its end, labelled or not. So what
is counted of two versions has waited equally long, however old their pods are: labels that come fast are often of
another kind than those that come late, and a young pod would show the fast ones alone.

The memory is bounded, is this process's own, and ends with it. Nothing here knows the time; it is passed in.
"""

import math
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from http import HTTPStatus
from typing import Any

from backstay_serving.outcome import Answered
from backstay_serving.payload import BadRequestError, read_json

_BINARY = 2
Label = bool | int | float | str


@dataclass(frozen=True)
class FeedbackSettings:
    """How long predictions are remembered.

    Attributes:
        window_seconds: from an answer to the moment at which it is counted; a label that comes later is refused.
        max_predictions: how many predicted rows are remembered; beyond that the oldest are forgotten uncounted.
    """

    window_seconds: float
    max_predictions: int


@dataclass(frozen=True)
class Feedback:
    """The true labels of one request.

    Attributes:
        request_id: the request's id.
        labels: one for each of its rows.
    """

    request_id: str
    labels: tuple[Label, ...]


@dataclass(frozen=True)
class Accepted:
    """The labels are kept, to be counted at the end of the window."""


@dataclass(frozen=True)
class Repeated:
    """The same labels were there already; nothing changes."""


@dataclass(frozen=True)
class Unknown:
    """No such prediction is remembered."""


@dataclass(frozen=True)
class Conflict:
    """The prediction has other labels already, which stay."""


@dataclass(frozen=True)
class Misfit:
    """The labels do not fit what was predicted.

    Attributes:
        reason: why, in one sentence.
    """

    reason: str


Received = Accepted | Repeated | Unknown | Conflict | Misfit


@dataclass(frozen=True)
class Matured:
    """What has come of predictions whose window is over.

    Attributes:
        predictions: how many rows.
        labelled: how many of them have a label.
        correct: how many of those have the label that was predicted.
        positives: for a binary classifier with probabilities, the scores of rows labelled with the positive class.
        negatives: the scores of rows labelled with the other.
    """

    predictions: int = 0
    labelled: int = 0
    correct: int = 0
    positives: tuple[float, ...] = ()
    negatives: tuple[float, ...] = ()


@dataclass(frozen=True)
class _Prediction:
    """A remembered request; `labels` is empty until they come, as no request has no rows."""

    at: float
    answers: Sequence[Any]
    scores: Sequence[float]
    classes: Sequence[Any]
    labels: tuple[Label, ...] = ()


class Memory:
    """The predictions that wait for their labels.

    Args:
        settings: how many, and for how long.
    """

    def __init__(self, settings: FeedbackSettings) -> None:
        self._settings = settings
        self._known: OrderedDict[str, _Prediction] = OrderedDict()  # the oldest first
        self._rows = 0

    def remember(self, request_id: str, answered: Answered, now: float) -> int:
        """Remember an answer, and return how many rows were forgotten for lack of room.

        A request that is sent again under an id that is still remembered is the same request: its first answer counts.
        """
        if request_id in self._known or not answered.answers or self._settings.window_seconds <= 0:
            return 0
        self._known[request_id] = _Prediction(now, answered.answers, answered.scores, answered.classes)
        self._rows += len(answered.answers)
        forgotten = 0
        while self._rows > self._settings.max_predictions:
            _, oldest = self._known.popitem(last=False)
            self._rows -= len(oldest.answers)
            forgotten += len(oldest.answers)
        return forgotten

    def receive(self, feedback: Feedback, now: float) -> Received:
        """Keep the labels of a remembered prediction, once."""
        known = self._known.get(feedback.request_id)
        if known is None or known.at + self._settings.window_seconds <= now:
            return Unknown()
        reason = _misfit(feedback.labels, known)
        if reason:
            return Misfit(reason)
        if known.labels:
            return Repeated() if known.labels == feedback.labels else Conflict()
        self._known[feedback.request_id] = replace(known, labels=feedback.labels)
        return Accepted()

    def mature(self, now: float) -> list[Matured]:
        """Take out the predictions whose window is over, and say what has come of each."""
        matured = []
        while self._known:
            request_id, oldest = next(iter(self._known.items()))
            if oldest.at + self._settings.window_seconds > now:
                break
            del self._known[request_id]
            self._rows -= len(oldest.answers)
            if not _incomparable(oldest):
                matured.append(_tally(oldest))
        return matured


def parse_feedback(body: bytes, content_type: str) -> Feedback:
    """Read a body like `{"id": "…", "label": 1}`, or `"labels": [1, 0]` for a request of several rows.

    Raises:
        BadRequestError: the body is anything else; with status 415 where it is not even said to be JSON.
    """
    if content_type.partition(";")[0].strip().lower() != "application/json":
        raise BadRequestError("Send feedback as application/json", HTTPStatus.UNSUPPORTED_MEDIA_TYPE)
    document = read_json(body)
    if not isinstance(document, dict) or set(document) not in ({"id", "label"}, {"id", "labels"}):
        raise BadRequestError('Send an object like {"id": "…", "label": 1}, or {"id": "…", "labels": [1, 0]}')
    request_id = document["id"]
    if not isinstance(request_id, str) or not request_id:
        raise BadRequestError("id has to be the X-Request-Id of an answer, as text")
    labels = document["labels"] if "labels" in document else [document["label"]]
    if not isinstance(labels, list) or not labels:
        raise BadRequestError("labels has to be a list with one label for each row of the request")
    for at, label in enumerate(labels):
        if not isinstance(label, Label) or (isinstance(label, float) and not math.isfinite(label)):
            raise BadRequestError(f"The label of row {at} is none: send a number, text, true or false")
    return Feedback(request_id=request_id, labels=tuple(labels))


def _misfit(labels: Sequence[Label], known: _Prediction) -> str:
    """Return why labels cannot be compared with a prediction; empty where they can."""
    if reason := _incomparable(known):
        return reason
    if len(labels) != len(known.answers):
        return f"The request had {len(known.answers)} rows and the feedback has {len(labels)} labels; send one for each"
    strange = [label for label in labels if known.classes and label not in known.classes]
    if strange:
        classes = ", ".join(map(repr, known.classes[:10]))
        return f"The label {strange[0]!r} is none of the model's classes, which are {classes}"
    return ""


def _incomparable(known: _Prediction) -> str:
    if not all(answer is None or isinstance(answer, Label) for answer in known.answers):
        return "The model answers several values a row, and feedback is compared with single ones"
    if not known.classes and any(isinstance(answer, float) for answer in known.answers):
        return "The model answers numbers and not classes, so that no answer is simply right; use the prediction log"
    return ""


def _tally(known: _Prediction) -> Matured:
    rows = len(known.answers)
    if not known.labels:
        return Matured(predictions=rows)
    positives: list[float] = []
    negatives: list[float] = []
    if len(known.classes) == _BINARY and len(known.scores) == rows:
        for label, score in zip(known.labels, known.scores, strict=True):
            (positives if label == known.classes[1] else negatives).append(score)
    return Matured(
        predictions=rows,
        labelled=rows,
        correct=sum(answer == label for answer, label in zip(known.answers, known.labels, strict=True)),
        positives=tuple(positives),
        negatives=tuple(negatives),
    )
