"""Scoring a file: its rows go through the same code as those of requests, some at a time.

Importing this module imports pandas, which only the command `score` needs.
"""

import csv
import io
import json
from collections.abc import Callable, Iterable, Iterator, KeysView, Mapping, Sequence
from itertools import chain, islice
from pathlib import Path
from typing import Any, TypeVar

import pandas as pd

from backstay_serving.outcome import Answered, ModelFailed, Refused
from backstay_serving.state import Endpoint

T = TypeVar("T")
Row = dict[str, Any]
_ROWS_PER_CALL = 1000
_ADDED = ("prediction", "score")


class ScoreError(Exception):
    """The file cannot be scored; the message is one sentence for the person who scores it."""


def score(endpoint: Endpoint, source: Path, target: Path, *, rows_per_call: int = _ROWS_PER_CALL) -> int:
    """Predict for every row of a file and write the rows with `prediction`, and `score` where the model has one.

    The formats are those that the names end with: `.csv`, `.jsonl` or `.parquet`. CSV and JSON lines are never in
    memory whole. The target appears once it is complete.

    Args:
        endpoint: the model.
        source: the rows.
        target: the file to write; replaced where it exists.
        rows_per_call: how many rows the model gets at a time.

    Returns:
        The number of rows.

    Raises:
        ScoreError: a file cannot be read or written, or the model does not take its rows; the target is as it was.
    """
    read, write = _format(source, _READ), _format(target, _WRITE)
    count = 0

    def scored() -> Iterator[Row]:
        nonlocal count
        rows = read(source)
        while part := list(islice(rows, rows_per_call)):
            yield from _scored(endpoint, part, first=count, text=source.suffix == ".csv")
            count += len(part)

    unfinished = target.with_name(f".{target.name}.unfinished")
    try:
        write(unfinished, scored())
        unfinished.replace(target)
    except OSError as error:
        raise ScoreError(f"Cannot score {source} into {target}: {error.strerror}") from error
    except (UnicodeDecodeError, csv.Error) as error:
        raise ScoreError(f"{source} cannot be read as {source.suffix[1:]}: {error}") from error
    finally:
        unfinished.unlink(missing_ok=True)
    return count


def _scored(endpoint: Endpoint, rows: Sequence[Row], *, first: int, text: bool) -> Iterator[Row]:
    body, content_type = (_csv_body(rows), "text/csv") if text else (_json_body(rows), "application/json")
    where = f"Rows {first} to {first + len(rows) - 1}"
    match endpoint.answer(body, content_type):
        case Refused(message=message):
            raise ScoreError(f"{where}, counted from 0 in the first of them: {message}")
        case ModelFailed() as failed:
            raise ScoreError(f"{where}: the model raised {failed.sentence()}")
        case Answered(answers=answers, scores=scores):
            if len(answers) != len(rows):
                raise ScoreError(f"{where}: the model does not answer one value for each row")
            for at, row in enumerate(rows):
                has_score = len(scores) == len(rows)
                yield {**row, "prediction": answers[at], **({"score": scores[at]} if has_score else {})}


def _csv_body(rows: Sequence[Row]) -> bytes:
    text = io.StringIO()
    lines = csv.writer(text)
    lines.writerows(chain([rows[0]], (row.values() for row in rows)))
    return text.getvalue().encode()


def _json_body(rows: Sequence[Row]) -> bytes:
    return json.dumps({"dataframe_records": rows}, default=str).encode()


def _read_csv(path: Path) -> Iterator[Row]:
    with path.open(encoding="utf-8-sig", newline="") as file:
        lines = (line for line in csv.reader(file, strict=True) if line)
        columns = next(lines, [])
        if len(set(columns)) < len(columns):
            raise ScoreError(f"{path} names a column twice")
        _check_columns(path, columns)
        for at, line in enumerate(lines):
            if len(line) != len(columns):
                raise ScoreError(f"{path}: row {at} has {len(line)} values for {len(columns)} columns")
            yield dict(zip(columns, line, strict=True))


def _read_lines(path: Path) -> Iterator[Row]:
    columns: KeysView[str] = {}.keys()
    with path.open(encoding="utf-8") as file:
        for number, line in enumerate(file, start=1):
            if not line.strip():
                continue
            try:
                row = json.loads(line)
            except ValueError as error:
                raise ScoreError(f"{path}: line {number} is not JSON: {error}") from error
            if not isinstance(row, dict):
                raise ScoreError(f"{path}: line {number} is no object; every line is one row with named values")
            columns = columns or row.keys()
            if row.keys() != columns:
                raise ScoreError(f"{path}: line {number} has other names than the first line")
            _check_columns(path, row)
            yield row


def _read_parquet(path: Path) -> Iterator[Row]:
    try:
        frame = pd.read_parquet(path)
    except ValueError as error:  # what pyarrow raises derives from it
        raise ScoreError(f"{path} is no Parquet file: {error}") from error
    _check_columns(path, frame.columns)
    yield from frame.astype(object).where(frame.notna(), None).to_dict(orient="records")  # type: ignore[misc]  # names are text


def _check_columns(path: Path, columns: Iterable[str]) -> None:
    taken = [name for name in _ADDED if name in columns]
    if taken:
        raise ScoreError(f"{path} has a column {taken[0]!r}, which scoring adds: rename it")


def _write_csv(path: Path, rows: Iterator[Row]) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        first = next(rows, None)
        if first is not None:
            lines = csv.DictWriter(file, fieldnames=list(first))
            lines.writeheader()
            lines.writerows(map(_cells, chain([first], rows)))


def _cells(row: Row) -> Row:
    return {name: json.dumps(value) if isinstance(value, dict | list) else value for name, value in row.items()}


def _write_lines(path: Path, rows: Iterator[Row]) -> None:
    with path.open("w", encoding="utf-8") as file:
        file.writelines(f"{json.dumps(row, default=str, ensure_ascii=False)}\n" for row in rows)


def _write_parquet(path: Path, rows: Iterator[Row]) -> None:
    pd.DataFrame(list(rows)).to_parquet(path, index=False)


_READ: dict[str, Callable[[Path], Iterator[Row]]] = {
    ".csv": _read_csv,
    ".jsonl": _read_lines,
    ".parquet": _read_parquet,
}
_WRITE: dict[str, Callable[[Path, Iterator[Row]], None]] = {
    ".csv": _write_csv,
    ".jsonl": _write_lines,
    ".parquet": _write_parquet,
}


def _format(path: Path, known: Mapping[str, T]) -> T:
    if path.suffix not in known:
        raise ScoreError(f"{path} ends with {path.suffix or 'nothing'}; scored are {', '.join(known)}")
    return known[path.suffix]
