"""Cumulative counters to increments."""

from collections.abc import Mapping

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from backstay.judge.counters import increment, went_back


def added(before: Mapping[str, float], after: Mapping[str, float], *, born: frozenset[str] = frozenset()) -> float:
    [value] = increment(_arrays(before), _arrays(after), born=born, size=1)
    return float(value)


def _arrays(reading: Mapping[str, float]) -> dict[str, np.ndarray[tuple[int], np.dtype[np.float64]]]:
    return {pod: np.array([value], dtype=np.float64) for pod, value in reading.items()}


def test_difference_is_summed_over_pods() -> None:
    assert added({"a": 10, "b": 5}, {"a": 14, "b": 6}) == 5


def test_a_reset_counts_from_zero() -> None:
    assert added({"a": 100}, {"a": 3}) == 3


def test_a_histogram_is_reset_where_any_bucket_went_down() -> None:
    before, after = {"a": np.array([5.0, 9.0])}, {"a": np.array([6.0, 2.0])}
    assert increment(before, after, born=frozenset(), size=2).tolist() == [6, 2]


@pytest.mark.parametrize(("born", "expected"), [(frozenset(), 0), (frozenset({"new"}), 7)])
def test_only_a_pod_known_to_be_new_counts_from_zero(born: frozenset[str], expected: float) -> None:
    assert added({"a": 1}, {"a": 1, "new": 7}, born=born) == expected


def test_a_pod_that_is_missing_from_a_reading_adds_nothing() -> None:
    assert added({"a": 10}, {}) == 0


@pytest.mark.parametrize(
    ("known", "value", "expected"), [(100, 99, True), (100, 51, True), (100, 50, False), (100, 0, False), (5, 5, False)]
)
def test_a_counter_that_lost_less_than_half_is_an_older_reading(known: float, value: float, *, expected: bool) -> None:
    assert went_back(known, value) is expected


@given(st.lists(st.integers(0, 20), min_size=1, max_size=30), st.data())
def test_whatever_readings_are_taken_nothing_is_lost_or_counted_twice(steps: list[int], data: st.DataObject) -> None:
    values = [float(sum(steps[:i])) for i in range(len(steps) + 1)]
    taken = sorted(data.draw(st.sets(st.integers(0, len(steps)), min_size=1)))
    last, total = values[0], 0.0
    for index in taken:
        total += added({"pod": last}, {"pod": values[index]})
        last = values[index]
    assert total == values[taken[-1]]
