"""A cluster that lost everything in mid-canary: Git brings it back, and what was proved before is not forgotten."""

import json
import time
from collections import Counter
from dataclasses import dataclass, replace
from typing import Any

import pytest

from backstay_playground.demo.registry import remove_alias, stable_version
from backstay_playground.demo.rollouts import unix
from backstay_playground.demo.stage import MODEL, Pace
from backstay_playground.demo.watcher import Seen, weights

pytestmark = pytest.mark.e2e

PATIENCE = 120.0
STEPS = [20, 50, 100]


@dataclass
class Canary:
    """An environment whose version 2 is at its first step while version 1 is stable."""

    delivery: Any
    revision: str
    uid: str

    def delete(self, what: str) -> Seen:
        """Delete the ModelDeployment or the whole namespace, and wait until Argo CD has made it again."""
        begun, target = time.time(), self.delivery.target
        if what == "namespace":
            self.delivery.kubectl("delete", "namespace", target.namespace, "--wait=false")
        else:
            self.delivery.kubectl("delete", "mdep", MODEL, f"--namespace={target.namespace}", "--wait=false")
        return made_again(self.delivery, self.uid, since=begun)

    def check_steps(self, again: Seen) -> None:
        """Version 1 alone has all the traffic of the new route, and version 2 then goes through its steps."""
        observer = self.delivery.observer
        first = next(state for state in observer.route.states(since=again.at) if "deleted" not in state.body)
        stable = self.delivery.model()["status"]["previous"]["revision"]
        assert weights(first.body) == {f"{MODEL}-{stable}": 100}
        assert observer.weights_of(self.revision, since=first.at) == STEPS


def made_again(delivery: Any, uid: str, *, since: float) -> Seen:
    seen: Seen = delivery.observer.model.wait(
        "the ModelDeployment is there again",
        lambda body: body["metadata"]["uid"] != uid and "deleted" not in body,
        timeout=PATIENCE,
        since=since,
    )
    return seen


def in_mid_canary(delivery: Any) -> Canary:
    begun = time.time()
    delivery.stage.merge_bump(delivery.target, "2")
    delivery.stage.refresh(delivery.target)
    revision = delivery.observer.revision("2", since=begun, timeout=PATIENCE)
    delivery.observer.wait_weight(revision, timeout=PATIENCE, since=begun)
    return Canary(delivery, revision, delivery.model()["metadata"]["uid"])


@pytest.mark.parametrize(
    ("what", "alias"),
    [("modeldeployment", "kept"), ("namespace", "removed")],
    ids=["model-deployment-with-the-alias", "namespace-with-only-git"],
)
def test_rebuilt_in_mid_canary_the_stable_version_serves_and_the_other_is_tried_again(
    deliver: Any, what: str, alias: str
) -> None:
    delivery = deliver("1")
    traffic = delivery.traffic()
    canary = in_mid_canary(delivery)
    if alias == "removed":
        remove_alias(delivery.stage.playground, delivery.target)
    again = canary.delete(what)
    recalled = delivery.observer.model.wait(
        "a version is stable",
        lambda body: "stable" in body.get("status", {}),
        timeout=PATIENCE,
        since=again.at,
    )
    assert recalled.body["status"]["stable"]["version"] == "1"
    delivery.observer.wait_stable("2", timeout=PATIENCE, since=again.at)
    traffic.stop()
    canary.check_steps(again)
    assert stable_version(delivery.stage.playground, delivery.target) == "2"


def test_a_status_that_is_lost_in_mid_canary_makes_no_version_the_first(deliver: Any, fast: Pace) -> None:
    steps = ({"weight": 20, "minDuration": "20s", "minRequests": 20}, {"weight": 100, "minDuration": "1s"})
    delivery = deliver("1", pace=replace(fast, steps=steps))
    traffic = delivery.traffic(rate=50)
    begun = time.time()
    delivery.stage.merge_bump(delivery.target, "3")
    delivery.stage.refresh(delivery.target)
    bad = delivery.observer.revision("3", since=begun, timeout=PATIENCE)
    on = delivery.observer.wait_weight(bad, timeout=PATIENCE, since=begun)
    place = f"--namespace={delivery.target.namespace}"
    gone = json.dumps([{"op": "remove", "path": "/status"}])
    delivery.kubectl("patch", "mdep", MODEL, place, "--subresource=status", "--type=json", f"--patch={gone}")
    states = delivery.observer.model.states(since=on.at)
    lost = next(index for index, state in enumerate(states) if "status" not in state.body)
    assert all(state.body["status"]["rollout"]["version"] == "3" for state in states[:lost]), "it was in mid-canary"
    done = delivery.observer.wait_rolled_back("3", timeout=PATIENCE, since=states[lost].at)
    # The rollout begins anew, so that its weight may be taken back for a moment before the version fails.
    drained = unix(done.body["status"]["rollback"]["drainedAt"])
    traffic.stop()
    assert max(delivery.observer.weights_of(bad)) == 20
    stable = [
        state.body["status"]["stable"]["version"]
        for state in delivery.observer.model.states(since=on.at)
        if "stable" in state.body.get("status", {})
    ]
    assert set(stable) == {"1"}
    assert stable_version(delivery.stage.playground, delivery.target) == "1"
    before = traffic.answers(since=begun)
    share = Counter(answer.version for answer in before if answer.began < drained)
    assert share["3"] <= 0.3 * sum(share.values())
    assert {answer.version for answer in traffic.answers(since=drained + 1)} == {"1"}


def test_without_the_registry_git_decides_or_nothing_is_started(deliver: Any) -> None:
    delivery, lonely = deliver("1"), deliver("1", name="lonely")
    playground = delivery.stage.playground
    traffic = delivery.traffic()
    canary = in_mid_canary(delivery)
    former = lonely.model()["metadata"]["uid"]
    playground.stop("mlflow")
    try:
        again = canary.delete("modeldeployment")
        begun = time.time()
        lonely.kubectl("delete", "mdep", MODEL, f"--namespace={lonely.target.namespace}", "--wait=false")
        lonely_again = made_again(lonely, former, since=begun)
        recalled = delivery.observer.model.wait(
            "Git says what was stable",
            lambda body: "stable" in body.get("status", {}),
            timeout=PATIENCE,
            since=again.at,
        )
        assert recalled.body["status"]["stable"]["version"] == "1"
        held = lonely.observer.model.wait(
            "it holds because nobody says what was stable",
            lambda body: "does not answer" in body.get("status", {}).get("message", ""),
            timeout=PATIENCE,
            since=lonely_again.at,
        )
        status = held.body["status"]
        assert status["message"].startswith(f"The registry http://mlflow.mlops:5000 does not answer for model {MODEL}")
        assert [c["reason"] for c in status["conditions"] if c["type"] == "Stalled"] == ["MemoryUnavailable"]
        assert lonely.get("deployments")["items"] == []
    finally:
        playground.start("mlflow")
    lonely.observer.wait_stable("1", timeout=PATIENCE, since=lonely_again.at)
    # Recalled, not tried as a first version.
    assert "history" not in lonely.model()["status"]
    delivery.observer.wait_stable("2", timeout=PATIENCE, since=again.at)
    traffic.stop()
    canary.check_steps(again)
