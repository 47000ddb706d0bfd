"""The GitOps repository as a person with a clone of it works with it."""

import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tenacity import retry, retry_if_exception, stop_after_attempt, wait_random

from backstay_playground.errors import PlaygroundError
from backstay_playground.gitea import Gitea

_ID = "Backstay-Rollback-Id"
_RESOURCE = "Backstay-Resource"
_ATTEMPTS = 20


@dataclass(frozen=True, slots=True)
class Clone:
    """A clone, as it was when it was made or last brought up to date."""

    gitea: Gitea
    folder: Path
    branch: str

    def git(self, *args: str) -> str:
        """Run git in the clone and return its output.

        Raises:
            PlaygroundError: git fails; the text holds its message.
        """
        return self.gitea.git(*args, cwd=self.folder)

    def update(self) -> None:
        """Bring the clone to the branch's newest commit; commits of its own that were not pushed are dropped."""
        self.git("fetch", "--quiet", "origin", self.branch)
        self.git("reset", "--quiet", "--hard", f"origin/{self.branch}")

    def push(self, edit: Callable[[Path], None], message: str) -> str:
        """Change something and push it; start over from what is there whenever somebody else was faster.

        Returns:
            The commit.
        """
        commits = retry(
            retry=retry_if_exception(_lost_a_race),
            wait=wait_random(0, 0.2),
            stop=stop_after_attempt(_ATTEMPTS),
            reraise=True,
        )
        return commits(self._push)(edit, message)

    def _push(self, edit: Callable[[Path], None], message: str) -> str:
        self.update()
        edit(self.folder)
        self.git("add", "--all")
        self.git("commit", "--quiet", "--message", message)
        self.git("push", "--quiet", "origin", f"HEAD:{self.branch}")
        return self.head()

    def head(self) -> str:
        """Return the newest commit."""
        return self.git("rev-parse", "HEAD").strip()

    def rollbacks(self, resource: str) -> list[str]:
        """List the commits that Backstay made for a ModelDeployment (`namespace/name`), newest first."""
        return self.all_rollbacks().get(resource, [])

    def all_rollbacks(self) -> dict[str, list[str]]:
        """List the commits that Backstay made by the ModelDeployments that they name, newest first."""
        found: dict[str, list[str]] = {}
        names = f"%H %(trailers:key={_RESOURCE},valueonly,separator=%x20)"
        for line in self.git("log", f"--format={names}", f"--grep=^{_ID}:").splitlines():
            commit, _, resource = line.partition(" ")
            found.setdefault(resource, []).append(commit)
        return found

    def trailers(self, commit: str) -> dict[str, list[str]]:
        """Read a commit's trailers."""
        found: dict[str, list[str]] = {}
        for line in self.git("log", "-1", "--format=%(trailers:only,unfold)", commit).splitlines():
            name, separator, value = line.partition(": ")
            if separator:
                found.setdefault(name, []).append(value)
        return found

    def files(self, commit: str) -> list[str]:
        """List the files that a commit changed."""
        return self.git("diff-tree", "--no-commit-id", "--name-only", "-r", commit).split()

    def show(self, commit: str, path: str) -> bytes:
        """Return a file as it was at a commit."""
        return self.git("show", f"{commit}:{path}").encode()


@contextmanager
def cloned(gitea: Gitea, url: str, branch: str) -> Iterator[Clone]:
    """Clone a repository for a while."""
    with tempfile.TemporaryDirectory(prefix="backstay-clone-") as place:
        folder = Path(place) / "clone"
        gitea.git("clone", "--quiet", "--branch", branch, url, str(folder))
        yield Clone(gitea, folder, branch)


def _lost_a_race(problem: BaseException) -> bool:
    return isinstance(problem, PlaygroundError) and any(
        words in str(problem) for words in ("[rejected]", "fetch first", "cannot lock ref", "failed to update ref")
    )
