"""Rollbacks checked with the real kustomize: what else would change is never pushed."""

from __future__ import annotations

import os
import subprocess
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from hostile import ATTACKS
from rich.console import Console

from backstay.adapters.gitops.outcomes import Committed, Refused, Superseded
from backstay.adapters.gitops.repository import Repository
from backstay.adapters.messages.rollback_commit import RollbackRequest
from backstay.domain.resource import ModelIdentity
from backstay_playground.build import binaries

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

BASE = {
    "base/kustomization.yaml": "resources: [deployment.yaml]\n",
    "base/deployment.yaml": (
        "apiVersion: backstay.dev/v1alpha1\nkind: ModelDeployment\nmetadata: {name: fraud-detector}\n"
        "spec:\n  registry: {uri: 'http://mlflow.mlops:5000'}\n  serving: {replicas: 2}\n"
    ),
    "production/kustomization.yaml": (
        "namespace: fraud-production\nresources: [../base]\npatches: [{path: model-version.yaml}]\n"
    ),
}


def version_file(version: str) -> str:
    return (
        "apiVersion: backstay.dev/v1alpha1\nkind: ModelDeployment\nmetadata: {name: fraud-detector}\n"
        f"spec:\n  model:\n    name: fraud-detector\n    version: '{version}'\n"
    )


class Server:
    """A bare repository and a folder to commit from."""

    def __init__(self, folder: Path) -> None:
        self.bare, self.work = folder / "server.git", folder / "person"
        self.work.mkdir()
        self.git("init", "--quiet", "--bare", "--initial-branch=main", str(self.bare))
        self.git("init", "--quiet", "--initial-branch=main", ".")

    def git(self, *arguments: str) -> str:
        environment = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
        environment |= {"GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_NOSYSTEM": "1"}
        command = ["git", "-c", "user.name=Person", "-c", "user.email=person@localhost", *arguments]
        return subprocess.run(
            command, cwd=self.work, env=environment, check=True, capture_output=True, text=True
        ).stdout.strip()

    def commit(self, files: dict[str, str]) -> str:
        for name, content in files.items():
            file = self.work / name
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(content)
        self.git("add", "--all")
        self.git("commit", "--quiet", "--message", "change")
        self.git("push", "--quiet", str(self.bare), "HEAD:main")
        return self.git("rev-parse", "HEAD")

    def head(self) -> str:
        return self.git("ls-remote", str(self.bare), "refs/heads/main").split()[0]


@pytest.fixture(autouse=True)
def _kustomize(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Put the playground's kustomize on the PATH, and count its runs."""
    real = binaries(["kustomize"], Console())["kustomize"]
    tool = tmp_path / "bin" / "kustomize"
    tool.parent.mkdir()
    (tmp_path / "runs").mkdir()
    # Kustomize may write no byte to any file, and neither may what counts its runs.
    tool.write_text(f"#!/bin/sh\n: > '{tmp_path}/runs/'$$\nexec '{real}' \"$@\"\n")
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tool.parent}:{os.environ['PATH']}")


@pytest.fixture
def server(tmp_path: Path) -> Server:
    server = Server(tmp_path)
    server.commit({**BASE, "production/model-version.yaml": version_file("7")})
    return server


@pytest.fixture
def repository(server: Server, tmp_path: Path) -> Iterator[Repository]:
    with Repository(f"file://{server.bare}", "main", workdir=tmp_path / "work") as repository:
        yield repository


@pytest.fixture
def request_7_to_6(server: Server) -> RollbackRequest:
    return RollbackRequest(
        rollback_id="abc",
        resource="fraud-production/fraud-detector",
        path="production",
        name="fraud-detector",
        environment="production",
        good=ModelIdentity("fraud-detector", "6", "sha256:66"),
        bad=ModelIdentity("fraud-detector", "7"),
        bad_commit=server.head(),
        reason="error ratio 4.1 % against 1.0 %",
    )


def runs(tmp_path: Path) -> int:
    return len(list((tmp_path / "runs").iterdir()))


def test_an_edit_of_the_model_alone_is_pushed_after_two_renders(
    server: Server, repository: Repository, request_7_to_6: RollbackRequest, tmp_path: Path
) -> None:
    [outcome] = repository.rollback([request_7_to_6])
    assert isinstance(outcome, Committed)
    assert server.head() == outcome.commit
    assert runs(tmp_path) == 2


@pytest.mark.parametrize(
    ("changed", "renders"), [("ranking/notes.txt", 2), ("base/deployment.yaml", 4), ("production/notes.txt", 4)]
)
def test_after_a_lost_race_only_what_the_other_commit_touched_is_rendered_again(
    server: Server, request_7_to_6: RollbackRequest, tmp_path: Path, changed: str, renders: int
) -> None:
    others = [{changed: (BASE.get(changed) or "first") + "\n# another commit\n"}]

    def checkpoint(point: str) -> None:
        if point == "before:push" and others:
            server.commit(others.pop())

    with Repository(f"file://{server.bare}", "main", workdir=tmp_path / "work", checkpoint=checkpoint) as repository:
        [outcome] = repository.rollback([request_7_to_6])
    assert isinstance(outcome, Committed)
    assert server.head() == outcome.commit
    assert runs(tmp_path) == renders


def test_a_second_reader_of_the_file_stops_the_push(
    server: Server, repository: Repository, request_7_to_6: RollbackRequest, tmp_path: Path
) -> None:
    kustomization = BASE["production/kustomization.yaml"]
    generator = "configMapGenerator: [{name: facts, files: [model-version.yaml]}]\n"
    head = server.commit({"production/kustomization.yaml": kustomization + generator})
    for _ in range(2):
        [outcome] = repository.rollback([request_7_to_6])
        assert isinstance(outcome, Refused)
        assert "was not restored in Git: the edit would also change ConfigMap fraud-production/facts-" in outcome.reason
    assert server.head() == head
    assert runs(tmp_path) == 2, "the same edit of the same commit is rendered once"
    server.commit({"production/kustomization.yaml": kustomization})
    [outcome] = repository.rollback([request_7_to_6])
    assert isinstance(outcome, Committed)


def test_a_version_set_elsewhere_stops_the_push(
    server: Server, repository: Repository, request_7_to_6: RollbackRequest
) -> None:
    patches = "patches: [{path: model-version.yaml}, {path: pin/pin.yaml}]\n"
    head = server.commit(
        {
            "production/kustomization.yaml": f"namespace: fraud-production\nresources: [../base]\n{patches}",
            "production/pin/pin.yaml": version_file("7"),
        }
    )
    [outcome] = repository.rollback([request_7_to_6])
    assert isinstance(outcome, Refused)
    assert "does not reach spec.model of ModelDeployment fraud-detector" in outcome.reason
    assert server.head() == head


def test_a_file_that_nothing_reads_stops_the_push(
    server: Server, repository: Repository, request_7_to_6: RollbackRequest
) -> None:
    server.commit({"production/kustomization.yaml": "resources: [../base]\n"})
    [outcome] = repository.rollback([request_7_to_6])
    assert isinstance(outcome, Refused)
    assert "list the version file among the kustomization's patches" in outcome.reason


def test_a_folder_that_does_not_render_stops_the_push(
    server: Server, repository: Repository, request_7_to_6: RollbackRequest, tmp_path: Path
) -> None:
    server.commit({"base/deployment.yaml": "kind: ["})
    [outcome] = repository.rollback([request_7_to_6])
    assert isinstance(outcome, Refused)
    assert "kustomize build production fails" in outcome.reason
    assert str(tmp_path) not in outcome.reason


@pytest.mark.parametrize("attack", ATTACKS)
def test_a_kustomization_runs_no_command(
    server: Server, repository: Repository, request_7_to_6: RollbackRequest, tmp_path: Path, attack: str
) -> None:
    files = ATTACKS[attack](tmp_path / "witness")
    added = {f"production/{path}": text for path, text in files.items() if path}
    kustomization = BASE["production/kustomization.yaml"] + files[""]
    head = server.commit({**added, "production/kustomization.yaml": kustomization})
    [outcome] = repository.rollback([request_7_to_6])
    assert not (tmp_path / "witness").exists()
    assert isinstance(outcome, Refused)
    assert "was not restored in Git: production/kustomization.yaml (line 4): " in outcome.reason
    assert (server.head(), runs(tmp_path)) == (head, 0)


def test_a_remote_base_is_refused_with_what_to_do(
    server: Server, repository: Repository, request_7_to_6: RollbackRequest, tmp_path: Path
) -> None:
    remote = "resources: [../base, 'https://git.example.com/models/common?ref=main']\n"
    server.commit({"production/kustomization.yaml": remote})
    [outcome] = repository.rollback([request_7_to_6])
    assert outcome == Refused(
        "Version 6 of fraud-production/fraud-detector was not restored in Git: production/kustomization.yaml (line 1): "
        "https://git.example.com/models/common?ref=main comes from elsewhere and may change without a commit here; "
        "copy it into the repository"
    )
    assert runs(tmp_path) == 0


def test_several_rollbacks_of_one_push_are_checked_one_by_one(
    server: Server, repository: Repository, request_7_to_6: RollbackRequest
) -> None:
    for name in ("churn", "ranking"):
        server.commit({f"{name}/{file}": text.replace("fraud-detector", name) for file, text in BASE.items()})
        server.commit({f"{name}/production/model-version.yaml": version_file("7").replace("fraud-detector", name)})
    generator = "configMapGenerator: [{name: facts, files: [model-version.yaml]}]\n"
    server.commit({"churn/production/kustomization.yaml": BASE["production/kustomization.yaml"] + generator})
    others = [
        replace(
            request_7_to_6,
            rollback_id=name,
            name=name,
            path=f"{name}/production",
            good=ModelIdentity(name, "6"),
            bad=ModelIdentity(name, "7"),
        )
        for name in ("churn", "ranking")
    ]
    outcomes = repository.rollback([request_7_to_6, *others])
    assert [type(outcome) for outcome in outcomes] == [Committed, Refused, Committed]
    assert isinstance(outcomes[2], Committed)
    assert server.head() == outcomes[2].commit


def test_a_newer_version_keeps_its_render(
    server: Server, repository: Repository, request_7_to_6: RollbackRequest
) -> None:
    server.commit({"production/model-version.yaml": version_file("8")})
    request = replace(request_7_to_6, bad=ModelIdentity("fraud-detector", "7", "sha256:77"))
    assert repository.rollback([request]) == [Superseded("8", server.head())]
