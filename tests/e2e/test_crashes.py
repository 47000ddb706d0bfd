"""A version whose server crashes on some requests: it counts no errors, and fails all the same."""

import re
from dataclasses import replace
from typing import Any

import pytest

from backstay_playground.demo.stage import Pace
from backstay_playground.demo.traffic import tally

pytestmark = pytest.mark.e2e

CRASHES = "7"
RATE = 50.0
# Some four requests of a hundred and seventy end the process: one in four seconds with a share of 20 %.
STEPS: tuple[dict[str, Any], ...] = (
    {"weight": 20, "minDuration": "12s", "minRequests": 20},
    {"weight": 50, "minDuration": "4s"},
    {"weight": 100, "minDuration": "4s"},
)


def test_a_version_that_crashes_under_its_requests_goes_back_to_git(deliver: Any, fast: Pace) -> None:
    delivery = deliver("1", pace=replace(fast, steps=STEPS))
    traffic = delivery.traffic(rate=RATE)
    rollback = delivery.observer.roll_back(CRASHES, traffic)
    traffic.stop()
    assert re.fullmatch(
        r"its containers ended once more than those of the stable version, "
        r"the last time: container server ended with code 139",
        rollback.reason,
    )
    revision = delivery.model()["status"]["rollback"]["fromRevision"]
    assert delivery.observer.weights_of(revision) == [20, 0]
    seen = tally(traffic.answers())
    # A crash loses what its one pod was answering, and what comes before the gateway knows.
    assert seen.lost <= RATE
    assert seen.answers["1"]["error"] == 0
    late = traffic.answers(since=rollback.drained_at + 1)
    assert {(answer.version, answer.status) for answer in late} == {("1", 200)}
