"""Whether a rollout has ended, and how. No I/O, no clock."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from backstay.cli.cluster.rendering import unseen
from backstay.domain.status import Phase, Status


@dataclass(frozen=True, slots=True)
class Ending:
    """How it ended: ``well`` when the version is stable; ``sentence`` says more where the message does not."""

    well: bool
    sentence: str = ""


def ending(body: Mapping[str, Any], version: str = "") -> Ending | None:
    """Tell how what is declared ended, or the rollout of a named version; None while it has not.

    Raises:
        ValueError: the status has words that this version does not know.
    """
    status = Status.of(body.get("status") or {})
    if unseen(body):
        return None
    declared = str(body["spec"]["model"]["version"])
    if version and declared != version:
        return _taken_back(status, version, declared)
    match status.phase:
        case Phase.STABLE:
            return Ending(well=True)
        case Phase.ROLLED_BACK:
            return Ending(well=False)
        case Phase.DEGRADED | Phase.ROLLING_BACK if status.stalled:
            return Ending(well=False)  # it has failed, and what is left waits for a person
        case _:
            return None


def _taken_back(status: Status, version: str, declared: str) -> Ending | None:
    """A version that is not declared has not come yet, unless it was just taken back."""
    record = status.rollback
    if status.phase is Phase.ROLLED_BACK and record is not None and record.from_version == version:
        return Ending(well=False)
    last = status.history[-1] if status.history else None
    if last is not None and last.version == version and last.outcome == "Superseded":
        return Ending(well=False, sentence=f"version {version} was superseded: version {declared} is declared now")
    return None
