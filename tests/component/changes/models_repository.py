"""A repository as `backstay init` makes it, to be changed, and what `backstay verify` says of it."""

import json
import os
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from typer.testing import CliRunner

from backstay.cli.__main__ import app

MODEL = "fraud-detector"
OVERLAYS = f"applications/{MODEL}/overlays"
BASE = f"applications/{MODEL}/base"
PRODUCTION, STAGING = f"{OVERLAYS}/production", f"{OVERLAYS}/staging"
VERSION = f"{PRODUCTION}/model-version.yaml"
SETTINGS = f"{PRODUCTION}/settings.yaml"
DIGEST = "sha256:" + 64 * "a"
OTHER = "sha256:" + 64 * "b"
REJECTED = {"version": "3", "digest": OTHER, "rollbackID": "4a7d1ed414474e40"}


@dataclass(frozen=True)
class Repository:
    """A checkout on a branch of its own, to be changed."""

    root: Path

    def git(self, *arguments: str) -> str:
        person = {f"GIT_{role}_{key}": "someone" for role in ("AUTHOR", "COMMITTER") for key in ("NAME", "EMAIL")}
        clean = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
        done = subprocess.run(
            ["git", "-C", str(self.root), *arguments],
            env={**clean, **person},
            check=True,
            capture_output=True,
            text=True,
        )
        return done.stdout

    def read(self, path: str) -> str:
        return (self.root / path).read_text()

    def write(self, path: str, text: str | bytes) -> None:
        file = self.root / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(text.encode() if isinstance(text, str) else text)

    def edit(self, path: str, old: str, new: str) -> None:
        text = self.read(path)
        assert old in text
        self.write(path, text.replace(old, new))

    def model(self, path: str = VERSION, **fields: Any) -> None:
        """Set fields of spec.model; None takes one away."""
        document = yaml.safe_load(self.read(path))
        model = {**document["spec"]["model"], **fields}
        document["spec"]["model"] = {key: value for key, value in model.items() if value is not None}
        self.write(path, yaml.safe_dump(document, sort_keys=False))

    def settings(self, environment: str, change: Callable[[dict[str, Any]], None]) -> None:
        path = f"{OVERLAYS}/{environment}/settings.yaml"
        document = yaml.safe_load(self.read(path))
        change(document["spec"])
        self.write(path, yaml.safe_dump(document, sort_keys=False))

    def policy(self, **settings: str) -> None:
        path = "policies/promotion/settings.yaml"
        document = yaml.safe_load(self.read(path))
        document["data"].update(settings)
        self.write(path, yaml.safe_dump(document, sort_keys=False))

    def before(self) -> None:
        """Take what is there now for what was there before the change."""
        self.commit()
        self.git("branch", "--force", "main")

    def commit(self) -> None:
        self.git("add", "--all")
        self.git("commit", "--quiet", "--allow-empty", "--message", "change")


def made(root: Path) -> Repository:
    """Make a repository with one model, of which both environments have rejected a version, on a branch of its own."""
    repository = Repository(root)
    options = ["--repository=https://git.example.com/models/gitops.git", "--registry=http://127.0.0.1:9"]
    options += ["--gateway=gateways/models", "--domain=example.com", f"--model={MODEL}", "--forge=gitea"]
    options += [f"--install-from=git+https://git.example.com/platform/backstay@{40 * 'a'}"]
    done = CliRunner().invoke(app, ["init", str(root), *options])
    assert done.exit_code == 0, done.output
    for path in (VERSION, f"{STAGING}/model-version.yaml"):
        repository.model(path, digest=DIGEST, rejectedVersions=[REJECTED])
    repository.git("init", "--quiet", "--initial-branch=main")
    repository.commit()
    repository.git("checkout", "--quiet", "-b", "change")
    return repository


def verify(repository: Repository, *options: str) -> tuple[int, list[dict[str, Any]], str]:
    arguments = ["verify", str(repository.root), "--base=main", "--output=json", *options]
    done = CliRunner().invoke(app, arguments)
    document = json.loads(done.stdout) if done.stdout.startswith("{") else {"findings": []}
    assert done.exception is None or isinstance(done.exception, SystemExit), done.exc_info
    return done.exit_code, document["findings"], done.output


def noted(repository: Repository, *options: str) -> list[dict[str, Any]]:
    """Return the notes on a change that is fine."""
    done = CliRunner().invoke(
        app, ["verify", str(repository.root), "--base=main", "--output=json", "--offline", *options]
    )
    assert done.exit_code == 0, done.output
    notes: list[dict[str, Any]] = json.loads(done.stdout)["notes"]
    return notes


Edit = Callable[[Repository], None]


def weights(*steps: int) -> Callable[[dict[str, Any]], None]:
    return lambda spec: spec["rollout"].update(steps=[{"weight": step} for step in steps])
