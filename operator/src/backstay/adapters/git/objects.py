"""What a clone holds: commits, files and their contents, read without the network."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from backstay.adapters.git.command import Answer, GitRunner

TRAILERS = "%(trailers:only,unfold)"
"""The form in which ``git log`` lists a commit's trailers, one a line: what stands elsewhere in its message is none.

Lines end with a line feed alone; to git, the other line ends that Python knows are parts of a value.
"""


@dataclass(frozen=True, slots=True)
class TreeEntry:
    """A file or folder as a commit holds it; ``mode`` is git's, ``100644`` for a regular file, ``size`` is in bytes."""

    mode: str
    blob: str
    size: int
    path: str


class Objects:
    """The commits and files of a clone.

    Args:
        tree: the clone, with the files of one commit.
        beside: a folder for the files of another commit; it is ``next``.
        git: what runs git for it.
    """

    def __init__(self, tree: Path, beside: Path, git: GitRunner) -> None:
        self.tree = tree
        self.next = beside
        self._git = git

    def knows(self, commit: str) -> bool:
        """Tell whether the clone has a commit, without asking the server."""
        return is_commit_name(commit) and self.ask("cat-file", "-e", f"{commit}^{{commit}}").status == 0

    def is_ancestor(self, older: str, newer: str) -> bool:
        """Tell whether a commit is another one or comes before it; False if the clone lacks one of them."""
        return (
            all(map(is_commit_name, (older, newer)))
            and self.ask("merge-base", "--is-ancestor", older, newer).status == 0
        )

    def ask(self, *arguments: str) -> Answer:
        """Run a git command on the clone whose failure is an answer too; it cannot use the network."""
        return self._git.local(self.tree, *arguments)

    def read(self, *arguments: str) -> str:
        """Run a git command on the clone that must succeed, and return what it writes; it cannot use the network.

        Raises:
            CloneBroken: it failed.
        """
        return self._git.read(self.tree, *arguments).text

    def entries(self, commit: str, folder: str) -> dict[str, TreeEntry]:
        """List what a folder of a commit holds, by name; a link in the folder's own path is not followed.

        Raises:
            KeyError: the commit has no such folder.
        """
        answer = self._git.local(self.tree, "ls-tree", "-z", "--long", f"{commit}:{folder}")
        if answer.status:
            raise KeyError(folder)
        found = {}
        for line in answer.text.split("\0"):
            about, _, name = line.partition("\t")
            if name:
                mode, _, blob, size = about.split()
                path = f"{folder}/{name}" if folder else name
                found[name] = TreeEntry(mode, blob, 0 if size == "-" else int(size), path)
        return found

    def content(self, entry: TreeEntry) -> bytes:
        """Return a file's bytes as the repository holds them, whatever its attributes say about line ends."""
        return self._git.read(self.tree, "cat-file", "blob", entry.blob).out

    def contents(self, commits: Sequence[str], path: str) -> list[bytes]:
        """Return a file's bytes at each of some commits; empty where one lacks it.

        Raises:
            CloneBroken: git failed.
        """
        asked = "".join(f"{commit}:{path}\n" for commit in commits).encode()
        return _batch(self._git.read(self.tree, "cat-file", "--batch", stdin=asked).out)

    def checkout(self, commit: str) -> None:
        """Put a commit's files into `tree`; one that was made or fetched here.

        Raises:
            CloneBroken: git failed.
        """
        self.read("checkout", "--quiet", "--force", "--detach", commit)

    def lay_out(self, commit: str) -> None:
        """Put the files of a commit that was made here into `next`.

        Raises:
            CloneBroken: git failed.
        """
        git_dir = self.tree / ".git"
        bound = {
            "GIT_DIR": str(git_dir),
            "GIT_WORK_TREE": str(self.next),
            "GIT_INDEX_FILE": str(git_dir / "backstay-next"),
        }
        self._git.read(self.next, "read-tree", "--reset", "-u", commit, bound=bound)


def is_commit_name(commit: str) -> bool:
    """Tell a full commit name from what git might take for an option or a moving reference."""
    return re.fullmatch("[0-9a-f]{40}|[0-9a-f]{64}", commit) is not None


def _batch(out: bytes) -> list[bytes]:
    """Take apart what ``git cat-file --batch`` writes; an absent file is empty."""
    found = []
    while out:
        about, _, out = out.partition(b"\n")
        if about.endswith(b" missing"):
            found.append(b"")
            continue
        size = int(about.rsplit(b" ", 1)[1])
        found.append(out[:size])
        out = out[size + 1 :]
    return found
