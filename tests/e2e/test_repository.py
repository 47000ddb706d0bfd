"""A repository that `backstay init` makes: verified, pushed, delivered; and a model added to it by one command."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from backstay_playground.demo.stage import Stage
from backstay_playground.demo.waiting import wait_until
from backstay_playground.gitea import IN_CLUSTER_URL

pytestmark = pytest.mark.e2e

REPOSITORY = "fresh"
PATIENCE = 180.0


@pytest.fixture
def repository(stage: Stage, tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "gitops"
    stage.playground.gitea.create_repository(REPOSITORY)
    yield folder
    applications = ["models", *(f"{model}-{env}" for model in ("first", "second") for env in ("staging", "production"))]
    # The one that delivers the others goes first.
    for name in applications:
        command = (
            "delete",
            "applications.argoproj.io",
            name,
            "--namespace=argocd",
            "--ignore-not-found",
            "--wait=false",
        )
        stage.playground.kubectl(*command)
    for model in ("first", "second"):
        for environment in ("staging", "production"):
            stage.playground.kubectl(
                "delete", "namespace", f"{model}-{environment}", "--ignore-not-found", "--wait=false"
            )
    stage.playground.gitea.delete_repository(REPOSITORY)


def backstay(stage: Stage, folder: Path, *arguments: str) -> str:
    path = f"{stage.playground.layout.bin}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        [sys.executable, "-m", "backstay.cli", *arguments],
        cwd=folder,
        env={**os.environ, "PATH": path},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def serving(stage: Stage, namespace: str, name: str) -> bool:
    """Tell whether Argo CD has delivered a model, and its version has all traffic."""
    found = stage.playground.kubectl(
        "get", "mdep", name, f"--namespace={namespace}", "--ignore-not-found", "--output=json"
    )
    status: dict[str, Any] = json.loads(found).get("status", {}) if found else {}
    return bool(status.get("weight") == 100)


def push(stage: Stage, folder: Path, message: str) -> None:
    stage.playground.gitea.push_folder(folder, repository=REPOSITORY, message=message)


def test_a_new_repository_is_verified_delivered_and_grows_by_one_command(stage: Stage, repository: Path) -> None:
    repository.mkdir()
    backstay(
        stage,
        repository,
        "init",
        ".",
        f"--repository={IN_CLUSTER_URL}/models/{REPOSITORY}.git",
        "--registry=http://mlflow.mlops:5000",
        "--gateway=gateways/models",
        "--domain=fresh.example.com",
        "--model=first",
        "--registered=fraud-detector",
        "--forge=gitea",
        f"--install-from=git+{IN_CLUSTER_URL}/platform/backstay@{40 * 'a'}",
    )
    verified = backstay(stage, repository, "verify", f"--registry={stage.playground.mlflow_url}")
    assert "2 environments checked, 0 things to mend" in verified
    push(stage, repository, "Deliver the first model")
    stage.playground.kubectl("apply", f"--filename={repository}/applications/argocd/models.yaml")
    for environment in ("staging", "production"):
        wait_until(
            f"the first model serves in {environment}",
            partial(serving, stage, f"first-{environment}", "first"),
            timeout=PATIENCE,
        )

    backstay(stage, repository, "add", "second", "--registered=fraud-detector", "--version=2")
    backstay(stage, repository, "verify", f"--registry={stage.playground.mlflow_url}")
    push(stage, repository, "Add the second model")
    # As a forge's webhook does; otherwise Argo CD looks every few minutes.
    refresh = ("--overwrite", "applications.argoproj.io", "models", "argocd.argoproj.io/refresh=normal")
    stage.playground.kubectl("annotate", "--namespace=argocd", *refresh)
    wait_until("the second model serves", lambda: serving(stage, "second-staging", "second"), timeout=PATIENCE)
