"""Models of MLflow's python_function flavour: whose fault a failure is, and that it ends nothing else."""

from __future__ import annotations

import asyncio
import json
import sys
import warnings
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pandas as pd
import pytest
from starlette.exceptions import HTTPException

from backstay_serving.outcome import Answered, ModelFailed, Refused
from backstay_serving.payload import BadRequestError
from backstay_serving.score import ScoreError, score
from backstay_serving.settings import BatchSettings, StartError

if TYPE_CHECKING:
    from pathlib import Path

    from tests.component.serving.conftest import OpenModel, Serve

    from backstay_serving.state import Endpoint

pytestmark = pytest.mark.component

Act = Callable[[Any], Any]
OpenFunction = Callable[[Act], "Endpoint"]
ROWS = pd.DataFrame({"amount": [1.0, 2.0], "day": pd.to_datetime(["2026-01-01", "2026-01-02"])})
FINE, SPOILT = 1.0, 9.0
JSON = "application/json"


class Mute(Exception):  # noqa: N818  a model's own
    """An exception that cannot say what it is."""

    def __str__(self) -> str:
        raise ValueError


def document(amount: Any, **more: Any) -> dict[str, Any]:
    return {"dataframe_records": [{"amount": amount, "day": "2026-01-01"}]} | more


def body(amount: float, **more: Any) -> tuple[bytes, str]:
    return json.dumps(document(amount, **more)).encode(), JSON


def save_function(act: Act, folder: Path, *, load: Callable[[], None] = lambda: None) -> Path:
    from mlflow import pyfunc  # noqa: PLC0415  slow to import
    from mlflow.models import infer_signature  # noqa: PLC0415  as above

    class Function(pyfunc.PythonModel):  # type: ignore[misc,name-defined]  # MLflow publishes no types
        def load_context(self, context: Any) -> None:  # noqa: ARG002  as below
            load()

        # MLflow would read a signature from type hints.
        def predict(self, context, model_input, params=None):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202, ARG002
            return act(model_input) if SPOILT in set(model_input["amount"]) else [0] * len(model_input)

    signature = infer_signature(ROWS, [0, 0], params={"top": 3})
    pyfunc.save_model(folder, python_model=Function(), signature=signature, pip_requirements=["mlflow"])
    return folder


@pytest.fixture
def open_function(open_model: OpenModel, tmp_path: Path) -> OpenFunction:
    """Open a function that answers 0 for each row, and acts once a row holds a spoilt amount."""

    def opened(act: Act) -> Endpoint:
        with warnings.catch_warnings(action="ignore"):  # MLflow's own, about pickles and type hints
            return open_model(save_function(act, tmp_path / "function"))

    return opened


def mlflow_error(message: str) -> Exception:
    from mlflow.exceptions import MlflowException  # noqa: PLC0415  slow to import

    error: Exception = MlflowException.invalid_parameter_value(message)
    return error


def raising(make: Callable[[], BaseException]) -> Act:
    def act(_: Any) -> Any:
        raise make()

    return act


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_a_function_that_ends_the_program_at_the_start_is_refused_with_a_sentence(
    open_model: OpenModel, tmp_path: Path
) -> None:
    folder = save_function(len, tmp_path / "function", load=lambda: sys.exit("no licence"))
    with pytest.raises(StartError, match="MLflow could not load the model: SystemExit: no licence"):
        open_model(folder)


@pytest.mark.parametrize("most", [1, 8])
@pytest.mark.parametrize(
    "make",
    [
        lambda: mlflow_error("no such customer"),
        lambda: mlflow_error(""),
        lambda: ValueError("\ud800"),
        lambda: BadRequestError("the model's own"),
        lambda: HTTPException(404),
        Mute,
        MemoryError,
        RecursionError,
        lambda: SystemExit(3),
        KeyboardInterrupt,
        asyncio.CancelledError,
        GeneratorExit,
    ],
)
def test_whatever_a_function_raises_is_its_failure_and_ends_nothing_else(
    open_function: OpenFunction, serve: Serve, make: Callable[[], BaseException], most: int
) -> None:
    batch = BatchSettings(max_requests=most, max_wait_seconds=0.0, max_bytes=10_000)
    with serve(open_function(raising(make)), batch=batch) as running:
        response = running.post(document(SPOILT))
        assert (response.status_code, response.json()["error_code"]) == (500, "INTERNAL_SERVER_ERROR")
        assert running.metric("backstay_errors_total", kind="prediction") == 1
        assert running.metric("backstay_errors_total", kind="internal") == 0
        assert running.post(document(FINE)).json() == {"predictions": [0]}
        assert running.metric("backstay_requests_total") == 2


@pytest.mark.parametrize(
    ("document", "sentence"),
    [
        (document("1"), "the model takes a number"),
        ({"dataframe_records": [{"amount": FINE}]}, "The model needs the column 'day', which the request lacks"),
        ({"dataframe_records": [{"amount": FINE, "day": "2026-01-01T00:00Z"}]}, "Column 'day' holds a time zone"),
        (document(FINE, params={"top": "x"}), "The input does not fit the model's signature: Invalid parameters found"),
        (document(SPOILT, params={"top": "x"}), "The input does not fit the model's signature: Invalid parameters"),
    ],
)
def test_what_does_not_fit_the_signature_is_the_callers_mistake(
    open_function: OpenFunction, serve: Serve, document: Any, sentence: str
) -> None:
    with serve(open_function(raising(ValueError))) as running:
        response = running.post(document)
        assert response.status_code == 400
        assert sentence in response.json()["message"]
        assert running.metric("backstay_errors_total", kind="prediction") == 0


def test_a_function_that_spoils_its_input_first_does_not_blame_the_caller(
    open_function: OpenFunction,
) -> None:
    def act(rows: Any) -> Any:
        rows["amount"] = "text"
        del rows["day"]
        raise mlflow_error("no such customer")

    failed = open_function(act).answer(*body(SPOILT))
    assert isinstance(failed, ModelFailed)
    assert failed.sentence() == "MlflowException: no such customer"


def test_in_a_batch_each_request_answers_for_itself(open_function: OpenFunction) -> None:
    endpoint = open_function(raising(lambda: SystemExit(3)))
    requests = [body(FINE), body(SPOILT), body(FINE, params={"top": "x"}), body(FINE)]
    kinds = [type(outcome) for outcome in endpoint.answer_together(requests)]
    assert kinds == [Answered, ModelFailed, Refused, Answered]


@pytest.mark.parametrize("together", [False, True])
def test_an_answer_that_json_cannot_say_is_a_failure(open_function: OpenFunction, *, together: bool) -> None:
    endpoint = open_function(lambda rows: pd.Series([object() for _ in range(len(rows))]))
    requests = [body(SPOILT), body(FINE)] if together else [body(SPOILT)]
    failed, *others = endpoint.answer_together(requests)
    assert isinstance(failed, ModelFailed)
    assert failed.sentence() == "TypeError: the answer holds a value of type object, which JSON cannot say"
    assert [type(outcome) for outcome in others] == [Answered] * len(others)


def test_scoring_ends_with_a_sentence_where_the_function_ends_the_program(
    open_function: OpenFunction, tmp_path: Path
) -> None:
    source = tmp_path / "rows.jsonl"
    source.write_text(json.dumps({"amount": SPOILT, "day": "2026-01-01"}))
    with pytest.raises(ScoreError, match="the model raised SystemExit: 3"):
        score(open_function(raising(lambda: SystemExit(3))), source, tmp_path / "scored.jsonl")


def test_scoring_can_be_interrupted(open_function: OpenFunction) -> None:
    endpoint = open_function(raising(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        endpoint.answer(*body(SPOILT))
    with pytest.raises(KeyboardInterrupt):
        endpoint.answer_together([body(SPOILT), body(FINE)])
