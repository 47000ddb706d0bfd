"""A stable version that breaks, and the commit that repairs it."""

import time
from collections import Counter
from dataclasses import replace
from typing import Any

import pytest

from backstay_playground.demo.registry import lost_artifacts, stable_version
from backstay_playground.demo.stage import Pace
from backstay_playground.demo.watcher import weights

pytestmark = pytest.mark.e2e

RATE = 50.0
RESCUE_AFTER = 10.0
STEPS: tuple[dict[str, Any], ...] = ({"weight": 20, "minDuration": "3s"}, {"weight": 100, "minDuration": "6s"})


def test_a_fix_takes_all_traffic_of_a_stable_version_that_is_broken(deliver: Any, fast: Pace) -> None:
    delivery = deliver("1", pace=replace(fast, steps=STEPS, rescue_after=f"{RESCUE_AFTER:g}s"))
    stage, observer = delivery.stage, delivery.observer
    place = f"--namespace={delivery.target.namespace}"
    traffic = delivery.traffic(rate=RATE)
    with lost_artifacts(stage.playground, "1"):
        broken = time.time()
        revision = delivery.model()["status"]["stable"]["revision"]
        delivery.kubectl("delete", "pods", f"--selector=backstay.dev/revision={revision}", place, "--wait=false")
        delivery.wait_until("nothing answers", lambda: bool(traffic.lost(since=broken)))
        begun = time.time()
        stage.merge_bump(delivery.target, "2")
        stage.refresh(delivery.target)
        fix = observer.revision("2", since=begun, timeout=120)
        rescued = observer.wait_weight(fix, timeout=120, since=begun)
        assert [weight for weight in weights(rescued.body).values() if weight] == [100]
        assert rescued.at - begun >= RESCUE_AFTER
        stable = observer.wait_stable("2", timeout=120, since=begun)
    traffic.stop()
    # The gateway needs a moment to learn of the route; from then on every request is answered by the fix.
    late = Counter((answer.version, answer.status) for answer in traffic.answers(since=rescued.at + 2))
    assert set(late) == {("2", 200)}
    assert late["2", 200] >= RATE * (stable.at - rescued.at - 3)
    events = delivery.kubectl("get", "events", place, "--output=jsonpath={.items[*].reason}").split()
    assert "StableNotServing" in events
    assert stable_version(stage.playground, delivery.target) == "2"
