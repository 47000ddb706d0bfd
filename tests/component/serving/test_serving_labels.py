"""Labels behind real HTTP, with a real model."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import pytest

from backstay_serving.feedback import FeedbackSettings
from backstay_serving.settings import Threshold

if TYPE_CHECKING:
    from pathlib import Path

    from tests.component.serving.conftest import OpenModel, Running, Serve

pytestmark = pytest.mark.component

HALF = Threshold(0.5)


def predict(running: Running, request_id: str, *amounts: float) -> None:
    rows = [{"amount": amount, "hour": 2.0} for amount in amounts]
    headers = {"X-Request-Id": request_id}
    answer = running.client.post("/invocations", json={"dataframe_records": rows}, headers=headers)
    assert answer.status_code == 200


def scrape_until(running: Running, name: str, value: float) -> None:
    """Scrape, as Prometheus does, until a metric has a value."""
    for _ in range(200):
        assert running.client.get("/metrics").status_code == 200
        if running.metric(name) == value:
            return
        threading.Event().wait(0.05)
    pytest.fail(f"{name} is {running.metric(name)} and not {value}")


@pytest.mark.parametrize("decision", [HALF, None])
def test_labels_are_counted_per_version_at_the_end_of_their_window(
    classifier: Path, open_model: OpenModel, serve: Serve, decision: Threshold | None
) -> None:
    endpoint = open_model(classifier, decision) if decision else open_model(classifier)
    with serve(endpoint, feedback=FeedbackSettings(window_seconds=1.0, max_predictions=100)) as running:
        predict(running, "right", 9.0)
        predict(running, "half-right", 9.0, 1.0)
        predict(running, "never-labelled", 1.0)
        first = running.client.post("/feedback", json={"id": "right", "label": 1})
        assert (first.status_code, first.json()) == (202, {"id": "right", "repeated": False})
        again = running.client.post("/feedback", json={"id": "right", "label": 1})
        assert (again.status_code, again.json()) == (200, {"id": "right", "repeated": True})
        assert running.client.post("/feedback", json={"id": "half-right", "labels": [1, 1]}).status_code == 202
        scrape_until(running, "backstay_matured_predictions_total", 4)
        assert running.metric("backstay_labelled_predictions_total") == 3
        assert running.metric("backstay_wrong_predictions_total") == 1
        assert running.metric("backstay_labelled_score_count", truth="positive") == 3
        assert running.metric("backstay_labelled_score_count", truth="negative") == 0
        late = running.client.post("/feedback", json={"id": "never-labelled", "label": 0})
        assert late.status_code == 404
        assert running.metric("backstay_labelled_predictions_total") == 3


def test_bad_feedback_is_answered_4xx_with_a_sentence(classifier: Path, open_model: OpenModel, serve: Serve) -> None:
    with serve(open_model(classifier, HALF)) as running:
        predict(running, "a", 9.0)
        post = running.client.post
        answers = {
            "unknown": post("/feedback", json={"id": "b", "label": 1}),
            "strange": post("/feedback", json={"id": "a", "label": 7}),
            "no json": post("/feedback", content=b"{", headers={"Content-Type": "application/json"}),
            "form": post("/feedback", data={"id": "a"}),
            "large": post("/feedback", json={"id": "a", "label": "x" * 10_000}),
            "accepted": post("/feedback", json={"id": "a", "label": 1}),
            "conflict": post("/feedback", json={"id": "a", "label": 0}),
            "get": running.client.get("/feedback"),
        }
        assert {name: answer.status_code for name, answer in answers.items()} == {
            "unknown": 404,
            "strange": 400,
            "no json": 400,
            "form": 415,
            "large": 413,
            "accepted": 202,
            "conflict": 409,
            "get": 405,
        }
        refused = [answer.json() for name, answer in answers.items() if name != "accepted"]
        assert all(set(said) == {"error_code", "message"} for said in refused)
        assert running.metric("backstay_feedback_total", outcome="conflict") == 1
        assert running.metric("backstay_feedback_total", outcome="unknown") == 1
        assert running.metric("backstay_requests_total") == 1  # feedback is no prediction


def test_many_at_once_label_an_answer_once(classifier: Path, open_model: OpenModel, serve: Serve) -> None:
    with serve(open_model(classifier, HALF)) as running:
        for number in range(20):
            predict(running, f"r-{number}", 9.0)

        def send() -> None:
            for number in range(20):
                running.client.post("/feedback", json={"id": f"r-{number}", "label": 1})

        senders = [threading.Thread(target=send) for _ in range(5)]
        for sender in senders:
            sender.start()
        for sender in senders:
            sender.join(timeout=30)
        assert running.metric("backstay_feedback_total", outcome="accepted") == 20
        assert running.metric("backstay_feedback_total", outcome="repeated") == 80
