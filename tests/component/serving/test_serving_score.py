"""`backstay-serving score`: a file through the same code as requests."""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pandas as pd
import pytest

from backstay_serving.score import ScoreError, score
from backstay_serving.settings import Threshold

if TYPE_CHECKING:
    from pathlib import Path

    from tests.component.serving.conftest import OpenModel

pytestmark = pytest.mark.component

HALF = Threshold(0.5)
FRAME = pd.DataFrame({"who": ["a", "b", "c"], "amount": [9.0, 1.0, 8.5], "hour": [1.0, 2.0, 3.0]})


def write(frame: pd.DataFrame, path: Path) -> Path:
    match path.suffix:
        case ".csv":
            frame.to_csv(path, index=False)
        case ".jsonl":
            frame.to_json(path, orient="records", lines=True)
        case ".parquet":
            frame.to_parquet(path)
    return path


def read(path: Path) -> pd.DataFrame:
    match path.suffix:
        case ".csv":
            return pd.read_csv(path)
        case ".jsonl":
            return pd.read_json(path, lines=True)
        case _:
            return pd.read_parquet(path)


@pytest.mark.parametrize("source", ["in.csv", "in.jsonl", "in.parquet"])
@pytest.mark.parametrize("target", ["out.csv", "out.jsonl", "out.parquet"])
def test_every_row_gets_what_a_request_would_be_answered(
    classifier: Path, open_model: OpenModel, tmp_path: Path, source: str, target: str
) -> None:
    endpoint = open_model(classifier, HALF)
    body = json.dumps({"dataframe_records": FRAME.to_dict(orient="records")}).encode()
    answer = json.loads(endpoint.answer(body, "application/json").body)  # type: ignore[union-attr]  # answered
    assert score(endpoint, write(FRAME, tmp_path / source), tmp_path / target, rows_per_call=2) == 3
    scored = read(tmp_path / target)
    assert list(scored.columns) == ["who", "amount", "hour", "prediction", "score"]
    assert list(scored["who"]) == ["a", "b", "c"]
    assert list(scored["prediction"]) == answer["predictions"] == [1, 0, 1]
    assert list(scored["score"]) == pytest.approx(answer["scores"])


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("in.txt", "", "in.txt ends with .txt; scored are .csv, .jsonl, .parquet"),
        (
            "in.csv",
            "amount,hour\n1,2\nx,3\n",
            "Rows 0 to 1, counted from 0 in the first of them: Column 'amount'",
        ),
        ("in.csv", "amount,hour\n1\n", "in.csv: row 0 has 1 values for 2 columns"),
        ("in.csv", "amount,amount\n1,2\n", "in.csv names a column twice"),
        ("in.csv", "amount,hour,score\n1,2,3\n", "in.csv has a column 'score', which scoring adds: rename it"),
        (
            "in.csv",
            "amount\n1\n",
            "counted from 0 in the first of them: The model needs the column 'hour'",
        ),
        ("in.jsonl", '{"amount": 1, "hour": 2}\n{"amo', "in.jsonl: line 2 is not JSON"),
        ("in.jsonl", '{"amount": 1, "hour": 2}\n{"amount": 1, "hours": 2}\n', "line 2 has other names than the first"),
        ("in.jsonl", "[1]\n", "in.jsonl: line 1 is no object"),
        ("in.jsonl", '{"amount": null, "hour": 2}\n', "Rows 0 to 0: the model raised ValueError: Input X contains NaN"),
        ("in.parquet", "PAR", "in.parquet is no Parquet file"),
    ],
)
def test_what_cannot_be_scored_is_said_in_a_sentence_and_leaves_the_target_alone(  # noqa: PLR0913  a table of cases
    classifier: Path, open_model: OpenModel, tmp_path: Path, *, name: str, content: str, said: str
) -> None:
    (tmp_path / name).write_text(content)
    target = tmp_path / "out.csv"
    target.write_text("before")
    with pytest.raises(ScoreError) as refused:
        score(open_model(classifier, HALF), tmp_path / name, target)
    assert said in str(refused.value)
    assert target.read_text() == "before"
    assert not list(tmp_path.glob(".*"))


def command(*arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("MODEL_")}
    return subprocess.run(
        [sys.executable, "-m", "backstay_serving", "score", *arguments],
        capture_output=True,
        text=True,
        check=False,
        env=environment,
    )


def test_the_command_scores_a_file(classifier: Path, tmp_path: Path) -> None:
    source, target = write(FRAME, tmp_path / "in.csv"), tmp_path / "out.csv"
    done = command(str(source), str(target), "--model-uri", str(classifier), "--serving-threshold", "0.5")
    assert (done.returncode, done.stdout) == (0, f"3 rows scored into {target}\n"), done.stderr
    with target.open(newline="") as file:
        assert [row["prediction"] for row in csv.DictReader(file)] == ["1", "0", "1"]
    missing = command(str(tmp_path / "none.csv"), str(target), "--model-uri", str(classifier))
    assert missing.returncode == 4
    assert missing.stderr == (
        f"backstay-serving: Cannot score {tmp_path}/none.csv into {target}: No such file or directory\n"
    )
    changed = command(str(source), str(target), "--model-uri", str(classifier), "--model-digest", "sha256:" + "0" * 64)
    assert changed.returncode == 3
    assert "nothing of them was loaded" in changed.stderr


def test_names_may_come_in_any_order(classifier: Path, open_model: OpenModel, tmp_path: Path) -> None:
    (tmp_path / "in.jsonl").write_text('{"amount": 9, "hour": 1}\n{"hour": 2, "amount": 1}\n')
    score(open_model(classifier, HALF), tmp_path / "in.jsonl", tmp_path / "out.csv")
    assert list(read(tmp_path / "out.csv")["amount"]) == [9, 1]
    assert list(read(tmp_path / "out.csv")["prediction"]) == [1, 0]


def test_without_a_model_the_command_says_which_setting_is_missing(tmp_path: Path) -> None:
    done = command(str(tmp_path / "in.csv"), str(tmp_path / "out.csv"))
    assert done.returncode == 2
    assert done.stderr.startswith("backstay-serving: Set MODEL_URI, or MODEL_NAME and MODEL_VERSION")
