"""What people, pipelines and promotions ask of Git, what a proposal is, and how their commits are told apart."""

import re
from collections.abc import Callable
from dataclasses import dataclass

from backstay.adapters.gitops.outcomes import (
    AlreadyDone,
    AlreadyGood,
    Committed,
    Missing,
    Refused,
    Superseded,
    Unavailable,
)
from backstay.adapters.gitops.version_file import VersionFile
from backstay.adapters.messages.rollback_commit import ID_TRAILER, RollbackRequest

CHANGE_TRAILER = "Backstay-Change-Id"
PATH_TRAILER = "Backstay-Path"
RESOURCE_TRAILER = "Backstay-Resource"

_ID = re.compile(r"[A-Za-z0-9._:-]{1,128}")
_TRAILER = re.compile(r"[A-Za-z][A-Za-z0-9-]*: \S.*")
_LONGEST_MESSAGE = 20_000


@dataclass(frozen=True, slots=True)
class Change:
    """One edit of one version file that a person, a pipeline or a promotion asks for.

    Args:
        path: the folder in the repository that declares the ModelDeployment.
        name: the ModelDeployment's name in the version file.
        edit: given the file's bytes, what it declares and its path, returns the new bytes, or raises VersionFileError
            to refuse. It is called at every attempt, with the file as it is then. For the same file it must return the
            same: a proposal that is there already is compared with it.
        message: the commit's message; trailers are added to it.
        change_id: names this change, so that at most one commit with it exists; may be empty.

    Raises:
        ValueError: the id cannot stand in a trailer, or there is no message.
    """

    path: str
    name: str
    edit: Callable[[bytes, VersionFile, str], bytes]
    message: str
    change_id: str = ""

    def __post_init__(self) -> None:
        if self.change_id and not _ID.fullmatch(self.change_id):
            raise ValueError(f"The change of {self.name} has the id {self.change_id!r}; use letters and digits")
        if not self.message.strip():
            raise ValueError(f"The change of {self.name} has no message; say what it does")


@dataclass(frozen=True, slots=True)
class Unchanged:
    """The file says at ``head`` what the change would make it say: nothing was written."""

    head: str


@dataclass(frozen=True, slots=True)
class Proposed:
    """``commit`` is at the tip of ``branch``, for a pull request; it was made on top of ``base_commit``."""

    branch: str
    commit: str
    base_commit: str


ChangeOutcome = Committed | AlreadyDone | Unchanged | Missing | Refused | Unavailable
ProposalOutcome = Proposed | AlreadyDone | AlreadyGood | Superseded | Unchanged | Missing | Refused | Unavailable


@dataclass(frozen=True, slots=True)
class Mark:
    """The trailers by which commits of ours are found again: of one request, and of the file that it is about."""

    once: str
    about: str

    @staticmethod
    def of(request: RollbackRequest | Change) -> "Mark":
        """Return the marks of a request; ``once`` is empty for a change without an id."""
        match request:
            case RollbackRequest():
                return Mark(f"{ID_TRAILER}: {request.rollback_id}", f"{RESOURCE_TRAILER}: {request.resource}")
            case Change():
                once = f"{CHANGE_TRAILER}: {request.change_id}" if request.change_id else ""
                return Mark(once, f"{PATH_TRAILER}: {request.path.strip('/')} {request.name}")


def change_message(change: Change) -> str:
    """Return a change's message with its trailers, below those that it has already."""
    mark = Mark.of(change)
    text = "\n".join(line.rstrip() for line in change.message[:_LONGEST_MESSAGE].strip().splitlines())
    *before, last = text.split("\n\n")
    has_trailers = bool(before) and all(_TRAILER.fullmatch(line) for line in last.splitlines())
    trailers = "\n".join(line for line in (mark.once, mark.about) if line)
    return text + ("\n" if has_trailers else "\n\n") + trailers + "\n"
