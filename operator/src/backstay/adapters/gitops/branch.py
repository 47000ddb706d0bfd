"""One branch of a server as a clone of it sees it: fetched, pushed to, and tried again where a race is lost."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

from tenacity import Retrying, retry_if_exception_type, stop_after_attempt, wait_random

from backstay.adapters.git.clone import Clone, Lease
from backstay.adapters.git.command import CloneBroken, GitAbsent, GitError, GitRace, GitRefused, GitUnavailable
from backstay.adapters.gitops.outcomes import Missing, Refused, Unavailable

# An attempt after a lost race costs a fetch and a push, since decisions are carried over. Whoever waits long between
# two finds that others have pushed meanwhile, and on a busy branch never gets through.
ATTEMPTS = 20
PAUSE = (0.05, 0.5)
"""The shortest and the longest rest before another attempt, in seconds."""

T = TypeVar("T")


class _PushUnsureError(GitError):
    """A push failed in a way that does not tell whether it arrived."""


class Branch:
    """A branch and the clone that follows it; not for several threads at once.

    Args:
        clone: the clone.
        checkpoint: called with ``before:fetch``, ``after:fetch``, ``before:push``, ``after:push``, for fault injection.
    """

    def __init__(self, clone: Clone, checkpoint: Callable[[str], None]) -> None:
        self.clone = clone
        self._checkpoint = checkpoint
        self._head = ""

    @property
    def head(self) -> str:
        """The newest commit, as it was fetched last; fetched now if it was not yet."""
        return self._head or self.fetch()

    def fetch(self, *, files: bool = True) -> str:
        """Fetch the branch and return its newest commit; see `Clone.fetch`."""
        self._checkpoint("before:fetch")
        self._head = self.clone.fetch(files=files)
        self._checkpoint("after:fetch")
        return self._head

    def push(self, commit: str, lease: Lease | None = None) -> None:
        """Push a commit; see `Clone.push`.

        Raises:
            GitError: it was refused, or (to be caught by `tried`) it lost a race or may have arrived.
        """
        self._checkpoint("before:push")
        try:
            self.clone.push(commit, lease)
        except (GitRace, GitRefused):
            raise
        except GitError as error:
            if isinstance(error, CloneBroken):
                self.clone.discard()
            raise _PushUnsureError(str(error)) from None
        self._checkpoint("after:push")

    def tried(self, attempt: Callable[[], T]) -> T | Missing | Refused | Unavailable:
        """Make an attempt, which begins with a fetch, again while it loses a race or ends in the dark."""
        attempts = Retrying(
            stop=stop_after_attempt(ATTEMPTS),
            wait=wait_random(*PAUSE),
            retry=retry_if_exception_type((GitRace, _PushUnsureError, CloneBroken)),
            reraise=True,
        )
        try:
            return attempts(attempt)
        except GitRefused as error:
            return Refused(str(error))
        except GitAbsent as error:
            return Missing(str(error))
        except GitError as error:
            return Unavailable(str(error))

    @contextmanager
    def mended(self) -> Iterator[None]:
        """Have a clone made again that turns out to be damaged in the middle of an attempt."""
        try:
            yield
        except CloneBroken:
            self.clone.discard()
            raise

    def healed(self, read: Callable[[], T]) -> T:
        """Read from the clone, and once more from a new one if it turns out to be damaged."""
        try:
            return read()
        except CloneBroken:
            self.clone.discard()
            self._head = ""
        try:
            return read()
        except CloneBroken as error:
            raise GitUnavailable(str(error)) from None

    def contains(self, ancestor: str, descendant: str) -> bool:
        """Tell whether a commit is another one or comes before it, after a fetch if one of them is unknown."""
        if not (self._head and self.clone.knows(ancestor) and self.clone.knows(descendant)):
            self.fetch()
        return self.clone.is_ancestor(ancestor, descendant)
