"""What the cluster, Git, the registry and Prometheus say, as values that ``decide`` reads."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from backstay.domain.resource import ModelIdentity, Plan, Rejection
from backstay.domain.status import Gate, Verdict


class Track(StrEnum):
    """The two kinds of pods that a revision may have."""

    PRIMARY = "primary"
    BASELINE = "baseline"


@dataclass(frozen=True, slots=True, order=True)
class Backend:
    """One target of the route: a revision's own pods, or the fresh baseline beside them."""

    revision: str
    track: Track = Track.PRIMARY


Weights = Mapping[Backend, int]


@dataclass(frozen=True, slots=True)
class Blocked:
    """What in the cluster keeps pods from starting: a reason in one word, and a sentence for people."""

    reason: str
    message: str


@dataclass(frozen=True, slots=True)
class Workload:
    """The pods of one backend.

    ``blocked`` is what in the cluster keeps any of them from starting, before their own programs have run. The rest is
    known only after the pods were read: ``trouble`` says in our own words why a container is not ready, and ``said`` is
    what that container itself left, which must not reach Git. ``restarts`` counts how often containers have ended, and
    ``ended`` says how the last of these ended.
    """

    replicas: int
    ready: int
    blocked: Blocked | None = None
    trouble: str = ""
    said: str = ""
    restarts: int = 0
    ended: str = ""


_NO_PODS = Workload(0, 0)


@dataclass(frozen=True, slots=True)
class Mark:
    """The rejection that the route itself carries, written in the same update that drains."""

    revision: str
    version: str = ""
    digest: str = ""
    reason: str = ""
    at: float = 0.0
    rollback_id: str = ""
    inconclusive: bool = False
    evidence: tuple[str, ...] = ()

    def rejection(self) -> Rejection:
        """Return what the mark forbids."""
        return Rejection(version=self.version, digest=self.digest, revision=self.revision, rollback_id=self.rollback_id)


@dataclass(frozen=True, slots=True)
class Route:
    """The route as it stands.

    ``copies`` are the parts of the requests, in percent, of which a backend gets copies; ``accepted`` is the gateway's
    word on this very generation of it; ``as_declared`` is False where gateway, hostnames or path are not those of the
    spec.
    """

    weights: Weights
    copies: Weights = field(default_factory=dict)
    marks: tuple[Mark, ...] = ()
    accepted: bool = False
    as_declared: bool = True

    def feeds(self, backend: Backend) -> bool:
        """Tell whether it sends a backend any requests, or copies of them."""
        return bool(self.weights.get(backend) or self.copies.get(backend))


# What is remembered outside the cluster of a ModelDeployment without status.


@dataclass(frozen=True, slots=True)
class NotRecalled:
    """Neither registry nor Git has been asked yet."""


@dataclass(frozen=True, slots=True)
class RecallUnavailable:
    """Neither registry nor Git gives a safe answer; ``reason`` is a sentence."""

    reason: str


@dataclass(frozen=True, slots=True)
class NeverServed:
    """This target has never had a stable version."""


@dataclass(frozen=True, slots=True)
class ServedBefore:
    """This version was the stable one."""

    model: ModelIdentity


Recall = NotRecalled | RecallUnavailable | NeverServed | ServedBefore


# What became of the request to write a rollback to Git.


@dataclass(frozen=True, slots=True)
class Unwritten:
    """The writer has no answer yet; ``waiting`` says what it is waiting for, where anything is in the way."""

    waiting: str = ""


@dataclass(frozen=True, slots=True)
class Located:
    """The rollback's place in Git: its id is fixed from here on."""

    rollback_id: str
    bad_commit: str


@dataclass(frozen=True, slots=True)
class Proposed:
    """A pull request is open at ``url`` since ``at``; ``waiting`` says what its merge waits for."""

    url: str
    at: float
    waiting: str = ""


@dataclass(frozen=True, slots=True)
class Written:
    """Git says the good version (or a newer one): ``commit`` is what must be synced, ``note`` what was special."""

    commit: str
    at: float
    note: str = ""


@dataclass(frozen=True, slots=True)
class WriteRefused:
    """Git will not take the commit; a person has to act. ``reason`` is a sentence with the remedy."""

    reason: str


WriteBack = Unwritten | Located | Proposed | Written | WriteRefused


# What became of the request to carry the stable version on to the next environment.


@dataclass(frozen=True, slots=True)
class PromotionPending:
    """There is no answer yet; ``waiting`` says what is in the way, where anything is."""

    waiting: str = ""


@dataclass(frozen=True, slots=True)
class PromotionAsked:
    """The pull request is open."""

    url: str


@dataclass(frozen=True, slots=True)
class PromotionDone:
    """The next environment declares the version; ``note`` says what was special."""

    note: str = ""


@dataclass(frozen=True, slots=True)
class PromotionClosed:
    """A person closed the pull request without merging it."""

    url: str


@dataclass(frozen=True, slots=True)
class PromotionRefused:
    """The version cannot be proposed there; ``reason`` is a sentence with the remedy."""

    reason: str


@dataclass(frozen=True, slots=True)
class PromotionWithdrawn:
    """It was taken back; ``left_open`` says why its pull request stays open nevertheless, where it does."""

    left_open: str = ""


PromotionAnswer = (
    PromotionPending | PromotionAsked | PromotionDone | PromotionClosed | PromotionRefused | PromotionWithdrawn
)


# What the registry says of the version that is to be started.


@dataclass(frozen=True, slots=True)
class GatesUnasked:
    """There is no answer yet."""


@dataclass(frozen=True, slots=True)
class GatesUnavailable:
    """The registry gives no answer; ``reason`` is a sentence."""

    reason: str


@dataclass(frozen=True, slots=True)
class GatesAnswered:
    """The registry has answered."""

    gates: tuple[Gate, ...]


GatesAnswer = GatesUnasked | GatesUnavailable | GatesAnswered


# What became of the issue that puts a rollback on record.


@dataclass(frozen=True, slots=True)
class Unreported:
    """There is none yet; ``waiting`` says what is in the way, where anything is."""

    waiting: str = ""


@dataclass(frozen=True, slots=True)
class Reported:
    """It is open."""

    url: str


@dataclass(frozen=True, slots=True)
class Unreportable:
    """There will be none; ``reason`` is a sentence with the remedy."""

    reason: str


IncidentAnswer = Unreported | Reported | Unreportable


@dataclass(frozen=True, slots=True)
class Synced:
    """Argo CD has applied the commit, or one that contains it."""

    at: float


@dataclass(frozen=True, slots=True)
class NotSynced:
    """Not yet; ``cause`` says why, where Argo CD tells."""

    cause: str = ""


Sync = Synced | NotSynced


@dataclass(frozen=True, slots=True)
class Evidence:
    """What the judge says of one rollout after its last tick.

    ``requests`` are the canary's in the present step; ``measured`` tells whether every ready canary pod is seen by
    Prometheus; ``details`` are the failing signals' lines for the commit.
    """

    rollout: str
    verdict: Verdict
    sentence: str = ""
    details: tuple[str, ...] = ()
    requests: int = 0
    measured: bool = False
    accumulators: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Observed:
    """Everything outside the spec and the status that a decision needs.

    ``pods_read_at`` is when the pods were last read, 0 while they were not; ``served`` is the revision that the stable
    Service selects, empty where there is no such Service. ``quiet`` are the backends whose request counters rest;
    ``set_by`` is the commit that brought what is declared, empty while it is not known; ``cluster`` is the configured
    name of this cluster; ``violations`` is what the promotion policy has against starting what is declared, ``gates``
    what the registry says of it; ``told_registry`` is whether the registry knows of the rollback on record,
    ``incident`` what became of its issue.
    """

    cluster: str = ""

    workloads: Mapping[Backend, Workload] = field(default_factory=dict)
    pods_read_at: float = 0.0
    served: str = ""
    plans: Mapping[str, Plan] = field(default_factory=dict)
    route: Route | None = None
    evidence: Evidence | None = None
    quiet: frozenset[Backend] = frozenset()
    recall: Recall = field(default_factory=NotRecalled)
    set_by: str = ""
    write_back: WriteBack = field(default_factory=Unwritten)
    sync: Sync = field(default_factory=NotSynced)
    violations: tuple[str, ...] = ()
    promotion: PromotionAnswer = field(default_factory=PromotionPending)
    gates: GatesAnswer = field(default_factory=GatesUnasked)
    told_registry: bool = False
    incident: IncidentAnswer = field(default_factory=Unreported)

    def ready(self, backend: Backend) -> int:
        """Count the ready pods of a backend."""
        return self.workload(backend).ready

    def workload(self, backend: Backend) -> Workload:
        """Return the pods of a backend; one that does not exist has none."""
        return self.workloads.get(backend, _NO_PODS)
