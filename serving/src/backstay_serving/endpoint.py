"""One request from body to answer: what runs on the prediction thread.

Importing this module imports pandas and scikit-learn, which takes a second: only the thread that loads the model does.
"""

import json
import logging
import math
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import date, time, timedelta
from decimal import Decimal
from enum import Enum
from functools import partial
from pathlib import Path
from traceback import extract_tb
from typing import Any
from uuid import UUID

import numpy as np
import pandas as pd

from backstay_contract.digest import artifact_digest
from backstay_contract.profile import Profile
from backstay_serving.featurecounts import CountsNothing, FeatureCounter, counter_for
from backstay_serving.mlmodel import ModelFile, SklearnFlavor, read_mlmodel
from backstay_serving.model import Array, Model, Prediction, UnfitInputError, load_model
from backstay_serving.outcome import Answered, FeatureCount, ModelFailed, Outcome, Refused
from backstay_serving.payload import BadRequestError, Parsed, parse
from backstay_serving.profile import read_profile
from backstay_serving.registry import fetch
from backstay_serving.settings import AnyDigest, Digest, ModelSettings, StartError
from backstay_serving.signature import (
    Columns,
    ModelInput,
    Signature,
    Tensor,
    Unspecified,
    build_input,
    features_of,
    parse_signature,
)

_LOG = logging.getLogger(__name__)
_LONGEST_REASON = 300  # characters of a model's own error message that are passed on
# What an answer may hold beside numbers and text; it goes to the caller as Python writes it.
_WRITTEN = (date, time, timedelta, Decimal, UUID, Enum, bytes, complex, pd.Period, pd.Interval)
_ZEROS: dict[str, Any] = {"string": "", "boolean": False, "datetime": "1970-01-01"}


@dataclass(frozen=True)
class Endpoint:
    """A model that is loaded and answers.

    Attributes:
        model: what predicts.
        signature: what it takes.
        digest: of the artifacts it was loaded from.
        flavor: the name of the MLflow flavour it was loaded by.
        profile: the buckets that its training asks for.
        counter: counts features into them.
    """

    model: Model
    signature: Signature
    digest: str
    flavor: str
    profile: Profile
    counter: FeatureCounter | CountsNothing

    def answer(self, body: bytes, content_type: str) -> Outcome:
        """Answer one `/invocations` request; never raises."""
        prepared = self._prepare(body, content_type)
        return self._alone(prepared) if isinstance(prepared, _Prepared) else prepared

    def answer_together(self, requests: Sequence[tuple[bytes, str]]) -> Sequence[Outcome]:
        """Answer several requests by one call of the model; never raises.

        Where the model fails on all of them together, or its answers are not one a row, each is predicted alone: a
        request must not fail for what another one holds.
        """
        prepared = [self._prepare(*request) for request in requests]
        joined = [part for part in prepared if isinstance(part, _Prepared) and not part.parsed.params]
        together = self._together(joined)
        outcomes: list[Outcome] = []
        for part in prepared:
            if not isinstance(part, _Prepared):
                outcomes.append(part)
            else:
                outcomes.append(together.get(id(part)) or self._alone(part))
        return outcomes

    def _prepare(self, body: bytes, content_type: str) -> "_Prepared | Refused | ModelFailed":
        try:
            parsed = parse(body, content_type)
            data = build_input(parsed.rows, self.signature)
            # Counted before the model, which may change its input.
            return _Prepared(parsed=parsed, data=data, features=self.counter.count(data))
        except BadRequestError as error:
            return Refused(status=error.status, message=str(error))
        except Exception as error:  # noqa: BLE001  one odd request must not end the others
            return _failed(error)

    def _alone(self, prepared: "_Prepared") -> Outcome:
        try:
            return _answered(prepared, self.model.predict(prepared.data, prepared.parsed.params), self.signature)
        except UnfitInputError as error:
            return Refused(status=BadRequestError("").status, message=str(error))
        except BaseException as error:  # noqa: BLE001  a model is somebody's code and may raise anything
            _let_through(error)
            return _failed(error)

    def _together(self, parts: "Sequence[_Prepared]") -> dict[int, Answered]:
        """Answer requests by one call of the model, by their `id`; none where they cannot be joined, or fail."""
        frames = [part.data for part in parts if isinstance(part.data, pd.DataFrame)]
        alike = len(frames) == len(parts) > 1 and all(frame.columns.equals(frames[0].columns) for frame in frames)
        if not alike or not isinstance(self.signature, Columns):
            return {}
        try:
            prediction = self.model.predict(pd.concat(frames, ignore_index=True), {})
            parted = zip(parts, prediction.parted([len(frame) for frame in frames]), strict=True)
            return {id(part): _answered(part, own, self.signature) for part, own in parted}
        except BaseException as error:  # noqa: BLE001  each is asked alone next, and says what is wrong with it
            _let_through(error)
            return {}


@dataclass(frozen=True)
class _Prepared:
    """A request that is ready for the model."""

    parsed: Parsed
    data: ModelInput
    features: Sequence[FeatureCount]


def _answered(prepared: _Prepared, prediction: Prediction, signature: Signature) -> Answered:
    rows = prepared.parsed.rows
    plain, values, nulls = _plain(prediction.answers)
    document = {"predictions": plain}
    if prediction.probabilistic:
        document["scores"] = _plain(prediction.scores)[0]
    return Answered(
        body=json.dumps(document, allow_nan=False, separators=(",", ":")).encode(),
        scores=_finite(prediction.scores),
        confidences=_finite(prediction.confidences),
        values=values,
        nulls=nulls,
        answers=plain if isinstance(plain, list) and len(plain) == len(rows.rows) else (),
        inputs=partial(features_of, rows, signature),
        classes=prediction.classes,
        features=prepared.features,
    )


def _let_through(error: BaseException) -> None:
    """Raise Ctrl-C again, which reaches the main thread alone; anywhere else the model has raised it."""
    if isinstance(error, KeyboardInterrupt) and threading.current_thread() is threading.main_thread():
        raise error


def _failed(error: BaseException) -> ModelFailed:
    return ModelFailed(type=type(error).__name__, reason=_first_line(error), place=_place(error))


def open_endpoint(settings: ModelSettings, workspace: Path, report: Callable[[str], None]) -> Endpoint:
    """Fetch, check, load and warm a model.

    Args:
        settings: which model and what is demanded of it.
        workspace: an existing folder for its artifacts, which must stay as long as the model is used.
        report: told of each stage in a few words, for people who wait.

    Raises:
        StartError: the model is not to be had, is not the one meant, or does not work.
    """
    report("fetching the artifacts")
    folder = fetch(
        settings.source, tracking_uri=settings.tracking_uri, into=workspace, allowed=settings.artifact_locations
    )
    try:
        digest = artifact_digest(folder)
    except ValueError as error:
        raise StartError(str(error)) from error
    _demand(settings.digest, digest, settings)
    report("loading the model")
    file = read_mlmodel(folder)
    signature, profile = parse_signature(file.inputs), read_profile(folder)
    endpoint = Endpoint(
        model=load_model(file, settings.decision),
        signature=signature,
        profile=profile,
        counter=counter_for(profile.features, signature),
        digest=digest,
        flavor="sklearn" if isinstance(file.flavor, SklearnFlavor) else "python_function",
    )
    report("warming the model")
    _warm(endpoint, file)
    return endpoint


def _demand(wanted: Digest | AnyDigest, found: str, settings: ModelSettings) -> None:
    if isinstance(wanted, Digest) and wanted.value != found:
        raise StartError(
            f"The artifacts of {settings.identity.name} version {settings.identity.version} have the digest {found}, "
            f"but {wanted.value} was asked for: they were changed after the version was approved, or spec.model.digest "
            "names another version; nothing of them was loaded"
        )


def _warm(endpoint: Endpoint, file: ModelFile) -> None:
    """Predict once: the first caller must not pay for lazy imports, and a model that cannot work must not be ready."""
    if file.example:
        outcome = endpoint.answer(file.example, "application/json")
        match outcome:
            case Answered():
                return
            case Refused():
                raise StartError(
                    f"The model does not take the input example that was logged with it: {outcome.message}"
                )
            case ModelFailed():
                raise StartError(f"The model fails on the input example that was logged with it: {outcome.sentence()}")
    body = _made_up(endpoint.signature)
    if not body:
        _LOG.warning("The model has neither a signature nor an input example, so it starts cold: log it with either")
    elif isinstance(endpoint.answer(body, "application/json"), Refused | ModelFailed):
        # A model may rightly refuse made-up values, so this says nothing about it.
        _LOG.info("The model refused a row of zeros; log it with an input example to have it warmed with that")


def _made_up(signature: Signature) -> bytes:
    match signature:
        case Columns():
            row = {column.name: _ZEROS.get(column.type, 0) for column in signature.columns}
            return json.dumps({"dataframe_records": [row]}).encode()
        case Tensor():
            return json.dumps({"inputs": np.zeros([1 if n < 0 else n for n in signature.shape]).tolist()}).encode()
        case Unspecified():
            return b""


def _plain(answers: Any) -> tuple[Any, int, int]:
    """Return answers as what JSON can say, how many values they hold, and how many of those are null or no number."""
    match answers:
        case pd.DataFrame():
            values: Any = answers.astype(object).to_dict(orient="records")
        case np.ndarray() | pd.Series():
            values = answers.tolist()
        case _:
            values = answers
    leaves = nulls = 0

    def plain(value: Any) -> Any:
        nonlocal leaves, nulls
        match value:
            case dict():
                return {str(key): plain(inner) for key, inner in value.items()}
            case list() | tuple():
                return [plain(inner) for inner in value]
            case np.generic() | np.ndarray():
                return plain(value.tolist())
            case _ if _is_null(value):
                leaves += 1
                nulls += 1
                return None
            case int() | float() | str():
                leaves += 1
                return value
            case _ if isinstance(value, _WRITTEN):
                leaves += 1
                return str(value)
            case _:
                raise TypeError(f"the answer holds a value of type {type(value).__name__}, which JSON cannot say")

    return plain(values), leaves, nulls


def _is_null(value: Any) -> bool:
    return value is None or value is pd.NA or value is pd.NaT or (isinstance(value, float) and not math.isfinite(value))


def _finite(values: Array) -> tuple[float, ...]:
    return tuple(values[np.isfinite(values)].tolist())


def _first_line(error: BaseException) -> str:
    try:
        said = str(error)
    except Exception:  # noqa: BLE001  that too is the model's code
        return ""
    return (said.strip().splitlines() or [""])[0][:_LONGEST_REASON].encode(errors="replace").decode()


def _place(error: BaseException) -> str:
    innermost = extract_tb(error.__traceback__)[-1]
    return f"{'/'.join(Path(innermost.filename).parts[-2:])}:{innermost.lineno}"
