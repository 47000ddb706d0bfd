"""What a change of the repository touches, against a base commit."""

import os
import subprocess
from dataclasses import dataclass
from pathlib import Path

from backstay.adapters.git.objects import TRAILERS
from backstay.adapters.gitops.version_file import VersionFile, VersionFileError, read_version_file
from backstay.cli.verifying.environments import Checked

_SECONDS = 60.0


class ChangeError(Exception):
    """The change cannot be told; the message is a sentence with the remedy."""


@dataclass(frozen=True, slots=True)
class Change:
    """The files that differ from the base, by path from ``root``, which may be a folder of a larger repository."""

    root: Path
    base: str
    files: frozenset[str]

    @staticmethod
    def since(root: Path, reference: str) -> "Change":
        """Compare the work tree with the commit at which it left the base.

        Raises:
            ChangeError: there is no such base, or no repository.
        """
        if reference.startswith("-"):
            raise ChangeError(f"{reference!r} cannot be a base: name a branch or commit, such as origin/main")
        base = _git(root, "merge-base", reference, "HEAD", what=f"the base {reference}").strip()
        changed = _git(root, "diff", "--relative", "--name-only", "-z", "--no-renames", base, what="the change")
        new = _git(root, "ls-files", "--others", "--exclude-standard", "-z", what="the change")
        return Change(root, base, frozenset(path for path in (changed + new).split("\0") if path))

    def before(self, path: str) -> bytes | None:
        """Return a file as it was; None where it was not there."""
        done = _run(self.root, "cat-file", "blob", f"{self.base}:./{path}")
        return done.stdout if done.returncode == 0 else None

    def declared_before(self, one: Checked) -> VersionFile | None:
        """Return what an environment declared; None where it is new, or could not be read then."""
        content = self.before(one.environment.version_file)
        name = str(one.body["metadata"]["name"]) if one.body else ""
        if content is None or not name:
            return None
        try:
            return read_version_file(content, name=name)
        except VersionFileError:
            return None

    def knew(self, text: str) -> bool:
        """Tell whether an applications' file said a text at the base."""
        done = _run(self.root, "grep", "--quiet", "--fixed-strings", "-e", text, self.base, "--", "applications")
        return done.returncode == 0

    def has_trailer(self, line: str) -> bool:
        """Tell whether a commit up to this change has a trailer, given as its line in the message."""
        done = _run(self.root, "log", f"--format={TRAILERS}", "--fixed-strings", f"--grep={line}", "HEAD")
        return line in done.stdout.decode(errors="replace").split("\n")


def _git(root: Path, *arguments: str, what: str) -> str:
    done = _run(root, *arguments)
    if done.returncode:
        said = done.stderr.decode(errors="replace").strip().splitlines() or ["git says nothing"]
        raise ChangeError(
            f"{what} cannot be told in {root}: {said[0].removeprefix('fatal: ')}; fetch the whole history (a check of "
            "pull requests, with depth 0) and name a branch or commit"
        )
    return done.stdout.decode(errors="surrogateescape")


def _run(root: Path, *arguments: str) -> subprocess.CompletedProcess[bytes]:
    quiet = {**os.environ, "LC_ALL": "C", "GIT_OPTIONAL_LOCKS": "0"}
    try:
        return subprocess.run(
            ["git", "-C", str(root), *arguments], capture_output=True, check=False, timeout=_SECONDS, env=quiet
        )
    except FileNotFoundError:
        raise ChangeError("git is not installed: put it on the PATH") from None
    except subprocess.TimeoutExpired:
        raise ChangeError(f"git {arguments[0]} did not end within {_SECONDS:.0f} s: try again") from None
