"""An image made from its Dockerfile without Docker, from the build context alone, and started as a container is.

COPY is done as written. RUN is done as written where it works on what was copied: Go builds and bytecode. Packages come
from the playground's environment of the same requirements file, which is made by the same pip command. What a RUN
installs from the distribution, and the base images, are this machine's own.
"""

import json
import os
import re
import shutil
import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from buildcontext import context_of
from dockerfile import ROOT, Copy, Run, Stage, stages

from backstay_playground.environment import environment

_SEALED = Path(__file__).with_name("sealed.py")
_PACKAGES = re.compile(
    r"python -m venv (?P<folder>\S+) && "
    r"(?P=folder)/bin/pip install --no-cache-dir --require-hashes --requirement (?P<pins>\S+)"
)


@dataclass(frozen=True)
class Image:
    """The last stage: ``mounts`` are its files, by their place inside; ``tree`` holds those that were copied."""

    stage: Stage
    tree: Path
    mounts: Mapping[str, Path]

    def command(
        self,
        *command: str,
        settings: Mapping[str, str] | None = None,
        volumes: Mapping[str, Path] | None = None,
        secrets: Mapping[str, Path] | None = None,
    ) -> list[str]:
        """Return the argv that runs a command inside; without one, the entry point.

        Args:
            command: the program and its arguments.
            settings: the environment, beside what the Dockerfile sets.
            volumes: what is mounted writable; all the rest is read-only.
            secrets: what is mounted beside, read-only.
        """
        return _sealed(
            list(command) or self.stage.entry_point,
            environment=self.stage.environment | dict(settings or {}),
            folder=self.stage.folder,
            mounts={**self.mounts, **(secrets or {}), **(volumes or {})},
            writable=list(volumes or {}),
        )

    def run(self, *command: str, volumes: Mapping[str, Path] | None = None) -> subprocess.CompletedProcess[str]:
        """Run a command inside to its end."""
        return ended(self.command(*command, volumes=volumes))

    def files(self) -> dict[str, int]:
        """Return the copied files, and when each was written."""
        return {str(path): path.stat().st_mtime_ns for path in self.tree.rglob("*")}


@dataclass
class _Making:
    """One stage in the making: its tree on this machine, and what is at which place inside."""

    stage: Stage
    tree: Path
    copied: list[str] = field(default_factory=list)
    mounts: dict[str, Path] = field(default_factory=dict)
    pins: dict[str, Path] = field(default_factory=dict)

    def place(self, inside: str) -> Path:
        return self.tree / inside.lstrip("/")

    def copy(self, copy: Copy, source: str, found: Path) -> None:
        """Put one source of a COPY into the tree; a stage's is too large for that, and is mounted."""
        name = source.rstrip("/").rpartition("/")[2]
        target = copy.target.rstrip("/") or "/"
        if found.is_file() and copy.target.endswith("/"):
            target = f"{target}/{name}"
        if copy.stage:
            self.mounts[target] = found
            return
        self.place(target).parent.mkdir(parents=True, exist_ok=True)
        if found.is_file():
            shutil.copy(found, self.place(target))
        else:
            shutil.copytree(found, self.place(target), dirs_exist_ok=True)
        self.copied.append(target)

    def finish_copies(self) -> None:
        """Mount what was copied, each folder once."""
        for inside in self.copied:
            if not any(inside.startswith(f"{other}/") for other in self.copied):
                self.mounts[inside] = self.place(inside)

    def run(self, run: Run) -> None:
        """Do a RUN as it is written."""
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
        argv = _sealed(
            ["sh", "-ec", run.command],
            # As the playground builds; a user's own settings must not change what is built.
            environment=inherited | {"GOFLAGS": "", "GOWORK": "off"} | self.stage.environment,
            folder=run.folder,
            mounts=self.mounts,
            writable=None,
        )
        done = subprocess.run(argv, capture_output=True, text=True, check=False, timeout=300)
        assert done.returncode == 0, done.stdout + done.stderr


def make(dockerfile: Path, folder: Path) -> Image:
    """Make an image in an empty folder.

    Raises:
        AssertionError: a RUN fails.
        FileNotFoundError: the build context lacks what is copied.
        PlaygroundError: the packages cannot be installed.
    """
    context = folder / "context"
    for path in context_of(ROOT, dockerfile):
        (context / path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / path, context / path)
    made: dict[str, _Making] = {}
    all_stages = stages(dockerfile.read_text(encoding="utf-8"))
    for stage in all_stages:
        making = made[stage.name] = _Making(stage, folder / "stages" / stage.name)
        for copy in stage.copies:
            for source in copy.sources:
                from_stage = made[copy.stage] if copy.stage else None
                making.copy(copy, source, _found(from_stage, source) if from_stage else context / source)
        making.finish_copies()
        wanted = [
            source
            for other in all_stages
            for copy in other.copies
            if copy.stage == stage.name
            for source in copy.sources
        ]
        for run in stage.runs:
            _do(making, run, wanted)
    last = made[all_stages[-1].name]
    # WORKDIR makes its folder.
    home = folder / "home"
    home.mkdir()
    return Image(last.stage, last.tree, {last.stage.folder: home, **last.mounts})


def free_port() -> int:
    """Return a port that nothing listens on now."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
        return port


def ended(argv: Sequence[str]) -> subprocess.CompletedProcess[str]:
    """Run what `Image.command` returned to its end."""
    return subprocess.run(argv, capture_output=True, text=True, check=False, timeout=120)


def _do(making: _Making, run: Run, wanted: Sequence[str]) -> None:
    if packages := _PACKAGES.fullmatch(run.command):
        making.pins[packages["folder"]] = making.place(packages["pins"])
    elif wanted:
        # What it makes lands beside the copied files.
        for parent in {path.rpartition("/")[0] for path in wanted}:
            making.place(parent).mkdir(parents=True, exist_ok=True)
            making.mounts[parent] = making.place(parent)
        making.run(run)
    elif run.command.startswith("/") and any(run.command.startswith(f"{inside}/") for inside in making.mounts):
        making.run(run)


def _found(making: _Making, source: str) -> Path:
    return environment(making.pins[source]) if source in making.pins else making.place(source)


def _sealed(
    command: Sequence[str],
    *,
    environment: Mapping[str, str],
    folder: str,
    mounts: Mapping[str, Path],
    writable: Sequence[str] | None,
) -> list[str]:
    given = {
        "mounts": [(inside, str(path)) for inside, path in mounts.items()],
        "writable": writable,
        "environment": dict(environment),
        "folder": folder,
        "command": list(command),
    }
    return [sys.executable, str(_SEALED), json.dumps(given)]
