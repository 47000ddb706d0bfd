"""What a rollout can see, against simulation with the judge itself."""

import math

import numpy as np
import pytest

from backstay.judge import counts, onset
from backstay.judge.arrays import Floats
from backstay.judge.planning import Outlook, Stage, Watched, found, smallest

STEPS = (Stage(5, 1800), Stage(25, 1800), Stage(50, 1800))
ERRORS = Watched("errors", 0.01)


def outlook(rate: float = 20, *stages: Stage, alpha: float = 0.05) -> Outlook:
    return Outlook(rate, alpha, stages or STEPS)


def simulated(plan: Outlook, signal: Watched, effect: float, runs: int = 400) -> Floats:
    """Return when each of many runs is failed, in seconds."""
    random = np.random.default_rng(12)
    state, seconds, hit = onset.waiting((runs,), 4), 0.0, np.full(runs, np.inf)
    for index, stage in enumerate(plan.compared):
        for tick in range(round(stage.lasts(plan.rate) / 15)):
            total = random.poisson(plan.rate * 15, runs)
            n_c = random.binomial(total, stage.weight / 100)
            c = random.binomial(n_c, signal.base * effect).astype(float)
            n_s = total if stage.shadow else total - n_c
            s = random.binomial(n_s, signal.base).astype(float)
            hazard = onset.hazard(np.array(not tick), len(plan.compared) - index, onset.KEPT)
            state = onset.step(state, counts.increments(c, s, n_c.astype(float), n_s.astype(float)), hazard)
            seconds += 15
            hit[(onset.log_evidence(state) >= -math.log(plan.alpha * signal.share)) & np.isinf(hit)] = seconds
    return hit


@pytest.mark.parametrize(
    ("plan", "signal", "effect"),
    [
        (outlook(), ERRORS, 2.0),
        (outlook(20, Stage(10, 7200)), ERRORS, 2.0),
        (outlook(2, Stage(10, 7200)), ERRORS, 5.0),
        (outlook(20, Stage(50, 3600)), Watched("errors", 0.01, share=0.25), 1.5),
        (outlook(20, Stage(100, 3600, shadow=True)), ERRORS, 1.5),
        (outlook(20, Stage(25, 3600, shadow=True), Stage(5, 3600)), ERRORS, 1.5),
    ],
)
def test_four_in_five_are_found_by_the_time_that_is_told(plan: Outlook, signal: Watched, effect: float) -> None:
    told = found(plan, signal, effect)
    assert told is not None
    assert 0.72 <= (simulated(plan, signal, effect) <= told.seconds).mean() <= 0.92


def test_the_smallest_effect_of_a_step_is_found_at_its_end() -> None:
    plan = outlook()
    for least, end in zip(smallest(plan, ERRORS), (1800, 3600, 5400), strict=True):
        assert least is not None
        told = found(plan, ERRORS, least)
        assert told is not None
        assert told.seconds == pytest.approx(end, rel=0.01)
        assert told.events == pytest.approx(told.requests * 0.01 * least)


def test_more_traffic_time_and_alpha_see_smaller_effects() -> None:
    first = smallest(outlook(), ERRORS)[-1]
    assert first is not None
    for better in (outlook(40), outlook(20, *STEPS, Stage(75, 1800)), outlook(alpha=0.2)):
        least = smallest(better, ERRORS)[-1]
        assert least is not None
        assert least < first


def test_a_step_that_sees_nothing_says_so() -> None:
    plan = outlook(0.05, Stage(5, 600))
    assert smallest(plan, ERRORS) == [None]
    assert found(plan, ERRORS, 5.0) is None


def test_a_step_waits_for_its_requests() -> None:
    assert Stage(5, 60, 1000).lasts(20) == 1000
    assert Stage(5, 60, 10).lasts(20) == 60


def test_full_traffic_compares_nothing() -> None:
    plan = outlook(20, Stage(100, 3600))
    assert plan.compared == ()
    assert found(plan, ERRORS, 10.0) is None


def test_pods_that_differ_take_more_pods() -> None:
    few = Outlook(20, 0.05, STEPS, pod_spread=0.25, replicas=2)
    many = Outlook(20, 0.05, STEPS, pod_spread=0.25, replicas=40)
    one, other = smallest(few, ERRORS)[-1], smallest(many, ERRORS)[-1]
    assert one is not None
    assert other is not None
    assert other < one
