"""A bare repository, and people who push to it."""

import os
import subprocess
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from backstay.adapters.gitops.repository import Repository
from backstay.domain.resource import ModelIdentity

OVERLAY = "applications/fraud-detector/overlays/production"
FILE = f"{OVERLAY}/model-version.yaml"
PROTECTED = """echo 'error:' >&2
echo 'error: Not allowed to push to protected branch main' >&2
echo 'error:' >&2
exit 1"""


def once(action: Callable[[], object], at: str) -> Callable[[str], None]:
    """Return a checkpoint that acts the first time it is reached."""
    done = threading.Event()

    def reached(point: str) -> None:
        if point == at and not done.is_set():
            done.set()
            action()

    return reached


@dataclass(frozen=True)
class Remote:
    """A bare repository, and a person's clone of it."""

    bare: Path
    person: Path
    branch: str = "main"

    @staticmethod
    def text(version: str, *, name: str = "fraud-detector", extra: str = "") -> str:
        """Return a version file that declares a version."""
        return (
            "# Which version production runs.\n"
            "apiVersion: backstay.dev/v1alpha1\n"
            "kind: ModelDeployment\n"
            f"metadata:\n  name: {name}\n"
            "spec:\n"
            "  model:\n"
            f"    name: {name}\n"
            f'    version: "{version}" # the registered version\n'
            f"    digest: sha256:{version}{version}\n"
            f"{extra}"
        )

    @staticmethod
    def identity(version: str, *, name: str = "fraud-detector") -> ModelIdentity:
        """Return what that file declares."""
        return ModelIdentity(name=name, version=version, digest=f"sha256:{version}{version}")

    @property
    def url(self) -> str:
        return f"file://{self.bare}"

    def git(self, *arguments: str, cwd: Path | None = None, check: bool = True) -> str:
        environment = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
        environment |= {"GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_NOSYSTEM": "1"}
        people = ["-c", "user.name=Person", "-c", "user.email=person@localhost"]
        done = subprocess.run(
            ["git", *people, *arguments], cwd=cwd or self.bare, env=environment, check=check, capture_output=True
        )
        return done.stdout.decode().rstrip("\n")

    def commit(self, files: Mapping[str, str | bytes | None], message: str = "change") -> str:
        """Push a commit with these files (None deletes one) and return it."""
        self.git("pull", "--quiet", "--rebase", "origin", self.branch, cwd=self.person, check=False)
        for name, content in files.items():
            file = self.person / name
            if content is None:
                file.unlink()
                continue
            file.parent.mkdir(parents=True, exist_ok=True)
            file.unlink(missing_ok=True)
            file.write_bytes(content.encode() if isinstance(content, str) else content)
        return self.push(message)

    def push(self, message: str) -> str:
        self.git("add", "--all", cwd=self.person)
        self.git("commit", "--quiet", "--allow-empty", "--message", message, cwd=self.person)
        self.git("push", "--quiet", "origin", f"HEAD:refs/heads/{self.branch}", cwd=self.person)
        return self.git("rev-parse", "HEAD", cwd=self.person)

    def head(self) -> str:
        return self.git("rev-parse", self.branch)

    def show(self, path: str = FILE, commit: str = "") -> bytes:
        return subprocess.run(
            ["git", "cat-file", "blob", f"{commit or self.branch}:{path}"],
            cwd=self.bare,
            check=True,
            capture_output=True,
        ).stdout

    def trailer(self, name: str, commit: str = "") -> list[str]:
        form = f"--format=%(trailers:key={name},valueonly)"
        return self.git("log", "-1", form, commit or self.branch).splitlines()

    def count(self, rollback_id: str) -> int:
        """Count the commits on the branch that carry the id."""
        return len(self.git("log", "--format=%H", f"--grep=^Backstay-Rollback-Id: {rollback_id}$", self.branch).split())

    def hook(self, name: str, script: str) -> None:
        file = self.bare / "hooks" / name
        file.parent.mkdir(exist_ok=True)
        file.write_text(f"#!/bin/sh\n{script}\n")
        file.chmod(0o755)


def make_remote(folder: Path) -> Remote:
    remote = Remote(folder / "remote.git", folder / "person")
    folder.mkdir(exist_ok=True)
    remote.git("init", "--quiet", "--bare", "--initial-branch=main", str(remote.bare), cwd=folder)
    remote.git("init", "--quiet", "--initial-branch=main", str(remote.person), cwd=folder)
    remote.git("remote", "add", "origin", str(remote.bare), cwd=remote.person)
    return remote


class Open(Protocol):
    def __call__(self, remote: Remote, folder: str = "work", **options: Any) -> Repository: ...
