"""A document of evidence: the published formulas, the verdict, and sentences for what cannot be judged."""

import copy
import json
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import special

from backstay.judge.document import EvidenceError, evidence_of
from backstay.judge.replay import judge

EXAMPLE: dict[str, Any] = {
    "alpha": 0.05,
    "signals": [
        {
            "name": "errors",
            "kind": "count",
            "tolerance": 1.0,
            "weight": 1.0,
            "intervals": [{"canary": {"total": 120, "events": 3}, "baseline": {"total": 1080, "events": 9}}],
        },
        {
            "name": "latency",
            "kind": "latency",
            "edges": [0.05, 0.1, 0.25],
            "intervals": [{"canary": [90, 20, 8, 2], "baseline": [820, 180, 70, 10]}],
        },
        {
            "name": "confidence",
            "kind": "distribution",
            "minimumShift": 0.0,
            "intervals": [{"canary": [5, 15, 100], "baseline": [40, 140, 900]}],
        },
    ],
}


def answer(document: dict[str, Any]) -> dict[str, Any]:
    told = judge(evidence_of(json.loads(json.dumps(document))))
    json.dumps(told, allow_nan=False)
    return told


def count(*intervals: tuple[int, int, int, int], **more: Any) -> dict[str, Any]:
    rows = [
        {"canary": {"total": n_c, "events": c}, "baseline": {"total": n_s, "events": s}} for c, s, n_c, n_s in intervals
    ]
    return {"name": "errors", "kind": "count", "intervals": rows, **more}


def plain(*signals: dict[str, Any]) -> dict[str, Any]:
    return answer({"alpha": 0.05, "refinements": False, "signals": list(signals)})


def base_form(intervals: Sequence[tuple[float, ...]], tolerance: float) -> list[float]:
    """Formula (a), written once more, slowly."""
    grid = np.log([1.25, 1.5, 2, 3, 5, 10])
    exponents, told = np.zeros(6), []
    for c, s, n_c, n_s in intervals:
        if n_c and n_s:
            rho = n_c / (n_c + n_s)
            tilted = rho * tolerance / (1 - rho + rho * tolerance)
            exponents += c * grid - (c + s) * np.log(1 + tilted * (np.exp(grid) - 1))
        told.append(float(special.logsumexp(exponents) - math.log(6)))
    return told


def test_the_example_passes_and_tells_every_signal() -> None:
    told = answer(EXAMPLE)
    assert (told["verdict"], told["failedAt"]) == ("Pass", None)
    assert [signal["name"] for signal in told["signals"]] == ["errors", "latency", "confidence"]
    assert told["signals"][0]["effect"] == pytest.approx(
        {"requests": 120, "canary": 3 / 120, "baseline": 9 / 1080, "ratio": 3.0}
    )
    assert told["signals"][1]["effect"]["edge"] in (0.05, 0.1, 0.25)
    assert set(told["signals"][2]["effect"]) == {"requests", "psi"}


@pytest.mark.parametrize("tolerance", [1.0, 1.25])
def test_without_refinements_counts_are_formula_a(tolerance: float) -> None:
    random = np.random.default_rng(11)
    intervals = [(20, 80, 100, 900), (3, 0, 0, 50), (0, 2, 5, 8), (0, 0, 40, 0)]
    intervals += [tuple(int(x) for x in random.integers([0, 0, 20, 90], [9, 30, 60, 300])) for _ in range(60)]  # type: ignore[misc]
    intervals = [(min(c, n_c), min(s, n_s), n_c, n_s) for c, s, n_c, n_s in intervals]
    told = plain(count(*intervals, tolerance=tolerance))["signals"][0]["logE"]
    assert told == pytest.approx(base_form(intervals, tolerance), abs=1e-9)


def test_without_refinements_latency_is_the_mean_over_edges() -> None:
    canary, baseline = [90, 20, 8, 2], [820, 180, 70, 10]
    told = plain(EXAMPLE["signals"][1])["signals"][0]["logE"]
    edges = [base_form([(sum(canary[e:]), sum(baseline[e:]), sum(canary), sum(baseline))], 1.0)[0] for e in range(1, 4)]
    assert told == pytest.approx([special.logsumexp(edges) - math.log(3)])


def test_without_refinements_distributions_are_the_published_check_value() -> None:
    rows = [
        {"canary": [5, 15, 100, 0], "baseline": [40, 140, 900, 0]},
        {"canary": [8, 20, 92, 0], "baseline": [50, 130, 880, 0]},
        {"canary": [0, 0, 0, 0], "baseline": [9, 9, 9, 9]},
        {"canary": [9, 22, 85, 4], "baseline": [45, 150, 860, 5]},
        {"canary": [12, 25, 80, 3], "baseline": [44, 139, 890, 7]},
    ]
    signal = {"name": "confidence", "kind": "distribution", "intervals": rows}
    assert plain(signal)["signals"][0]["logE"][-1] == pytest.approx(5.9113054230, abs=1e-6)
    refined = answer({"alpha": 0.05, "signals": [signal]})["signals"][0]["logE"]
    assert refined[2] == refined[1]
    assert refined == pytest.approx(by_labels([(row["canary"], row["baseline"]) for row in rows]), abs=1e-6)


def by_labels(rows: Sequence[tuple[list[int], list[int]]]) -> list[float]:
    """Return the refined evidence of a shift over four ordered buckets, bucket by bucket."""
    xs = [b / 3 - 0.5 for b in range(4)]
    tilts = [[math.exp(a * x) for x in xs] for a in (0.3, 0.75, 1.5, -0.3, -0.75, -1.5)]
    tilts += [[math.exp(4 * a * x * x) for x in xs] for a in (0.3, 0.75, 1.5, -0.3, -0.75, -1.5)]
    exponents, told = [0.0] * 13, []
    canary, usual, pooled = [0.0] * 4, [0.0] * 4, [0.0] * 4
    for c, s in rows:
        n_c, n_s = sum(c), sum(s)
        if n_c:
            prior = [200 * p / sum(pooled) if sum(pooled) else 0.0 for p in pooled]
            history = [(canary[b] + prior[b]) / (usual[b] + prior[b]) if prior[b] else 1.0 for b in range(4)]
            for k, w in enumerate([history, *tilts]):
                mean = sum(u * one for u, one in zip(usual, w, strict=True)) / sum(usual) if sum(usual) else 1.0
                added = _labelled(c, s, [one / mean for one in w])
                if not sum(pooled):
                    shared = sum((c[b] + s[b]) * w[b] for b in range(4)) / (n_c + n_s)
                    other = sum(c[b] * math.log(w[b]) for b in range(4)) - n_c * math.log(shared)
                    added = math.log((math.exp(added) + math.exp(other)) / 2)
                exponents[k] += added
            for b in range(4):
                canary[b] += c[b]
                pooled[b] += c[b] + s[b]
                usual[b] += n_c * s[b] / n_s
        told.append(math.log(math.exp(exponents[0]) / 2 + sum(map(math.exp, exponents[1:])) / 24))
    return told


def _labelled(c: list[int], s: list[int], w: list[float]) -> float:
    rho = sum(c) / (sum(c) + sum(s))
    return sum(c[b] * math.log(w[b]) - (c[b] + s[b]) * math.log(1 + rho * (w[b] - 1)) for b in range(len(w)))


def test_refined_counts_are_the_published_check_value() -> None:
    told = answer(
        {
            "alpha": 0.05,
            "signals": [
                {**EXAMPLE["signals"][1], "edges": [0.1], "intervals": [{"canary": [75, 45], "baseline": [765, 315]}]}
            ],
        }
    )
    assert told["signals"][0]["logE"] == pytest.approx([0.4392276366], abs=1e-6)


def test_without_refinements_a_signal_fails_at_its_own_share_of_alpha() -> None:
    bad, good = (30, 20, 100, 900), (1, 9, 100, 900)
    # log E of the first interval is far above log(2/alpha).
    told = plain(count(good, bad, good, name="one"), count(good, good, good, name="two"))
    assert (told["verdict"], told["failedAt"]) == ("Fail", 1)
    assert [signal["verdict"] for signal in told["signals"]] == ["Fail", "Pass"]
    assert len(told["signals"][0]["logE"]) == 3


def test_a_failure_stands_even_if_the_evidence_falls_back() -> None:
    told = answer({"alpha": 0.05, "signals": [count((15, 10, 100, 900), *[(0, 90, 300, 900)] * 20)]})
    assert (told["verdict"], told["failedAt"]) == ("Fail", 0)
    assert told["signals"][0]["verdict"] == "Fail"
    assert told["signals"][0]["logE"][-1] < 0


def test_signals_fail_together() -> None:
    intervals = [(4, 0, 8, 72)]
    signals = [count(*intervals, name=name) for name in ("one", "two", "three")]
    assert answer({"alpha": 0.05, "signals": signals})["verdict"] == "Fail"
    assert plain(*[count((3, 0, 6, 54), name=name) for name in ("one", "two", "three")])["verdict"] == "Pass"


def test_no_arm_with_requests_is_no_data() -> None:
    told = plain(count((0, 0, 0, 100), (0, 0, 0, 100)))
    assert (told["verdict"], told["signals"][0]["logE"]) == ("NoData", [0.0, 0.0])
    assert told["signals"][0]["effect"] == {}
    assert plain(count())["verdict"] == "NoData"


def test_evidence_of_no_harm_is_asked_for_where_the_signal_says_so() -> None:
    asks = {"noHarm": {"ratio": 2, "level": 0.05}}
    assert answer({"alpha": 0.05, "signals": [count((0, 0, 500, 900), **asks)]})["verdict"] == "Inconclusive"
    assert answer({"alpha": 0.05, "signals": [count((8, 150, 1200, 10800), **asks)]})["verdict"] == "Pass"


def test_steps_tell_when_a_defect_may_begin() -> None:
    rows = count((1, 9, 120, 1080), (0, 12, 110, 1100), (3, 20, 300, 900))
    for row, step in zip(rows["intervals"], (0, 0, 1), strict=True):
        row["step"] = step
    stepped = answer({"alpha": 0.05, "steps": 3, "signals": [rows]})["signals"][0]["logE"]
    assert stepped[0] == pytest.approx(-0.14798, abs=0.01)


def broken(path: str, value: Any) -> dict[str, Any]:
    document = copy.deepcopy(EXAMPLE)
    place: Any = document
    *heads, last = [int(part) if part.isdigit() else part for part in path.split("/")]
    for head in heads:
        place = place[head]
    place[last] = value
    return document


@pytest.mark.parametrize(
    ("path", "value", "sentence"),
    [
        ("alpha", None, "alpha is missing: write a number"),
        ("alpha", 5, "alpha is 5: it must be above 0 and below 1"),
        ("refinements", "no", "refinements is 'no': write true or false"),
        ("signals", [], "signals is empty: name at least one signal"),
        ("signal", [], "the document has an unknown field 'signal': known are alpha, refinements, steps, signals"),
        ("signals/0/name", "", 'signals[0] has no name: write "name": "errors", say'),
        ("signals/0/name", "latency", "two signals are called latency: give each a name of its own"),
        ("signals/0/kind", "counts", "signal errors: kind is 'counts': write one of count, latency, distribution"),
        ("signals/0/tolerance", 0.9, "signal errors: tolerance is 0.9: it must be at least 1"),
        ("signals/0/weight", 0, "signal errors: weight is 0: it must be above 0"),
        ("signals/0/tolerence", 1.2, "signal errors has an unknown field 'tolerence'"),
        ("signals/1/edges", [0.1, 0.1, 0.2], "signal latency: edges are [0.1, 0.1, 0.2]"),
        ("signals/1/edges", None, "signal latency: edges is missing: write a list"),
        ("signals/2/minimumShift", 1, "signal confidence: minimumShift is 1: it must be at least 0 and below 1"),
        (
            "signals/0/intervals/0/canary/events",
            121,
            "signal errors: intervals[0].canary has 121 events in 120 requests: total counts all requests",
        ),
        (
            "signals/0/intervals/0/canary/total",
            120.5,
            "signal errors: intervals[0].canary.total is 120.5: counts are whole numbers; take differences of raw",
        ),
        ("signals/0/intervals/0/baseline", None, "signal errors: intervals[0].baseline is missing: write an object"),
        (
            "signals/1/intervals/0/baseline",
            [1, 2, 3],
            "signal latency: intervals[0].baseline has 3 buckets instead of 4: write a count for each bucket",
        ),
        ("signals/2/intervals/0/canary", [1, -2, 3], "signal confidence: intervals[0].canary is -2"),
        ("signals/2/intervals/0/step", 1, "signals latency and confidence differ in step, mix, comparable or pods"),
    ],
)
def test_a_document_that_cannot_be_judged_is_refused_with_a_sentence(path: str, value: Any, sentence: str) -> None:
    with pytest.raises(EvidenceError) as refused:
        evidence_of(broken(path, value))
    assert sentence in str(refused.value)


anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(["total", "events", "x"]), inner),
    max_leaves=6,
)
places = [
    "alpha",
    "refinements",
    "steps",
    "signals",
    "signals/0",
    "signals/0/name",
    "signals/0/kind",
    "signals/0/weight",
    "signals/0/tolerance",
    "signals/0/noHarm",
    "signals/0/intervals",
    "signals/0/intervals/0",
    "signals/0/intervals/0/canary",
    "signals/0/intervals/0/canary/total",
    "signals/0/intervals/0/step",
    "signals/1/edges",
    "signals/1/edges/1",
    "signals/1/intervals/0/canary",
    "signals/1/intervals/0/canary/2",
    "signals/2/intervals/0/canary",
    "signals/2/minimumShift",
    "signals/2/ordered",
    "signals/2/intervals/0/mix",
]


@given(st.sampled_from(places), anything)
def test_whatever_stands_in_a_document_it_is_judged_or_refused(path: str, value: Any) -> None:
    try:
        told = judge(evidence_of(broken(path, value)))
    except EvidenceError:
        return
    json.dumps(told, allow_nan=False)


@pytest.mark.parametrize("scale", [1, 10**6, 10**12])
def test_counts_of_any_size_are_judged(scale: int) -> None:
    document = copy.deepcopy(EXAMPLE)
    for signal in document["signals"][1:]:
        for arm in ("canary", "baseline"):
            signal["intervals"] *= 3
            signal["intervals"][0] = {**signal["intervals"][0], arm: [x * scale for x in signal["intervals"][0][arm]]}
    for refined in (True, False):
        assert all(math.isfinite(e) for s in answer({**document, "refinements": refined})["signals"] for e in s["logE"])


@pytest.mark.parametrize("document", [None, [], "text", 3, {}, {"alpha": 0.05}, {"alpha": math.nan, "signals": [3]}])
def test_anything_else_is_refused_too(document: Any) -> None:
    with pytest.raises(EvidenceError):
        evidence_of(document)


def test_what_was_learnt_and_the_pods_make_the_same_evidence_weaker() -> None:
    rows = [(12, 40, 120, 1080)] * 3

    def told(**more: Any) -> float:
        signal = count(*rows, **more)
        for interval in signal["intervals"]:
            interval["pods"] = [2, 8]
        last: float = answer({"alpha": 0.05, "signals": [signal]})["signals"][0]["logE"][-1]
        return last

    assert told() > told(phi=2.0) > 0.0
    assert told(sigma=0.3) < told()


def test_a_document_with_lost_requests_fails_by_its_split() -> None:
    errors = count(*[(0, 0, 30, 900)] * 20)
    split = [{"canary": 30, "others": 900, "planned": 0.1}] * 20
    told = answer({"alpha": 0.05, "signals": [errors], "split": {"tolerance": 1.1, "intervals": split}})
    assert told["verdict"] == "Fail"
    assert told["failedAt"] is not None
    assert [signal["name"] for signal in told["signals"]] == ["errors", "traffic"]
    assert told["signals"][1]["logE"][told["failedAt"]] >= -math.log(0.001)
    fair = [{"canary": 100, "others": 900, "planned": 0.1}] * 20
    assert answer({"alpha": 0.05, "signals": [errors], "split": {"intervals": fair}})["verdict"] == "Pass"


@pytest.mark.parametrize(
    ("path", "value", "sentence"),
    [
        ("signals/0/phi", 0.5, "signal errors: phi is 0.5: it must be at least 1"),
        ("signals/0/intervals/0/pods", [3], "pods has 1 numbers: write how many pods each arm has, the canary first"),
        ("split", {"tolerance": 1.1}, "split.intervals is missing: write a list"),
        ("split", {"intervals": [{"canary": 1, "others": 2, "planned": 1}]}, "split.intervals[0].planned is 1"),
    ],
)
def test_a_wrong_account_of_dependence_or_split_is_refused(path: str, value: Any, sentence: str) -> None:
    document = copy.deepcopy(EXAMPLE)
    *way, last = path.split("/")
    place: Any = document
    for step in way:
        place = place[int(step) if step.isdigit() else step]
    place[last] = value
    with pytest.raises(EvidenceError) as refused:
        evidence_of(document)
    assert sentence in str(refused.value)
