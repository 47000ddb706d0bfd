from http import HTTPStatus

import pytest

from backstay_serving.payload import BadRequestError, Nested, Parsed, Table, TextTable, parse

JSON = "application/json"
TWO = Table(columns=("a", "b"), rows=[[1, "x"], [2, "y"]])


@pytest.mark.parametrize(
    ("body", "rows"),
    [
        ('{"dataframe_split": {"columns": ["a", "b"], "index": [5, 6], "data": [[1, "x"], [2, "y"]]}}', TWO),
        ('{"dataframe_records": [{"a": 1, "b": "x"}, {"b": "y", "a": 2}]}', TWO),
        ('{"instances": [{"a": 1, "b": "x"}, {"a": 2, "b": "y"}]}', TWO),
        ('{"instances": [[1, "x"], [2, "y"]]}', Nested([[1, "x"], [2, "y"]])),
        ('{"inputs": [[1, 2], [3, 4]]}', Nested([[1, 2], [3, 4]])),
        ('{"inputs": {"a": [1, 2], "b": ["x", "y"]}}', Table(columns=("a", "b"), rows=[(1, "x"), (2, "y")])),
        ('{"inputs": {"a": [[1], [2]], "b": [["x"], ["y"]]}}', Table(columns=("a", "b"), rows=[(1, "x"), (2, "y")])),
        ('{"inputs": {"a": 1, "b": "x"}}', Table(columns=("a", "b"), rows=[(1, "x")])),
    ],
)
def test_every_json_format_of_the_protocol_is_read(body: str, rows: object) -> None:
    assert parse(body.encode(), JSON) == Parsed(rows=rows, params={})  # type: ignore[arg-type]  # a table of cases


def test_csv_is_read_as_text() -> None:
    body = '\ufeffa,b\r\n1,"x, or y"\r\n,z\r\n'
    expected = TextTable(columns=("a", "b"), rows=[["1", "x, or y"], ["", "z"]])
    assert parse(body.encode(), "text/csv; charset=utf-8").rows == expected


def test_params_come_along() -> None:
    assert parse(b'{"inputs": [1], "params": {"top": 3}}', JSON).params == {"top": 3}


@pytest.mark.parametrize(
    ("body", "sentence"),
    [
        (b"{", "The body is not JSON: Expecting property name enclosed in double quotes at line 1 column 2"),
        (b'{"inputs": "\xff"}', "The body is not UTF-8 at byte 12"),
        (b"[" * 100_000, "The body nests its lists too deeply"),
        (b"[1]", "The body is a list; send an object with one of dataframe_split, dataframe_records"),
        (b"{}", "has to hold exactly one of dataframe_split, dataframe_records, instances, inputs; it holds nothing"),
        (b'{"rows": []}', "it holds rows"),
        (b'{"inputs": [1], "instances": [1]}', "it holds inputs, instances"),
        (b'{"inputs": [1], "rows": 2}', "The body holds rows beside inputs; only params may stand there"),
        (b'{"inputs": [1], "params": [1]}', "params is a list; send an object"),
        (b'{"inputs": []}', "inputs holds no rows; send at least one"),
        (b'{"inputs": 3}', "inputs is a number; send a list with one entry for each row"),
        (b'{"inputs": {"a": [1, 2], "b": [1]}}', "inputs: the columns differ in length"),
        (b'{"dataframe_split": [[1]]}', 'dataframe_split has to be an object like {"columns": ["a"], "data": [[1]]}'),
        (b'{"dataframe_split": {"data": [[1]]}}', "dataframe_split needs columns, a list of the columns' names"),
        (b'{"dataframe_split": {"columns": ["a"], "data": [1]}}', "data[0] is a number; every row is a list"),
        (b'{"dataframe_split": {"columns": ["a"], "data": [[1], [1, 2]]}}', "data[1] has 2 values for 1 columns"),
        (b'{"dataframe_split": {"columns": ["a", "a"], "data": [[1, 2]]}}', "names the column 'a' twice"),
        (b'{"dataframe_records": {"a": 1}}', "dataframe_records is an object; send a list of objects"),
        (b'{"dataframe_records": [{"a": 1}, null]}', "dataframe_records[1] is null; every row is an object"),
        (b'{"dataframe_records": [{"a": 1}, {"b": 1}]}', "dataframe_records[1] has other columns than"),
    ],
)
def test_a_malformed_body_is_told_its_mistake(body: bytes, sentence: str) -> None:
    with pytest.raises(BadRequestError) as refused:
        parse(body, JSON)
    assert sentence in str(refused.value)
    assert refused.value.status == HTTPStatus.BAD_REQUEST


@pytest.mark.parametrize(
    ("body", "sentence"),
    [
        ("a,b\n", "The CSV holds no rows"),
        ("", "The CSV holds no rows"),
        ("a,b\n1\n", "CSV row 0 has 1 values for 2 columns"),
        ("a,a\n1,2\n", "The CSV names the column 'a' twice"),
        ('a\n"1', "The body is not CSV"),
    ],
)
def test_malformed_csv_is_told_its_mistake(body: str, sentence: str) -> None:
    with pytest.raises(BadRequestError, match=sentence):
        parse(body.encode(), "text/csv")


@pytest.mark.parametrize(
    ("content_type", "sentence"),
    [
        ("", "Content-Type is missing; send application/json or text/csv"),
        ("application/xml", "Content-Type is application/xml"),
        ("application/json; charset=latin-1", "Content-Type says charset=latin-1; send UTF-8"),
    ],
)
def test_other_content_types_are_refused(content_type: str, sentence: str) -> None:
    with pytest.raises(BadRequestError, match=sentence) as refused:
        parse(b"{}", content_type)
    assert refused.value.status == HTTPStatus.UNSUPPORTED_MEDIA_TYPE
