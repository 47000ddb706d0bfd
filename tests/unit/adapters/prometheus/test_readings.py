"""What is read of Prometheus: nothing of it is kept but by whoever asked."""

import itertools
import re
import tracemalloc
from collections.abc import Callable
from typing import Any

import pytest
import requests
from prometheus_api_client import PrometheusConnect
from prometheus_api_client.exceptions import PrometheusApiClientException

from backstay.adapters.prometheus import client as prometheus
from backstay.adapters.prometheus.client import Place, Prometheus, PrometheusUnavailableError, Reading
from backstay.adapters.prometheus.queries import Apart, Patience
from backstay.domain.observed import Backend
from backstay.domain.resource import Key

_PODS = 1000
_READINGS = 25


def test_each_pod_is_found_by_its_labels_and_what_has_none_of_ours_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    ours = {
        "namespace": "prod",
        "modeldeployment": "fraud",
        "revision": "aaa",
        "pod": "fraud-1",
        "track": "primary",
    }
    strange: list[dict[str, str]] = [{}, {**ours, "track": "spare"}, {**ours, "pod": ""}]
    answer = [{"metric": labels, "value": [100.0, "7"]} for labels in (*strange, ours)]
    monkeypatch.setattr(PrometheusConnect, "custom_query", lambda *_, **__: answer)
    (reading,) = Prometheus("http://prometheus").read(["requests"], ["aaa"], [100.0])
    assert reading.values == {"requests": {Key("prod", "fraud"): {Place(Backend("aaa"), "fraud-1"): 7.0}}}


@pytest.mark.parametrize("sample", ["NaN", "+Inf", "-Inf", "-3"])
def test_a_sample_that_is_no_count_is_left_out_and_told(monkeypatch: pytest.MonkeyPatch, sample: str) -> None:
    labels = {"namespace": "prod", "modeldeployment": "fraud", "revision": "aaa", "track": "primary"}
    answer = [
        {"metric": {**labels, "pod": "good"}, "value": [100.0, "7"]},
        {"metric": {**labels, "pod": "bad"}, "value": [100.0, sample]},
        {"metric": {**labels, "pod": "good", "le": "+Inf"}, "value": [100.0, "9"]},
        {"metric": {**labels, "pod": "bucket", "le": "0.1"}, "value": [100.0, sample]},
        {"metric": {**labels, "pod": "bucket", "le": "+Inf"}, "value": [100.0, "9"]},
        {"metric": {**labels, "pod": "native"}, "histogram": [100.0, {"buckets": [[0, "1", "2", sample]]}]},
    ]
    monkeypatch.setattr(PrometheusConnect, "custom_query", lambda *_, **__: answer)
    (reading,) = Prometheus("http://prometheus").read(["anything"], ["aaa"], [100.0])
    key, backend = Key("prod", "fraud"), Backend("aaa")
    assert set(reading.of("anything", key)) == {Place(backend, "good")}
    assert reading.broken_of("anything", key) == {Place(backend, pod) for pod in ("bad", "bucket", "native")}
    assert not reading.broken_of("anything", Key("prod", "other"))


def test_many_revisions_are_asked_for_in_parts_whose_answers_are_joined(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prometheus, "_AT_ONCE", 2)
    asked: list[str] = []

    def answer(_: Any, query: str, **__: Any) -> list[dict[str, Any]]:
        asked.append(query)
        labels = {"namespace": "prod", "modeldeployment": "fraud", "track": "primary"}
        return [
            {"metric": {**labels, "revision": one, "pod": f"fraud-{one}"}, "value": [100.0, "7"]}
            for one in ("aaa", "bbb", "ccc")
            if one in query
        ]

    monkeypatch.setattr(PrometheusConnect, "custom_query", answer)
    templates = ['requests{revision=~"$revisions"}', "of no revision"]
    (reading,) = Prometheus("http://prometheus").read(templates, ["ccc", "bbb", "aaa"], [100.0])
    parts = ('"aaa|bbb"', '"ccc"', "no revision")
    assert all(part in query for part, query in zip(parts, asked, strict=True))
    places = {Place(Backend(one), f"fraud-{one}"): 7.0 for one in ("aaa", "bbb", "ccc")}
    assert reading.values == {templates[0]: {Key("prod", "fraud"): places}, templates[1]: {}}


def test_pods_that_come_and_go_leave_nothing_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    numbers = itertools.count()

    def new_pods(*_: Any, **__: Any) -> list[dict[str, Any]]:
        names = [f"{next(numbers):08}" for _ in range(_PODS)]
        labels = {"namespace": "prod", "track": "primary"}
        return [
            {"metric": {**labels, "modeldeployment": n, "revision": n, "pod": n}, "value": [100.0, "7"]} for n in names
        ]

    monkeypatch.setattr(PrometheusConnect, "custom_query", new_pods)
    client = Prometheus("http://prometheus")
    tracemalloc.start()
    try:
        client.read(["requests"], [], [100.0])
        before, _ = tracemalloc.get_traced_memory()
        for _ in range(_READINGS):
            (reading,) = client.read(["requests"], [], [100.0])
            assert len(reading.values["requests"]) == _PODS
            del reading
        after, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    # A pod's labels alone are some hundred bytes; what else the process does meanwhile is some ten thousand in all.
    assert (after - before) / (_READINGS * _PODS) < 10


class Server:
    """Stands in for Prometheus' HTTP API: some queries fail, and the others find a pod of each revision in them."""

    def __init__(self, fails: Callable[[str], Exception | None]) -> None:
        self.fails = fails
        self.asked: list[str] = []

    def __call__(self, query: str, **_: Any) -> list[dict[str, Any]]:
        self.asked.append(query)
        problem = self.fails(query)
        if problem is not None:
            raise problem
        labels = {"namespace": "prod", "modeldeployment": "fraud", "track": "primary"}
        return [
            {"metric": {**labels, "revision": one, "pod": f"fraud-{one}"}, "value": [100.0, "7"]}
            for one in re.findall("r[0-9]{3}", query)
        ]

    def taken(self) -> list[str]:
        """Return what was asked since the last call."""
        asked, self.asked = self.asked, []
        return asked


REVISIONS = [f"r{number:03}" for number in range(100)]
TEMPLATE = 'requests{revision=~"$revisions"}'
NOT_WORKED_OUT = PrometheusApiClientException("HTTP Status Code 422 (b'many-to-many matching not allowed')")


def found(reading: Reading) -> set[str]:
    return {place.backend.revision for place in reading.of(TEMPLATE, Key("prod", "fraud"))}


@pytest.mark.parametrize("culprits", [["r000"], ["r099"], ["r041"], ["r010", "r011", "r090"]])
def test_revisions_that_cannot_be_worked_out_are_found_and_asked_for_apart(
    monkeypatch: pytest.MonkeyPatch, culprits: list[str]
) -> None:
    server = Server(lambda query: NOT_WORKED_OUT if any(one in query for one in culprits) else None)
    monkeypatch.setattr(PrometheusConnect, "custom_query", server)
    client = Prometheus("http://prometheus")
    for most in (1 + 14 * len(culprits), 1 + len(culprits)):
        (reading,) = client.read([TEMPLATE], REVISIONS, [100.0], shared=[TEMPLATE])
        assert len(server.taken()) <= most
        assert found(reading) == set(REVISIONS) - set(culprits)
        for revision in REVISIONS:
            said = reading.problem(TEMPLATE, frozenset({revision}))
            assert ("many-to-many" in said) == (revision in culprits)


def test_revisions_that_are_in_each_others_way_are_asked_for_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    server = Server(lambda query: NOT_WORKED_OUT if "r012" in query and "r077" in query else None)
    monkeypatch.setattr(PrometheusConnect, "custom_query", server)
    client = Prometheus("http://prometheus")
    for most in (15, 2):
        (reading,) = client.read([TEMPLATE], REVISIONS, [100.0])
        assert len(server.taken()) <= most
        assert (found(reading), reading.problems) == (set(REVISIONS), {})


@pytest.mark.parametrize(
    ("problem", "most"),
    [
        (NOT_WORKED_OUT, 65),
        (PrometheusApiClientException("HTTP Status Code 400 (b'parse error')"), 1),
        (PrometheusApiClientException("HTTP Status Code 503 (b'no server')"), 1),
    ],
)
def test_a_query_that_is_never_answered_takes_few_attempts(
    monkeypatch: pytest.MonkeyPatch, problem: Exception, most: int
) -> None:
    server = Server(lambda _: problem)
    monkeypatch.setattr(PrometheusConnect, "custom_query", server)
    (reading,) = Prometheus("http://prometheus").read([TEMPLATE], REVISIONS, [100.0])
    assert len(server.taken()) <= most
    assert all(reading.problem(TEMPLATE, frozenset({revision})) for revision in REVISIONS)


def test_a_slow_query_of_one_model_is_its_own_problem_and_rests(monkeypatch: pytest.MonkeyPatch) -> None:
    server = Server(lambda query: requests.ReadTimeout() if "slow" in query else None)
    monkeypatch.setattr(PrometheusConnect, "custom_query", server)
    client, slow = Prometheus("http://prometheus"), [f"slow_{number}" for number in range(5)]
    counts = []
    for _ in range(4):
        (reading,) = client.read(["own", *slow, TEMPLATE], REVISIONS, [100.0], shared=[TEMPLATE])
        assert found(reading) == set(REVISIONS)
        assert set(reading.problems) == set(slow)
        assert "does not answer a query within 5 s" in reading.problem("slow_0", frozenset())
        counts.append(sum("slow" in query for query in server.taken()))
    # Two of them delay a reading at most.
    assert counts == [2, 2, 1, 0]


@pytest.mark.parametrize("problem", [requests.ReadTimeout(), requests.ConnectionError()])
def test_a_prometheus_that_does_not_answer_at_all_is_no_one_models_problem(
    monkeypatch: pytest.MonkeyPatch, problem: Exception
) -> None:
    server = Server(lambda _: problem)
    monkeypatch.setattr(PrometheusConnect, "custom_query", server)
    with pytest.raises(PrometheusUnavailableError, match=type(problem).__name__):
        Prometheus("http://prometheus").read(["own", TEMPLATE], REVISIONS, [100.0], shared=[TEMPLATE])
    assert len(server.taken()) == 2


def test_a_prometheus_that_answers_no_query_that_all_need_is_unavailable(monkeypatch: pytest.MonkeyPatch) -> None:
    server = Server(lambda query: None if query == "vector(1)" else requests.ReadTimeout())
    monkeypatch.setattr(PrometheusConnect, "custom_query", server)
    with pytest.raises(PrometheusUnavailableError):
        Prometheus("http://prometheus").read(["a", "b", "c"], REVISIONS, [100.0], shared=["a", "b", "c"])


def test_a_slow_query_is_put_again_ever_more_seldom_until_it_is_answered() -> None:
    now = 0.0
    patience = Patience(lambda: now)
    pauses = []
    for _ in range(7):
        pauses.append(patience.slow("slow"))
        assert patience.rests("slow") == pauses[-1]
        now += pauses[-1]
        assert patience.rests("slow") == 0
    assert pauses == [30, 60, 120, 240, 480, 600, 600]
    patience.answered("slow")
    assert patience.slow("slow") == 30


def test_what_is_asked_for_apart_is_asked_for_with_the_others_again_after_a_while() -> None:
    now = 0.0
    apart = Apart(lambda: now)
    for number in range(100):
        apart.keep("requests", (f"r{number:03}",))
    assert [len(group) for group in apart.groups("requests", REVISIONS, 4000)] == [84, *[1] * 16]
    assert apart.groups("requests", ["r001", "other"], 4000) == [("other",), ("r001",)]
    now = 301.0
    assert apart.groups("requests", REVISIONS, 4000) == [tuple(REVISIONS)]
