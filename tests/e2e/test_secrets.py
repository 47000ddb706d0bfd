"""A Git token that is wrong, and one that is right again: used without a restart, and shown to nobody."""

import base64
import json
import secrets
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from backstay_playground.demo.stage import MODEL
from backstay_playground.install import NAMESPACE

pytestmark = pytest.mark.e2e

PATIENCE = 120.0
SECRET = "backstay-git-credentials"  # noqa: S105 - its name


@contextmanager
def token(stage: Any, value: str) -> Iterator[None]:
    """Give the controller another token for a while."""
    kubectl = stage.playground.kubectl
    place = ("secret", SECRET, f"--namespace={NAMESPACE}")
    former = json.loads(kubectl("get", *place, "--output=json"))["data"]["playground.password"]

    def put(text: str) -> None:
        patch = {"data": {"playground.password": text}}
        kubectl("patch", *place, "--type=merge", f"--patch={json.dumps(patch)}")

    put(base64.b64encode(value.encode()).decode())
    try:
        yield
    finally:
        put(former)


def forms(value: str) -> list[str]:
    """List what a token may turn up as."""
    return [value, base64.b64encode(f"playground:{value}".encode()).decode(), base64.b64encode(value.encode()).decode()]


def shown(stage: Any) -> dict[str, str]:
    """Collect what people and machines see: objects, events, logs, every process' command line and environment."""
    kubectl = stage.playground.kubectl
    seen = {
        kind: kubectl("get", kind, "--all-namespaces", "--output=yaml") for kind in ("mdep", "events", "httproutes")
    }
    seen["pods"] = kubectl("get", "pods", f"--namespace={NAMESPACE}", "--output=yaml")
    for file in (stage.playground.layout.root / "logs").rglob("*backstay-controller*"):
        seen[file.name] = file.read_text(errors="replace")
    seen["processes"] = subprocess.run(["ps", "axww", "-o", "args"], check=True, capture_output=True, text=True).stdout
    environments = []
    for process in Path("/proc").iterdir():
        try:
            if b"backstay.controller" in (process / "cmdline").read_bytes():
                environments.append((process / "environ").read_text(errors="replace"))
        except OSError:
            continue
    seen["environments"] = "\n".join(environments)
    return seen


def test_a_wrong_token_is_told_and_not_shown_and_a_right_one_needs_no_restart(deliver: Any) -> None:
    delivery = deliver("1")
    stage, target, traffic = delivery.stage, delivery.target, delivery.traffic()
    wrong = f"wrong{secrets.token_hex(16)}"
    pods = ("pods", f"--namespace={NAMESPACE}", "--output=name")
    before = stage.playground.kubectl("get", *pods)
    begun = time.time()
    observer = delivery.observer
    with token(stage, wrong):
        stage.merge_bump(target, "3")
        stage.refresh(target)
        revision = observer.revision("3", since=begun, timeout=PATIENCE)
        on = observer.wait_weight(revision, timeout=PATIENCE, since=begun)
        off = observer.wait_drained(revision, timeout=PATIENCE, since=on.at)
        refused = observer.model.wait(
            "the refusal is told",
            lambda body: any(c["reason"] == "WriteBackRefused" for c in body["status"].get("conditions", ())),
            timeout=PATIENCE,
            since=off.at,
        )
        assert "authentication failed" in refused.body["status"]["message"].lower()
        seen = shown(stage)
    assert [name for name, text in seen.items() if any(form in text for form in forms(wrong))] == []
    observer.wait_rolled_back("3", timeout=PATIENCE, since=refused.at)
    assert stage.playground.kubectl("get", *pods) == before
    right = stage.playground.gitea.token
    assert [name for name, text in shown(stage).items() if any(form in text for form in forms(right))] == []
    with stage.clone() as clone:
        assert len(clone.rollbacks(f"{target.namespace}/{MODEL}")) == 1
    assert {answer.version for answer in traffic.answers() if answer.began > off.at + 1} == {"1"}
