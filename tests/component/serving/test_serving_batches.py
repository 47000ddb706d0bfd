"""Requests that wait are joined into one call of the model, and nobody but the model notices."""

from __future__ import annotations

import json
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import httpx
import numpy as np
import pytest
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder
from tests.component.serving.conftest import LABELS, ROWS

from backstay_contract.profile import Profile
from backstay_serving.outcome import Answered, ModelFailed, Outcome, Refused
from backstay_serving.settings import BatchSettings, Threshold

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from tests.component.serving.conftest import OpenModel, Running, Save, Serve

pytestmark = pytest.mark.component

JSON = "application/json"
HALF = Threshold(0.5)


def body(*rows: tuple[float, float]) -> bytes:
    return json.dumps({"dataframe_split": {"columns": ["amount", "hour"], "data": rows}}).encode()


def comparable(outcome: Outcome) -> object:
    """Return an outcome without the function in it, which is never equal to another."""
    if isinstance(outcome, Answered):
        assert len(outcome.inputs()) == len(outcome.answers)
        document = json.loads(outcome.body)
        return outcome.answers, document["predictions"], outcome.values, outcome.nulls, outcome.classes
    return outcome


MIXED = [
    body((9.0, 1.0)),
    body((1.0, 2.0), (8.0, 3.0), (2.0, 1.0)),
    b"{",
    b'{"inputs": [[9.0, 1.0]], "params": {"unheard": 1}}',
    body((1.0, 4.0)),
]


class Counting:
    """A model's estimator, and how often it was asked."""

    def __init__(self, model: Any) -> None:
        self.model = model
        self.sizes: list[int] = []

    def predict(self, data: Any, params: dict[str, Any]) -> Any:
        self.sizes.append(len(data))
        return self.model.predict(data, params)


def counting(endpoint: Any) -> Counting:
    model = Counting(endpoint.model)
    object.__setattr__(endpoint, "model", model)
    return model


@pytest.mark.parametrize("kind", [LogisticRegression, LinearRegression])
def test_each_request_is_answered_as_if_it_had_come_alone_by_one_call(
    save: Save, open_model: OpenModel, kind: type[Any]
) -> None:
    endpoint = open_model(save(kind().fit(ROWS, LABELS)))
    alone = [endpoint.answer(request, JSON) for request in MIXED]
    assert [type(outcome) for outcome in alone] == [Answered, Answered, Refused, Refused, Answered]
    model = counting(endpoint)
    together = endpoint.answer_together([(request, JSON) for request in MIXED])
    assert [comparable(outcome) for outcome in together] == [comparable(outcome) for outcome in alone]
    assert model.sizes == [5, 1]  # the joined rows, and the request with params on its own


def test_a_request_that_the_model_fails_on_fails_alone(save: Save, open_model: OpenModel) -> None:
    estimator = make_pipeline(OneHotEncoder(handle_unknown="error"), LogisticRegression()).fit(ROWS, LABELS)
    endpoint = open_model(save(estimator), HALF)
    good, bad = body((1.0, 3.0)), body((7.0, 7.0))
    outcomes = endpoint.answer_together([(good, JSON), (bad, JSON), (good, JSON)])
    assert [type(outcome) for outcome in outcomes] == [Answered, ModelFailed, Answered]


def call(running: Running, amount: float) -> httpx.Response:
    return httpx.post(
        f"{running.client.base_url}/invocations", content=body((amount, 2.0)), headers={"Content-Type": JSON}
    )


def test_many_callers_get_their_own_answers_from_few_calls(
    classifier: Path, open_model: OpenModel, serve: Serve
) -> None:
    settings = BatchSettings(max_requests=8, max_wait_seconds=0.05, max_bytes=10_000)
    with serve(open_model(classifier, HALF), batch=settings) as running, ThreadPoolExecutor(16) as callers:
        amounts = np.tile([1.0, 9.0], 80)
        answers = list(callers.map(lambda amount: call(running, amount), amounts))
        assert [answer.json()["predictions"] for answer in answers] == [[int(amount > 5)] for amount in amounts]
        assert running.metric("backstay_requests_total") == 160
        assert 20 <= running.metric("backstay_model_calls_total") <= 80
        assert running.metric("backstay_prediction_count") == 160


def test_a_lone_request_waits_no_longer_than_it_may(classifier: Path, open_model: OpenModel, serve: Serve) -> None:
    settings = BatchSettings(max_requests=8, max_wait_seconds=0.05, max_bytes=10_000)
    with serve(open_model(classifier, HALF), batch=settings) as running:
        assert running.post({"instances": [[9.0, 2.0]]}).json()["predictions"] == [1]
        assert running.metric("backstay_model_calls_total") == 1
        assert running.metric("backstay_request_duration_seconds_sum") >= 0.05


class Gate:
    """An endpoint that keeps its first call until it is let go, and then says how many requests each call had."""

    digest = "sha256:" + "0" * 64
    flavor = "sklearn"
    profile = Profile(features={})

    def __init__(self) -> None:
        self.sizes: list[int] = []
        self.entered, self.released = threading.Semaphore(0), threading.Event()

    def answer(self, body: bytes, content_type: str) -> Outcome:
        return self.answer_together([(body, content_type)])[0]

    def answer_together(self, requests: Sequence[tuple[bytes, str]]) -> Sequence[Outcome]:
        self.sizes.append(len(requests))
        self.entered.release()
        assert self.released.wait(10)
        return [ModelFailed(type="E", reason=request.decode(), place="x:1") for request, _ in requests]


@pytest.mark.parametrize(("max_bytes", "sizes"), [(10_000, [1, 3, 2]), (250, [1, 2, 2, 1])])
def test_what_gathers_during_a_call_is_taken_together_up_to_its_limits(
    serve: Serve, max_bytes: int, sizes: list[int]
) -> None:
    gate = Gate()
    settings = BatchSettings(max_requests=3, max_wait_seconds=0.0, max_bytes=max_bytes)
    with serve(gate, batch=settings) as running, ThreadPoolExecutor(6) as callers:

        def send(number: int) -> str:
            content = f"{number:100d}"
            answer = httpx.post(f"{running.client.base_url}/invocations", content=content, timeout=20)
            return str(answer.json()["message"])

        first = callers.submit(send, 0)
        assert gate.entered.acquire(timeout=10)
        others = [callers.submit(send, number) for number in range(1, 6)]
        for _ in range(400):
            if running.client.get("/version").status_code == 200 and running.metric("backstay_waiting_requests") == 6:
                break
            threading.Event().wait(0.02)
        gate.released.set()
        said = [caller.result(timeout=20) for caller in (first, *others)]
    assert gate.sizes == sizes
    assert [int(sentence.rsplit(" ", 1)[1]) for sentence in said] == list(range(6))


def test_a_mistake_of_the_server_itself_reaches_every_caller(serve: Serve, caplog: pytest.LogCaptureFixture) -> None:
    class Broken(Gate):
        def answer_together(self, requests: Sequence[tuple[bytes, str]]) -> Sequence[Outcome]:
            raise RuntimeError(len(requests))

    settings = BatchSettings(max_requests=3, max_wait_seconds=0.0, max_bytes=10_000)
    with serve(Broken(), batch=settings) as running, caplog.at_level("CRITICAL"):
        assert running.post({}).status_code == 500
        assert running.post({}).status_code == 500
        assert running.metric("backstay_errors_total", kind="internal") == 2
