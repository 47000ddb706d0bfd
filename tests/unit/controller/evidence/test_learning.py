"""What stable's past teaches: bursts, pods that differ, and nothing where there is too little of it."""

from collections.abc import Sequence

import numpy as np
import pytest

from backstay.adapters.prometheus.client import Place, Reading, Value
from backstay.adapters.prometheus.histograms import Histogram
from backstay.controller.evidence.history import Past, learnable
from backstay.controller.evidence.profiles import REQUESTS, CounterPair
from backstay.controller.evidence.sources import Buckets, sources
from backstay.domain.observed import Backend, Track
from backstay.domain.resource import Analysis, Dependence, Key
from backstay.domain.signals import Comparison, Distribution, Latency, Measure, Objective, Signal
from backstay.judge.memory import Learnt

KEY, STABLE = Key("prod", "fraud"), Backend("aaa")
SIGNALS = (
    Signal("errors", Comparison()),
    Signal("latency", Latency()),
    Signal("limit", Objective(0.05)),
    Signal("confidence", Distribution(Measure.CONFIDENCE)),
)
ANALYSIS = Analysis(10.0, 0.05, SIGNALS)
(ERRORS,) = {one for one in sources(ANALYSIS).values() if isinstance(one, CounterPair)}
LATENCY = next(one for one in sources(ANALYSIS).values() if isinstance(one, Buckets))
LENGTH = 240


def readings(
    events: Sequence[Sequence[float]],
    requests: Sequence[Sequence[float]],
    slow: Sequence[Sequence[float]] | None = None,
    *,
    backend: Backend = STABLE,
) -> list[Reading]:
    """Count up what each interval added, a row an interval and a column a pod; a counter of nothing has no series."""
    happened, asked = (np.vstack([np.zeros(len(rows[0])), np.cumsum(rows, axis=0)]) for rows in (events, requests))
    late = np.vstack([np.zeros(asked.shape[1]), np.cumsum(slow, axis=0)]) if slow is not None else None
    told = []
    for index, total in enumerate(asked):
        places = [Place(backend, f"pod-{pod}") for pod in range(len(total))]
        values: dict[str, dict[Key, dict[Place, Value]]] = {
            REQUESTS: {KEY: {place: float(n) for place, n in zip(places, total, strict=True)}},
            ERRORS.events: {KEY: {p: float(n) for p, n in zip(places, happened[index], strict=True) if n}},
        }
        if late is not None:
            counts = zip(places, total, late[index], strict=True)
            values[LATENCY.histogram] = {KEY: {p: Histogram((0.1, np.inf), (n - s, s)) for p, n, s in counts}}
        told.append(Reading(10.0 * index, values))
    return told


def learn(analysis: Analysis, key: Key, stable: Backend, told: Sequence[Reading]) -> dict[str, Learnt]:
    """Learn from readings that come in parts of several sizes."""
    past, rest = Past(analysis, key, stable), list(told)
    for size in (1, 40, 100, len(rest)):
        past.add(rest[:size])
        rest = rest[size:]
    return past.learn()


def clustered(size: int, *, seed: int, pods: int = 4) -> tuple[np.ndarray, np.ndarray]:
    """Return events that come ``size`` at once, and requests, of shape [intervals, pods]."""
    random = np.random.default_rng(seed)
    requests = random.poisson(200, (LENGTH, pods)).astype(float)
    return size * random.binomial(requests.astype(int), 0.02 / size).astype(float), requests


@pytest.mark.parametrize("size", [1, 3, 5])
def test_phi_is_the_size_of_the_clusters(size: int) -> None:
    events, requests = clustered(size, seed=size)
    found = learn(ANALYSIS, KEY, STABLE, readings(events.tolist(), requests.tolist()))
    assert found["errors"].phi == pytest.approx(size, rel=0.25)
    assert found["errors"].sigma == 0.0


def test_slow_requests_that_come_in_clusters_are_learnt_from_the_histogram() -> None:
    slow, requests = clustered(4, seed=9)
    none = np.zeros_like(requests)
    found = learn(ANALYSIS, KEY, STABLE, readings(none.tolist(), requests.tolist(), slow.tolist()))
    assert found["latency"].phi == pytest.approx(4, rel=0.25)
    assert found["errors"] == Learnt()


def test_only_what_counts_events_is_learnt_and_nothing_with_a_history_of_zero() -> None:
    assert set(learnable(ANALYSIS)) == {"errors", "latency"}
    assert not learnable(Analysis(10.0, 0.05, SIGNALS, dependence=Dependence(history=0.0)))


def test_one_pod_or_a_few_intervals_or_another_backend_teach_nothing() -> None:
    events, requests = clustered(5, seed=2)
    one = readings(events[:, :1].tolist(), requests[:, :1].tolist())
    few = readings(events[:5].tolist(), requests[:5].tolist())
    other = readings(events.tolist(), requests.tolist(), backend=Backend("aaa", Track.BASELINE))
    for past in (one, few, other, [Reading(0.0)], []):
        assert set(learn(ANALYSIS, KEY, STABLE, past).values()) == {Learnt()}


def test_pods_that_differ_for_good_widen_the_tolerance_only_where_that_is_asked_for() -> None:
    random = np.random.default_rng(5)
    requests = np.full((LENGTH, 6), 200.0)
    events = random.binomial(200, [0.01, 0.01, 0.01, 0.01, 0.01, 0.05], (LENGTH, 6)).astype(float)
    past = readings(events.tolist(), requests.tolist())
    asked = Analysis(10.0, 0.05, SIGNALS, dependence=Dependence(pods=True))
    assert learn(ANALYSIS, KEY, STABLE, past)["errors"].sigma == 0.0
    assert learn(asked, KEY, STABLE, past)["errors"].sigma > 0.5
    # Their own rates are no bursts within an interval, but they are not independent of the pod either.
    alike = readings(random.binomial(200, 0.02, (LENGTH, 6)).astype(float).tolist(), requests.tolist())
    assert learn(asked, KEY, STABLE, alike)["errors"].sigma < 0.2


def test_a_reset_and_a_missed_scrape_leave_out_that_pods_interval() -> None:
    events, requests = clustered(1, seed=7)
    past = readings(events.tolist(), requests.tolist())
    undisturbed = learn(ANALYSIS, KEY, STABLE, past)["errors"].phi
    first = Place(STABLE, "pod-0")
    for reading in past[100:]:
        for template in (REQUESTS, ERRORS.events):
            values = dict(reading.values[template][KEY])
            if first in values:
                values[first] = values[first] - past[100].of(template, KEY)[first]  # type: ignore[operator]
            reading.values[template][KEY] = values  # type: ignore[index]
    past[50] = Reading(past[50].at)
    assert learn(ANALYSIS, KEY, STABLE, past)["errors"].phi == pytest.approx(undisturbed, abs=0.1)


def test_events_that_were_there_and_are_missing_are_not_zero() -> None:
    events, requests = clustered(1, seed=5)
    whole = readings(events.tolist(), requests.tolist())
    holed = [
        Reading(one.at, {**one.values, ERRORS.events: {}}) if index % 10 == 5 and index > 10 else one
        for index, one in enumerate(whole)
    ]
    assert learn(ANALYSIS, KEY, STABLE, holed)["errors"].phi < 1.2


def test_events_that_are_no_number_are_not_zero() -> None:
    """A pod whose errors were never a number has unknown ones: with zeros in their place bursts would look smaller."""
    events, requests = clustered(5, seed=5, pods=4)
    whole = readings(events.tolist(), requests.tolist())
    bad = [Place(STABLE, f"pod-{pod}") for pod in (2, 3)]
    told = [
        Reading(
            one.at,
            {
                REQUESTS: one.values[REQUESTS],
                ERRORS.events: {KEY: {p: n for p, n in one.of(ERRORS.events, KEY).items() if p not in bad}},
            },
            broken={ERRORS.events: {KEY: frozenset(bad)}},
        )
        for one in whole
    ]
    without = readings(events[:, :2].tolist(), requests[:, :2].tolist())
    assert learn(ANALYSIS, KEY, STABLE, told)["errors"] == learn(ANALYSIS, KEY, STABLE, without)["errors"]
