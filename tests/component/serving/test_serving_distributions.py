"""The reference profile beside a real model, and the histograms that come of it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from sklearn.linear_model import LogisticRegression
from tests.component.serving.conftest import LABELS, ROWS

from backstay_contract.profile import NAME, draw_up
from backstay_serving.settings import StartError, Threshold

if TYPE_CHECKING:
    from pathlib import Path

    from tests.component.serving.conftest import OpenModel, Running, Save, Serve

pytestmark = pytest.mark.component

ANSWERED = {"dataframe_split": {"columns": ["hour", "amount"], "data": [[1.0, 1.0], [2.0, 5.0], [1.0, 50.0]]}}
# The estimator takes no missing values.
FAILED = {"dataframe_split": {"columns": ["hour", "amount"], "data": [[None, 50.0]]}}


@pytest.fixture
def profiled(save: Save, tmp_path: Path) -> Any:
    """Save a classifier with a profile beside it, as a training does."""

    def make(text: str) -> Path:
        (tmp_path / NAME).write_text(text)
        return save(LogisticRegression().fit(ROWS, LABELS), extra_files=[str(tmp_path / NAME)])

    return make


def edges_of(running: Running, metric: str) -> set[str]:
    lines = running.client.get("/metrics").text.splitlines()
    return {line.split('le="')[1].split('"')[0] for line in lines if line.startswith(f"{metric}_bucket")}


def test_features_predictions_and_confidences_are_counted_in_the_profiles_buckets(
    profiled: Any, open_model: OpenModel, serve: Serve
) -> None:
    profile = {
        "features": {"amount": {"edges": [2, 8]}, "hour": {"edges": [1.5]}},
        "prediction": {"edges": [0.5]},
        "confidence": {"edges": [0.75, 1]},
    }
    with serve(open_model(profiled(json.dumps(profile)), Threshold(0.5))) as running:
        assert running.metric("backstay_feature_count", feature="amount") == 0
        assert running.post(FAILED).status_code == 500
        assert running.metric("backstay_feature_count", feature="amount") == 0  # what was not answered is not counted
        assert running.post(ANSWERED).status_code == 200
        assert running.metric("backstay_feature_bucket", feature="amount", le="2.0") == 1
        assert running.metric("backstay_feature_bucket", feature="amount", le="8.0") == 2
        assert running.metric("backstay_feature_bucket", feature="amount", le="+Inf") == 3
        assert running.metric("backstay_feature_sum", feature="amount") == 56
        assert running.metric("backstay_feature_bucket", feature="hour", le="1.5") == 2
        assert running.metric("backstay_null_features_total", feature="hour") == 0
        assert edges_of(running, "backstay_prediction") == {"0.5", "+Inf"}
        assert edges_of(running, "backstay_labelled_score") == {"0.5", "+Inf"}
        assert edges_of(running, "backstay_confidence") == {"0.75", "1.0", "+Inf"}
        assert running.metric("backstay_prediction_count") == 3


def test_a_profile_that_a_training_draws_up_is_served(profiled: Any, open_model: OpenModel, serve: Serve) -> None:
    text = draw_up({name: ROWS[name].tolist() for name in ("amount", "hour")}, buckets=4)
    with serve(open_model(profiled(text))) as running:
        for row in ROWS.to_dict(orient="records"):
            assert running.post({"dataframe_records": [row]}).status_code == 200
        edges = json.loads(text)["features"]["amount"]
        live = [running.metric("backstay_feature_bucket", feature="amount", le=str(edge)) for edge in edges["edges"]]
        assert [after - before for before, after in zip([0.0, *live], [*live, 4.0], strict=True)] == edges["counts"]
        assert len(edges_of(running, "backstay_prediction")) == 21  # no word of predictions: the usual ones


def test_without_a_profile_there_are_no_features_and_the_usual_buckets(
    classifier: Path, open_model: OpenModel, serve: Serve
) -> None:
    with serve(open_model(classifier)) as running:
        assert running.post({"instances": [[9.0, 1.0]]}).status_code == 200
        assert edges_of(running, "backstay_feature") == set()
        assert len(edges_of(running, "backstay_confidence")) == 19


def test_a_profile_of_another_model_is_refused(profiled: Any, open_model: OpenModel) -> None:
    with pytest.raises(StartError, match="The reference profile counts the feature 'height'"):
        open_model(profiled('{"features": {"height": {"edges": [1]}}}'))
