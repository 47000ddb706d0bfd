"""From the body of a request to rows: MLflow's `/invocations` protocol.

The protocol: https://mlflow.org/docs/latest/ml/deployment/deploy-model-locally/#inference-server-specification
"""

import csv
import io
import json
from collections.abc import Sequence
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

FORMATS = ("dataframe_split", "dataframe_records", "instances", "inputs")


class BadRequestError(Exception):
    """The caller's mistake, in one sentence for the caller.

    Args:
        message: what is wrong with the request and what to send instead.
        status: the status to answer with.
    """

    def __init__(self, message: str, status: HTTPStatus = HTTPStatus.BAD_REQUEST) -> None:
        super().__init__(message)
        self.status = status


@dataclass(frozen=True)
class Table:
    """Rows of named values.

    Attributes:
        columns: the names, without duplicates.
        rows: each as long as `columns`.
    """

    columns: tuple[str, ...]
    rows: Sequence[Sequence[Any]]


@dataclass(frozen=True)
class Nested:
    """Rows without names: nested lists of any depth, the outermost one entry a row."""

    rows: Sequence[Any]


@dataclass(frozen=True)
class TextTable:
    """Rows of named cells that are all text, as CSV has them: what a cell means is for the signature to say.

    Attributes:
        columns: the names, without duplicates.
        rows: each as long as `columns`; an empty cell is a missing value.
    """

    columns: tuple[str, ...]
    rows: Sequence[Sequence[str]]


Rows = Table | TextTable | Nested


@dataclass(frozen=True)
class Parsed:
    """A readable body.

    Attributes:
        rows: what to predict for.
        params: the inference parameters that came with it.
    """

    rows: Rows
    params: dict[str, Any]


def parse(body: bytes, content_type: str) -> Parsed:
    """Read the body of a request.

    Args:
        body: the bytes as received.
        content_type: the request's Content-Type header; an empty one is refused.

    Raises:
        BadRequestError: with status 415 for a content type that is not spoken here, else 400.
    """
    media, _, parameters = content_type.partition(";")
    charset = parameters.strip().lower().removeprefix("charset=").strip('"')
    if charset not in ("", "utf-8", "utf8"):
        raise BadRequestError(f"Content-Type says {parameters.strip()}; send UTF-8", HTTPStatus.UNSUPPORTED_MEDIA_TYPE)
    match media.strip().lower():
        case "application/json":
            return _json(body)
        case "text/csv":
            return Parsed(rows=_csv(body), params={})
        case other:
            said = f"is {other}" if other else "is missing"
            raise BadRequestError(
                f"Content-Type {said}; send application/json or text/csv", HTTPStatus.UNSUPPORTED_MEDIA_TYPE
            )


def read_json(body: bytes) -> Any:
    """Read a JSON document.

    Raises:
        BadRequestError: the body is none.
    """
    try:
        return json.loads(body)
    except UnicodeDecodeError as error:
        raise BadRequestError(f"The body is not UTF-8 at byte {error.start}") from error
    except json.JSONDecodeError as error:
        raise BadRequestError(
            f"The body is not JSON: {error.msg} at line {error.lineno} column {error.colno}"
        ) from error
    except RecursionError as error:
        raise BadRequestError("The body nests its lists too deeply") from error
    except ValueError as error:  # Python reads no number of more than 4,300 digits
        raise BadRequestError("The body holds a number with too many digits") from error


def _json(body: bytes) -> Parsed:
    document = read_json(body)
    if not isinstance(document, dict):
        raise BadRequestError(f"The body is {_kind(document)}; send an object with one of {', '.join(FORMATS)}")
    given = [key for key in FORMATS if key in document]
    if len(given) != 1:
        found = ", ".join(map(str, document)) or "nothing"
        raise BadRequestError(f"The body has to hold exactly one of {', '.join(FORMATS)}; it holds {found}")
    unknown = [key for key in document if key not in (*given, "params")]
    if unknown:
        raise BadRequestError(f"The body holds {', '.join(unknown)} beside {given[0]}; only params may stand there")
    params = document.get("params") or {}
    if not isinstance(params, dict):
        raise BadRequestError(f"params is {_kind(params)}; send an object")
    return Parsed(rows=_rows(given[0], document[given[0]]), params=params)


def _rows(key: str, value: Any) -> Rows:
    match key:
        case "dataframe_split":
            rows: Rows = _split(value)
        case "dataframe_records":
            rows = _records(key, value)
        case "inputs" if isinstance(value, dict):
            rows = _columns(value)
        case _ if isinstance(value, list) and value and isinstance(value[0], dict):
            rows = _records(key, value)
        case _ if isinstance(value, list):
            rows = Nested(value)
        case _:
            raise BadRequestError(f"{key} is {_kind(value)}; send a list with one entry for each row")
    if not rows.rows:
        raise BadRequestError(f"{key} holds no rows; send at least one")
    return rows


def _split(value: Any) -> Table:
    if not isinstance(value, dict) or not isinstance(value.get("data"), list):
        raise BadRequestError('dataframe_split has to be an object like {"columns": ["a"], "data": [[1]]}')
    columns, data = value.get("columns"), value["data"]
    if not isinstance(columns, list) or not all(isinstance(name, str) for name in columns):
        raise BadRequestError("dataframe_split needs columns, a list of the columns' names")
    for position, row in enumerate(data):
        if not isinstance(row, list):
            raise BadRequestError(f"dataframe_split: data[{position}] is {_kind(row)}; every row is a list")
        if len(row) != len(columns):
            raise BadRequestError(f"dataframe_split: data[{position}] has {len(row)} values for {len(columns)} columns")
    return Table(columns=_unique("dataframe_split", columns), rows=data)


def _records(key: str, value: Any) -> Table:
    if not isinstance(value, list):
        raise BadRequestError(f"{key} is {_kind(value)}; send a list of objects, one for each row")
    columns: tuple[str, ...] = tuple(value[0]) if value and isinstance(value[0], dict) else ()
    rows = []
    for position, record in enumerate(value):
        if not isinstance(record, dict):
            raise BadRequestError(f"{key}[{position}] is {_kind(record)}; every row is an object")
        if len(record) != len(columns) or not all(name in record for name in columns):
            odd = sorted(set(columns) ^ set(record))
            raise BadRequestError(f"{key}[{position}] has other columns than {key}[0]: they differ in {_listed(odd)}")
        rows.append([record[name] for name in columns])
    return Table(columns=columns, rows=rows)


def _columns(value: dict[str, Any]) -> Table:
    lists = {name: column if isinstance(column, list) else [column] for name, column in value.items()}
    lengths = {len(column) for column in lists.values()}
    if len(lengths) > 1:
        raise BadRequestError("inputs: the columns differ in length; every column needs one value for each row")
    # A column may come as a list of one-element lists, which is how MLflow's own clients send tensors.
    flat = [[_single(cell) for cell in column] for column in lists.values()]
    return Table(columns=tuple(lists), rows=list(zip(*flat, strict=True)))


def _csv(body: bytes) -> TextTable:
    try:
        lines = [line for line in csv.reader(io.StringIO(body.decode("utf-8-sig"), newline=""), strict=True) if line]
    except UnicodeDecodeError as error:
        raise BadRequestError(f"The body is not UTF-8 at byte {error.start}") from error
    except csv.Error as error:
        raise BadRequestError(f"The body is not CSV: {error}") from error
    if len(lines) <= 1:
        raise BadRequestError("The CSV holds no rows; send a line with the columns' names and at least one row")
    columns, *rows = lines
    for position, row in enumerate(rows):
        if len(row) != len(columns):
            raise BadRequestError(f"CSV row {position} has {len(row)} values for {len(columns)} columns")
    return TextTable(columns=_unique("The CSV", columns), rows=rows)


def _single(cell: Any) -> Any:
    return cell[0] if isinstance(cell, list) and len(cell) == 1 else cell


def _unique(what: str, columns: Sequence[str]) -> tuple[str, ...]:
    twice = sorted({name for name in columns if columns.count(name) > 1})
    if twice:
        raise BadRequestError(f"{what} names the column {_listed(twice)} twice")
    return tuple(columns)


def _listed(names: Sequence[str], most: int = 5) -> str:
    shown = ", ".join(repr(name) for name in names[:most])
    return shown if len(names) <= most else f"{shown} and {len(names) - most} more"


def _kind(value: Any) -> str:
    match value:
        case None:
            return "null"
        case bool():
            return "true or false"
        case int() | float():
            return "a number"
        case str():
            return "text"
        case list():
            return "a list"
        case _:
            return "an object"
