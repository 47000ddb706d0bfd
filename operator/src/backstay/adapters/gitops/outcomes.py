"""What came of a request to Git."""

from dataclasses import dataclass
from datetime import datetime
from typing import Literal


@dataclass(frozen=True, slots=True)
class Committed:
    """The commit is on the branch; ``pushed_at`` is when the server said so."""

    commit: str
    pushed_at: datetime


@dataclass(frozen=True, slots=True)
class AlreadyDone:
    """An earlier attempt had made this commit."""

    commit: str


@dataclass(frozen=True, slots=True)
class AlreadyGood:
    """The file says the good version at ``head``: somebody else was faster, nothing was written."""

    head: str


@dataclass(frozen=True, slots=True)
class Superseded:
    """The file says a third version, which stays; ``commit`` is the one that rejects the bad one, if one was needed."""

    newer_version: str
    commit: str | None


@dataclass(frozen=True, slots=True)
class Missing:
    """There is no such branch, folder or version file."""

    reason: str


@dataclass(frozen=True, slots=True)
class Refused:
    """Nothing was written and trying again does not help: a person must act.

    ``protected`` tells that the server took no push to the branch itself, so that a pull request may still do it.
    """

    reason: str
    protected: bool = False
    permanent: Literal[True] = True


@dataclass(frozen=True, slots=True)
class Unavailable:
    """Nothing is known to be written; worth trying again later."""

    reason: str


RollbackOutcome = Committed | AlreadyDone | AlreadyGood | Superseded | Missing | Refused | Unavailable
