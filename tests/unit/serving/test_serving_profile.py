import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from backstay_contract.profile import Profile, ProfileError, draw_up, parse_profile
from backstay_serving.featurecounts import FeatureCounter, counter_for
from backstay_serving.outcome import FeatureCount
from backstay_serving.profile import read_profile
from backstay_serving.settings import StartError
from backstay_serving.signature import Column, Columns

NUMBERS = Columns(columns=(Column("amount", "double", True), Column("hour", "double", True)), all_double=True)
MIXED = Columns(
    columns=(
        Column("amount", "double", True),
        Column("items", "long", True),
        Column("note", "string", True),
        Column("age", "double", False),
    ),
    all_double=False,
)


def test_a_profile_says_the_buckets_of_features_predictions_and_confidences() -> None:
    text = b'{"features": {"a": {"edges": [1, 2.5], "counts": [3, 4, 5]}}, "prediction": {"edges": [0]}}'
    assert parse_profile(text) == Profile(features={"a": (1.0, 2.5)}, prediction=(0.0,))
    assert parse_profile(b"{}") == Profile(features={})


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{", "is no JSON"),
        ("[]", "is no object like"),
        ('{"features": [1]}', "is no object like"),
        ('{"features": {"a": [1]}}', "needs edges for the feature 'a'"),
        ('{"features": {"a": {"edges": []}}}', "needs edges for the feature 'a', a list of 1 to 50 numbers"),
        ('{"features": {"a": {"edges": [1, "2"]}}}', "needs edges for the feature 'a'"),
        ('{"features": {"a": {"edges": [1, NaN]}}}', "needs edges for the feature 'a'"),
        ('{"prediction": {"edges": [2, 1]}}', "has edges for prediction that do not increase"),
        (json.dumps({"features": {f"f{n}": {"edges": [1]} for n in range(101)}}), "has 101 features; keep the 100"),
    ],
)
def test_what_is_no_profile_is_refused_in_a_sentence(text: str, said: str) -> None:
    with pytest.raises(ProfileError) as refused:
        parse_profile(text.encode())
    assert str(refused.value).startswith(f"reference_profile.json beside the model {said}")


@pytest.mark.parametrize("place", ["reference_profile.json", "extra_files/reference_profile.json"])
def test_the_profile_beside_the_model_is_read_and_a_wrong_one_keeps_the_server_from_starting(
    tmp_path: Path, place: str
) -> None:
    assert read_profile(tmp_path) == Profile(features={})
    (tmp_path / place).parent.mkdir(exist_ok=True)
    (tmp_path / place).write_text('{"features": {"a": {"edges": [1]}}}')
    assert read_profile(tmp_path) == Profile(features={"a": (1.0,)})
    (tmp_path / place).write_text("{")
    with pytest.raises(StartError, match=r"^reference_profile\.json beside the model is no JSON"):
        read_profile(tmp_path)


@given(st.lists(st.floats(-1e6, 1e6), min_size=2, max_size=200).filter(lambda values: len(set(values)) > 1))
def test_a_profile_that_is_drawn_up_is_read_again_and_counts_every_value(values: list[float]) -> None:
    text = draw_up({"a": [*values, float("nan")]})
    edges = parse_profile(text.encode()).features["a"]
    counts = json.loads(text)["features"]["a"]["counts"]
    assert sum(counts) == len(values)
    assert counts == list(np.bincount(np.searchsorted(edges, values), minlength=len(edges) + 1))


def test_a_feature_that_never_differs_has_no_profile() -> None:
    with pytest.raises(ValueError, match="The feature 'a' has fewer than two different numbers"):
        draw_up({"a": [1.0, 1.0]})


def test_values_on_an_edge_are_below_it_and_nulls_are_counted_apart() -> None:
    counter = FeatureCounter({"hour": (1.0, 2.0), "amount": (10.0,)}, NUMBERS)
    rows = pd.DataFrame({"amount": [10.0, 10.5, np.nan], "hour": [1.0, 1.5, 9.0]})
    hour, amount = counter.count(rows)
    assert hour == FeatureCount(buckets=[1, 1, 1], sum=11.5, nulls=0)
    assert amount == FeatureCount(buckets=[1, 1], sum=20.5, nulls=1)


def test_an_optional_column_that_is_left_out_is_null() -> None:
    counter = FeatureCounter({"age": (30.0,), "items": (1.0, 5.0)}, MIXED)
    age, items = counter.count(pd.DataFrame({"amount": [1.0], "items": [6], "note": ["x"]}))
    assert age == FeatureCount(buckets=[0, 0], sum=0.0, nulls=1)
    assert items == FeatureCount(buckets=[0, 0, 1], sum=6.0, nulls=0)


@given(
    rows=st.lists(st.tuples(st.floats(-5, 15), st.floats(allow_nan=True)), min_size=1, max_size=50),
    edges=st.lists(st.floats(-5, 15), min_size=1, max_size=12, unique=True).map(sorted),
)
def test_counting_at_once_is_counting_one_by_one(rows: list[tuple[float, float]], edges: list[float]) -> None:
    counter = FeatureCounter({"amount": tuple(edges), "hour": (0.0,)}, NUMBERS)
    amount, hour = counter.count(pd.DataFrame(rows, columns=["amount", "hour"]))
    values = [value for value, _ in rows]
    assert amount.buckets == list(np.bincount(np.searchsorted(edges, values), minlength=len(edges) + 1))
    assert hour.nulls + sum(hour.buckets) == len(rows)


@pytest.mark.parametrize("feature", ["unheard", "note"])
def test_a_profile_of_what_the_model_does_not_take_as_a_number_is_refused(feature: str) -> None:
    with pytest.raises(StartError, match=f"counts the feature '{feature}', which the model's signature does not have"):
        counter_for({feature: (1.0,)}, MIXED)
