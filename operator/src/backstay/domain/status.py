"""What the controller remembers of one ModelDeployment, and how ``status`` holds it.

``status`` is memory: everything here can be read back from it after a restart. Times are Unix seconds in these values
and RFC 3339 in the object.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, TypeVar

from backstay.domain.resource import Rejection
from backstay.domain.units import timestamp, unix

_T = TypeVar("_T")

HISTORY_LENGTH = 5
REJECTED_LENGTH = 50


class Phase(StrEnum):
    """Where a ModelDeployment stands; the word that people see."""

    PENDING = "Pending"
    STARTING = "Starting"
    PROGRESSING = "Progressing"
    AWAITING_APPROVAL = "AwaitingApproval"
    PAUSED = "Paused"
    BAKING = "Baking"
    STABLE = "Stable"
    ROLLING_BACK = "RollingBack"
    ROLLED_BACK = "RolledBack"
    DEGRADED = "Degraded"


class Verdict(StrEnum):
    """What the evidence says so far."""

    PASS = "Pass"  # noqa: S105 - a verdict, not a password
    FAIL = "Fail"
    INCONCLUSIVE = "Inconclusive"
    NO_DATA = "NoData"
    UNAVAILABLE = "Unavailable"


class RollbackState(StrEnum):
    """How far a rollback has come."""

    DRAINING = "Draining"
    COMMITTING = "Committing"
    AWAITING_MERGE = "AwaitingMerge"
    AWAITING_SYNC = "AwaitingSync"
    DONE = "Done"
    REFUSED = "Refused"


@dataclass(frozen=True, slots=True)
class Served:
    """A revision that serves or served as stable."""

    revision: str
    version: str
    digest: str = ""
    since: float = 0.0
    until: float = 0.0


@dataclass(frozen=True, slots=True)
class RolloutState:
    """One version on its way.

    ``step`` counts from 0. ``ramp_since`` is when the step was entered, ``ready_since`` when its pods were ready,
    ``step_since`` when its weight came on the route (0 until then). ``blocked_at`` is when the cluster was last seen to
    keep its pods from starting. ``held`` are the seconds that the deadline leaves out, ``held_since`` the start of such
    a time that still lasts. ``commit`` set the version in Git, where known.

    ``traffic_since`` is when it first got requests or copies of them. ``restarts_before`` is how many more restarts its
    containers had by then than those of the baseline, ``baseline_restarts`` the most that the baseline has had.

    ``stable_down_since`` is since when the stable version has had no ready pod, ``rescued_at`` when the canary took all
    traffic because of that, and ``stable_up_since`` since when the stable version has had ready pods again after it.
    """

    id: str
    revision: str
    version: str
    started_at: float
    digest: str = ""
    first: bool = False
    commit: str = ""
    step: int = 0
    ramp_since: float = 0.0
    ready_since: float = 0.0
    step_since: float = 0.0
    held_since: float = 0.0
    held: float = 0.0
    blocked_at: float = 0.0
    traffic_since: float = 0.0
    restarts_before: int = 0
    baseline_restarts: int = 0
    stable_down_since: float = 0.0
    stable_up_since: float = 0.0
    rescued_at: float = 0.0

    @property
    def alone(self) -> bool:
        """Whether it has nothing to be compared with: the first version, or one that stands in for a broken stable."""
        return self.first or self.rescued_at > 0


@dataclass(frozen=True, slots=True)
class RollbackRecord:
    """One rollback, from the verdict to the synced commit.

    ``revision_only`` marks the failure of another revision of the version that stays: nothing is changed in Git then.
    ``inconclusive`` marks a deadline that passed without evidence: Git goes back, but the version may be tried again.
    ``pull_request`` is the address of the one that changes Git, where the branch is not written to directly. ``told``
    marks that the registry knows; ``incident`` is the address of the issue, or why there is none. ``reason`` goes into
    Git; ``said``, which are a container's own words, must not.
    """

    rollout: str
    from_revision: str
    from_version: str
    to_revision: str
    to_version: str
    reason: str
    failed_at: float
    from_digest: str = ""
    state: RollbackState = RollbackState.DRAINING
    revision_only: bool = False
    inconclusive: bool = False
    id: str = ""
    bad_commit: str = ""
    drained_at: float = 0.0
    pull_request: str = ""
    proposed_at: float = 0.0
    commit: str = ""
    pushed_at: float = 0.0
    synced_at: float = 0.0
    note: str = ""
    evidence: tuple[str, ...] = ()
    told: bool = False
    incident: str = ""
    said: str = ""

    @property
    def full_reason(self) -> str:
        """The reason with the container's own words, for people at the cluster."""
        return with_words(self.reason, self.said)


def with_words(reason: str, said: str) -> str:
    """Put a container's own words behind our reason, where there are any."""
    return f"{reason}: {said}" if said else reason


class PromotionState(StrEnum):
    """How far a promotion to the next environment has come."""

    DUE = "Due"
    OPEN = "Open"
    DONE = "Done"
    CLOSED = "Closed"
    REFUSED = "Refused"


@dataclass(frozen=True, slots=True)
class PromotionRecord:
    """The promotion of the stable version: ``to`` is the other environment's folder, seen from this one's.

    ``due_at`` is when the version had served for long enough.
    """

    version: str
    to: str
    digest: str = ""
    state: PromotionState = PromotionState.DUE
    due_at: float = 0.0
    pull_request: str = ""
    note: str = ""


@dataclass(frozen=True, slots=True)
class Gate:
    """One thing that the registry is asked before a version is started; ``message`` says what is wrong with it."""

    name: str
    result: str
    message: str = ""

    @property
    def passed(self) -> bool:
        """Whether it lets the version through."""
        return self.result == PASSED


PASSED, FAILED = "Passed", "Failed"


@dataclass(frozen=True, slots=True)
class Ended:
    """One line of history."""

    version: str
    outcome: str
    started_at: float
    ended_at: float
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Status:
    """The whole memory of one ModelDeployment.

    ``gates`` are what the registry said of the revision ``gated``, before it was started.
    """

    phase: Phase = Phase.PENDING
    message: str = ""
    stalled: str = ""
    stable: Served | None = None
    previous: Served | None = None
    rollout: RolloutState | None = None
    step: str = ""
    weight: int = 0
    verdict: Verdict | None = None
    analysis: Mapping[str, Any] = field(default_factory=dict)
    rollback: RollbackRecord | None = None
    promotion: PromotionRecord | None = None
    gated: str = ""
    gates: tuple[Gate, ...] = ()
    rejected: tuple[Rejection, ...] = ()
    history: tuple[Ended, ...] = ()

    @staticmethod
    def of(status: Mapping[str, Any]) -> "Status":
        """Read ``status``; an empty one is a ModelDeployment never seen before."""
        if "phase" not in status:
            return Status()
        return Status(
            phase=Phase(status["phase"]),
            message=status.get("message", ""),
            stalled=next((c["reason"] for c in status.get("conditions", ()) if c["type"] == "Stalled"), ""),
            stable=_read(Served, status.get("stable")),
            previous=_read(Served, status.get("previous")),
            rollout=_read(RolloutState, status.get("rollout")),
            step=status.get("step", ""),
            weight=status.get("weight", 0),
            verdict=Verdict(status["verdict"]) if status.get("verdict") else None,
            analysis=status.get("analysis", {}),
            rollback=_read(RollbackRecord, status.get("rollback")),
            promotion=_read(PromotionRecord, status.get("promotion")),
            gated=status.get("gated", ""),
            gates=tuple(g for entry in status.get("gates", ()) if (g := _read(Gate, entry))),
            rejected=tuple(r for entry in status.get("rejected", ()) if (r := _read(Rejection, entry))),
            history=tuple(e for entry in status.get("history", ()) if (e := _read(Ended, entry))),
        )

    @property
    def addresses(self) -> tuple[str, ...]:
        """The addresses of pull requests and of the issue, as the forge gave them."""
        known = [self.promotion.pull_request] if self.promotion else []
        known += [self.rollback.pull_request, self.rollback.incident] if self.rollback else []
        return tuple(address for address in known if address.startswith(("https://", "http://")))

    def to_dict(self) -> dict[str, Any]:
        """Write everything but the conditions and ``observedGeneration``."""
        document: dict[str, Any] = {
            "phase": str(self.phase),
            "message": self.message,
            "stable": _write(self.stable),
            "previous": _write(self.previous),
            "rollout": _write(self.rollout),
            "step": self.step,
            "weight": self.weight,
            "verdict": str(self.verdict) if self.verdict else "",
            "analysis": dict(self.analysis),
            "rollback": _write(self.rollback),
            "promotion": _write(self.promotion),
            "gated": self.gated,
            "gates": [_write(entry) for entry in self.gates],
            "rejected": [_write(entry) for entry in self.rejected],
            "history": [_write(entry) for entry in self.history],
        }
        return {name: value for name, value in document.items() if value or name == "weight"}


# Names in the object, where they are not the field's own name in camel case.
_NAMES = {"rollback_id": "rollbackID", "from_version": "from", "to_version": "to"}
_TIMES = frozenset(
    {"since", "until", "started_at", "ended_at", "ramp_since", "ready_since", "step_since", "held_since"}
    | {"blocked_at", "traffic_since", "stable_down_since", "stable_up_since", "rescued_at"}
    | {"failed_at", "drained_at", "proposed_at", "pushed_at", "synced_at", "due_at"}
)


def _name(field_name: str) -> str:
    head, *tail = field_name.split("_")
    return _NAMES.get(field_name) or head + "".join(part.title() for part in tail)


def _write(value: Any) -> dict[str, Any]:
    if value is None:
        return {}
    written = {}
    for name in type(value).__dataclass_fields__:
        entry = getattr(value, name)
        if entry in ("", 0, 0.0, ()) and name != "step":
            continue
        if name in _TIMES:
            entry = timestamp(entry)
        elif isinstance(entry, tuple):
            entry = list(entry)
        elif isinstance(entry, StrEnum):
            entry = str(entry)
        written[_name(name)] = entry
    return written


def _read(kind: type[_T], document: Mapping[str, Any] | None) -> _T | None:
    if not document:
        return None
    values: dict[str, Any] = {}
    for name in kind.__dataclass_fields__:  # type: ignore[attr-defined]  # T is always one of the dataclasses above
        if _name(name) not in document:
            continue
        entry = document[_name(name)]
        if name in _TIMES:
            entry = unix(entry)
        elif isinstance(entry, list):
            entry = tuple(entry)
        elif name == "state":
            entry = PromotionState(entry) if kind is PromotionRecord else RollbackState(entry)
        values[name] = entry
    return kind(**values)
