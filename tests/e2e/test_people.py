"""What people do: pause, approve, abort, go back, and try a rejected version again."""

import time
from dataclasses import replace
from typing import Any

import pytest
import yaml

from backstay_playground.demo.registry import stable_version
from backstay_playground.demo.stage import MODEL, Pace
from backstay_playground.demo.watcher import Seen, weights

pytestmark = pytest.mark.e2e

PATIENCE = 90.0
FIRST_STEP = 2.0
WITH_APPROVAL = Pace(
    steps=(
        {"weight": 20, "minDuration": f"{FIRST_STEP:g}s"},
        {"approval": {}},
        {"weight": 100, "minDuration": "2s"},
    ),
    interval="1s",
    warmup="1s",
    warm_for="5s",
    baseline=False,
)
SLOW = replace(WITH_APPROVAL, steps=({"weight": 20, "minDuration": "10m"}, {"weight": 100}))
WARM = replace(WITH_APPROVAL, steps=({"weight": 50, "minDuration": "2s"}, {"weight": 100}), warm_for="10m")


def annotate(delivery: Any, word: str, value: str) -> None:
    """Set one of the annotations by which people act, as the administrator; an empty value takes it away."""
    change = f"backstay.dev/{word}={value}" if value else f"backstay.dev/{word}-"
    delivery.kubectl("annotate", "mdep", MODEL, f"--namespace={delivery.target.namespace}", change)


def wait_phase(delivery: Any, phase: str, *, since: float) -> Seen:
    seen: Seen = delivery.observer.model.wait(
        f"the phase is {phase}",
        lambda body: body.get("status", {}).get("phase") == phase,
        timeout=PATIENCE,
        since=since,
    )
    return seen


def wait_suspended(delivery: Any, word: str) -> None:
    """Wait until Argo CD shows the environment Suspended, with a sentence that holds a word."""

    def suspended() -> bool:
        application = delivery.stage.application(delivery.target)
        model = next(entry for entry in application["status"]["resources"] if entry["kind"] == "ModelDeployment")
        health = model.get("health", application["status"]["health"])
        return application["status"]["health"]["status"] == "Suspended" and word in health.get("message", word)

    delivery.wait_until(f"Argo CD shows {delivery.target.application} Suspended", suspended, timeout=PATIENCE)


def start(delivery: Any, version: str) -> tuple[dict[str, Any], float]:
    """Bump to a version and wait until it gets traffic; return its rollout, and when that was."""
    begun = time.time()
    delivery.stage.merge_bump(delivery.target, version)
    delivery.stage.refresh(delivery.target)
    revision = delivery.observer.revision(version, since=begun, timeout=PATIENCE)
    delivery.observer.wait_weight(revision, timeout=PATIENCE, since=begun)
    return delivery.observer.status()["rollout"], begun


def test_a_rollout_is_paused_resumed_and_approved(deliver: Any) -> None:
    delivery = deliver("1", pace=WITH_APPROVAL)
    traffic = delivery.traffic()
    rollout, begun = start(delivery, "2")
    annotate(delivery, "pause", rollout["id"])
    paused = wait_phase(delivery, "Paused", since=begun)
    wait_suspended(delivery, "paused")
    delivery.wait_until("the step's time is over", lambda: time.time() > paused.at + 2 * FIRST_STEP)
    assert delivery.observer.status()["phase"] == "Paused"
    resumed_at = time.time()
    annotate(delivery, "pause", "")
    waiting = wait_phase(delivery, "AwaitingApproval", since=resumed_at)
    step = f"{rollout['id']}/2"
    assert f"annotate with backstay.dev/approve={step}" in waiting.body["status"]["message"]
    wait_suspended(delivery, "approval")
    assert weights(delivery.observer.route.latest())[f"{MODEL}-{rollout['revision']}"] == 20
    # The approval of another step is none.
    annotate(delivery, "approve", f"{rollout['id']}/1")
    reading = delivery.observer.status()["analysis"]["tick"]
    delivery.wait_until(
        "the evidence goes on", lambda: delivery.observer.status()["analysis"]["tick"] > reading, timeout=PATIENCE
    )
    assert delivery.observer.status()["phase"] == "AwaitingApproval"
    approved_at = time.time()
    delivery.kubectl(
        "annotate",
        "mdep",
        MODEL,
        f"--namespace={delivery.target.namespace}",
        "--overwrite",
        f"backstay.dev/approve={step}",
    )
    delivery.observer.wait_stable("2", timeout=PATIENCE, since=approved_at)
    traffic.stop()
    assert delivery.observer.weights_of(rollout["revision"]) == [20, 100]
    assert traffic.lost() == []


def test_an_aborted_version_goes_back_in_git_and_is_tried_again_when_a_commit_says_so(deliver: Any) -> None:
    delivery = deliver("1", pace=SLOW)
    stage, target, observer = delivery.stage, delivery.target, delivery.observer
    # Nobody sends requests yet, so nothing is known about version 3.
    rollout, begun = start(delivery, "3")
    annotate(delivery, "abort", f"{rollout['id']}: the figures of last night look odd")
    first = observer.wait_rolled_back("3", timeout=PATIENCE, since=begun).body["status"]["rollback"]
    assert first["reason"] == "aborted by a person: the figures of last night look odd"
    with stage.clone() as clone:
        subject = clone.git("log", "-1", "--format=%s", first["commit"])
        assert "aborted by a person: the figures of last night look odd" in subject
        document = yaml.safe_load(clone.show(first["commit"], target.version_file))
    model = document["spec"]["model"]
    known = stage.versions["3"]
    assert model["version"] == "1"
    assert model["rejectedVersions"] == [{"version": "3", "digest": known.digest, "rollbackID": first["id"]}]

    model.update(version="3", digest=known.digest, runID=known.run_id, retryOf=first["id"])
    del model["rejectedVersions"]
    traffic = delivery.traffic()
    again = time.time()
    stage.merge(target.version_file, yaml.safe_dump(document).encode(), f"{MODEL}: try version 3 again")
    stage.refresh(target)
    tried = observer.wait_weight(rollout["revision"], timeout=PATIENCE, since=again)
    second = observer.wait_rolled_back("3", timeout=PATIENCE, since=tried.at).body["status"]["rollback"]
    traffic.stop()
    assert second["id"] != first["id"]
    assert "aborted" not in second["reason"]
    with stage.clone() as clone:
        assert clone.rollbacks(f"{target.namespace}/{MODEL}") == [second["commit"], first["commit"]]
        model = yaml.safe_load(clone.show(second["commit"], target.version_file))["spec"]["model"]
    assert model["version"] == "1"
    assert model["rejectedVersions"] == [{"version": "3", "digest": known.digest, "rollbackID": second["id"]}]
    assert "retryOf" not in model
    assert traffic.lost() == []


def test_a_commit_back_to_the_warm_previous_version_moves_at_once(deliver: Any) -> None:
    delivery = deliver("1", pace=WARM)
    stage, target, observer = delivery.stage, delivery.target, delivery.observer
    traffic = delivery.traffic()
    former = delivery.model()["status"]["stable"]["revision"]
    promotion = observer.promote("2", timeout=PATIENCE)
    newer = delivery.model()["status"]["stable"]["revision"]
    assert promotion.weights == [50, 100]
    begun = time.time()
    stage.merge_bump(target, "1")
    stage.refresh(target)
    observer.wait_stable("1", timeout=PATIENCE, since=begun)
    assert observer.weights_of(former, since=begun) == [100]
    assert set(observer.weights_of(newer, since=begun)) <= {0, 100}
    status = delivery.model()["status"]
    assert "rollout" not in status
    assert "rejected" not in status
    assert status["previous"]["version"] == "2"
    assert stable_version(stage.playground, target) == "1"
    traffic.stop()
    assert traffic.lost() == []
    assert {answer.version for answer in traffic.answers() if answer.status >= 400} == set()
