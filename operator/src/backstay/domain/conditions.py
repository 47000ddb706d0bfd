"""The kstatus conditions of a ModelDeployment: ``Ready`` always, ``Reconciling`` and ``Stalled`` only while true."""

from collections.abc import Mapping, Sequence
from typing import Any

from backstay.domain.status import Phase, Status
from backstay.domain.units import timestamp

_READY = frozenset({Phase.STABLE, Phase.ROLLED_BACK})


def conditions(
    status: Status, former: Sequence[Mapping[str, Any]], *, generation: int, now: float
) -> list[dict[str, Any]]:
    """Write the conditions that a status means, keeping the transition times of those that did not change."""
    ready = status.phase in _READY and not status.stalled
    wanted = [("Ready", "True" if ready else "False", str(status.phase))]
    if status.stalled:
        wanted.append(("Stalled", "True", status.stalled))
    elif not ready:
        wanted.append(("Reconciling", "True", str(status.phase)))
    before = {condition["type"]: condition for condition in former}
    result = []
    for kind, value, reason in wanted:
        old = before.get(kind)
        same = old is not None and old["status"] == value and old["reason"] == reason
        result.append(
            {
                "type": kind,
                "status": value,
                "reason": reason,
                "message": status.message,
                "observedGeneration": generation,
                "lastTransitionTime": old["lastTransitionTime"] if same and old else _seconds(now),
            }
        )
    return result


def _seconds(now: float) -> str:
    return timestamp(int(now)).replace(".000Z", "Z")
