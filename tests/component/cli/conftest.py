"""A GitOps repository of the shipped layout, a real MLflow server, and the command as a person gives it."""

import os
import re
import shutil
import socket
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import requests
import yaml
from mlflow import MlflowClient
from models_repository import Repository, made
from rich.console import Console
from typer.testing import CliRunner, Result

from backstay.cli.__main__ import app
from backstay_playground.build import binaries

ROOT = Path(__file__).parents[3]
MODEL = "fraud-detector"
OVERLAYS = f"applications/{MODEL}/overlays"


def version_file(environment: str) -> str:
    return f"{OVERLAYS}/{environment}/model-version.yaml"


@dataclass(frozen=True)
class Registry:
    """An MLflow server with a registered model."""

    uri: str
    client: MlflowClient
    database: Path

    def spoil(self, version: str) -> None:
        """Make a version one whose registration failed, which MLflow does for some stores only."""
        with closing(sqlite3.connect(self.database)) as database, database:
            database.execute("UPDATE model_versions SET status = 'FAILED_REGISTRATION' WHERE version = ?", (version,))

    def register(  # noqa: PLR0913 - what may be said of a version, by keyword
        self,
        *,
        tags: Mapping[str, str] | None = None,
        metrics: Mapping[str, float] | None = None,
        run_tags: Mapping[str, str] | None = None,
        params: Mapping[str, str] | None = None,
        files: Mapping[str, str] | None = None,
        folder: Path,
    ) -> str:
        """Register a version with artifacts of its own, and return its number."""
        run = self.client.create_run("0", tags=dict(run_tags or {}))
        for key, value in (metrics or {}).items():
            self.client.log_metric(run.info.run_id, key, value)
        for key, text in (params or {}).items():
            self.client.log_param(run.info.run_id, key, text)
        artifacts = folder / run.info.run_id
        for name, content in (files or {"MLmodel": f"run {run.info.run_id}\n", "data/model.bin": "weights"}).items():
            (artifacts / name).parent.mkdir(parents=True, exist_ok=True)
            (artifacts / name).write_text(content)
        self.client.log_artifacts(run.info.run_id, str(artifacts), "model")
        source = f"{run.info.artifact_uri}/model"
        made = self.client.create_model_version(
            MODEL, source, run.info.run_id, tags=dict(tags or {}), await_creation_for=0
        )
        return str(made.version)


def _free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


@pytest.fixture(scope="session")
def mlflow_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Path]]:
    """Run MLflow with a database and an artifact store of its own."""
    folder, port = tmp_path_factory.mktemp("mlflow"), _free_port()
    uri = f"http://127.0.0.1:{port}"
    command = [
        *(sys.executable, "-m", "mlflow", "server", "--host=127.0.0.1", f"--port={port}", "--workers=1"),
        *(f"--backend-store-uri=sqlite:///{folder}/mlflow.db", f"--artifacts-destination={folder}/artifacts"),
        "--serve-artifacts",
    ]
    environment = {**os.environ, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "MLFLOW_DISABLE_TELEMETRY": "true"}
    with (folder / "log").open("wb") as log:
        server = subprocess.Popen(command, env=environment, stdout=log, stderr=log, start_new_session=True)
    try:
        _await(f"{uri}/health", server, folder / "log")
        yield uri, folder / "mlflow.db"
    finally:
        os.killpg(server.pid, 15)
        server.wait(timeout=30)


def _await(url: str, server: "subprocess.Popen[bytes]", log: Path) -> None:
    end = time.monotonic() + 120
    while time.monotonic() < end and server.poll() is None:
        try:
            if requests.get(url, timeout=2).ok:
                return
        except requests.RequestException:
            pass
        time.sleep(0.2)
    pytest.fail(f"MLflow does not run: {log.read_text()[-2000:]}")


@pytest.fixture
def registry(mlflow_server: tuple[str, Path]) -> Iterator[Registry]:
    """A registered model without versions."""
    uri, database = mlflow_server
    client = MlflowClient(tracking_uri=uri, registry_uri=uri)
    client.create_registered_model(MODEL)
    yield Registry(uri, client, database)
    client.delete_registered_model(MODEL)


@dataclass(frozen=True)
class GitOps:
    """The repository on its server, and a person's checkout of it."""

    bare: Path
    person: Path

    def git(self, *arguments: str, cwd: Path | None = None) -> str:
        environment = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
        done = subprocess.run(
            ["git", *arguments], cwd=cwd or self.bare, env=environment, check=True, capture_output=True, text=True
        )
        return done.stdout.rstrip("\n")

    def commit(self, files: Mapping[str, str], message: str = "change") -> str:
        """Push files from the person's checkout."""
        self.git("pull", "--quiet", "--rebase", "origin", "main", cwd=self.person)
        for name, content in files.items():
            (self.person / name).parent.mkdir(parents=True, exist_ok=True)
            (self.person / name).write_text(content)
        self.git("add", "--all", cwd=self.person)
        self.git("commit", "--quiet", "--message", message, cwd=self.person)
        self.git("push", "--quiet", "origin", "HEAD:main", cwd=self.person)
        return self.head()

    def head(self) -> str:
        return self.git("rev-parse", "main")

    def count(self) -> int:
        return int(self.git("rev-list", "--count", "main"))

    def show(self, environment: str) -> str:
        return self.git("show", f"main:{version_file(environment)}") + "\n"

    def model(self, environment: str) -> dict[str, Any]:
        """The ``spec.model`` of an environment's version file."""
        model: dict[str, Any] = yaml.safe_load(self.show(environment))["spec"]["model"]
        return model

    def declare(self, environment: str, version: str, extra: str = "") -> str:
        """Push a version as a person would write it."""
        text = re.sub(r'version: "[^"]*"', f'version: "{version}"', self.show(environment), count=1)
        return self.commit({version_file(environment): text + extra}, f"{environment} {version}")

    def message(self) -> str:
        return self.git("log", "-1", "--format=%B", "main")

    def changed(self) -> list[str]:
        return self.git("diff-tree", "-r", "--no-commit-id", "--name-only", "main").splitlines()

    def state(self) -> tuple[str, str]:
        """What a person sees of the checkout: its commit, and what git status says."""
        return self.git("rev-parse", "HEAD", cwd=self.person), self.git("status", "--porcelain", cwd=self.person)


@pytest.fixture
def gitops(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> GitOps:
    """Push the shipped applications to a bare repository, and go into a checkout of it."""
    home = tmp_path / "home"
    home.mkdir()
    (home / ".gitconfig").write_text(
        "[user]\n\tname = Robin Doe\n\temail = robin@example.com\n[init]\n\tdefaultBranch = main\n"
    )
    tools = tmp_path / "bin"
    tools.mkdir()
    (tools / "kustomize").symlink_to(binaries(["kustomize"], Console())["kustomize"])
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "no-cluster"))
    monkeypatch.setenv("PATH", f"{tools}:{os.environ['PATH']}")
    for name in [*(each for each in os.environ if each.startswith("GIT_")), "BACKSTAY_TOKEN", "MLFLOW_TRACKING_URI"]:
        monkeypatch.delenv(name, raising=False)
    made = GitOps(tmp_path / "server.git", tmp_path / "person")
    made.git("init", "--quiet", "--bare", str(made.bare), cwd=tmp_path)
    made.git("clone", "--quiet", str(made.bare), str(made.person), cwd=tmp_path)
    shutil.copytree(ROOT / "applications", made.person / "applications")
    made.git("add", "--all", cwd=made.person)
    made.git("commit", "--quiet", "--message", "the first version", cwd=made.person)
    made.git("push", "--quiet", "origin", "HEAD:main", cwd=made.person)
    monkeypatch.chdir(made.person)
    return made


class Backstay:
    """The command; every run must leave the person's checkout as it was."""

    def __init__(self, gitops: GitOps, registry: str) -> None:
        self._gitops = gitops
        self._registry = registry

    def __call__(self, *arguments: str, **environment: str) -> Result:
        before = self._gitops.state()
        values = {"COLUMNS": "200", "TERM": "dumb", "BACKSTAY_REGISTRY": self._registry, **environment}
        result = CliRunner(env=values).invoke(app, list(arguments))
        assert self._gitops.state() == before
        assert "Traceback" not in result.output
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        return result


@pytest.fixture
def backstay(gitops: GitOps, registry: Registry) -> Backstay:
    return Backstay(gitops, registry.uri)


@pytest.fixture(scope="session")
def kustomize(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with kustomize for the PATH."""
    folder = tmp_path_factory.mktemp("bin")
    (folder / "kustomize").symlink_to(binaries(["kustomize"], Console())["kustomize"])
    return folder


@pytest.fixture(scope="session")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What `backstay init` makes, once."""
    return made(tmp_path_factory.mktemp("template") / "models").root


@pytest.fixture
def repository(template: Path, kustomize: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Repository:
    """A repository as `backstay init` makes it, on a branch for a change."""
    monkeypatch.setenv("PATH", str(kustomize), prepend=os.pathsep)
    return Repository(shutil.copytree(template, tmp_path / "models", symlinks=True))
