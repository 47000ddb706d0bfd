"""Neighbours that go away in the middle of it, and canaries that never get ready."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from mlflow import MlflowClient

from backstay_playground.demo.stage import MODEL, Pace
from backstay_playground.demo.traffic import Traffic, tally
from backstay_playground.demo.watcher import Seen
from backstay_playground.playground import Playground

pytestmark = pytest.mark.e2e

MINUTE = 60.0
DIGEST_TAG = "backstay.dev/digest"
# Steps that are still under way when something is stopped at their first weight.
STEADY = Pace(
    steps=(
        {"weight": 20, "minDuration": "8s", "minRequests": 20},
        {"weight": 50, "minDuration": "2s"},
        {"weight": 100, "minDuration": "1s"},
    ),
    interval="1s",
    warmup="1s",
    warm_for="5s",
    baseline=False,
)
# A first step that traffic ends, and not the clock: it lasts until its version has answered so many requests.
COUNTED = replace(STEADY, steps=({"weight": 20, "minRequests": 60}, *STEADY.steps[1:]))


@contextmanager
def away(playground: Playground, component: str) -> Iterator[None]:
    """Stop a component for a while."""
    playground.stop(component)
    try:
        yield
    finally:
        playground.start(component)


@contextmanager
def registered_digest(playground: Playground, version: str, digest: str) -> Iterator[None]:
    """Have the registry say another digest of a version for a while."""
    client = MlflowClient(tracking_uri=playground.mlflow_url)
    before = client.get_model_version(MODEL, version).tags.get(DIGEST_TAG)
    client.set_model_version_tag(MODEL, version, DIGEST_TAG, digest)
    try:
        yield
    finally:
        if before is None:
            client.delete_model_version_tag(MODEL, version, DIGEST_TAG)
        else:
            client.set_model_version_tag(MODEL, version, DIGEST_TAG, before)


def test_without_prometheus_a_rollout_holds_and_goes_on_when_it_is_back(deliver: Any) -> None:
    good, bad = deliver("1", name="away-good", pace=COUNTED), deliver("1", name="away-bad", pace=COUNTED)
    begun = time.time()
    promised = good.stage.merge_bump(good.target, "2")
    condemned = bad.stage.merge_bump(bad.target, "3")
    on = {}
    for delivery, version in ((good, "2"), (bad, "3")):
        delivery.stage.refresh(delivery.target)
        revision = delivery.observer.revision(version, since=begun, timeout=60)
        on[version] = delivery.observer.wait_weight(revision, timeout=120, since=begun)
    good_traffic = good.traffic()
    good.wait_until("version 2 is judged", lambda: good.observer.status().get("verdict") == "Pass", timeout=60)
    with away(good.stage.playground, "prometheus"):
        # Version 3 gets its first request when nobody can judge it any more.
        bad_traffic = bad.traffic()
        held = [_told_unavailable(delivery, since=on[version].at) for delivery, version in ((good, "2"), (bad, "3"))]
        time.sleep(max(held[0].at + MINUTE - time.time(), 0))
        for delivery in (good, bad):
            status = delivery.model()["status"]
            assert (status["phase"], status["step"], status["weight"]) == ("Progressing", "1/3", 20)
            assert "rollback" not in status
    back = time.time()
    good.observer.wait_stable("2", timeout=180, since=back)
    done = bad.observer.wait_rolled_back("3", timeout=180, since=back)
    assert done.body["status"]["rollback"]["badCommit"] == condemned != promised
    _nothing_lost(good_traffic)
    _nothing_lost(bad_traffic)


def _told_unavailable(delivery: Any, *, since: float) -> Seen:
    seen: Seen = delivery.observer.model.wait(
        "people are told that Prometheus is away",
        lambda body: (
            body["status"].get("verdict") == "Unavailable"
            and "Prometheus at http://prometheus.monitoring:9090 does not answer" in body["status"]["message"]
            and "holding until it answers" in body["status"]["message"]
        ),
        timeout=60,
        since=since,
    )
    return seen


def test_without_the_registry_a_rollout_goes_on_up_to_its_promotion_which_waits(deliver: Any, fast: Pace) -> None:
    delivery = deliver("1", pace=fast)
    traffic, begun = delivery.traffic(), time.time()
    delivery.stage.merge_bump(delivery.target, "2")
    delivery.stage.refresh(delivery.target)
    revision = delivery.observer.revision("2", since=begun, timeout=60)
    delivery.observer.wait_weight(revision, timeout=120, since=begun)
    with away(delivery.stage.playground, "mlflow"):
        waiting = delivery.observer.model.wait(
            "people are told what the promotion waits for",
            lambda body: "does not answer" in body["status"]["message"] and body["status"]["weight"] == 100,
            timeout=120,
            since=begun,
        ).body["status"]
        assert (waiting["stable"]["version"], waiting["rollout"]["version"]) == ("1", "2")
        assert "rollback" not in waiting
    delivery.observer.wait_stable("2", timeout=120, since=begun)
    assert delivery.observer.weights_of(revision, since=begun)[-1] == 100
    _nothing_lost(traffic)


def test_a_rollout_survives_the_crash_of_the_api_server(deliver: Any) -> None:
    delivery = deliver("1")
    traffic = delivery.traffic()
    playground, observer = delivery.stage.playground, delivery.observer
    begun = time.time()
    delivery.stage.merge_bump(delivery.target, "2")
    delivery.stage.refresh(delivery.target)
    observer.wait_weight(observer.revision("2", since=begun, timeout=60), timeout=120, since=begun)
    playground.kill("kube-apiserver")
    playground.start("kube-apiserver")
    observer.wait_stable("2", timeout=180, since=begun)
    _nothing_lost(traffic)
    # Left alone, Argo CD is back only most of a minute after the API server; the other tests need not wait for it.
    with away(playground, "argocd-application-controller"):
        pass


def test_without_git_a_bad_version_is_drained_and_taken_back_later(deliver: Any) -> None:
    delivery = deliver("1")
    stage, observer = delivery.stage, delivery.observer
    begun = time.time()
    stage.merge_bump(delivery.target, "3")
    stage.refresh(delivery.target)
    revision = observer.revision("3", since=begun, timeout=60)
    on = observer.wait_weight(revision, timeout=120, since=begun)
    with away(stage.playground, "gitea"):
        # Nothing is judged before there are requests, so Git is away when the verdict falls.
        traffic = delivery.traffic()
        off = observer.wait_drained(revision, timeout=120, since=on.at)
        told = observer.model.wait(
            "people are told that Git is away",
            lambda body: "gitea.forge:3000/models/models cannot be reached" in body["status"]["message"],
            timeout=120,
            since=off.at,
        )
        assert told.body["status"]["phase"] == "RollingBack"
        assert told.body["status"]["rollback"]["state"] == "Committing"
    done = observer.wait_rolled_back("3", timeout=120, since=off.at)
    with stage.clone() as clone:
        assert clone.rollbacks(f"{delivery.target.namespace}/{MODEL}") == [done.body["status"]["rollback"]["commit"]]
    assert "3" not in tally(traffic.answers(since=off.at + 1)).answers
    _nothing_lost(traffic)


def test_canaries_that_never_get_ready_fail_with_the_reason(deliver: Any) -> None:
    delivery = deliver("1", pace=replace(STEADY, progress_deadline="10s"))
    stage, observer = delivery.stage, delivery.observer
    traffic = delivery.traffic()

    begun, zeros = time.time(), f"sha256:{'0' * 64}"
    # The registry says so too: only the pods look at the artifacts.
    with registered_digest(stage.playground, "2", zeros):
        bad_commit = stage.merge_bump(delivery.target, "2", digest=zeros)
        stage.refresh(delivery.target)
        wrong_digest = observer.revision("2", since=begun, timeout=60)
        record = observer.wait_rolled_back("2", timeout=180, since=begun).body["status"]["rollback"]
    assert record["reason"] == "its pods were not ready within 10 s: container server ended with code 3"
    assert "sha256:000000" in record["said"]
    with stage.clone() as clone:
        assert "sha256:000000" not in clone.git("log", "-1", "--format=%s%n%b", record["commit"])
    assert (record["badCommit"], record["to"]) == (bad_commit, "1")

    begun = time.time()
    bad_template = stage.change(lambda root: _spoil_template(root / delivery.target.folder), "Probe another path")
    stage.refresh(delivery.target)
    wrong_probe = observer.revision("1", since=begun, timeout=60)
    failed = observer.model.wait(
        "the template is refused",
        lambda body: any(c["reason"] == "ConfigurationRejected" for c in body["status"].get("conditions", ())),
        timeout=180,
        since=begun,
    )
    assert failed.body["status"]["phase"] == "Degraded"
    message = failed.body["status"]["message"]
    assert "its readiness probe fails" in message
    assert f"revert commit {bad_template[:10]}" in message

    for revision in (wrong_digest, wrong_probe):
        delivery.wait_until(f"the pods of {revision} are gone", lambda revision=revision: not delivery.pods(revision))
    with stage.clone() as clone:
        assert clone.head() == bad_template
        assert clone.rollbacks(f"{delivery.target.namespace}/{MODEL}") == [record["commit"]]
    _nothing_lost(traffic)
    assert set(tally(traffic.answers()).answers) == {"1"}


def _spoil_template(overlay: Path) -> None:
    file = overlay / "kustomization.yaml"
    document = yaml.safe_load(file.read_text(encoding="utf-8"))
    path = "/spec/serving/template/spec/containers/0/readinessProbe/httpGet/path"
    patch = yaml.safe_dump([{"op": "replace", "path": path, "value": "/nowhere"}])
    document["patches"].append({"target": {"kind": "ModelDeployment"}, "patch": patch})
    file.write_text(yaml.safe_dump(document, sort_keys=False), encoding="utf-8")


def _nothing_lost(traffic: Traffic) -> None:
    """Every request was answered, and only version 3 answered with errors."""
    traffic.stop()
    seen = tally(traffic.answers())
    assert seen.lost == 0
    assert [version for version, outcome in seen.answers.items() if outcome["error"] and version != "3"] == []
