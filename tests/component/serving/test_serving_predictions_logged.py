"""The prediction log behind real HTTP, with a real model."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from backstay_serving.predictionlog import LogSettings
from backstay_serving.settings import Threshold

if TYPE_CHECKING:
    from pathlib import Path

    from tests.component.serving.conftest import OpenModel, Serve

pytestmark = pytest.mark.component

HALF = Threshold(0.5)


def settings(path: Path, **other: Any) -> LogSettings:
    defaults: dict[str, Any] = {"max_bytes": 10**6, "files": 2, "sample": 1.0, "redact": frozenset({"hour"})}
    return LogSettings(path=path, **(defaults | other))


@pytest.mark.parametrize(
    ("content", "media"),
    [
        ('{"dataframe_split": {"columns": ["iban", "amount", "hour"], "data": [["DE02", 9.0, 3.5]]}}', "json"),
        ('{"dataframe_records": [{"amount": 9.0, "hour": 3.5}]}', "json"),
        ('{"instances": [[9.0, 3.5]]}', "json"),
        ('{"inputs": {"amount": [9.0], "hour": [3.5]}}', "json"),
        ("iban,amount,hour\nDE02,9.0,3.5\n", "csv"),
    ],
)
def test_the_log_holds_what_the_model_got_by_name_in_every_format(  # noqa: PLR0913  a table of cases
    classifier: Path, open_model: OpenModel, serve: Serve, tmp_path: Path, *, content: str, media: str
) -> None:
    kind = {"json": "application/json", "csv": "text/csv"}[media]
    with serve(open_model(classifier, HALF), log=settings(tmp_path / "log")) as running:
        headers = {"Content-Type": kind, "X-Request-Id": "r-1"}
        response = running.client.post("/invocations", content=content, headers=headers)
        assert response.headers["x-request-id"] == "r-1"
    (line,) = (tmp_path / "log").read_text().splitlines()
    document = json.loads(line)
    assert document["id"] == "r-1"
    assert document["features"] == {"amount": 9.0, "hour": "[redacted]"}
    assert [document["answer"]] == response.json()["predictions"]
    assert [document["score"]] == response.json()["scores"]
    assert running.metric("backstay_prediction_log_lines_total") == 1


def test_requests_that_are_refused_have_an_id_but_no_line(
    classifier: Path, open_model: OpenModel, serve: Serve, tmp_path: Path
) -> None:
    with serve(open_model(classifier), log=settings(tmp_path / "log")) as running:
        refused = running.client.post("/invocations", content=b"{", headers={"Content-Type": "application/json"})
        assert refused.status_code == 400
        assert len(refused.headers["x-request-id"]) == 32
    assert (tmp_path / "log").read_text() == ""
