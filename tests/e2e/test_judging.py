"""Versions that are worse in one thing alone, and evidence that cannot be trusted."""

import re
import time
from dataclasses import replace
from typing import Any

import pytest

from backstay_playground.demo.lying import Lies, lying_prometheus
from backstay_playground.demo.rollouts import Rollback
from backstay_playground.demo.stage import Pace
from backstay_playground.demo.traffic import Traffic, tally

pytestmark = pytest.mark.e2e

PATIENCE = 120.0
ERRORS = {"name": "errors", "comparison": {"events": "errors"}}
LATENCY = {"name": "latency", "latency": {}}
CONFIDENCE = {"name": "confidence", "distribution": {"metric": "confidence"}}
NULLS = {"name": "nulls", "comparison": {"events": "nulls"}}


def judged_by(*signals: dict[str, Any]) -> Pace:
    """Steps that leave time to find what is wrong, with these signals."""
    return Pace(
        steps=({"weight": 30, "minDuration": "3s"}, {"weight": 50, "minDuration": "60s"}, {"weight": 100}),
        interval="1s",
        warmup="1s",
        warm_for="5s",
        signals=signals,
    )


def taken_back(deliver: Any, version: str, pace: Pace) -> tuple[Rollback, Traffic]:
    """Deliver version 2, bump to another one, and wait until that is taken back."""
    delivery = deliver("2", pace=pace)
    traffic = delivery.traffic()
    rollback = delivery.observer.roll_back(version, traffic)
    traffic.stop()
    assert rollback.good == "2"
    return rollback, traffic


def test_a_version_that_is_only_slower_is_rolled_back_for_its_latency(deliver: Any) -> None:
    rollback, traffic = taken_back(deliver, "4", judged_by(ERRORS, LATENCY, CONFIDENCE))
    assert re.match(r"latency above [0-9.]+ s ", rollback.reason)
    assert [v for v, outcome in tally(traffic.answers()).answers.items() if outcome["error"]] == []
    assert traffic.lost() == []


@pytest.mark.parametrize("version", ["5", "6"], ids=["less-sure", "trained-on-wrong-rows"])
def test_a_version_that_is_only_less_sure_is_rolled_back_for_its_confidence(deliver: Any, version: str) -> None:
    rollback, traffic = taken_back(deliver, version, judged_by(ERRORS, NULLS, CONFIDENCE))
    assert rollback.reason.startswith("confidence: PSI ")
    assert [v for v, outcome in tally(traffic.answers()).answers.items() if outcome["error"]] == []
    assert traffic.lost() == []


def test_without_requests_a_rollout_holds(deliver: Any) -> None:
    delivery = deliver("1", pace=judged_by(ERRORS, LATENCY, CONFIDENCE))
    begun = time.time()
    delivery.stage.merge_bump(delivery.target, "2")
    delivery.stage.refresh(delivery.target)
    on = delivery.observer.wait_weight(
        delivery.observer.revision("2", since=begun, timeout=PATIENCE), timeout=PATIENCE, since=begun
    )
    held = delivery.observer.model.wait(
        "it holds for want of data after its step's time",
        lambda body: "3 of 3 s" in body["status"]["message"],
        timeout=PATIENCE,
        since=on.at,
    ).body["status"]
    assert (held["verdict"], held["step"], held["weight"]) == ("NoData", "1/3", 30)
    assert "holding until there is data" in held["message"]
    for signal in ("errors", "latency", "confidence"):
        assert f"{signal}: no" in held["message"]


def test_a_prometheus_that_lies_takes_no_harmless_version_back(deliver: Any) -> None:
    lies = Lies(resets=0.1, gaps=0.2, stale=0.1)
    steps = ({"weight": 20, "minDuration": "5s"}, {"weight": 50, "minDuration": "5s"}, {"weight": 100})
    delivery = deliver("1", pace=replace(judged_by(ERRORS, NULLS), steps=steps))
    traffic = delivery.traffic()
    with lying_prometheus(delivery.stage.playground, lies) as told:
        begun = time.time()
        delivery.observer.promote("2")
        states = [state.body.get("status", {}) for state in delivery.observer.model.states(since=begun)]
    traffic.stop()
    assert told.lies > 0
    assert [status["rollback"] for status in states if "rollback" in status] == []
    assert traffic.lost() == []
