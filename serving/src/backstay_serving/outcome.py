"""What can come of a request: plain values, without anything that is slow to import."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any


@dataclass(frozen=True)
class FeatureCount:
    """One feature of one request, counted.

    Attributes:
        buckets: how many rows lie in each bucket of the profile, and at last how many beyond.
        sum: of the values.
        nulls: how many rows have no finite number there.
    """

    buckets: Sequence[int]
    sum: float
    nulls: int


@dataclass(frozen=True)
class Answered:
    """The model predicted.

    Attributes:
        body: the JSON document for the caller.
        scores: what the prediction histogram gets; finite numbers.
        confidences: what the confidence histogram gets; finite numbers.
        values: how many predicted values there are.
        nulls: how many of them are null or not a number.
        answers: what was predicted, one entry a row, as JSON has it; empty where the model does not answer by rows.
        inputs: makes the rows as the model got them, one entry for each answer: an object of named features, or what
            a row without names was. A function, because most requests never need it.
        classes: the classes that a classifier chooses from; the scores of a binary one are the second's probability.
            Empty for any other model.
        features: the features of the model's reference profile, counted in its order; empty without one.
    """

    body: bytes
    scores: tuple[float, ...]
    confidences: tuple[float, ...]
    values: int
    nulls: int
    answers: Sequence[Any]
    inputs: Callable[[], Sequence[Any]]
    classes: Sequence[Any] = ()
    features: Sequence[FeatureCount] = ()


@dataclass(frozen=True)
class Refused:
    """The request is the caller's mistake.

    Attributes:
        status: a 4xx status.
        message: the mistake in one sentence.
    """

    status: HTTPStatus
    message: str


@dataclass(frozen=True)
class ModelFailed:
    """The model raised an exception.

    Attributes:
        type: the exception's class.
        reason: the first line of its message; may be empty.
        place: the file and line that raised it.
    """

    type: str
    reason: str
    place: str

    def sentence(self) -> str:
        """Say it in one line."""
        return f"{self.type}: {self.reason}" if self.reason else self.type


Outcome = Answered | Refused | ModelFailed
