"""Everything a decision can ask of the outside world: a closed union of idempotent acts."""

from dataclasses import dataclass
from enum import StrEnum

from backstay.domain.observed import Backend, Mark, Weights
from backstay.domain.resource import ModelIdentity, Plan
from backstay.domain.status import PromotionRecord, RollbackRecord, Status


@dataclass(frozen=True, slots=True)
class ShiftTraffic:
    """Put these weights, whose copies go where, and the marks of rejected revisions on the route in one update."""

    weights: Weights
    copies: Weights
    marks: tuple[Mark, ...]


@dataclass(frozen=True, slots=True)
class KeepPlan:
    """Store the plan of a revision; ``renew`` replaces one that an earlier rollout left."""

    plan: Plan
    renew: bool = False


@dataclass(frozen=True, slots=True)
class EnsureWorkload:
    """Run this many pods of the plan's revision behind a Service of their own."""

    backend: Backend
    plan: Plan
    replicas: int


@dataclass(frozen=True, slots=True)
class EnsureStableService:
    """Let the Service named after the ModelDeployment select the stable revision, and publish its facts."""

    revision: str
    plan: Plan


@dataclass(frozen=True, slots=True)
class Retire:
    """Remove the pods, the Service and (for a primary) the plan of a backend that gets no traffic."""

    backend: Backend


@dataclass(frozen=True, slots=True)
class RecallStable:
    """Ask the registry and Git which version was stable before the cluster forgot."""


@dataclass(frozen=True, slots=True)
class LocateSource:
    """Find the commit that set the declared version."""


@dataclass(frozen=True, slots=True)
class LocateRollback:
    """Find the rollback's place in Git, so that its id can be written down before the push."""

    rollback: RollbackRecord


@dataclass(frozen=True, slots=True)
class CommitRollback:
    """Write the good version back to Git, or see how far the pull request is that does so."""

    rollback: RollbackRecord
    good: ModelIdentity


@dataclass(frozen=True, slots=True)
class WithdrawRollback:
    """Close the pull request of a rollback that a later one has overtaken."""

    rollback: RollbackRecord


@dataclass(frozen=True, slots=True)
class ProposePromotion:
    """Have a pull request open that brings the version to the next environment, or see what became of it.

    ``gathered`` are sentences about how the version did here.
    """

    promotion: PromotionRecord
    model: ModelIdentity
    gathered: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class WithdrawPromotion:
    """See to it that no pull request of a promotion that has no reason any more is open."""

    promotion: PromotionRecord
    why: str


@dataclass(frozen=True, slots=True)
class AskGates:
    """Ask the registry whether the declared version may be started."""


@dataclass(frozen=True, slots=True)
class TellRegistry:
    """Note on the failed version, in the registry, that and why it was rolled back."""

    rollback: RollbackRecord


@dataclass(frozen=True, slots=True)
class ReportIncident:
    """Have an issue at the forge for a rollback that is done; ``started_at`` is when the rollout began."""

    rollback: RollbackRecord
    started_at: float


@dataclass(frozen=True, slots=True)
class RefreshApplication:
    """Have Argo CD look at Git now, until it has synced this commit or one that contains it.

    It is asked how far it is with so many seconds between.
    """

    commit: str
    every: float


@dataclass(frozen=True, slots=True)
class RememberStable:
    """Move the registry's alias for this target to the version."""

    version: str


class Severity(StrEnum):
    """The two kinds of Kubernetes Events."""

    NORMAL = "Normal"
    WARNING = "Warning"


@dataclass(frozen=True, slots=True)
class Announce:
    """Tell people, as a Kubernetes Event."""

    reason: str
    message: str
    severity: Severity = Severity.NORMAL


Action = (
    ShiftTraffic
    | KeepPlan
    | EnsureWorkload
    | EnsureStableService
    | Retire
    | RecallStable
    | LocateSource
    | LocateRollback
    | CommitRollback
    | WithdrawRollback
    | ProposePromotion
    | WithdrawPromotion
    | AskGates
    | TellRegistry
    | ReportIncident
    | RefreshApplication
    | RememberStable
    | Announce
)


@dataclass(frozen=True, slots=True)
class Decision:
    """What to do now, what to remember, and after how many seconds to look again though nothing happens.

    ``lacks_pods`` asks for the pods to be read, and for a new decision with what they say, in place of this one.
    """

    actions: tuple[Action, ...]
    status: Status
    requeue_after: float | None = None
    lacks_pods: bool = False
