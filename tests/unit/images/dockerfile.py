"""The Dockerfiles of this repository as values: their stages, and what each copies, runs and sets.

It reads the part of the language that they use. An instruction or a flag that it does not know is an error, so that no
Dockerfile passes the tests unread.
"""

import json
import os
import posixpath
import re
import shlex
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from string import Template

ROOT = Path(__file__).parents[3]


def _dockerfiles() -> Iterator[Path]:
    for folder, folders, names in os.walk(ROOT):
        # Not in .venv and the like.
        folders[:] = [name for name in folders if not name.startswith(".")]
        yield from (
            Path(folder, name) for name in names if re.fullmatch(r"(.+\.)?Dockerfile(\.(?!dockerignore).+)?", name)
        )


DOCKERFILES = sorted(_dockerfiles())


@dataclass(frozen=True)
class Copy:
    """A COPY: ``stage`` is empty where the files come from the context; ``target`` ends with / where it is a folder."""

    sources: tuple[str, ...]
    target: str
    stage: str = ""


@dataclass(frozen=True)
class Run:
    """A RUN: a line for the shell, and the folder that it starts in."""

    command: str
    folder: str


@dataclass
class Stage:
    """What one FROM begins."""

    base: str
    name: str
    copies: list[Copy] = field(default_factory=list)
    runs: list[Run] = field(default_factory=list)
    environment: dict[str, str] = field(default_factory=dict)
    folder: str = "/"
    user: str = ""
    ports: list[int] = field(default_factory=list)
    entry_point: list[str] = field(default_factory=list)

    def take(self, keyword: str, rest: str) -> None:
        """Take one instruction.

        Raises:
            ValueError: it is not one of those that are read here.
        """
        match keyword:
            case "COPY":
                self.copies.append(self._copy(rest))
            case "RUN" if not rest.startswith(("-", "[")):
                self.runs.append(Run(rest, self.folder))
            case "ENV":
                for word in shlex.split(rest):
                    name, _, value = word.partition("=")
                    self.environment[name] = Template(value).safe_substitute({**_USUAL, **self.environment})
            case "WORKDIR":
                self.folder = posixpath.join(self.folder, rest)
            case "USER":
                self.user = rest
            case "EXPOSE":
                self.ports = [int(port) for port in rest.split()]
            case "ENTRYPOINT":
                self.entry_point = json.loads(rest)
            case _:
                raise ValueError(f"{keyword} {rest}: teach the tests to read it")

    def _copy(self, rest: str) -> Copy:
        *sources, target = rest.split()
        stage = ""
        if sources[0].startswith("--from="):
            stage = sources.pop(0).removeprefix("--from=")
        if any(word.startswith(("-", "[", "<<")) for word in sources):
            raise ValueError(f"COPY {rest}: teach the tests to read it")
        is_folder = target.endswith(("/", "/.")) or target == "." or len(sources) > 1
        absolute = posixpath.normpath(posixpath.join(self.folder, target))
        return Copy(tuple(sources), f"{absolute.rstrip('/')}/" if is_folder else absolute, stage)


_USUAL: Mapping[str, str] = {"PATH": "/usr/local/bin:/usr/local/sbin:/usr/sbin:/usr/bin:/sbin:/bin"}
"""What the base images set."""


def stages(text: str) -> list[Stage]:
    """Read a Dockerfile."""
    found: list[Stage] = []
    for keyword, rest in _instructions(text):
        if keyword == "FROM":
            base, _, name = re.sub(r"\s+as\s+", " AS ", rest, flags=re.IGNORECASE).partition(" AS ")
            if base in {stage.name for stage in found}:
                raise ValueError(f"FROM {rest}: teach the tests that a stage goes on from another")
            found.append(Stage(base, name or str(len(found))))
        else:
            found[-1].take(keyword, rest)
    return found


def _instructions(text: str) -> Iterator[tuple[str, str]]:
    lines = [line for line in text.splitlines() if not line.lstrip().startswith("#")]
    for instruction in re.sub(r"\\\n\s*", " ", "\n".join(lines)).splitlines():
        if instruction.strip():
            keyword, _, rest = instruction.strip().partition(" ")
            yield keyword.upper(), " ".join(rest.split())
