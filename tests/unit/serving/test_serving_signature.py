import json
import math

import numpy as np
import pandas as pd
import pytest

from backstay_serving.payload import BadRequestError, Nested, Rows, Table, TextTable
from backstay_serving.settings import StartError
from backstay_serving.signature import Signature, Unspecified, build_input, parse_signature


def columns(**types: str) -> Signature:
    return parse_signature(json.dumps([{"name": name, "type": kind, "required": True} for name, kind in types.items()]))


def tensor(dtype: str, *shape: int) -> Signature:
    return parse_signature(json.dumps([{"type": "tensor", "tensor-spec": {"dtype": dtype, "shape": shape}}]))


def frame(rows: Rows, signature: Signature) -> pd.DataFrame:
    built = build_input(rows, signature)
    assert isinstance(built, pd.DataFrame)
    return built


def test_columns_are_found_by_name_and_put_in_the_models_order() -> None:
    built = frame(Table(("b", "extra", "a"), [[2, "-", 1]]), columns(a="double", b="double"))
    assert list(built.columns) == ["a", "b"]
    assert built.iloc[0].tolist() == [1.0, 2.0]


def test_every_type_arrives_as_the_model_was_trained_with() -> None:
    signature = columns(d="double", f="float", l="long", i="integer", b="boolean", s="string", t="datetime")
    built = frame(Table(tuple("dflibst"), [[1, 1, 1, 1, True, "x", "2026-01-02T03:04:05"]]), signature)
    kinds = [str(dtype) for dtype in built.dtypes]
    assert kinds[:6] == ["float64", "float32", "int64", "int32", "bool", "object"]
    assert built["t"].iloc[0] == pd.Timestamp("2026-01-02T03:04:05")


def test_a_missing_number_is_not_a_number() -> None:
    assert math.isnan(frame(Table(("a",), [[None]]), columns(a="double")).iloc[0, 0])  # type: ignore[arg-type]  # a float


def test_an_optional_column_may_be_left_out() -> None:
    signature = parse_signature(
        '[{"name": "a", "type": "double", "required": true}, {"name": "b", "type": "long", "required": false}]'
    )
    assert list(frame(Table(("a",), [[1]]), signature).columns) == ["a"]


def test_rows_without_names_are_taken_in_the_models_order() -> None:
    assert frame(Nested([[1, 2]]), columns(a="double", b="double"))["b"].tolist() == [2.0]


def test_the_cells_of_a_csv_mean_what_the_signature_says() -> None:
    text = TextTable(("s", "l", "b", "d"), [["007", "12", "TRUE", ""]])
    built = frame(text, columns(s="string", l="long", b="boolean", d="double"))
    assert built["s"].tolist() == ["007"]
    assert built["l"].tolist() == [12]
    assert built["b"].tolist() == [True]
    assert math.isnan(built["d"].iloc[0])


@pytest.mark.parametrize(
    ("kind", "value", "sentence"),
    [
        ("double", "1.5", "Column 'a' holds \"1.5\" in row 0; the model takes a number"),
        ("double", True, "Column 'a' holds true in row 0; the model takes a number"),
        ("double", [1], "the model takes a number"),
        ("double", 10**400, "a number in row 0 that is too large"),
        ("long", 1.5, "Column 'a' holds 1.5 in row 0; the model takes a whole number of 64 bits"),
        ("long", None, "holds null in row 0"),
        ("integer", 2**31, "the model takes a whole number of 32 bits"),
        ("boolean", 1, "Column 'a' holds 1 in row 0; the model takes true or false"),
        ("string", 1, "Column 'a' holds 1 in row 0; the model takes text"),
        ("datetime", "yesterday-ish", "Column 'a' holds something that is no date and time"),
        ("datetime", "2026-01-02T03:04:05Z", "Column 'a' holds a time zone; the model takes dates and times without"),
    ],
)
def test_a_value_of_another_type_is_refused_by_column_and_row(kind: str, value: object, sentence: str) -> None:
    with pytest.raises(BadRequestError) as refused:
        build_input(Table(("a",), [[value]]), columns(a=kind))
    assert sentence in str(refused.value)


def test_missing_columns_are_all_named() -> None:
    with pytest.raises(BadRequestError, match="The model needs the column 'b', 'c', which the request lacks"):
        build_input(Table(("a",), [[1]]), columns(a="double", b="double", c="long"))


def test_a_row_of_another_length_is_refused() -> None:
    with pytest.raises(BadRequestError, match="Row 1 is 1 values; the model takes 2 columns in a row"):
        build_input(Nested([[1, 2], [1]]), columns(a="double", b="double"))


def test_a_tensor_has_the_models_type_and_shape() -> None:
    built = build_input(Nested([[1, 2], [3, 4]]), tensor("float32", -1, 2))
    assert isinstance(built, np.ndarray)
    assert built.dtype == np.float32
    assert built.shape == (2, 2)


@pytest.mark.parametrize(
    ("rows", "sentence"),
    [
        ([[1, 2, 3]], r"the shape \[1, 3\]; the model takes \[-1, 2\]"),
        ([1, 2], r"the shape \[2\]"),
        ([[1, 2], [3]], "The rows differ in length or depth"),
        ([["1", "2"]], "The model takes numbers"),
    ],
)
def test_another_array_is_refused(rows: list[object], sentence: str) -> None:
    with pytest.raises(BadRequestError, match=sentence):
        build_input(Nested(rows), tensor("float64", -1, 2))


@pytest.mark.parametrize(
    ("dtype", "value"),
    [("int64", 1.5), ("int64", float("nan")), ("int64", 2**63), ("uint8", 256), ("uint8", -1), ("bool", 2)],
)
def test_a_number_that_the_models_whole_type_cannot_hold_is_refused(dtype: str, value: float) -> None:
    with pytest.raises(BadRequestError, match=f"holds a number that is no {dtype}, which the model takes"):
        build_input(Nested([[value]]), tensor(dtype, -1, 1))
    assert np.asarray(build_input(Nested([[1.0]]), tensor(dtype, -1, 1))).tolist() == [[1]]


def test_a_number_that_is_no_time_is_refused() -> None:
    with pytest.raises(BadRequestError):
        build_input(Nested([[2**64]]), tensor("datetime64[ns]", -1, 1))


def test_without_a_signature_rows_go_as_they_come() -> None:
    assert parse_signature("") == Unspecified()
    assert frame(Table(("a",), [[1], [2]]), Unspecified())["a"].tolist() == [1, 2]
    assert frame(TextTable(("a", "b"), [["1", "x"]]), Unspecified()).iloc[0].tolist() == [1, "x"]
    assert frame(Nested([[1, 2]]), Unspecified()).shape == (1, 2)


def test_a_signature_that_cannot_be_built_is_refused_at_the_start() -> None:
    with pytest.raises(StartError, match="an input picture of type binary"):
        parse_signature('[{"name": "picture", "type": "binary"}]')
