"""The server as its callers see it: a real model behind real HTTP."""

from __future__ import annotations

import json
import logging
import signal
import socket
import threading
from typing import TYPE_CHECKING

import httpx
import numpy as np
import pytest

from backstay_contract.profile import Profile
from backstay_serving.outcome import Answered, ModelFailed, Outcome
from backstay_serving.settings import Threshold
from backstay_serving.state import Draining, Failed, Ready

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from tests.component.serving.conftest import OpenModel, Serve

pytestmark = pytest.mark.component

CHEAP_AND_DEAR = {"dataframe_split": {"columns": ["amount", "hour"], "data": [[1.0, 2.0], [9.0, 3.0]]}}
HALF = Threshold(0.5)


class Scripted:
    """An endpoint that does as it is told, for what no real model does at will."""

    digest = "sha256:" + "0" * 64
    flavor = "sklearn"
    profile = Profile(features={})

    def __init__(self, *outcomes: Outcome) -> None:
        self.outcomes = list(outcomes)
        self.entered = threading.Semaphore(0)
        self.released = threading.Event()
        self.released.set()

    def answer(self, body: bytes, content_type: str) -> Outcome:  # noqa: ARG002  the routes' interface
        self.entered.release()
        assert self.released.wait(10)
        return self.outcomes.pop(0)

    def answer_together(self, requests: Sequence[tuple[bytes, str]]) -> Sequence[Outcome]:
        return [self.answer(*request) for request in requests]


def answered(*scores: float, nulls: int = 0) -> Answered:
    return Answered(
        body=b'{"predictions":[]}',
        scores=scores,
        confidences=(),
        values=len(scores) + nulls,
        nulls=nulls,
        answers=(),
        inputs=list,
    )


def test_a_classifier_answers_labels_and_scores(classifier: Path, open_model: OpenModel, serve: Serve) -> None:
    with serve(open_model(classifier, HALF)) as running:
        response = running.post(CHEAP_AND_DEAR)
        assert response.status_code == 200
        assert response.headers["content-type"] == "application/json"
        answer = response.json()
        assert answer["predictions"] == [0, 1]
        assert answer["scores"][0] < 0.5 < answer["scores"][1]


def test_predictions_and_confidences_are_observed(classifier: Path, open_model: OpenModel, serve: Serve) -> None:
    with serve(open_model(classifier, HALF)) as running:
        low, high = running.post(CHEAP_AND_DEAR).json()["scores"]
        assert running.metric("backstay_prediction_count") == 2
        assert running.metric("backstay_prediction_sum") == pytest.approx(low + high)
        assert running.metric("backstay_confidence_sum") == pytest.approx(1 - low + high)
        assert running.metric("backstay_requests_total") == 1
        assert running.metric("backstay_request_duration_seconds_count") == 1


def test_every_series_is_there_at_zero_from_the_start(classifier: Path, open_model: OpenModel, serve: Serve) -> None:
    with serve(open_model(classifier)) as running:
        for kind in ("prediction", "not_ready", "overloaded", "internal"):
            assert running.metric("backstay_errors_total", kind=kind) == 0
        for name in (
            "backstay_requests_total",
            "backstay_null_predictions_total",
            "backstay_predictions_total",
            "backstay_request_duration_seconds_count",
            "backstay_prediction_count",
            "backstay_confidence_count",
        ):
            assert running.metric(name) == 0


def test_only_invocations_count_as_requests(classifier: Path, open_model: OpenModel, serve: Serve) -> None:
    with serve(open_model(classifier)) as running:
        for path in ("/healthz", "/readyz", "/version", "/metrics", "/nowhere"):
            running.client.get(path)
        assert running.metric("backstay_requests_total") == 0
        running.client.post("/invocations", content=b"{")
        assert running.metric("backstay_requests_total") == 1


def test_prometheus_gets_the_format_it_asks_for(classifier: Path, open_model: OpenModel, serve: Serve) -> None:
    with serve(open_model(classifier)) as running:
        plain = running.client.get("/metrics")
        assert 'backstay_requests_total{model="fraud-detector",version="7"} 0.0' in plain.text
        assert "_created" not in plain.text
        modern = running.client.get("/metrics", headers={"Accept": "application/openmetrics-text; version=1.0.0"})
        assert modern.headers["content-type"].startswith("application/openmetrics-text")
        assert modern.text.endswith("# EOF\n")


def test_version_says_what_runs(classifier: Path, open_model: OpenModel, serve: Serve) -> None:
    endpoint = open_model(classifier)
    with serve(endpoint) as running:
        assert running.client.get("/version").json() == {
            "name": "fraud-detector",
            "version": "7",
            "revision": "0123456789",
            "digest": endpoint.digest,
            "flavor": "sklearn",
        }


@pytest.mark.parametrize(
    ("method", "path", "content", "headers", "status"),
    [
        ("POST", "/invocations", json.dumps(CHEAP_AND_DEAR), {"content-type": "application/json"}, 200),
        ("POST", "/invocations", "{", {"content-type": "application/json"}, 400),
        ("POST", "/invocations", '{"inputs": [[1]]}', {"content-type": "application/json"}, 400),
        ("POST", "/invocations", "x" * 10_001, {"content-type": "application/json"}, 413),
        ("POST", "/invocations", "<x/>", {"content-type": "application/xml"}, 415),
        ("GET", "/invocations", "", {}, 405),
        ("GET", "/nowhere", "", {}, 404),
        ("GET", "/healthz", "", {}, 200),
        ("GET", "/metrics", "", {}, 200),
    ],
)
def test_every_answer_says_which_version_gave_it(  # noqa: PLR0913  a table of cases
    classifier: Path,
    open_model: OpenModel,
    serve: Serve,
    *,
    method: str,
    path: str,
    content: str,
    headers: dict[str, str],
    status: int,
) -> None:
    with serve(open_model(classifier)) as running:
        response = running.client.request(method, path, content=content, headers=headers)
        assert response.status_code == status
        assert response.headers["x-model-name"] == "fraud-detector"
        assert response.headers["x-model-version"] == "7"
        assert response.headers["x-model-revision"] == "0123456789"
        if status >= 400:
            assert set(response.json()) == {"error_code", "message"}


def test_what_is_no_http_gets_the_version_too(serve: Serve) -> None:
    with (
        serve() as running,
        socket.create_connection((running.client.base_url.host, running.client.base_url.port or 0)) as raw,
    ):
        raw.sendall(b"HELLO\r\n\r\n")
        answer = b""
        while chunk := raw.recv(4096):
            answer += chunk
        assert answer.startswith(b"HTTP/1.1 400")
        assert b"x-model-version: 7" in answer.lower()


def test_a_chunked_body_is_limited_too(serve: Serve) -> None:
    with serve(Scripted()) as running:
        response = running.client.post("/invocations", content=iter([b"x" * 6000, b"x" * 6000]))
        assert response.status_code == 413
        assert response.json()["message"] == "The body is larger than 10000 bytes; send fewer rows at a time"


def test_while_loading_it_is_healthy_but_not_ready(serve: Serve) -> None:
    with serve() as running:
        assert running.client.get("/healthz").status_code == 200
        readiness = running.client.get("/readyz")
        assert (readiness.status_code, readiness.text) == (503, "not ready: fetching the artifacts\n")
        response = running.post({"inputs": [[1]]})
        assert response.status_code == 503
        assert response.headers["retry-after"] == "1"
        assert running.metric("backstay_errors_total", kind="not_ready") == 1
        assert "digest" not in running.client.get("/version").json()


def test_why_it_failed_is_what_readiness_says(serve: Serve) -> None:
    with serve() as running:
        running.holder.state = Failed("the artifacts are not the ones meant")
        assert running.client.get("/readyz").text == "not ready: the artifacts are not the ones meant\n"


def test_a_model_that_raises_is_an_error_counted_each_time(serve: Serve, caplog: pytest.LogCaptureFixture) -> None:
    failed = ModelFailed(type="ValueError", reason="Found unknown categories", place="_encoders.py:1")
    with serve(Scripted(failed, failed)) as running, caplog.at_level(logging.ERROR):
        for _ in range(2):
            response = running.post({})
            assert response.status_code == 500
            assert response.json()["message"] == "The model raised ValueError: Found unknown categories"
        assert running.metric("backstay_errors_total", kind="prediction") == 2
        assert (
            caplog.records[0].getMessage() == "The model raised ValueError: Found unknown categories (_encoders.py:1)"
        )
        assert getattr(caplog.records[0], "kind", "") == "prediction ValueError"


def test_nulls_are_counted(serve: Serve) -> None:
    with serve(Scripted(answered(0.5, nulls=2))) as running:
        assert running.post({}).status_code == 200
        assert running.metric("backstay_null_predictions_total") == 2
        assert running.metric("backstay_predictions_total") == 3


def test_a_mistake_of_the_server_itself_is_counted_and_answered(serve: Serve, caplog: pytest.LogCaptureFixture) -> None:
    with serve(Scripted()) as running, caplog.at_level(logging.CRITICAL, "backstay_serving.app"):
        response = running.post({})  # nothing is scripted, so answer() raises
        assert response.status_code == 500
        assert running.metric("backstay_errors_total", kind="internal") == 1


def test_what_waits_is_bounded(serve: Serve) -> None:
    endpoint = Scripted(answered())
    endpoint.released.clear()
    with serve(endpoint, max_waiting=1) as running:
        slow = threading.Thread(target=lambda: running.post({}))
        slow.start()
        assert endpoint.entered.acquire(timeout=10)
        refused = httpx.post(f"{running.client.base_url}/invocations", json={})
        assert refused.status_code == 503
        assert running.metric("backstay_errors_total", kind="overloaded") == 1
        endpoint.released.set()
        slow.join(timeout=10)


def test_after_sigterm_answers_go_on_and_say_close(serve: Serve) -> None:
    with serve(Scripted(answered(), answered()), drain_seconds=60) as running:
        assert "connection" not in running.post({}).headers
        running.server.handle_exit(signal.SIGTERM, None)
        assert isinstance(running.holder.state, Draining)
        response = running.post({})
        assert (response.status_code, response.headers["connection"]) == (200, "close")
        readiness = running.client.get("/readyz")
        assert (readiness.status_code, readiness.text) == (503, "not ready: stopping\n")


def test_a_request_in_flight_is_finished(serve: Serve) -> None:
    endpoint = Scripted(answered())
    endpoint.released.clear()
    answers: list[httpx.Response] = []
    with serve(endpoint) as running:
        slow = threading.Thread(target=lambda: answers.append(running.post({})))
        slow.start()
        assert endpoint.entered.acquire(timeout=10)
        running.server.handle_exit(signal.SIGTERM, None)
        running.thread.join(timeout=0.5)
        assert running.thread.is_alive()
        endpoint.released.set()
        slow.join(timeout=10)
        running.thread.join(timeout=10)
        assert not running.thread.is_alive()
    assert [(answer.status_code, answer.headers["connection"]) for answer in answers] == [(200, "close")]


def test_a_server_that_is_not_ready_stops_at_once(serve: Serve) -> None:
    with serve(drain_seconds=60) as running:
        running.client.get("/healthz")
        running.server.handle_exit(signal.SIGTERM, None)
        running.thread.join(timeout=10)
        assert not running.thread.is_alive()


def test_ctrl_c_does_not_drain(serve: Serve) -> None:
    with serve(Scripted(), drain_seconds=60) as running:
        running.client.get("/healthz")
        running.server.handle_exit(signal.SIGINT, None)
        running.thread.join(timeout=10)
        assert not running.thread.is_alive()
        assert isinstance(running.holder.state, Ready)


def test_many_callers_at_once_all_get_their_own_answer(classifier: Path, open_model: OpenModel, serve: Serve) -> None:
    with serve(open_model(classifier, HALF)) as running:
        wrong: list[str] = []

        def call(amount: float) -> None:
            with httpx.Client(base_url=running.client.base_url) as client:
                for _ in range(20):
                    body = {"dataframe_records": [{"amount": amount, "hour": 2.0}]}
                    answer = client.post("/invocations", json=body)
                    if answer.json()["predictions"] != [int(amount > 5)]:
                        wrong.append(answer.text)

        callers = [threading.Thread(target=call, args=(amount,)) for amount in np.linspace(0, 10, 6)]
        for caller in callers:
            caller.start()
        for caller in callers:
            caller.join(timeout=30)
        assert wrong == []
        assert running.metric("backstay_requests_total") == 120
