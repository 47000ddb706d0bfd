"""Readings become intervals: weights that change, pods that come, restarts that resume."""

import json
import math
from dataclasses import replace
from itertools import combinations, pairwise, product

import pytest

from backstay.adapters.prometheus.client import Place, Reading
from backstay.adapters.prometheus.histograms import Histogram
from backstay.controller.evidence.following import Following, Interest, Trial, follow
from backstay.controller.evidence.profiles import METRICS, REQUESTS, CounterPair
from backstay.controller.evidence.sources import sources, steady
from backstay.domain.observed import Backend, Track
from backstay.domain.resource import Analysis, Key
from backstay.domain.signals import (
    Comparison,
    Distribution,
    Events,
    Latency,
    Measure,
    Objective,
    OwnCounters,
    Profile,
    Rule,
    Signal,
)
from backstay.domain.status import Verdict
from backstay.judge.memory import Memory, Process
from backstay.judge.panel import panel_of
from backstay.judge.process import layout

KEY = Key("prod", "fraud")
ANALYSIS = Analysis(interval=2.0, alpha=0.05, signals=(Signal("errors", Comparison()),))
(ERRORS,) = (source for source in sources(ANALYSIS).values() if isinstance(source, CounterPair))
STABLE, FRESH, CANARY = Backend("aaa"), Backend("aaa", Track.BASELINE), Backend("bbb")


def trial(*, changed_at: float = 0.0, warm_until: float = 0.0, step: int = 1, baseline: bool = True) -> Trial:
    return Trial(
        rollout="2-1",
        stable="aaa",
        canary="bbb",
        step=step,
        opening=step == 0,
        changed_at=changed_at,
        warm_until=warm_until,
        baseline=baseline,
        comparable=True,
        pods={CANARY: 1, FRESH: 1},
    )


def reading(at: float, **values: tuple[float, float]) -> Reading:
    backends = {"stable": STABLE, "fresh": FRESH, "canary": CANARY}
    pairs = {Place(backends[name.rstrip("0123456789")], name): pair for name, pair in values.items()}
    requests = {place: pair[0] for place, pair in pairs.items()}
    errors = {place: pair[1] for place, pair in pairs.items() if pair[1]}
    return Reading(at, {REQUESTS: {KEY: requests}, ERRORS.events: {KEY: errors}})


def following(shape: Trial | None = None) -> Following:
    return resumed(Memory(), shape or trial())


def resumed(memory: Memory, shape: Trial) -> Following:
    return follow(None, KEY, Interest(ANALYSIS, frozenset(), shape, memory), now=0.0)


def totals(followed: Following) -> list[float]:
    """Return the errors of the canary and of the baseline, and their requests."""
    (part,) = panel_of(ANALYSIS).compared
    process = followed.memory.signals["errors"]
    assert isinstance(process, Process)
    return list(process.row[layout(part.shape).slices["totals"]])


def test_the_first_reading_only_starts_the_account() -> None:
    followed = following()
    followed.take(reading(100, stable=(5000, 40), fresh=(0, 0), canary=(0, 0)))
    evidence = followed.evidence()
    assert evidence is not None
    assert (evidence.verdict, evidence.requests, evidence.measured) == (Verdict.NO_DATA, 0, True)


def test_a_canary_of_which_prometheus_knows_nothing_is_not_measured() -> None:
    followed = following()
    followed.take(reading(100, stable=(5000, 40), fresh=(0, 0)))
    evidence = followed.evidence()
    assert evidence is not None
    assert not evidence.measured


def test_errors_without_a_series_are_none() -> None:
    followed = following()
    followed.take(reading(100, stable=(5000, 0), fresh=(0, 0), canary=(0, 0)))
    followed.take(reading(102, stable=(5100, 0), fresh=(10, 0), canary=(10, 0)))
    assert totals(followed) == [0, 0, 10, 110]


def test_while_the_newest_pods_are_cold_only_the_fresh_baseline_is_compared_with() -> None:
    followed = following(trial(warm_until=1000))
    followed.take(reading(100, stable=(5000, 0), fresh=(0, 0), canary=(0, 0)))
    followed.take(reading(102, stable=(5100, 0), fresh=(22, 0), canary=(10, 1)))
    assert totals(followed) == [1, 0, 10, 22]


@pytest.mark.parametrize(("changed_at", "compared"), [(99.0, True), (99.9, False), (101.0, False)])
def test_an_interval_with_a_change_of_weights_in_it_is_not_compared(changed_at: float, *, compared: bool) -> None:
    followed = following(trial(changed_at=changed_at))
    followed.take(reading(100, stable=(5000, 0), canary=(0, 0)))
    followed.take(reading(102, stable=(5100, 0), canary=(10, 10)))
    evidence = followed.evidence()
    assert evidence is not None
    assert (evidence.verdict is Verdict.FAIL) is compared
    assert evidence.requests == 10


def test_when_the_route_opens_the_canary_is_compared_with_the_baseline_that_began_with_it() -> None:
    followed = following(trial(changed_at=100.5, step=0))
    followed.take(reading(100, stable=(5000, 0), fresh=(0, 0), canary=(0, 0)))
    followed.take(reading(102, stable=(5100, 9), fresh=(17, 1), canary=(16, 13)))
    assert totals(followed) == [13, 1, 16, 17]


def test_a_pod_added_in_mid_rollout_counts_from_zero_and_an_old_stable_one_does_not() -> None:
    followed = following()
    followed.take(reading(100, stable=(5000, 0), canary=(0, 0)))
    followed.take(reading(102, stable=(5000, 0), stable2=(9000, 0), canary=(0, 0), canary2=(7, 0)))
    followed.take(reading(104, stable=(5010, 0), stable2=(9010, 0), canary=(0, 0), canary2=(9, 0)))
    assert followed.memory.requests == 9


def test_a_restart_resumes_from_the_last_tick_in_status() -> None:
    readings = [
        reading(100.0 + 2 * i, stable=(5000 + 50 * i, 0), fresh=(5 * i, 0), canary=(5 * i, i // 3)) for i in range(12)
    ]
    whole = following()
    for one in readings:
        whole.take(one)
    before = following()
    for one in readings[:6]:
        before.take(one)
    stored = Memory.of(json.loads(json.dumps(before.memory.to_dict(before.panel))), before.panel)
    after = resumed(stored, trial())
    for one in readings[5:]:
        after.take(one)
    assert after.memory == whole.memory


def test_an_unavailable_prometheus_is_told_and_forgotten_when_it_answers() -> None:
    followed = following()
    followed.take(reading(100, stable=(5000, 0), canary=(0, 0)))
    followed.unavailable = "Prometheus does not answer"
    evidence = followed.evidence()
    assert evidence is not None
    assert evidence.verdict is Verdict.UNAVAILABLE
    followed.take(reading(104, stable=(5200, 0), canary=(20, 0)))
    evidence = followed.evidence()
    assert evidence is not None
    assert (evidence.verdict, evidence.requests) == (Verdict.PASS, 20)


def test_a_drained_backend_is_quiet_when_an_interval_after_the_drain_added_nothing() -> None:
    followed = following()
    followed.take(reading(100, stable=(5000, 0), canary=(10, 0)))
    followed.take(reading(102, stable=(5100, 0), canary=(15, 0)))
    assert not followed.is_quiet(CANARY, drained_at=101, now=103)
    followed.take(reading(104, stable=(5200, 0), canary=(15, 0)))
    assert followed.is_quiet(CANARY, drained_at=101, now=105)


def test_a_backend_that_never_got_a_request_is_quiet_though_its_server_has_no_counter_yet() -> None:
    analysis = replace(ANALYSIS, profile=Profile.TRITON)
    metrics, up = METRICS[Profile.TRITON], {Place(CANARY, "canary"): 1.0}
    followed = follow(None, KEY, Interest(analysis, frozenset(), None, Memory()), now=0.0)
    for at in (100.0, 102.0, 104.0):
        followed.take(Reading(at, {metrics.present: {KEY: up}}))
    assert followed.is_quiet(CANARY, drained_at=100.0, now=104.0)
    assert not followed.is_quiet(CANARY, drained_at=103.0, now=104.0)


def test_an_older_reading_of_one_pod_adds_nothing_and_loses_nothing() -> None:
    followed = following()
    for at, canary in ((100, (0, 0)), (102, (40, 4)), (104, (35, 3)), (106, (50, 5))):
        followed.take(reading(at, stable=(5000 + 50 * at, 0), fresh=(at, 0), canary=canary))
    assert followed.memory.requests == 50
    assert totals(followed)[0] == 5


def test_errors_that_are_missing_for_a_while_count_once() -> None:
    followed = following()
    for at, canary in ((100, (0, 0)), (102, (40, 4)), (104, (50, 0)), (106, (60, 6))):
        followed.take(reading(at, stable=(5000 + 50 * at, 0), fresh=(at, 0), canary=canary))
    assert totals(followed)[0] == 6


def test_errors_whose_requests_are_missing_for_a_while_count_with_these() -> None:
    followed = following()
    for at, canary in ((100, (0, 0)), (102, (40, 4)), (104, (50, 5)), (106, (60, 6))):
        whole = reading(at, stable=(5000 + 50 * at, 0), fresh=(at, 0), canary=canary)
        if at == 104:
            kept = {place: value for place, value in whole.of(REQUESTS, KEY).items() if place.backend != CANARY}
            whole = Reading(at, {**whole.values, REQUESTS: {KEY: kept}})
        followed.take(whole)
    assert totals(followed)[::2] == [6, 60]


@pytest.mark.parametrize(
    ("canary", "judged"),
    [
        pytest.param([(40, 2), (80, 0), (100, 5)], [2, 5], id="events missing: their requests wait with them"),
        pytest.param([(40, 2), (80, 1), (100, 5)], [3, 7], id="the events alone began again"),
        pytest.param([(40, 2), (20, 0), (30, 1)], [2, 3], id="the server began again and had no event yet"),
        pytest.param([(40, 2), (20, 4), (30, 5)], [4, 5], id="the server began again and has more events than before"),
        pytest.param([(40, 0), (80, 0), (100, 5)], [0, 5], id="no event yet"),
    ],
)
def test_events_and_their_requests_are_taken_together(canary: list[tuple[int, int]], judged: list[int]) -> None:
    followed = following()
    followed.take(reading(100, stable=(5000, 0), fresh=(0, 0), canary=(0, 0)))
    seen = []
    for at, counters in zip((102, 104, 106), canary, strict=True):
        followed.take(reading(at, stable=(5000 + 20 * (at - 100), 0), fresh=(at, 0), canary=counters))
        seen.append(totals(followed)[0])
    assert seen[1:] == judged
    increments = [now - before if now >= before else now for (before, _), (now, _) in pairwise([(0, 0), *canary])]
    assert totals(followed)[2] == sum(increments)


def test_while_a_counter_is_missing_nothing_is_passed() -> None:
    followed = following()
    for at, canary in ((100, (0, 0)), (102, (40, 1)), (104, (80, 0)), (106, (120, 2))):
        followed.take(reading(at, stable=(5000 + 20 * (at - 100), 0), fresh=(at, 0), canary=canary))
        evidence, standing = followed.evidence(), followed.standing()
        assert evidence is not None
        assert standing is not None
        assert standing.verdict is evidence.verdict
        if at > 100:
            assert (evidence.verdict is Verdict.NO_DATA) == (at == 104)
            assert ("without a counter that pod canary had before" in evidence.sentence) == (at == 104)


def broken(whole: Reading, template: str, place: Place) -> Reading:
    """Make one pod's sample of one template no count, as the adapter tells it."""
    left = {at: value for at, value in whole.of(template, KEY).items() if at != place}
    return replace(whole, values={**whole.values, template: {KEY: left}}, broken={template: {KEY: frozenset({place})}})


@pytest.mark.parametrize("first", [0, 1, 2])
def test_errors_that_are_no_number_are_not_zero_errors(first: int) -> None:
    """Neither from the start, nor later; what was counted meanwhile is counted when there is a number again."""
    followed, place = following(), Place(CANARY, "canary")
    for tick in range(6):
        one = reading(100.0 + 2 * tick, stable=(5000 + 50 * tick, 0), fresh=(9 * tick, 0), canary=(9 * tick, 3 * tick))
        bad = first <= tick < 5
        followed.take(broken(one, ERRORS.events, place) if bad else one)
        evidence = followed.evidence()
        assert evidence is not None
        if bad:
            assert evidence.verdict is Verdict.NO_DATA
            assert "a counter of pod canary is NaN, infinite or negative" in evidence.sentence
    assert totals(followed)[::2] == [15, 45]


def test_a_pod_of_no_arm_may_count_what_it_likes() -> None:
    followed, old = following(), Place(Backend("000"), "old")
    for tick in range(3):
        one = reading(100.0 + 2 * tick, stable=(5000 + 50 * tick, 0), fresh=(9 * tick, 0), canary=(9 * tick, 0))
        followed.take(broken(one, ERRORS.events, old))
    evidence = followed.evidence()
    assert evidence is not None
    assert evidence.verdict is Verdict.PASS


def test_a_pod_of_no_arm_may_lose_its_counters() -> None:
    followed, old = following(), Place(Backend("000"), "old")
    for tick in range(3):
        one = reading(100.0 + 2 * tick, stable=(5000 + 50 * tick, 0), fresh=(9 * tick, 0), canary=(9 * tick, 0))
        requests = {**one.of(REQUESTS, KEY), old: 70.0}
        errors = {**one.of(ERRORS.events, KEY), **({old: 7.0} if tick < 2 else {})}
        followed.take(Reading(one.at, {REQUESTS: {KEY: requests}, ERRORS.events: {KEY: errors}}))
    evidence = followed.evidence()
    assert evidence is not None
    assert evidence.verdict is Verdict.PASS


def test_an_objective_has_no_data_while_its_errors_are_no_number() -> None:
    analysis = replace(ANALYSIS, signals=(Signal("limit", Objective(0.5)),))
    followed = follow(None, KEY, Interest(analysis, frozenset(), trial(), Memory()), now=0.0)
    verdicts = []
    for tick in range(4):
        one = reading(100.0 + 2 * tick, stable=(5000, 0), fresh=(0, 0), canary=(30 * tick, 1))
        followed.take(broken(one, ERRORS.events, Place(CANARY, "canary")) if tick == 3 else one)
        verdicts.append(followed.standing().verdict)  # type: ignore[union-attr]
    assert verdicts[-2:] == [Verdict.PASS, Verdict.NO_DATA]


DURATIONS = METRICS[Profile.BACKSTAY].duration


def judged_by_latency() -> Following:
    analysis = replace(ANALYSIS, signals=(Signal("latency", Latency()),))
    return follow(None, KEY, Interest(analysis, frozenset(), trial(), Memory()), now=0.0)


def durations(at: float, *, counted: dict[Backend, int], answered: int) -> Reading:
    """Every pod has answered so many requests, and its histogram has counted so many of them."""
    requests = {Place(backend, f"{backend.track}-{backend.revision}"): float(answered) for backend in (FRESH, CANARY)}
    histograms = {
        place: Histogram((0.1, math.inf), (counted[place.backend], 0.0))
        for place in requests
        if place.backend in counted
    }
    return Reading(at, {REQUESTS: {KEY: requests}, DURATIONS: {KEY: histograms}})


def test_a_histogram_that_a_pod_has_no_more_gives_no_data() -> None:
    followed, verdicts = judged_by_latency(), []
    for tick in range(6):
        counted = {FRESH: 50 * tick, CANARY: 50 * tick}
        if tick == 4:
            del counted[CANARY]
        followed.take(durations(100.0 + 2 * tick, counted=counted, answered=50 * tick))
        verdicts.append(followed.standing().verdict)  # type: ignore[union-attr]
    assert verdicts[3:] == [Verdict.PASS, Verdict.NO_DATA, Verdict.PASS]


@pytest.mark.parametrize("arm", [CANARY, FRESH])
def test_a_histogram_that_stands_still_while_requests_flow_gives_no_data(arm: Backend) -> None:
    followed, told = judged_by_latency(), []
    for tick in range(14):
        counted = {FRESH: 50 * tick, CANARY: 50 * tick}
        if 3 < tick < 12:
            counted[arm] = 150
        followed.take(durations(100.0 + 2 * tick, counted=counted, answered=50 * tick))
        # As after a restart of the controller.
        stored = Memory.of(json.loads(json.dumps(followed.memory.to_dict(followed.panel))), followed.panel)
        assert stored == followed.memory
        evidence = followed.evidence()
        assert evidence is not None
        told.append(evidence)
    assert [one.verdict for one in told[3:]] == [*[Verdict.PASS] * 4, *[Verdict.NO_DATA] * 5, *[Verdict.PASS] * 2]
    assert "version has answered 200 requests since it last counted" in told[7].sentence


def test_only_what_counts_apart_from_requests_and_labels_is_expected_to_count() -> None:
    rules: dict[str, Rule] = {
        "errors": Comparison(),
        "nulls": Comparison(source=Events.NULLS),
        "wrong": Comparison(source=Events.WRONG),
        "own": Comparison(source=OwnCounters("refusals")),
        "own-total": Comparison(source=OwnCounters("refusals", "decisions")),
        "latency": Latency(),
        "confidence": Distribution(Measure.CONFIDENCE),
        "limit": Objective(0.05),
    }
    analysis = replace(ANALYSIS, signals=tuple(Signal(name, rule) for name, rule in rules.items()))
    assert steady(analysis) == ("nulls", "own-total", "latency", "confidence")


def test_a_histogram_that_stands_still_with_the_requests_is_as_it_was() -> None:
    followed = judged_by_latency()
    for tick in range(14):
        count = 50 * min(tick, 3)
        followed.take(durations(100.0 + 2 * tick, counted={FRESH: count, CANARY: count}, answered=count))
    evidence = followed.evidence()
    assert evidence is not None
    assert evidence.verdict is Verdict.PASS


def test_no_good_canary_fails_whatever_series_are_missing_for_however_long() -> None:
    """First all answers are empty, then some series are missing, then all are back."""
    series = list(product((CANARY, FRESH, STABLE), (REQUESTS, ERRORS.events)))
    for missing in (some for count in range(len(series) + 1) for some in combinations(series, count)):
        followed = following()
        for number in range(46):
            at = 100 + 2.0 * number
            found: dict[str, dict[Place, float]] = {REQUESTS: {}, ERRORS.events: {}}
            for backend, counter in series:
                if number < 4 or number >= 43 or (number >= 30 and (backend, counter) not in missing):
                    rate = 20.0 if counter == REQUESTS else 0.2
                    found[counter][Place(backend, backend.revision + backend.track)] = rate * (at - 95)
            followed.take(Reading(at, {template: {KEY: values} for template, values in found.items()}))
            evidence = followed.evidence()
            assert evidence is not None
            assert evidence.verdict is not Verdict.FAIL, (missing, evidence.sentence)


def test_the_split_is_told_while_every_pod_is_in_both_readings() -> None:
    split = replace(trial(), planned=0.1, stable_pods=1)
    followed = following(split)
    followed.take(reading(100, stable=(5000, 0), fresh=(0, 0), canary=(0, 0)))
    told = followed.advance(reading(102, stable=(5080, 0), fresh=(10, 0), canary=(4, 0)))
    assert told is not None
    assert (told.planned, told.arms, told.pods) == (0.1, (4, 90), (1, 2))


@pytest.mark.parametrize(
    ("shape", "later"),
    [
        (trial(changed_at=101), {"stable": (5080, 0), "fresh": (10, 0), "canary": (4, 0)}),
        (trial(), {"stable": (5080, 0), "canary": (4, 0)}),
        (trial(), {"stable": (5080, 0), "fresh": (10, 0), "canary": (4, 0), "canary2": (3, 0)}),
        (replace(trial(), pods={CANARY: 2, FRESH: 1}), {"stable": (5080, 0), "fresh": (10, 0), "canary": (4, 0)}),
    ],
)
def test_the_split_is_unknown_where_the_weights_changed_or_a_pod_is_missing(
    shape: Trial, later: dict[str, tuple[float, float]]
) -> None:
    followed = following(replace(shape, planned=0.1, stable_pods=1))
    followed.take(reading(100, stable=(5000, 0), fresh=(0, 0), canary=(0, 0)))
    told = followed.advance(reading(102, **later))
    assert told is not None
    assert (told.planned, told.arms) == (0.0, (0.0, 0.0))


def test_a_canary_that_loses_requests_fails_though_none_is_an_error() -> None:
    analysis = replace(ANALYSIS, split_tolerance=1.1)
    split = replace(trial(), planned=0.1, stable_pods=1)
    followed = follow(None, KEY, Interest(analysis, frozenset(), split, Memory()), now=0.0)
    for tick in range(40):
        count = (5000 + 80 * tick, 0)
        followed.take(reading(100 + 2 * tick, stable=count, fresh=(10 * tick, 0), canary=(5 * tick, 0)))
    evidence = followed.evidence()
    assert evidence is not None
    assert evidence.verdict is Verdict.FAIL
    assert "were lost" in evidence.sentence
