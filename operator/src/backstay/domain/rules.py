"""What a user wants to happen when a rollout fails, is not decided, or has succeeded."""

from dataclasses import dataclass
from enum import StrEnum


class OnInconclusive(StrEnum):
    """What happens when the deadline passes and the evidence says neither yes nor no."""

    HOLD = "hold"
    ROLLBACK = "rollback"
    PROMOTE = "promote"


class WriteBack(StrEnum):
    """How Git gets the previous version back: on the branch itself, or by a pull request."""

    COMMIT = "commit"
    PULL_REQUEST = "pullRequest"


class Merge(StrEnum):
    """Who merges a rollback's pull request: Backstay as soon as the forge allows it, or people."""

    AUTOMATIC = "automatic"
    MANUAL = "manual"


class Incident(StrEnum):
    """Where each rollback is put on record for people: nowhere, or as an issue at the forge."""

    NONE = "none"
    ISSUE = "issue"


@dataclass(frozen=True, slots=True)
class RollbackPolicy:
    """What happens to Git when a version fails, and how long (seconds) the one before a promotion stays warm."""

    write_back: WriteBack = WriteBack.COMMIT
    merge: Merge = Merge.AUTOMATIC
    warm_for: float = 86400.0
    incident: Incident = Incident.NONE


@dataclass(frozen=True, slots=True)
class Promotion:
    """Where a version goes that has served ``after`` seconds: the next environment's folder, seen from this one's."""

    to: str
    after: float


class OnGateFailure(StrEnum):
    """What happens to a version that the registry does not let through: it waits, or Git goes back."""

    HOLD = "hold"
    ROLLBACK = "rollback"
