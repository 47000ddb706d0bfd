"""Cumulative counters to increments."""

from hypothesis import given
from hypothesis import strategies as st

from backstay.judge.counters import increment


def test_difference_is_summed_over_pods() -> None:
    assert increment({"a": 10, "b": 5}, {"a": 14, "b": 6}).value == 5


def test_a_reset_counts_from_zero() -> None:
    assert increment({"a": 100}, {"a": 3}).value == 3


def test_an_unknown_pods_lifetime_does_not_enter_one_interval() -> None:
    result = increment({"a": 1}, {"a": 1, "old": 5000})
    assert result.value == 0
    assert increment(result.base, {"a": 1, "old": 5002}).value == 2


def test_a_pod_born_since_the_last_reading_counts_from_zero() -> None:
    assert increment({}, {"new": 7}, born={"new"}).value == 7


def test_a_missed_scrape_joins_intervals_instead_of_losing_them() -> None:
    first = increment({"a": 10}, {})
    assert first.value == 0
    assert increment(first.base, {"a": 16}).value == 6


@given(st.lists(st.integers(0, 20), min_size=1, max_size=30), st.data())
def test_whatever_readings_are_taken_nothing_is_lost_or_counted_twice(steps: list[int], data: st.DataObject) -> None:
    values = [sum(steps[:i]) for i in range(len(steps) + 1)]
    taken = sorted(data.draw(st.sets(st.integers(0, len(steps)), min_size=1)))
    base: dict[str, float] = {"pod": values[0]}
    total = 0.0
    for index in taken:
        result = increment(base, {"pod": values[index]})
        total += result.value
        base = dict(result.base)
    assert total == values[taken[-1]]
