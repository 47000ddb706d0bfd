"""A namespace gets commits only where the controller's configuration allows it, whatever it declares."""

import time
from typing import Any

import pytest

from backstay_playground.demo.controller import wait_for_controller
from backstay_playground.demo.stage import MODEL
from backstay_playground.install import DEPLOYMENT, NAMESPACE

pytestmark = pytest.mark.e2e

PATIENCE = 120.0


def set_rules(stage: Any, rules: str) -> None:
    assignment = f"BACKSTAY_WRITE_RULES={rules}" if rules else "BACKSTAY_WRITE_RULES-"
    stage.playground.kubectl("set", "env", f"--namespace={NAMESPACE}", f"deployment/{DEPLOYMENT}", assignment)
    wait_for_controller(stage.playground)


def test_a_rollback_into_a_folder_that_the_namespace_was_not_given_is_refused(deliver: Any) -> None:
    delivery = deliver("1")
    stage, target, traffic = delivery.stage, delivery.target, delivery.traffic()
    elsewhere = (
        f'[{{namespaces: ["{target.namespace}"], repositories: ["*"], paths: [applications/{MODEL}/overlays/other]}}]'
    )
    set_rules(stage, elsewhere)
    try:
        begun = time.time()
        before = stage.merge_bump(target, "3")
        stage.refresh(target)
        observer = delivery.observer
        revision = observer.revision("3", since=begun, timeout=PATIENCE)
        on = observer.wait_weight(revision, timeout=PATIENCE, since=begun)
        off = observer.wait_drained(revision, timeout=PATIENCE, since=on.at)
        refused = observer.model.wait(
            "the refusal is told",
            lambda body: any(c["reason"] == "WriteBackRefused" for c in body["status"].get("conditions", ())),
            timeout=PATIENCE,
            since=off.at,
        )
        message = refused.body["status"]["message"]
        assert f"Namespace {target.namespace} may not write to {target.folder}" in message
        assert "add a rule to BACKSTAY_WRITE_RULES" in message
        with stage.clone() as clone:
            assert clone.head() == before
            assert clone.rollbacks(f"{target.namespace}/{MODEL}") == []
    finally:
        set_rules(stage, "")
    # With the rule mended the rollback is made good.
    delivery.observer.wait_rolled_back("3", timeout=PATIENCE, since=off.at)
    assert {answer.version for answer in traffic.answers() if answer.began > off.at + 1} == {"1"}
