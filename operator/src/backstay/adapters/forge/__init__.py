"""Forges: where pull requests are opened, merged and closed. GitLab calls them merge requests; here they are the same.

Every method blocks. What a forge says no to is ``ForgeRefused``, with what to do; what may pass by itself is
``ForgeUnavailable``. No token is in any of their texts.
"""

from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol


class ForgeError(Exception):
    """Something went wrong at a forge; the message is a sentence that holds no secret."""


class ForgeUnavailable(ForgeError):  # noqa: N818 - it says what is the case
    """The forge could not be reached, is too busy, or answered with a fault of its own: worth trying again later."""


class ForgeRefused(ForgeError):  # noqa: N818 - as above
    """The forge says no, or is not known: a person must act."""


class PullRequestState(StrEnum):
    """What became of a pull request."""

    OPEN = "open"
    MERGED = "merged"
    CLOSED = "closed"


@dataclass(frozen=True, slots=True)
class PullRequest:
    """A pull request as the forge has it.

    ``branch`` is merged into ``base``; ``head`` is the newest commit of the branch, and ``merge_commit`` the one that
    brought it to the base, empty until then.
    """

    number: int
    url: str
    branch: str
    base: str
    state: PullRequestState
    head: str
    merge_commit: str
    title: str
    body: str
    labels: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Proposal:
    """What a pull request is to say; the body is Markdown."""

    branch: str
    base: str
    title: str
    body: str
    labels: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Report:
    """An issue to be opened; the body is Markdown. ``marker`` stands in it unseen, so that it is opened once."""

    marker: str
    title: str
    body: str
    labels: tuple[str, ...] = ()

    @property
    def mark(self) -> str:
        """What the body of the issue contains."""
        return f"<!-- {self.marker} -->"

    @property
    def text(self) -> str:
        """The body with the marker."""
        return f"{self.body}\n{self.mark}\n"


@dataclass(frozen=True, slots=True)
class Merged:
    """The pull request is merged: ``commit`` is the one on the base branch."""

    commit: str


@dataclass(frozen=True, slots=True)
class AwaitingMerge:
    """The pull request cannot be merged yet; ``reason`` says for want of what, without a full stop."""

    reason: str


MergeOutcome = Merged | AwaitingMerge


class Forge(Protocol):
    """One repository at a forge."""

    def find(self, branch: str) -> PullRequest | None:
        """Return the newest pull request from a branch, whatever became of it."""

    def get(self, number: int) -> PullRequest:
        """Return a pull request."""

    def open(self, proposal: Proposal) -> PullRequest:
        """Open a pull request, or bring the one that is open for this branch up to date."""

    def update(self, number: int, proposal: Proposal) -> PullRequest:
        """Give a pull request another title, body and labels, where they differ."""

    def merge(self, number: int, *, head: str, message: str) -> MergeOutcome:
        """Merge a pull request if its branch is still at ``head``; ``message`` is the whole commit message."""

    def close(self, number: int, *, comment: str) -> PullRequest:
        """Close a pull request without merging it, and say why."""

    def comment(self, number: int, *, marker: str, body: str) -> None:
        """Write a comment, or another text into the one with the same marker."""

    def report(self, report: Report) -> str:
        """Open an issue, unless one of the newest has its marker, and return the address."""
