"""A local clone of one branch that survives kills, corruption and a second process."""

import configparser
import os
import re
import shutil
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from git.config import GitConfigParser

from backstay.adapters.forge.credentials import Credentials
from backstay.adapters.git.command import (
    CLONE_SECONDS,
    REMOTE_SECONDS,
    CloneBroken,
    GitAbsent,
    GitRace,
    GitRefused,
    GitRunner,
    GitUnavailable,
    unreadable,
)
from backstay.adapters.git.commit import NewCommit, plant
from backstay.adapters.git.keys import FOLDERS
from backstay.adapters.git.objects import Objects, is_commit_name
from backstay.adapters.git.signing import Signature, Signer
from backstay.adapters.git.work_folder import COPY, WorkFolder
from backstay.adapters.git_url import GitUrl
from backstay.adapters.secrets import CredentialError

_HEAD = "refs/backstay/head"
_PROPOSAL = "refs/backstay/proposal"
_MOST_PACKS = 60
_HALF = "making-"
_NO_NAME = re.compile(r"^[-./]|\.\.|//|@\{|\.lock(/|$)|/\.|[/.]$|[\s~^:?*\[\\\x00-\x20\x7f]")


@dataclass(frozen=True, slots=True)
class Lease:
    """A branch that may be replaced or deleted while its newest commit is ``expected`` (empty: while it is absent)."""

    branch: str
    expected: str


class Clone(Objects):
    """The clone in ``workdir``; not for several threads at once.

    Args:
        url: the repository.
        branch: the branch to follow; empty for the repository's default branch.
        workdir: a folder of its own. A second process that is given the same one is turned away.
        credentials: where to look for the credential, or None to use none.

    Raises:
        ValueError: the branch cannot be the name of one.
    """

    def __init__(self, url: GitUrl, branch: str, workdir: Path, *, credentials: Credentials | None) -> None:
        if branch and not is_branch_name(branch):
            raise ValueError(f"{branch!r} cannot be the name of a branch of {url.identity}; give one such as main")
        super().__init__(workdir / "clone", workdir / "next", GitRunner(url, workdir, credentials))
        self._url = url
        self._branch = branch
        self._resolved = branch
        self._folder = WorkFolder(workdir, purpose=url.identity, passing=(_HALF, FOLDERS, COPY))
        self._credentials = credentials
        self._signer = Signer(workdir)

    def close(self) -> None:
        """Remove the keys, and let another process have the work folder."""
        self._signer.close()
        self._folder.close()

    @property
    def branch(self) -> str:
        """The name of the branch that is followed; a default branch's is known after the first fetch."""
        return self._resolved

    def fetch(self, *, files: bool = True) -> str:
        """Bring the clone to the branch's newest commit and return that.

        The files in `tree` become those of that commit too, unless they are not needed.

        Raises:
            GitUnavailable, GitRefused, GitAbsent: why the branch could not be read.
        """
        try:
            self._take()
            self.next.mkdir(exist_ok=True)
            if self._is_ours():
                self._remove_stale_locks()
                try:
                    return self._update(self.tree, "--no-filter", files=files)
                except (CloneBroken, GitRace):  # a fetch has no race to lose: its reference is damaged
                    pass
            return self._make()
        except GitAbsent:
            self._resolved = self._branch
            raise
        except OSError as error:
            raise GitUnavailable(
                f"The work folder for {self._url.identity} cannot be used: {error.strerror}; free it or mount another"
            ) from None

    def discard(self) -> None:
        """Delete the clone; the next fetch makes it again."""
        self._take()
        for folder in (self.tree, self.next):
            shutil.rmtree(folder, ignore_errors=True)

    def push(self, commit: str, lease: Lease | None = None) -> None:
        """Push a commit to the branch; the server takes it only on top of what the branch is then.

        With a lease it goes to that branch instead, in place of what is known to be there; no commit deletes it.

        Raises:
            GitRace, GitRefused: nothing arrived.
            GitUnavailable, GitAbsent, CloneBroken: it may have arrived.
        """
        branch = lease.branch if lease else self._resolved
        forced = [f"--force-with-lease=refs/heads/{branch}:{lease.expected}"] if lease else []
        self._git.talk(
            self.tree, "push", "--porcelain", "--no-verify", *forced, "origin", f"{commit}:refs/heads/{branch}"
        )

    def fetch_proposal(self, branch: str) -> str:
        """Fetch a branch beside the one that is followed, and return its newest commit; empty if there is none.

        Raises:
            GitUnavailable, GitRefused, GitAbsent, GitRace, CloneBroken: the branch could not be read.
        """
        if branch == self._resolved:
            raise GitRefused(f"{branch} of {self._url.identity} is the branch to change; propose it on another one")
        name = f"refs/heads/{branch}"
        listed = self._git.talk(self.tree, "ls-remote", "origin", name).text.splitlines()
        if not any(line.endswith(f"\t{name}") for line in listed):
            return ""
        self._git.talk(self.tree, *_fetch("--no-filter", "origin", f"+{name}:{_PROPOSAL}"))
        return self.read("rev-parse", _PROPOSAL)

    def tidy(self) -> None:
        """Pack what many fetches have left behind; costs nothing while that is little."""
        if len(list((self.tree / ".git/objects/pack").glob("*.pack"))) > _MOST_PACKS:
            with suppress(GitUnavailable):  # it takes too long: the next time, or never; a clone with many packs works
                self.ask("gc", "--quiet")

    def revisions(self, commit: str, path: str, most: int) -> list[tuple[str, bytes]]:
        """Return the last commits of the branch that changed a file, newest first, with its bytes (empty: deleted).

        Raises:
            GitUnavailable, GitRefused, GitAbsent, CloneBroken: why an earlier state could not be had.
        """
        walk = ("--first-parent", f"--max-count={most}", commit, "--", path)
        absent = self.read("rev-list", "--objects", "--no-object-names", "--missing=print", *walk)
        wanted = [line[1:] for line in absent.splitlines() if line.startswith("?")]
        if wanted:
            self._git.talk(
                self.tree, *_fetch("--filter=blob:none", "--stdin", "origin"), stdin="\n".join([*wanted, ""]).encode()
            )
        commits = self.read("rev-list", *walk).split()
        return list(zip(commits, self.contents(commits, path), strict=True))

    def plant(self, commits: Sequence[NewCommit], *, onto: str) -> list[str]:
        """Make commits one on top of the other, signed where the credential holds a key for that, and return them.

        Raises:
            CloneBroken: git failed.
            GitRefused, GitUnavailable: the commits cannot be signed.
        """
        return plant(self._git, self.tree, commits, onto=onto, signature=self._signature())

    def _signature(self) -> Signature | None:
        try:
            return self._signer.signature(self._git.credential())
        except CredentialError as error:
            raise GitRefused(str(error)) from None
        except OSError as error:
            raise unreadable(error) from None

    def _take(self) -> None:
        """Lock the work folder; git's processes hold the lock too, so that one that outlives us keeps it locked."""
        if self._folder.take():
            self._git = GitRunner(self._url, self._folder.path, self._credentials, inherit=self._folder.lock)

    def _is_ours(self) -> bool:
        """Tell whether the work folder holds a clone of this repository and not of another one."""
        try:
            with GitConfigParser(self.tree / ".git" / "config", merge_includes=False) as config:
                return bool(config.get_value('remote "origin"', "url", default="") == self._url.connect)
        except (OSError, ValueError, configparser.Error):
            return False

    def _remove_stale_locks(self) -> None:
        """Remove the lock files of killed git processes: we hold the work folder, so none is alive."""
        for folder, folders, files in os.walk(self.tree / ".git"):
            if "objects" in folders:
                folders.remove("objects")
            for file in files:
                if file.endswith(".lock"):
                    Path(folder, file).unlink(missing_ok=True)

    def _make(self) -> str:
        """Clone into a folder beside, which takes its place when it is whole."""
        try:
            return self._clone("--filter=blob:none")
        except (CloneBroken, GitRace):
            pass
        try:
            return self._clone()
        except (CloneBroken, GitRace) as error:
            raise GitUnavailable(str(error)) from None

    def _clone(self, *options: str) -> str:
        making = Path(tempfile.mkdtemp(prefix=_HALF, dir=self._folder.path))
        try:
            self._git.read(making, "init", "--quiet", "--initial-branch=none", ".")
            self._git.read(making, "config", "remote.origin.url", self._url.connect)
            head = self._update(making, *options, seconds=CLONE_SECONDS)
            self.discard()
            self.next.mkdir()
            making.rename(self.tree)
        finally:
            shutil.rmtree(making, ignore_errors=True)
        return head

    def _update(self, folder: Path, *options: str, seconds: float = REMOTE_SECONDS, files: bool = True) -> str:
        if not self._resolved:
            self._resolved = self._default_branch(folder)
        source = f"+refs/heads/{self._resolved}:{_HEAD}"
        self._git.talk(folder, *_fetch(*options, "origin", source), seconds=seconds)
        head, now, *_ = [*self._git.local(folder, "rev-parse", _HEAD, "HEAD").text.splitlines(), "", ""]
        if not is_commit_name(head):
            raise CloneBroken(f"The local clone of {self._url.identity} has lost the branch")
        if files and head != now:
            self._git.talk(folder, "checkout", "--quiet", "--force", "--detach", head, seconds=seconds)
        return head

    def _default_branch(self, folder: Path) -> str:
        for line in self._git.talk(folder, "ls-remote", "--symref", "origin", "HEAD").text.splitlines():
            if line.startswith("ref: refs/heads/"):
                return line.removeprefix("ref: refs/heads/").partition("\t")[0]
        raise GitAbsent(f"{self._url.identity} has no default branch; name the branch to write to")


def is_branch_name(branch: str) -> bool:
    """Tell whether a text can be the name of a branch, and nothing that git would take for something else."""
    return bool(branch) and not _NO_NAME.search(branch)


def _fetch(*arguments: str) -> tuple[str, ...]:
    return ("fetch", "--quiet", "--no-tags", "--no-write-fetch-head", "--no-recurse-submodules", *arguments)
