"""What the registry does not let through never gets a pod, and Git is right or put right."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import pytest
from mlflow import MlflowClient

from backstay.adapters.gitops.version_file import read_version_file, restore
from backstay_playground.demo.stage import MODEL, Pace, Stage

pytestmark = pytest.mark.e2e

PATIENCE = 120.0


def stalled(body: dict[str, Any]) -> str:
    conditions = body.get("status", {}).get("conditions", ())
    return next((c["reason"] for c in conditions if c["type"] == "Stalled"), "")


def failed(body: dict[str, Any]) -> list[dict[str, str]]:
    return [gate for gate in body.get("status", {}).get("gates", ()) if gate["result"] == "Failed"]


def served(delivery: Any) -> set[str]:
    """Return the revisions of which there are Deployments."""
    return {item["metadata"]["labels"]["backstay.dev/revision"] for item in delivery.get("deployments")["items"]}


def test_what_the_registry_does_not_have_or_does_not_tell_is_not_started(deliver: Any, fast: Pace) -> None:
    delivery = deliver("1", pace=fast)
    stage, observer = delivery.stage, delivery.observer
    traffic, before = delivery.traffic(), served(delivery)

    text = stage.read(delivery.target.version_file)
    identity = replace(read_version_file(text, name=MODEL).identity, version="77", digest="", run_id="")
    absent = restore(text, name=MODEL, identity=identity, reject=None, drop_retry=False)
    stage.merge(delivery.target.version_file, absent, f"{MODEL}: a version that nobody has registered")
    stage.refresh(delivery.target)
    held = observer.model.wait("version 77 is held", lambda body: stalled(body) == "GateFailed", timeout=PATIENCE).body[
        "status"
    ]
    assert f"has no version 77 of {MODEL}: register it, or name another" in held["message"]
    assert [(gate["name"], gate["result"]) for gate in held["gates"]] == [("Registered", "Failed")]
    assert served(delivery) == before

    stage.playground.stop("mlflow")
    try:
        stage.merge_bump(delivery.target, "2")
        stage.refresh(delivery.target)
        observer.model.wait(
            "version 2 waits for the registry",
            lambda body: stalled(body) == "RegistryUnavailable",
            timeout=PATIENCE,
        )
        assert served(delivery) == before
    finally:
        stage.playground.start("mlflow")
    observer.wait_stable("2", timeout=PATIENCE)
    traffic.stop()
    assert {answer.version for answer in traffic.answers()} == {"1", "2"}
    notes = [
        json.loads(text)
        for name, text in MlflowClient(tracking_uri=stage.playground.mlflow_url)
        .get_model_version(MODEL, "2")
        .tags.items()
        if name.startswith("promotion.")
    ]
    assert [note for note in notes if note["target"].endswith(f" {delivery.target.namespace}/{MODEL}")]


@contextmanager
def approval_asked_for(delivery: Any) -> Iterator[None]:
    """Let the promotion policy ask for an approval in this environment."""
    place = ("configmap", "backstay-promotion", "--namespace=backstay-system")
    before = json.loads(delivery.kubectl("get", *place, "--output=json"))["data"]
    asked = {"namespaces": f"^{delivery.target.namespace}$", "requiredTags": "eval.approved=true"}
    delivery.kubectl("patch", *place, "--type=merge", f"--patch={json.dumps({'data': asked})}")
    try:
        yield
    finally:
        delivery.kubectl("patch", *place, "--type=merge", f"--patch={json.dumps({'data': before})}")


@contextmanager
def tagged(stage: Stage, version: str, tags: dict[str, str]) -> Iterator[None]:
    """Set tags of a registered version, and take them away at the end."""
    client = MlflowClient(tracking_uri=stage.playground.mlflow_url)
    for name, value in tags.items():
        client.set_model_version_tag(MODEL, version, name, value)
    try:
        yield
    finally:
        for name in tags:
            client.delete_model_version_tag(MODEL, version, name)


def test_what_nobody_approved_or_expects_other_features_is_held_until_the_registry_says_so(
    deliver: Any, stage: Stage, fast: Pace
) -> None:
    schema = {"backstay.dev/feature-schema-version": "3"}
    with tagged(stage, "1", schema):
        delivery = deliver("1", pace=replace(fast, feature_schemas=("3",)))
    traffic, before = delivery.traffic(), served(delivery)
    with approval_asked_for(delivery):
        commit = stage.merge_bump(delivery.target, "2")
        stage.refresh(delivery.target)
        held = delivery.observer.model.wait(
            "version 2 is held by both gates",
            lambda body: {"Schema", "Tags"} <= {gate["name"] for gate in failed(body)},
            timeout=PATIENCE,
        ).body
        assert stalled(held) == "GateFailed"
        assert "has no feature schema version of version 2" in held["status"]["message"]
        assert "has no tag eval.approved, and the policy asks for 'true'" in held["status"]["message"]
        assert served(delivery) == before
        with tagged(stage, "2", {**schema, "eval.approved": "true"}):
            delivery.observer.wait_stable("2", timeout=PATIENCE)
    traffic.stop()
    assert {gate["result"] for gate in delivery.model()["status"]["gates"]} == {"Passed"}
    assert delivery.wait_until_synced() == commit
    assert traffic.lost() == []


def test_git_is_put_right_where_that_is_asked_for(deliver: Any, fast: Pace) -> None:
    delivery = deliver("1", pace=replace(fast, on_gate_failure="rollback"))
    stage, before = delivery.stage, served(delivery)
    traffic = delivery.traffic()
    wrong = f"sha256:{'0' * 64}"
    bad_commit = stage.merge_bump(delivery.target, "3", digest=wrong)
    stage.refresh(delivery.target)
    record = delivery.observer.wait_rolled_back("3", timeout=PATIENCE).body["status"]["rollback"]
    assert record["reason"].startswith("the registry: digest is sha256:000000")
    assert (record["badCommit"], record["to"]) == (bad_commit, "1")
    assert read_version_file(stage.read(delivery.target.version_file), name=MODEL).identity.version == "1"
    stage.merge_bump(delivery.target, "3", digest=wrong)
    stage.refresh(delivery.target)
    again = delivery.observer.model.wait(
        "a rejected version is refused", lambda body: stalled(body) == "VersionRejected", timeout=PATIENCE
    ).body["status"]
    traffic.stop()
    assert f"spec.model.retryOf: {record['id']}" in again["message"]
    assert served(delivery) == before
    assert {answer.version for answer in traffic.answers()} == {"1"}
    client = MlflowClient(tracking_uri=stage.playground.mlflow_url)
    delivery.wait_until(
        "the registry knows",
        lambda: any(
            json.loads(text)["id"] == record["id"]
            for name, text in client.get_model_version(MODEL, "3").tags.items()
            if name.startswith("rollback.")
        ),
    )
