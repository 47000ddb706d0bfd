"""A loaded model: from rows to labels, scores and confidences.

Importing this module imports pandas and scikit-learn, which takes a second: only the thread that loads the model does.
"""

import os
import pickle
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from importlib import import_module
from itertools import accumulate
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pandas as pd
import sklearn

from backstay_serving.mlmodel import ModelFile, PythonFlavor, SklearnFlavor
from backstay_serving.settings import ModelsOwnDecision, StartError, Threshold
from backstay_serving.signature import ModelInput

_BINARY = 2
Array = np.ndarray[Any, Any]


class UnfitInputError(Exception):
    """The input does not fit the signature, so the model was not asked: the caller's mistake, not the model's."""


@dataclass(frozen=True)
class Prediction:
    """What a model says about some rows.

    Attributes:
        answers: one a row, as it goes back to the caller.
        scores: the number that the prediction histogram gets, one a row: the probability of the positive class of a
            binary classifier, else the predicted value, and for a label that is no number its place among the model's
            classes. Empty where the answers are nothing of the sort.
        probabilistic: whether the scores are probabilities that the caller gets as well.
        confidences: the probability of the likeliest class, one a row; empty for a model that states none.
        classes: the labels that a classifier chooses its answers from; empty for any other model.
    """

    answers: Any
    scores: Array
    probabilistic: bool
    confidences: Array
    classes: Sequence[Any] = ()

    def parted(self, lengths: Sequence[int]) -> "list[Prediction]":
        """Part a prediction of several requests' rows into one for each.

        Raises:
            ValueError: the answers are not one a row.
        """
        rows = sum(lengths)
        if not isinstance(self.answers, pd.DataFrame | pd.Series | np.ndarray) or len(self.answers) != rows:
            raise ValueError("the answers are not one a row")
        if {len(self.scores), len(self.confidences)} - {0, rows}:
            raise ValueError("the scores are not one a row")
        ends = list(accumulate(lengths))
        return [
            replace(
                self,
                answers=self.answers[end - length : end],
                scores=self.scores[end - length : end],
                confidences=self.confidences[end - length : end],
            )
            for length, end in zip(lengths, ends, strict=True)
        ]


class Model(Protocol):
    """What the server needs of a model, whatever its flavour."""

    def predict(self, data: ModelInput, params: dict[str, Any]) -> Prediction:
        """Predict for every row.

        Raises:
            UnfitInputError: the input was refused before the model was asked.
            BaseException: anything that the model raises; it is somebody's code, and may even call `sys.exit`.
        """


_NONE: Array = np.empty(0)


@dataclass(frozen=True)
class PlainEstimator:
    """An estimator that states no probabilities, or whose answers are to be something else than labels."""

    function: Callable[[ModelInput], Any]

    def predict(self, data: ModelInput, params: dict[str, Any]) -> Prediction:
        """Answer what the estimator's method returns."""
        _refuse(params)
        answers = self.function(data)
        return Prediction(answers=answers, scores=_numbers(answers), probabilistic=False, confidences=_NONE)


@dataclass(frozen=True)
class Classifier:
    """A classifier with probabilities and its own way to a label."""

    estimator: Any

    def predict(self, data: ModelInput, params: dict[str, Any]) -> Prediction:
        """Answer the labels that the classifier's `predict` gives."""
        _refuse(params)
        answers = np.asarray(self.estimator.predict(data))
        probabilities = self.estimator.predict_proba(data)
        confidences = probabilities.max(axis=1)
        binary = probabilities.shape[1] == _BINARY
        return Prediction(
            answers=answers,
            scores=probabilities[:, 1] if binary else self._places(answers),
            probabilistic=binary,
            confidences=confidences,
            classes=_classes(self.estimator),
        )

    def _places(self, answers: Array) -> Array:
        numbers = _numbers(answers)
        return numbers if numbers.size else np.searchsorted(self.estimator.classes_, answers)


@dataclass(frozen=True)
class ThresholdClassifier:
    """A binary classifier whose label the deployment's threshold decides."""

    estimator: Any
    threshold: float

    def predict(self, data: ModelInput, params: dict[str, Any]) -> Prediction:
        """Answer the positive class from the threshold on."""
        _refuse(params)
        probabilities = self.estimator.predict_proba(data)
        scores = probabilities[:, 1]
        answers = np.asarray(self.estimator.classes_)[(scores >= self.threshold).astype(int)]
        return Prediction(
            answers=answers,
            scores=scores,
            probabilistic=True,
            confidences=probabilities.max(axis=1),
            classes=_classes(self.estimator),
        )


@dataclass(frozen=True)
class Probabilities:
    """A classifier that was logged to answer with the probabilities of all its classes."""

    estimator: Any

    def predict(self, data: ModelInput, params: dict[str, Any]) -> Prediction:
        """Answer one list of probabilities a row."""
        _refuse(params)
        answers = self.estimator.predict_proba(data)
        scores = answers[:, 1] if answers.shape[1] == _BINARY else _NONE
        return Prediction(answers=answers, scores=scores, probabilistic=False, confidences=answers.max(axis=1))


@dataclass(frozen=True)
class PythonFunction:
    """A model of MLflow's `python_function` flavour.

    Attributes:
        model: as MLflow loads it: it checks an input against the signature, and then asks the function.
        check: the same check of the input in front of a function that does nothing.
    """

    model: Any
    check: Any

    def predict(self, data: ModelInput, params: dict[str, Any]) -> Prediction:
        """Answer what the function returns, after MLflow's check of the input against the signature.

        MLflow raises the same exceptions for an unfit input as a function may. So after one, `check` tells whose it is;
        to ask that before each call would double the time that MLflow takes.
        """
        # The function may change its input, and the check has to see what came.
        given = data.copy(deep=False) if isinstance(data, pd.DataFrame) else data.view()
        try:
            answers = self.model.predict(given, params=params or None)
        except Exception:
            self._refuse_unfit(data, params)
            raise
        return Prediction(answers=answers, scores=_numbers(answers), probabilistic=False, confidences=_NONE)

    def _refuse_unfit(self, data: ModelInput, params: dict[str, Any]) -> None:
        try:
            self.check.predict(data, params=params or None)
        except Exception as error:
            # What stands behind it is shorter: MLflow's own sentence repeats the whole input.
            said = str(error.__context__ or error).strip().splitlines() or [type(error).__name__]
            raise UnfitInputError(f"The input does not fit the model's signature: {said[0]}") from error


class _NoFunction:
    """Stands where a model's function would be."""

    def predict(self, data: ModelInput, params: dict[str, Any] | None = None) -> None:
        """Do nothing."""


def load_model(file: ModelFile, decision: Threshold | ModelsOwnDecision) -> Model:
    """Load a model by its flavour.

    Raises:
        StartError: the model cannot be loaded here, or the threshold does not fit it.
    """
    sys.path[:0] = [str(folder) for folder in file.code]
    match file.flavor:
        case SklearnFlavor():
            return _estimator(_read_estimator(file.flavor), file.flavor.predict_function, decision)
        case PythonFlavor():
            if isinstance(decision, Threshold):
                raise _no_threshold("has no probabilities that this server knows of")
            return _python_function(file.folder)


def _estimator(estimator: Any, function: str, decision: Threshold | ModelsOwnDecision) -> Model:
    labels = function == "predict" and hasattr(estimator, "predict_proba") and hasattr(estimator, "classes_")
    match decision:
        case Threshold():
            if not labels:
                raise _no_threshold("has no predict_proba, or was logged to answer with another method than predict")
            if len(estimator.classes_) != _BINARY:
                raise _no_threshold(f"has {len(estimator.classes_)} classes")
            return ThresholdClassifier(estimator=estimator, threshold=decision.value)
        case ModelsOwnDecision():
            if labels:
                return Classifier(estimator=estimator)
            if not hasattr(estimator, function):
                raise StartError(
                    f"The model was logged to answer with {function}, which it does not have: log it again"
                )
            if function == "predict_proba":
                return Probabilities(estimator=estimator)
            return PlainEstimator(function=getattr(estimator, function))


def _no_threshold(because: str) -> StartError:
    return StartError(
        f"SERVING_THRESHOLD is set but the model {because}: remove servingThreshold from spec.serving.config"
    )


def _read_estimator(flavor: SklearnFlavor) -> Any:
    if os.environ.get("MLFLOW_ALLOW_PICKLE_DESERIALIZATION", "true").lower() in ("false", "0"):
        raise StartError("MLFLOW_ALLOW_PICKLE_DESERIALIZATION is false, which forbids loading any scikit-learn model")
    try:
        match flavor.serialization:
            case "skops":
                return import_module("skops.io").load(flavor.file, trusted=list(flavor.trusted_types))
            case "cloudpickle" | "pickle":
                # cloudpickle writes pickles that import cloudpickle by themselves.
                with flavor.file.open("rb") as file:
                    return pickle.load(file)  # noqa: S301  a model is code; MODEL_DIGEST says which code is meant
    except (Exception, SystemExit) as error:
        wrote = f", written by scikit-learn {flavor.sklearn_version}," if flavor.sklearn_version else ""
        raise StartError(
            f"The model file {flavor.file.name}{wrote} does not load with scikit-learn {sklearn.__version__}: "
            f"{type(error).__name__}: {error}"
        ) from error


def _python_function(folder: Path) -> PythonFunction:
    pyfunc = import_module("mlflow.pyfunc")
    try:
        model = pyfunc.load_model(str(folder))
        return PythonFunction(model=model, check=pyfunc.PyFuncModel(model.metadata, _NoFunction()))
    except (Exception, SystemExit) as error:
        raise StartError(f"MLflow could not load the model: {type(error).__name__}: {error}") from error


def _classes(estimator: Any) -> tuple[Any, ...]:
    classes = np.asarray(estimator.classes_)
    return tuple(classes.tolist()) if classes.ndim == 1 else ()


def _refuse(params: dict[str, Any]) -> None:
    if params:
        raise UnfitInputError("This model takes no params; leave them out of the request")


def _numbers(answers: Any) -> Array:
    """Return answers that are one number a row as floats, and an empty array for any other."""
    if isinstance(answers, pd.DataFrame) and answers.shape[1] == 1:
        answers = answers.iloc[:, 0]
    try:
        array = np.asarray(answers)
    except ValueError:
        return _NONE
    if array.ndim > 1 and array.size == len(array):
        array = array.reshape(-1)
    if array.ndim != 1 or array.dtype.kind not in "biuf":
        return _NONE
    return array.astype(np.float64)
