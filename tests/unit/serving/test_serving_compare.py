"""Two prediction logs, joined by request and row."""

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from backstay_serving.__main__ import _app
from backstay_serving.compare import CompareError, compare
from backstay_serving.outcome import Answered
from backstay_serving.predictionlog import lines_of

RUNNER = CliRunner()


def logged(request_id: str, *answers: Any, scores: tuple[float, ...] = ()) -> str:
    """Write a request as the server does."""
    answered = Answered(
        body=b"",
        scores=scores,
        confidences=(),
        values=len(answers),
        nulls=0,
        answers=answers,
        inputs=lambda: [{}] * len(answers),
    )
    lines = lines_of(request_id, 0.0, answered, facts={"version": "1"}, redact=frozenset())
    return "".join(f"{line}\n" for line in lines)


@pytest.fixture
def logs(tmp_path: Path) -> tuple[Path, Path]:
    first, second = tmp_path / "first.jsonl", tmp_path / "second"
    second.mkdir()
    first.write_text(
        logged("a", 1, scores=(0.9,)) + logged("b", 0, 1, scores=(0.1, 0.8)) + logged("c", 1, scores=(0.7,))
    )
    (second / "pod-1.jsonl").write_text(logged("b", 0, 0, scores=(0.1, 0.3)) + logged("d", 1, scores=(0.9,)))
    (second / "pod-2.jsonl").write_text(
        logged("a", 1, scores=(0.8,)) + logged("a", 0, scores=(0.0,)) + '{"id": "c", "ro'
    )
    return first, second


def test_only_what_is_in_both_is_compared_row_by_row_and_a_half_written_line_is_left(logs: tuple[Path, Path]) -> None:
    found = compare(*logs)
    assert (found.pairs, found.only_first, found.only_second, found.changed) == (3, 1, 1, 1)
    assert found.changes == (("1", "0", 1),)
    assert found.score_differences == pytest.approx({"p50": 0.1, "p95": 0.5, "p99": 0.5, "most": 0.5})
    assert found.interval == pytest.approx((0.0615, 0.7923), abs=1e-4)


def test_answers_that_are_no_numbers_and_have_no_scores_are_compared_too(tmp_path: Path) -> None:
    (tmp_path / "first").write_text(logged("a", "cat", [1, 2]))
    (tmp_path / "second").write_text(logged("a", "dog", [1, 2]))
    found = compare(tmp_path / "first", tmp_path / "second")
    assert (found.pairs, found.changes, found.score_differences) == (2, (('"cat"', '"dog"', 1),), {})


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("nothing\n", "line 1, is no line of a prediction log"),
        ('{"id": "a"}\n', "line 1, is no line of a prediction log"),
        ("[]\n", "line 1, is no line of a prediction log"),
        ("", "No prediction is in both logs (0 in the first, 2 in the second): log the same requests"),
    ],
)
def test_what_is_no_log_is_told_in_a_sentence(logs: tuple[Path, Path], text: str, sentence: str) -> None:
    first, second = logs
    first.write_text(text)
    (second / "pod-2.jsonl").unlink()
    (second / "pod-1.jsonl").write_text(logged("b", 0, 1))
    with pytest.raises(CompareError) as refused:
        compare(first, second)
    assert sentence in str(refused.value)


def test_the_command_says_it_in_lines_or_as_json_and_ends_by_the_share(logs: tuple[Path, Path]) -> None:
    first, second = map(str, logs)
    told = RUNNER.invoke(_app, ["compare", first, second])
    assert told.exit_code == 0
    assert told.output.splitlines()[1] == "1 have another answer: 33.33% (95 % interval 6.15% to 79.23%)"
    told = RUNNER.invoke(_app, ["compare", first, second, "--json", "--most-changed", "0.3"])
    assert (told.exit_code, json.loads(told.output)["changed"]) == (1, 1)
    told = RUNNER.invoke(_app, ["compare", first, "missing.jsonl"])
    assert (told.exit_code, told.output) == (
        5,
        "backstay-serving: missing.jsonl cannot be read: No such file or directory\n",
    )
