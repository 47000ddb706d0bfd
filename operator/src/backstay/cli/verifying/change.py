"""What a change of the repository touches, against a base commit, and whether it may."""

import os
import subprocess
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from backstay.adapters.gitlocate import USUAL_NAME
from backstay.adapters.versionfile import VersionFile, VersionFileError, read_version_file
from backstay.cli.verifying.environments import Checked, Environment
from backstay.cli.verifying.findings import Finding

_SECONDS = 60.0


class ChangeError(Exception):
    """The change cannot be told; the message is a sentence with the remedy."""


@dataclass(frozen=True, slots=True)
class Change:
    """The files that differ from the base, by path from the repository's root; ``base`` is the commit."""

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
        changed = _git(root, "diff", "--name-only", "-z", "--no-renames", base, what="the change")
        new = _git(root, "ls-files", "--others", "--exclude-standard", "-z", what="the change")
        return Change(root, base, frozenset(path for path in (changed + new).split("\0") if path))

    def touched(self, environments: Iterable[Environment]) -> list[Environment]:
        """List the environments whose own files or base differ."""
        return [one for one in environments if any(_concerns(path, one) for path in self.files)]

    def before(self, path: str) -> bytes | None:
        """Return a file as it was; None where it was not there."""
        done = _run(self.root, "cat-file", "blob", f"{self.base}:{path}")
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


def findings(change: Change, checked: Iterable[Checked]) -> Iterator[Finding]:
    """Find what one change must not do at once: versions of several environments, or a version and something else."""
    every = list(checked)
    moved = [one for one in every if one.environment.version_file in change.files]
    known: Mapping[str, VersionFile | None] = {one.environment.path: change.declared_before(one) for one in moved}
    existing = [one for one in moved if change.before(one.environment.version_file) is not None]
    if len(existing) > 1:
        others = ", ".join(one.environment.version_file for one in existing)
        sentence = (
            f"the change moves the versions of several environments at once ({others}); give each a change of its own"
        )
        yield Finding(existing[1].environment.version_file, 0, sentence)
    for one in existing:
        beside = sorted(path for path in change.files if path != one.environment.version_file and _of(path, one))
        if beside:
            sentence = (
                f"the change moves the version and touches {', '.join(beside[:3])} as well; change the version alone"
            )
            yield Finding(one.environment.version_file, 0, sentence)
        before, after = known[one.environment.path], one.declared
        if before is not None and after is not None:
            yield from _identities(one.environment, before, after)
    yield from _removed(change, every)


def _identities(environment: Environment, before: VersionFile, after: VersionFile) -> Iterator[Finding]:
    old, new, file = before.identity, after.identity, environment.version_file
    if old.name != new.name:
        yield Finding(file, 0, f"spec.model.name becomes {new.name}, not {old.name}; a new model is a new application")
    elif old.version != new.version and old.digest and old.digest == new.digest:
        yield Finding(
            file, 0, f"version {new.version} has the digest of version {old.version}; use backstay bump, which fills it"
        )
    elif old.version == new.version and old.digest and old.digest != new.digest:
        sentence = f"version {new.version} gets another digest; a version is for ever, so register a new one"
        yield Finding(file, 0, sentence)
    gone = [entry for entry in before.rejected if entry not in after.rejected]
    for entry in gone:
        if not entry.rollback_id or after.retry_of != entry.rollback_id:
            remedy = f"backstay retry {environment.application} --environment {environment.name}"
            yield Finding(
                file, 0, f"version {entry.version} is no longer rejected; leave the entry, or lift it by {remedy}"
            )


def _removed(change: Change, checked: Iterable[Checked]) -> Iterator[Finding]:
    """Find environments whose version file is taken away while the folder stays."""
    there = {one.environment.path for one in checked}
    by_folder: dict[str, list[str]] = defaultdict(list)
    for path in change.files:
        folder, _, name = path.rpartition("/")
        if name == USUAL_NAME and not (change.root / path).exists() and folder not in there:
            by_folder[folder].append(path)
    for folder, paths in by_folder.items():
        if (change.root / folder).is_dir():
            yield Finding(
                paths[0], 0, "the version file is gone and its folder is not; restore it, or remove the folder"
            )


def _concerns(path: str, environment: Environment) -> bool:
    base = f"applications/{environment.application}/base/"
    return path.startswith((f"{environment.path}/", base))


def _of(path: str, one: Checked) -> bool:
    return path.startswith(f"applications/{one.environment.application}/")


def _git(root: Path, *arguments: str, what: str) -> str:
    done = _run(root, *arguments)
    if done.returncode:
        said = done.stderr.decode(errors="replace").strip().splitlines() or ["git says nothing"]
        raise ChangeError(
            f"{what} cannot be told in {root}: {said[0].removeprefix('fatal: ')}; fetch the whole history (a check of "
            "pull requests, with depth 0) and name a branch or commit"
        )
    return done.stdout.decode(errors="replace")


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
