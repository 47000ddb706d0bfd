import json
import threading
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from backstay_serving.outcome import Answered
from backstay_serving.predictionlog import LogCounts, LogSettings, PredictionLog, is_sampled, lines_of
from backstay_serving.records import request_id_of
from backstay_serving.settings import Identity, StartError

IDENTITY = Identity(name="fraud-detector", version="7", revision="0123456789")
NOON = 1_764_244_800.25


def answered(*rows: Any, scores: tuple[float, ...] = (), inputs: Callable[[], list[Any]] | None = None) -> Answered:
    return Answered(
        body=b"",
        scores=scores,
        confidences=(),
        values=len(rows),
        nulls=0,
        answers=[1 for _ in rows],
        inputs=inputs or (lambda: list(rows)),
    )


class Told:
    """What the log said of its lines."""

    def __init__(self) -> None:
        self.counted: Counter[str] = Counter()
        self.counts = LogCounts(
            written=lambda lines: self.counted.update({"written": lines}),
            dropped=lambda reason, lines: self.counted.update({reason: lines}),
        )


def settings(path: Path, **other: Any) -> LogSettings:
    defaults: dict[str, Any] = {"max_bytes": 10**6, "files": 2, "sample": 1.0, "redact": frozenset()}
    return LogSettings(path=path, **(defaults | other))


def documents(path: Path) -> list[Any]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_a_line_says_who_answered_what_to_which_request(tmp_path: Path) -> None:
    told = Told()
    log = PredictionLog(settings(tmp_path / "log"), IDENTITY, told.counts)
    log.offer("r-1", answered({"amount": 8.5}, {"amount": 1.0}, scores=(0.9, 0.1)), now=NOON)
    log.close()
    first, second = documents(tmp_path / "log")
    assert first == {
        "id": "r-1",
        "row": 0,
        "time": "2025-11-27T12:00:00.250Z",
        "model": "fraud-detector",
        "version": "7",
        "revision": "0123456789",
        "features": {"amount": 8.5},
        "answer": 1,
        "score": 0.9,
    }
    assert (second["row"], second["features"], second["score"]) == (1, {"amount": 1.0}, 0.1)
    assert told.counted == {"written": 2}


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_every_line_is_json_whatever_was_sent(value: float) -> None:
    (line,) = lines_of(
        "r", NOON, answered({"amount": value, "note": 'two\nlines "quoted"'}), facts={}, redact=frozenset()
    )
    assert "\n" not in line
    assert json.loads(line, parse_constant=pytest.fail)["features"] == {"amount": None, "note": 'two\nlines "quoted"'}


def test_redacted_features_are_not_written_and_neither_are_rows_without_names() -> None:
    rows = answered({"amount": 8.5, "iban": "DE02"}, ["DE02", 8.5])
    lines = lines_of("r", NOON, rows, facts={}, redact=frozenset({"iban"}))
    assert "DE02" not in "".join(lines)
    assert [json.loads(line)["features"] for line in lines] == [{"amount": 8.5, "iban": "[redacted]"}, "[redacted]"]


def test_what_does_not_fit_into_the_queue_is_dropped_and_counted_at_once(tmp_path: Path) -> None:
    told, entered, go = Told(), threading.Event(), threading.Event()

    def slow() -> list[Any]:
        entered.set()
        assert go.wait(10)
        return [{}]

    log = PredictionLog(settings(tmp_path / "log"), IDENTITY, told.counts, most_waiting=3)
    log.offer("r-1", answered({}, inputs=slow))
    assert entered.wait(10)
    log.offer("r-2", answered({}, {}))
    log.offer("r-3", answered({}))  # three wait already
    assert told.counted == {"queue_full": 1}
    go.set()
    log.close()
    assert told.counted == {"written": 3, "queue_full": 1}
    log.offer("r-4", answered({}))
    assert told.counted["queue_full"] == 2


def test_a_disk_that_hangs_does_not_keep_the_process(tmp_path: Path) -> None:
    told, go = Told(), threading.Event()

    def hanging() -> list[Any]:
        assert go.wait(10)
        return [{}]

    log = PredictionLog(settings(tmp_path / "log"), IDENTITY, told.counts)
    log.offer("r-1", answered({}, inputs=hanging))
    log.offer("r-2", answered({}, {}))
    log.close(seconds=0.2)
    assert told.counted["write_failed"] >= 2
    go.set()


def test_files_are_put_aside_by_size_and_the_oldest_go(tmp_path: Path) -> None:
    told = Told()
    log = PredictionLog(settings(tmp_path / "log", max_bytes=2000), IDENTITY, told.counts)
    for number in range(100):
        log.offer(f"r-{number}", answered({"amount": number}))
    log.close()
    files = sorted(tmp_path.iterdir())
    assert [file.name for file in files] == ["log", "log.1", "log.2"]
    assert all(file.stat().st_size <= 2000 for file in files)
    kept = [
        document["features"]["amount"] for name in ("log.2", "log.1", "log") for document in documents(tmp_path / name)
    ]
    assert kept == list(range(100 - len(kept), 100))
    assert told.counted == {"written": 100}


def test_lines_that_a_broken_disk_refuses_are_counted(caplog: pytest.LogCaptureFixture) -> None:
    told = Told()
    log = PredictionLog(settings(Path("/dev/full")), IDENTITY, told.counts)
    log.offer("r-1", answered({}))
    log.close()
    assert told.counted == {"write_failed": 1}
    assert [record.getMessage() for record in caplog.records] == [
        "The prediction log cannot be written: [Errno 28] No space left on device"
    ]


def test_a_log_that_cannot_be_opened_keeps_the_server_from_starting(tmp_path: Path) -> None:
    with pytest.raises(StartError, match=r"Cannot write the prediction log .*: No such file or directory; mount"):
        PredictionLog(settings(tmp_path / "nowhere" / "log"), IDENTITY, Told().counts)


def test_the_sample_is_chosen_by_id_and_has_its_size() -> None:
    ids = [f"{number:032x}" for number in range(10_000)]
    sampled = [name for name in ids if is_sampled(name, 0.2)]
    assert 1800 < len(sampled) < 2200
    assert all(is_sampled(name, 0.3) for name in sampled)
    assert all(is_sampled(name, 1.0) for name in ids)
    assert not any(is_sampled(name, 0.0) for name in ids)


@pytest.mark.parametrize("given", ["", "two words", "a" * 129, "ä", "line\nbreak"])
def test_a_request_without_a_fit_id_gets_a_new_one(given: str) -> None:
    made = request_id_of(given)
    assert made != given
    assert request_id_of(made) == made
    assert request_id_of(given) != made
