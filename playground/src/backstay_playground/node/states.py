"""The states of a container, and the rules for starting it again."""

from dataclasses import dataclass
from datetime import UTC, datetime

from backstay_playground.node.api import Json
from backstay_playground.node.process import Process

_FIRST_BACK_OFF = 0.5
_LAST_BACK_OFF = 10.0
_UNKNOWN_EXIT = 137


@dataclass(frozen=True)
class Waiting:
    """Not running now: why, in one word and in a sentence."""

    reason: str
    message: str = ""


@dataclass(frozen=True)
class Running:
    """Running since a time (RFC 3339) as a process."""

    since: str
    process: Process


@dataclass(frozen=True)
class Terminated:
    """Ended: exit code, why, the last lines of its output, and from when to when (RFC 3339)."""

    exit_code: int
    reason: str
    message: str
    started_at: str
    finished_at: str


State = Waiting | Running | Terminated


@dataclass(frozen=True)
class FirstRun:
    """There was no end before the current run."""


def now() -> str:
    """Return the time as the API writes it, to the second."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def back_off(failures: int) -> float:
    """Return the seconds to wait after this many ends in a row (1 or more)."""
    return float(min(_LAST_BACK_OFF, _FIRST_BACK_OFF * 2 ** min(failures - 1, 10)))


def should_restart(policy: str, end: Terminated) -> bool:
    """Tell whether a container that ended is started again."""
    return policy == "Always" or (policy == "OnFailure" and end.exit_code != 0)


def ended_before(status: Json) -> Terminated:
    """Read the end of a container from the status that an earlier node reported."""
    return Terminated(
        status["exitCode"],
        status.get("reason", "Error"),
        status.get("message", ""),
        status.get("startedAt") or now(),
        status.get("finishedAt") or now(),
    )


def unknown_end(since: str) -> Terminated:
    """Return the end of a process that nobody saw end."""
    message = "the process ended while no process node watched it"
    return Terminated(_UNKNOWN_EXIT, "ContainerStatusUnknown", message, since, now())
