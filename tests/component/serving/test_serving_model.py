"""Models of several kinds, saved by MLflow and loaded as the server loads them."""

from __future__ import annotations

import json
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pytest
import yaml
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder

from backstay_serving.outcome import Answered, ModelFailed, Refused
from backstay_serving.settings import StartError, Threshold

if TYPE_CHECKING:
    from pathlib import Path

    from tests.component.serving.conftest import OpenModel, Save

    from backstay_serving.state import Endpoint

pytestmark = pytest.mark.component

ROWS = pd.DataFrame({"amount": [1.0, 2.0, 8.0, 9.0], "hour": [3.0, 1.0, 2.0, 4.0]})
LABELS = np.array([0, 0, 1, 1])
ROW = {"dataframe_records": [{"amount": 9.0, "hour": 3.0}]}


def ask(endpoint: Endpoint, document: Any = ROW) -> Answered | Refused | ModelFailed:
    return endpoint.answer(json.dumps(document).encode(), "application/json")


def answer_of(endpoint: Endpoint, document: Any = ROW) -> tuple[Any, Answered]:
    outcome = ask(endpoint, document)
    assert isinstance(outcome, Answered), outcome
    return json.loads(outcome.body), outcome


class Undecided(ClassifierMixin, BaseEstimator):  # type: ignore[misc]  # scikit-learn publishes no types
    """Predicts nothing."""

    def fit(self, rows: Any, labels: Any) -> Undecided:  # noqa: ARG002  scikit-learn's interface
        self.fitted_ = True
        return self

    def predict(self, rows: Any) -> Any:
        return np.full(len(rows), np.nan)


@pytest.mark.parametrize("serialization", ["skops", "cloudpickle", "pickle"])
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_every_serialization_of_mlflow_loads(save: Save, open_model: OpenModel, serialization: str) -> None:
    folder = save(LogisticRegression().fit(ROWS, LABELS), serialization_format=serialization)
    assert answer_of(open_model(folder))[0]["predictions"] == [1]


def test_the_threshold_decides(classifier: Path, open_model: OpenModel) -> None:
    document, outcome = answer_of(open_model(classifier, Threshold(1.0)))
    assert document["predictions"] == [0]
    assert outcome.scores == tuple(document["scores"])
    assert answer_of(open_model(classifier, Threshold(0.0)))[0]["predictions"] == [1]


def test_a_score_equal_to_the_threshold_is_positive(classifier: Path, open_model: OpenModel) -> None:
    score = answer_of(open_model(classifier))[0]["scores"][0]
    assert answer_of(open_model(classifier, Threshold(score)))[0]["predictions"] == [1]


def test_a_regressor_answers_values(regressor: Path, open_model: OpenModel) -> None:
    document, outcome = answer_of(open_model(regressor))
    assert "scores" not in document
    assert outcome.scores == tuple(document["predictions"])
    assert outcome.confidences == ()


def test_a_classifier_of_words_answers_words(save: Save, open_model: OpenModel) -> None:
    folder = save(LogisticRegression().fit(ROWS, np.array(["fine", "fine", "fraud", "odd"])))
    document, outcome = answer_of(open_model(folder))
    assert document == {"predictions": ["odd"]}
    assert outcome.scores == (2.0,)
    assert 1 / 3 < outcome.confidences[0] <= 1


def test_a_model_logged_with_predict_proba_answers_probabilities(save: Save, open_model: OpenModel) -> None:
    folder = save(LogisticRegression().fit(ROWS, LABELS), pyfunc_predict_fn="predict_proba")
    document, outcome = answer_of(open_model(folder))
    assert sum(document["predictions"][0]) == pytest.approx(1)
    assert outcome.scores == (document["predictions"][0][1],)


def test_predictions_that_are_not_numbers_are_null(save: Save, open_model: OpenModel) -> None:
    folder = save(Undecided().fit(ROWS, LABELS), skops_trusted_types=["test_serving_model.Undecided"])
    document, outcome = answer_of(open_model(folder), {"inputs": [[1, 2], [3, 4]]})
    assert document == {"predictions": [None, None]}
    assert (outcome.nulls, outcome.scores) == (2, ())


def test_a_model_that_raises_is_told_apart_from_a_bad_request(save: Save, open_model: OpenModel) -> None:
    words = pd.DataFrame({"channel": ["web", "shop", "web", "shop"]})
    folder = save(
        make_pipeline(OneHotEncoder(handle_unknown="error"), LogisticRegression()).fit(words, LABELS), rows=words
    )
    endpoint = open_model(folder)
    failed = ask(endpoint, {"dataframe_records": [{"channel": "phone"}]})
    assert isinstance(failed, ModelFailed)
    assert failed.type == "ValueError"
    assert "phone" in failed.reason
    assert failed.place.startswith("preprocessing/_encoders.py:")
    assert isinstance(ask(endpoint, {"dataframe_records": [{"channel": 3}]}), Refused)


def test_a_model_without_a_signature_takes_what_comes(save: Save, open_model: OpenModel) -> None:
    folder = save(LinearRegression().fit(ROWS.to_numpy(), LABELS), signature=None, input_example=None)
    assert "predictions" in answer_of(open_model(folder), {"instances": [[1, 2]]})[0]


def test_params_are_refused_where_the_model_takes_none(classifier: Path, open_model: OpenModel) -> None:
    refused = ask(open_model(classifier), ROW | {"params": {"top": 1}})
    message = "This model takes no params; leave them out of the request"
    assert refused == Refused(status=HTTPStatus.BAD_REQUEST, message=message)


def test_a_model_that_fails_on_its_own_example_never_becomes_ready(save: Save, open_model: OpenModel) -> None:
    words = pd.DataFrame({"channel": ["web", "shop", "web", "shop"]})
    folder = save(make_pipeline(OneHotEncoder(), LogisticRegression()).fit(words, LABELS), rows=words)
    example = folder / "serving_input_example.json"
    example.write_text('{"dataframe_records": [{"channel": "phone"}]}')
    with pytest.raises(StartError, match="The model fails on the input example that was logged with it: ValueError"):
        open_model(folder)
    example.write_text("{}")
    with pytest.raises(StartError, match="The model does not take the input example that was logged with it"):
        open_model(folder)


@pytest.mark.parametrize("model", ["regressor", "three classes"])
def test_a_threshold_for_a_model_without_one_is_refused(
    save: Save, regressor: Path, open_model: OpenModel, model: str
) -> None:
    folder = regressor if model == "regressor" else save(LogisticRegression().fit(ROWS, np.array([0, 1, 2, 2])))
    with pytest.raises(StartError, match=r"SERVING_THRESHOLD is set but the model has .*: remove servingThreshold"):
        open_model(folder, Threshold(0.5))


def edit_mlmodel(folder: Path, **changes: Any) -> None:
    file = folder / "MLmodel"
    file.write_text(yaml.safe_dump(yaml.safe_load(file.read_text()) | changes))


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda folder: (folder / "MLmodel").unlink(), "holds no file MLmodel"),
        (lambda folder: (folder / "MLmodel").write_text("- 1"), "is not a file that MLflow wrote"),
        (lambda folder: edit_mlmodel(folder, flavors={"h2o": {}}), "The model has the flavours h2o; sklearn and"),
        (
            lambda folder: edit_mlmodel(folder, flavors={"sklearn": {"serialization_format": "onnx"}}),
            "The model is serialized as 'onnx'",
        ),
        (lambda folder: (folder / "model.skops").write_bytes(b"junk"), "The model file model.skops, written by"),
        (lambda folder: (folder / "model.skops").unlink(), "does not load with scikit-learn"),
    ],
)
def test_a_broken_folder_is_refused_with_a_sentence(
    save: Save, open_model: OpenModel, change: Any, sentence: str
) -> None:
    folder = save(LogisticRegression().fit(ROWS, LABELS))
    change(folder)
    with pytest.raises(StartError) as refused:
        open_model(folder)
    assert sentence in str(refused.value)
    assert "\n" not in str(refused.value)


def test_a_skops_file_with_types_nobody_trusted_is_refused(save: Save, open_model: OpenModel) -> None:
    folder = save(Undecided().fit(ROWS, LABELS), skops_trusted_types=["test_serving_model.Undecided"])
    flavors = yaml.safe_load((folder / "MLmodel").read_text())["flavors"]
    flavors["sklearn"]["skops_trusted_types"] = []
    edit_mlmodel(folder, flavors=flavors)
    with pytest.raises(StartError, match="UntrustedTypesFoundException"):
        open_model(folder)


def test_mlflows_switch_against_deserialization_is_honoured(
    classifier: Path, open_model: OpenModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_ALLOW_PICKLE_DESERIALIZATION", "false")
    with pytest.raises(StartError, match="forbids loading any scikit-learn model"):
        open_model(classifier)
