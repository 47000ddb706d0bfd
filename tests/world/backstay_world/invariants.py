"""What must hold at every moment of a world, whatever fails in it and whenever the controller is killed.

The checks look at the world from outside: at the API server, the gateway and Git, and at nothing of the controller's.
"""

import math
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

from backstay.adapters.gitops.changes import RESOURCE_TRAILER
from backstay.adapters.kubernetes.client import CONTROLLER_REVISION, HTTP_ROUTE, MODEL_DEPLOYMENT
from backstay.adapters.messages.rollback_commit import ID_TRAILER
from backstay.adapters.traffic.gateway_api import GatewayApi
from backstay.domain.observed import Backend, Route
from backstay.domain.resource import Key, Plan, WeightStep, plan_of
from backstay.domain.split import FULL
from backstay.domain.status import Status
from backstay_world.fields import Object
from backstay_world.git import FILE, GitServer, read
from backstay_world.objects import Change, Objects
from backstay_world.traffic import Traffic

WEIGHTS = "the weights of a route sum to 100"
REJECTED = "a rejected revision gets no weight and no request while another revision has ready pods"
MARKED = "a rejection is on the route before status tells of it"
ONCE = "there is at most one commit for each rollback"
NOT_OVER_NEWER = "a rollback changes nothing but the version that failed, and loses no commit"
STEPS = "a version that is not proven has no more traffic than its step gives it"


@dataclass(frozen=True, slots=True)
class Violation:
    """An invariant that did not hold, when (Unix seconds), and what was seen."""

    invariant: str
    at: float
    seen: str

    def __str__(self) -> str:
        """Tell it in one line."""
        return f"{self.invariant}: at {self.at:.3f} {self.seen}"


@dataclass(slots=True)
class _Model:
    """What is remembered of one model, however often its status is lost.

    ``reached`` is the highest step that each revision has been at, ``proven`` are those that were stable, ``rescued``
    those that stand in for a broken stable version. ``rejected`` are revisions that failed for good, with the rollback
    whose retry lifts that.
    """

    reached: dict[str, int] = field(default_factory=dict)
    proven: set[str] = field(default_factory=set)
    rescued: set[str] = field(default_factory=set)
    rejected: dict[str, str] = field(default_factory=dict)


class Invariants:
    """Watches a world, and keeps what was violated.

    Args:
        objects: the cluster.
        git: the repository.
        traffic: what gets requests.
        clock: returns Unix seconds.
    """

    def __init__(self, objects: Objects, git: GitServer, traffic: Traffic, clock: Callable[[], float]) -> None:
        self._objects = objects
        self._git = git
        self._traffic = traffic
        self._clock = clock
        self._models: dict[Key, _Model] = {}
        self._commits: dict[str, None] = {}
        self.violations: list[Violation] = []
        objects.listeners.append(self._changed)
        git.pushed.append(self._pushed)
        traffic.listeners.append(self._shared)

    def _violated(self, invariant: str, seen: str) -> None:
        self.violations.append(Violation(invariant, self._clock(), seen))

    def _of(self, key: Key) -> _Model:
        return self._models.setdefault(key, _Model())

    def _changed(self, change: Change) -> None:
        body = change.after
        if body is None:
            return
        if change.kind is MODEL_DEPLOYMENT:
            self._remember(_key(body), body)
        elif change.kind is HTTP_ROUTE and (change.before is None or change.before["spec"] != body["spec"]):
            self._weigh(_key(body), body)

    def _remember(self, key: Key, body: Object) -> None:
        """Take in what status tells, and compare the rejections in it with the marks on the route."""
        model, status = self._of(key), Status.of(body.get("status") or {})
        lifted = body["spec"]["model"].get("retryOf", "")
        model.rejected = {name: by for name, by in model.rejected.items() if not lifted or by != lifted}
        if status.stable is not None:
            model.proven.add(status.stable.revision)
        if status.rollout is not None:
            rollout = status.rollout
            model.reached[rollout.revision] = max(model.reached.get(rollout.revision, 0), rollout.step)
            if rollout.alone:
                model.rescued.add(rollout.revision)
        route, record = self._route(key), status.rollback
        marked = {mark.revision for mark in route.marks} if route is not None else set()
        for entry in status.rejected:
            only_for_now = record is not None and record.inconclusive and record.from_revision == entry.revision
            if not entry.revision or only_for_now:
                continue
            if route is not None and entry.revision not in marked:
                self._violated(MARKED, f"{key} rejects revision {entry.revision}, and its route does not")
            model.rejected[entry.revision] = entry.rollback_id

    def _route(self, key: Key) -> Route | None:
        live = self._objects.find(HTTP_ROUTE, key.namespace, key.name)
        return GatewayApi().read(live) if live is not None else None

    def _weigh(self, key: Key, body: Object) -> None:
        route, model = GatewayApi().read(body), self._of(key)
        total = sum(route.weights.values())
        if total != FULL:
            self._violated(WEIGHTS, f"the route of {key} has {dict(route.weights)}")
        ready = {backend.revision for backend in self._traffic.ready(key)}
        for mark in route.marks:
            if not mark.inconclusive:
                model.rejected[mark.revision] = mark.rollback_id
        for revision, weight in _by_revision(route).items():
            others = ready - {revision}
            if weight and revision in model.rejected and others:
                self._violated(REJECTED, f"revision {revision} of {key} has {weight} %")
            if weight and revision not in model.proven | model.rescued and others:
                allowed = self._allowed(key, revision)
                if weight > allowed:
                    self._violated(
                        STEPS, f"revision {revision} of {key} has {weight} % where {allowed} % are its step's"
                    )

    def _allowed(self, key: Key, revision: str) -> int:
        """Return the weight of the highest step that a revision has reached."""
        kept = self._objects.find(CONTROLLER_REVISION, key.namespace, f"{key.name}-{revision}")
        if kept is None:
            return 0
        plan: Plan = plan_of(kept["data"])
        steps = plan.rollout.steps[: self._of(key).reached.get(revision, 0) + 1]
        weights = [step.weight for step in steps if isinstance(step, WeightStep)]
        return weights[-1] if weights else 0

    def _shared(self, key: Key) -> None:
        """Look at who gets requests now."""
        model = self._of(key)
        if not model.rejected:
            return
        ready = {backend.revision for backend in self._traffic.ready(key)}
        for revision, rate in _sum(self._traffic.rates(key)).items():
            if rate > 0 and revision in model.rejected and ready - {revision} and not self._drains(key, revision):
                self._violated(REJECTED, f"revision {revision} of {key} gets {rate:g} requests a second")

    def _drains(self, key: Key, revision: str) -> bool:
        """Tell whether the gateway only has not yet taken up that a revision is drained."""
        route = self._route(key)
        return route is not None and not _by_revision(route).get(revision) and not route.accepted

    def _pushed(self) -> None:
        """Look at the commits that came to the main branch."""
        log = self._git.log()[::-1]
        lost = self._commits.keys() - {commit.id for commit in log}
        for identity in lost:
            self._violated(NOT_OVER_NEWER, f"commit {identity[:10]} is on the branch no longer")
        for commit in log:
            if commit.id not in self._commits and commit.author != "person":
                self._check_rollback(commit.id)
        self._commits = dict.fromkeys(commit.id for commit in log)
        for identity, count in Counter(line for commit in log for line in _ids(commit.message)).items():
            if count > 1:
                self._violated(ONCE, f"{count} commits have {identity}")

    def _check_rollback(self, identity: str) -> None:
        """Compare a rollback's commit with its parent: it must take back what it says, and nothing else."""
        commit = self._git.commits[identity]
        before = self._git.commits[commit.parent]
        said = dict(line.split(": ", 1) for line in commit.message.splitlines() if line.startswith("Backstay-"))
        resource = said.get(RESOURCE_TRAILER, "/").rpartition("/")[2]
        changed = {path for path, text in commit.files.items() if before.files.get(path) != text}
        for path in changed:
            name = path.split("/")[1]
            old, new = read(before.files[path], name).identity, read(commit.files[path], name).identity
            failed, good = said.get("Backstay-From", ""), said.get("Backstay-To", "")
            moved = (old.version, new.version)
            if name != resource or not path.endswith(FILE):
                self._violated(NOT_OVER_NEWER, f"commit {identity[:10]} about {resource} changes {path}")
            elif good and moved != (failed, good):
                self._violated(NOT_OVER_NEWER, f"commit {identity[:10]} turns {moved[0]} into {moved[1]}, not {failed}")

    def finish(self) -> None:
        """Check what can only be said of the whole.

        Raises:
            AssertionError: with every invariant that was violated.
        """
        assert not self.violations, "\n".join(str(violation) for violation in self.violations[:10])

    def broken(self) -> set[str]:
        """Return the invariants that were violated."""
        return {violation.invariant for violation in self.violations}


def _key(body: Object) -> Key:
    return Key(body["metadata"]["namespace"], body["metadata"]["name"])


def _by_revision(route: Route) -> dict[str, int]:
    found: dict[str, int] = {}
    for backend, weight in route.weights.items():
        found[backend.revision] = found.get(backend.revision, 0) + weight
    return found


def _sum(rates: dict[Backend, float]) -> dict[str, float]:
    found: dict[str, float] = {}
    for backend, rate in rates.items():
        found[backend.revision] = math.fsum((found.get(backend.revision, 0.0), rate))
    return found


def _ids(message: str) -> list[str]:
    return [line for line in message.splitlines() if line.startswith(f"{ID_TRAILER}: ")]
