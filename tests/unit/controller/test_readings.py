"""What is read of Prometheus: nothing of it is kept but by whoever asked."""

import itertools
import tracemalloc
from typing import Any

import pytest
from prometheus_api_client import PrometheusConnect

from backstay.adapters import prometheus
from backstay.adapters.prometheus import Place, Prometheus
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
