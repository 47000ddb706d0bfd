"""A version that fails on live traffic: drained, taken back in Git, synced, and never served again."""

import json
import re
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest
import yaml

from backstay_playground.demo.clone import Clone
from backstay_playground.demo.controller import kill_controller, restart_controller, wait_for_controller
from backstay_playground.demo.rollouts import Rollback
from backstay_playground.demo.stage import MODEL
from backstay_playground.demo.traffic import Traffic
from backstay_playground.demo.watcher import Seen

pytestmark = pytest.mark.e2e

WINDOW = 60.0
LARGEST_STATUS = 6000


@dataclass
class Case:
    """One rollback from version 3 to 1, and the traffic that went on during it."""

    delivery: Any
    traffic: Traffic
    rollback: Rollback

    @property
    def resource(self) -> str:
        return f"{self.delivery.target.namespace}/{MODEL}"

    def status(self) -> dict[str, Any]:
        found: dict[str, Any] = self.delivery.model()["status"]
        return found

    def declares(self, version: str, *, since: float) -> Seen:
        """Wait until the object in the cluster declares a version."""
        seen: Seen = self.delivery.observer.model.wait(
            f"the object declares version {version}",
            lambda body: body["spec"]["model"]["version"] == version,
            timeout=120,
            since=since,
        )
        return seen

    def refused(self) -> None:
        """Wait until the controller has refused what the object declares now."""
        generation = self.delivery.model()["metadata"]["generation"]
        self.delivery.observer.model.wait(
            f"generation {generation} is refused",
            lambda body: (
                body.get("status", {}).get("observedGeneration", 0) >= generation
                and body["status"]["phase"] == "Degraded"
                and body["spec"]["model"]["version"] == "3"
            ),
            timeout=120,
        )

    def edit(self, kind: str, name: str, patch: dict[str, Any]) -> None:
        """Edit a live object as a person in a hurry does."""
        place = f"--namespace={self.delivery.target.namespace}"
        self.delivery.kubectl("patch", kind, name, place, "--type=merge", f"--patch={json.dumps(patch)}")

    def apply_bad_manifest(self) -> None:
        """Apply what Git said before the rollback, by hand."""
        with self.delivery.stage.clone() as clone:
            clone.git("checkout", "--quiet", self.rollback.bad_commit)
            manifest = self.delivery.kubectl("kustomize", str(clone.folder / self.delivery.target.folder))
        self.delivery.kubectl("apply", "--filename=-", stdin=manifest)


@pytest.fixture(scope="module")
def case(deliver_for_module: Any) -> Case:
    delivery = deliver_for_module("1")
    traffic = delivery.traffic()
    return Case(delivery, traffic, delivery.observer.roll_back("3", traffic))


@pytest.fixture
def clone(case: Case) -> Iterator[Clone]:
    with case.delivery.stage.clone() as made:
        yield made


def test_no_request_is_lost_and_every_error_is_the_bad_versions(case: Case) -> None:
    answers = case.traffic.answers()
    assert [answer for answer in answers if not answer.version] == []
    assert {answer.version for answer in answers if answer.status >= 400} == {"3"}
    assert 503 not in {answer.status for answer in answers}


def test_the_commit_changes_the_versions_values_in_one_file_and_no_other_byte(case: Case, clone: Clone) -> None:
    commit, file = case.rollback.commit, case.delivery.target.version_file
    assert clone.files(commit) == [file]
    first, before, after = (clone.show(at, file) for at in (f"{case.rollback.bad_commit}^", f"{commit}^", commit))
    assert _without_values(after) == _without_values(before)
    bad = _model(before)
    rejected = {"version": "3", "digest": bad["digest"], "rollbackID": case.status()["rollback"]["id"]}
    assert _model(after) == {**_model(first), "rejectedVersions": [rejected]}


def test_the_commits_trailers_tell_what_was_undone_and_why(case: Case, clone: Clone) -> None:
    assert clone.rollbacks(case.resource) == [case.rollback.commit]
    trailers = clone.trailers(case.rollback.commit)
    evidence = trailers.pop("Backstay-Evidence")
    assert trailers == {
        "Backstay-Rollback-Id": [case.status()["rollback"]["id"]],
        "Backstay-Resource": [case.resource],
        "Backstay-From": ["3"],
        "Backstay-To": ["1"],
        "Backstay-Bad-Commit": [case.rollback.bad_commit],
    }
    assert all(re.match(r"signal=\S+ verdict=Fail value=", line) for line in evidence)


def test_argo_cd_is_synced_and_healthy_on_the_commit(case: Case) -> None:
    revision = case.delivery.wait_until_synced()
    with case.delivery.stage.clone() as clone:
        clone.git("merge-base", "--is-ancestor", case.rollback.commit, revision)


def test_kubectl_tells_what_happened(case: Case) -> None:
    delivery, place = case.delivery, f"--namespace={case.delivery.target.namespace}"
    header, row = delivery.kubectl("get", "mdep", MODEL, place, "--output=wide").splitlines()
    shown = row[header.index("MESSAGE") :]
    assert shown.startswith("Rolled back from version 3 to 1: ")
    assert case.rollback.commit in shown
    described = delivery.kubectl("describe", "mdep", MODEL, place)
    events = described[described.index("Events:") :]
    for reason in ("RolloutStarted", "RollingBack", "RollbackPushed", "RolledBack"):
        assert f" {reason} " in events


def test_the_status_stays_small(case: Case) -> None:
    assert len(json.dumps(case.status())) < LARGEST_STATUS


def test_nothing_brings_the_rejected_version_back(case: Case) -> None:
    delivery, playground = case.delivery, case.delivery.stage.playground
    revision = case.status()["rollback"]["fromRevision"]
    again = {"metadata": {"annotations": {"example.com/restarted": "by hand"}}}
    begun = time.time()
    if any(body["metadata"]["name"] == f"{MODEL}-{revision}" for body in delivery.get("deployments")["items"]):
        case.edit("deployment", f"{MODEL}-{revision}", {"spec": {"template": again}})

    # Argo CD takes a manual edit back within a second ...
    case.apply_bad_manifest()
    case.declares("1", since=case.declares("3", since=begun).at)
    restart_controller(playground)

    # ... but nothing may depend on that.
    playground.stop("argocd-application-controller")
    try:
        case.apply_bad_manifest()
        case.refused()
        kill_controller(playground)
        case.edit("mdep", MODEL, {"spec": {"rollout": {"steps": [{"weight": 100}]}}})
        case.refused()
        case.edit("mdep", MODEL, {"spec": {"serving": {"template": again}}})
        case.refused()
        wait_for_controller(playground)
    finally:
        mended = time.time()
        playground.start("argocd-application-controller")
    # The edited template stays, as Git says nothing of it: version 1 is tried in that shape.
    delivery.observer.wait_stable("1", timeout=120, since=mended)
    delivery.wait_until_synced()

    time.sleep(max(begun + WINDOW - time.time(), 0))
    late = case.traffic.answers(since=case.rollback.drained_at + 1)
    assert {(answer.version, answer.status) for answer in late} == {("1", 200)}
    with delivery.stage.clone() as clone:
        assert clone.rollbacks(case.resource) == [case.rollback.commit]
    assert delivery.pods(revision) == []


def _model(text: bytes) -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load(text)["spec"]["model"]
    return found


def _without_values(text: bytes) -> list[str]:
    """Take what a rollback may change out of a version file: three values, and the list of rejected versions."""
    kept = []
    listed = False
    for line in text.decode().splitlines(keepends=True):
        listed = line.startswith("    rejectedVersions:") or (listed and line.startswith(("    -", "      ")))
        if not listed:
            kept.append(re.sub(r'^(    (?:version|digest|runID): )("[^"]*"|\S+)', r"\1", line))
    return kept
