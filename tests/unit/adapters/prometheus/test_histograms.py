"""Both kinds of Prometheus' histograms, brought to the buckets that a signal is judged in."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backstay.adapters.prometheus.histograms import Histogram, classic, edges_of, native


def exponential(schema: int, counts: dict[int, float], *, zero: float = 0.0) -> Histogram:
    """Write a native histogram as the API does: bucket i ends at 2^(i / 2^schema)."""
    buckets = [[0, str(2 ** ((i - 1) / 2**schema)), str(2 ** (i / 2**schema)), str(n)] for i, n in counts.items()]
    if zero:
        buckets.insert(0, [3, "-0.001", "0.001", str(zero)])
    return native({"count": "1", "sum": "1", "buckets": buckets})


def test_a_classic_histogram_is_read_bucket_by_bucket() -> None:
    histogram = classic({"+Inf": 12, "0.1": 3, "0.5": 10})
    assert edges_of([histogram]) == (0.1, 0.5)
    counts = histogram.into((0.1, 0.5))
    assert counts is not None
    assert counts.tolist() == [3, 7, 2]


@pytest.mark.parametrize("edges", [(0.1,), (0.1, 0.25, 0.5), (0.1, 0.6)])
def test_a_classic_histogram_fits_no_other_buckets(edges: tuple[float, ...]) -> None:
    assert classic({"+Inf": 12, "0.1": 3, "0.5": 10}).into(edges) is None


@pytest.mark.parametrize(
    "buckets",
    [
        {"0.1": 3.0},
        {"0.1": 5.0, "+Inf": 3.0},
        {},
        {"0.1": math.nan, "+Inf": 3.0},
        {"0.1": 1.0, "+Inf": math.nan},
        {"0.1": 1.0, "+Inf": math.inf},
        {"0.1": -1.0, "+Inf": 3.0},
    ],
)
def test_what_is_no_histogram_is_refused(buckets: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="histogram"):
        classic(buckets)


@pytest.mark.parametrize("count", ["NaN", "+Inf", "-1"])
def test_a_native_histogram_with_a_bucket_that_is_no_count_is_refused(count: str) -> None:
    with pytest.raises(ValueError, match="histogram"):
        native({"count": "1", "sum": "1", "buckets": [[0, "0.5", "1", "3"], [0, "1", "2", count]]})


@pytest.mark.parametrize("edge", ["0.1", "1e-9"])
def test_a_native_histogram_with_buckets_of_ones_own_has_no_edges_to_be_judged_in(edge: str) -> None:
    custom = native({"buckets": [[0, "-Inf", edge, "3"], [0, edge, "0.5", "4"], [0, "0.5", "+Inf", "2"]]})
    assert custom.into(edges_of([custom])) is None


def test_native_histograms_of_different_schemas_meet_in_the_coarser_ones_buckets() -> None:
    coarse, fine = exponential(0, {-3: 4, -2: 6}), exponential(3, {-24: 1, -16: 2, -8: 5})
    edges = edges_of([fine, coarse])
    assert edges[:2] == (2**-3, 2**-2)
    for histogram, expected in ((coarse, [4, 6, 0]), (fine, [1, 2, 5])):
        counts = histogram.into(edges)
        assert counts is not None
        assert counts[:3].tolist() == expected


def test_a_native_histogram_that_is_coarser_than_the_buckets_chosen_does_not_fit() -> None:
    edges = edges_of([exponential(2, {-8: 4, -5: 6})])
    assert exponential(0, {-1: 3}).into(edges) is None


def test_what_is_below_zero_or_next_to_it_is_in_the_first_bucket_and_what_is_slower_than_ever_in_the_last() -> None:
    edges = edges_of([exponential(0, {-3: 4, -2: 6})])
    counts = exponential(0, {20: 2}, zero=7).into(edges)
    assert counts is not None
    assert (counts[0], counts[-1]) == (7, 2)


def test_an_empty_native_histogram_is_no_observation_yet() -> None:
    empty = native({"count": "0", "sum": "0"})
    assert edges_of([empty]) == ()
    counts = empty.into((1.0, 2.0))
    assert counts is not None
    assert counts.tolist() == [0, 0, 0]


@given(st.dictionaries(st.integers(-40, 40), st.integers(1, 1000), min_size=1), st.integers(0, 5))
def test_no_observation_is_lost_and_there_are_few_buckets(counts: dict[int, float], schema: int) -> None:
    histogram = exponential(schema, dict(sorted(counts.items())))
    edges = edges_of([histogram])
    assert len(edges) <= 20 or schema == 0
    fitted = histogram.into(edges)
    assert fitted is not None
    assert math.isclose(fitted.sum(), sum(counts.values()))
