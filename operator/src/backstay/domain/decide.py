"""What to do about one ModelDeployment, given everything that is known of it.

``decide`` is a pure function. The controller may be killed before or after any of the actions, and calls it
again: it looks at what is, not at what it asked for.
"""

from collections.abc import Mapping
from dataclasses import replace

from backstay.domain import gates, promotion, recall, rollback, rollout
from backstay.domain.actions import (
    Action,
    Decision,
    EnsureStableService,
    EnsureWorkload,
    KeepPlan,
    RememberStable,
    Retire,
    ShiftTraffic,
)
from backstay.domain.observed import Backend, Mark, Observed, Route, Weights
from backstay.domain.resource import ModelDeployment, Rejection
from backstay.domain.split import split
from backstay.domain.status import REJECTED_LENGTH, Phase, RollbackState, Served, Status
from backstay.domain.turn import Turn

_POLICY_AGAIN_AFTER = 60.0


def decide(desired: ModelDeployment, status: Status, observed: Observed, now: float) -> Decision:
    """Decide what to do now.

    Args:
        desired: the resource as declared.
        status: what was remembered of it.
        observed: what cluster, Git, registry and Prometheus say.
        now: Unix time in seconds.

    Returns:
        The actions in the order in which they must be carried out, the status to write after them, and when to look
        again though nothing happens; or the wish for a reading of the pods, with which to decide anew.
    """
    turn = Turn(desired=desired, observed=observed, now=now, status=status)
    _recall_rejections(turn)
    rollback.resume(turn)
    rollback.advance(turn)
    if recall.stable_is_known(turn):
        _ensure_stable(turn)
        _choose(turn)
        promotion.advance(turn)
        _settle_traffic(turn)
    return Decision(tuple(turn.actions), turn.status, turn.wake, turn.lacks_pods)


def rejection_of(desired: ModelDeployment, rejected: tuple[Rejection, ...]) -> Rejection | None:
    """Find what bars the declared revision from traffic, unless a person's commit lifted it."""
    plan = desired.plan
    for entry in (*rejected, *desired.rejected):
        if desired.retry_of and entry.rollback_id == desired.retry_of:
            continue
        if entry.covers(plan.model, plan.revision):
            return entry
    return None


def _recall_rejections(turn: Turn) -> None:
    """Join the marks on the route to the rejections in status; drop those that are lifted or were only for a while."""
    route, record = turn.observed.route, turn.status.rollback
    lifted = turn.desired.retry_of
    marks: list[Mark] = []
    for mark in route.marks if route else ():
        finished = record is None or record.from_revision != mark.revision or record.state is RollbackState.DONE
        resumable = turn.status.rollout is not None and turn.status.rollout.revision == mark.revision
        if (mark.inconclusive and finished and not resumable) or rollback.lifted(turn, mark):
            continue
        marks.append(mark)
    turn.marks = marks
    known = [entry for entry in turn.status.rejected if not lifted or entry.rollback_id != lifted]
    revisions = {entry.revision for entry in known}
    known.extend(mark.rejection() for mark in marks if mark.revision not in revisions)
    turn.note(rejected=tuple(known[-REJECTED_LENGTH:]))
    marked = {mark.revision for mark in marks}
    turn.marks.extend(
        Mark(revision=r.revision, version=r.version, digest=r.digest, rollback_id=r.rollback_id)
        for r in turn.status.rejected
        if r.revision and r.revision not in marked
    )


def _ensure_stable(turn: Turn) -> None:
    stable = turn.status.stable
    if stable is None:
        return
    plan = turn.plan_for(stable)
    turn.keep.add(Backend(stable.revision))
    if plan is None:
        return
    if stable.revision not in turn.observed.plans:
        turn.act(KeepPlan(plan))
    turn.act(EnsureWorkload(Backend(stable.revision), plan, turn.desired.replicas))
    turn.act(EnsureStableService(stable.revision, plan))


def _choose(turn: Turn) -> None:
    """Decide by what Git declares: the stable revision, a rejected one, the warm former one, or a new one."""
    desired, stable = turn.desired, turn.status.stable
    revision = desired.plan.revision
    _keep_previous(turn)
    rejected = rejection_of(desired, turn.status.rejected)
    if stable is not None and revision == stable.revision:
        rollout.supersede(turn, f"Git declares version {stable.version} again")
        _rest(turn, stable)
    elif rejected is not None:
        rollout.supersede(turn, f"version {desired.plan.model.version} is rejected")
        _refuse(turn, rejected)
    elif _is_warm(turn, revision):
        _return_to_previous(turn)
    elif turn.observed.violations and not _is_under_way(turn, revision):
        rollout.supersede(turn, f"Git declares version {desired.plan.model.version} now")
        _withhold(turn)
    else:
        if gates.open_for(turn):
            rollout.run(turn)
        if turn.status.rollout is None and turn.status.phase is not Phase.STABLE:
            _after_failure(turn)


def _after_failure(turn: Turn) -> None:
    """Say in the same turn what the failure just decided leads to."""
    rejected = rejection_of(turn.desired, turn.status.rejected)
    if rejected is not None:
        _refuse(turn, rejected)


def _rest(turn: Turn, stable: Served) -> None:
    """Serve the stable revision alone."""
    turn.live = _alone(turn, stable)
    turn.note(step="", verdict=None, analysis={})
    record = turn.status.rollback
    if record is not None and record.to_revision == stable.revision and record.failed_at >= stable.since:
        if record.state is not RollbackState.DONE:
            rollback.describe(turn, record)
            return
        if not record.revision_only:
            note = f"; {record.note}" if record.note else ""
            turn.say(
                Phase.ROLLED_BACK,
                f"Rolled back from version {record.from_version} to {record.to_version}: {record.full_reason}{note}",
            )
            return
    if turn.live is None:
        turn.say(Phase.PENDING, f"Waiting for pods of version {stable.version}")
    else:
        turn.say(Phase.STABLE, f"Version {stable.version} is stable")


def _alone(turn: Turn, stable: Served) -> Mapping[Backend, int] | None:
    """Give all traffic to the stable revision: to its fresh baseline pods where its own are not ready."""
    return split(turn.observed, stable=stable.revision, baseline=True)


def _refuse(turn: Turn, rejected: Rejection) -> None:
    """Keep a rejected revision away from traffic and say what a person may do."""
    stable, record, model = turn.status.stable, turn.status.rollback, turn.desired.plan.model
    turn.note(step="", analysis={})
    retry = f", or lift the rejection with spec.model.retryOf: {rejected.rollback_id}" if rejected.rollback_id else ""
    if stable is None:
        turn.say(
            Phase.DEGRADED,
            f"Version {model.version} is rejected and there is no earlier one to serve: commit another version{retry}",
            stalled="NoStableVersion",
        )
        return
    turn.live = _alone(turn, stable)
    if record is not None and record.from_revision == turn.desired.plan.revision:
        if record.revision_only and record.state is RollbackState.DONE:
            commit = record.bad_commit[:10] or "the last one"
            turn.say(
                Phase.DEGRADED,
                f"The new configuration of version {model.version} failed: {record.full_reason}. "
                f"The former one serves; revert commit {commit} or commit a better one",
                stalled="ConfigurationRejected",
            )
            return
        if record.state is not RollbackState.DONE:
            rollback.describe(turn, record)
            return
    turn.say(
        Phase.DEGRADED,
        f"Version {model.version} is declared but was rejected, so it gets no traffic and version {stable.version} "
        f"serves: commit another version{retry}",
        stalled="VersionRejected",
    )


def _is_under_way(turn: Turn, revision: str) -> bool:
    return turn.status.rollout is not None and turn.status.rollout.revision == revision


def _withhold(turn: Turn) -> None:
    """Start nothing that the promotion policy does not allow."""
    stable = turn.status.stable
    turn.note(step="", analysis={}, verdict=None)
    if stable is not None:
        turn.live = _alone(turn, stable)
    why = "; ".join(turn.observed.violations)
    phase = Phase.DEGRADED if stable is not None else Phase.PENDING
    turn.say(phase, f"Version {turn.desired.plan.model.version} is not started: {why}", stalled="PolicyViolated")
    # The policy may change, and nothing tells when it does.
    turn.wake_in(_POLICY_AGAIN_AFTER)


def _is_warm(turn: Turn, revision: str) -> bool:
    previous = turn.status.previous
    return previous is not None and previous.revision == revision and turn.observed.ready(Backend(revision)) > 0


def _return_to_previous(turn: Turn) -> None:
    """Follow a person back to the former stable revision at once: it served before and still runs."""
    stable, previous = turn.status.stable, turn.status.previous
    if stable is None or previous is None:
        return
    rollout.supersede(turn, f"Git declares version {previous.version} again")
    turn.act(RememberStable(previous.version))
    turn.note(
        stable=replace(previous, since=turn.now, until=0.0),
        previous=replace(stable, until=turn.now + turn.desired.rollback.warm_for),
    )
    turn.keep.update({Backend(stable.revision), Backend(previous.revision)})
    turn.live = split(turn.observed, stable=previous.revision)
    turn.announce("ReturnedToPrevious", f"Version {previous.version} takes all traffic again, as Git declares")
    turn.say(Phase.STABLE, f"Version {previous.version} is stable")
    turn.wake_in(0.0)


def _keep_previous(turn: Turn) -> None:
    """Keep the former stable revision warm for its time."""
    previous = turn.status.previous
    if previous is None:
        return
    plan = turn.observed.plans.get(previous.revision)
    if turn.now >= previous.until or plan is None:
        turn.note(previous=None)
        return
    turn.keep.add(Backend(previous.revision))
    turn.act(EnsureWorkload(Backend(previous.revision), plan, turn.desired.replicas))
    turn.wake_in(previous.until - turn.now)


def _settle_traffic(turn: Turn) -> None:
    """Bring the route to the weights wanted, and remove the backends that nothing needs once they are drained."""
    route = turn.observed.route
    present = dict(route.weights) if route else {}
    wanted = dict(turn.live) if turn.live is not None else dict(present)
    # A backend that gets copies is on the route with weight 0, and is drained like any other before it goes.
    wanted = dict.fromkeys(turn.copies, 0) | wanted
    idle = [b for b in turn.observed.workloads if b not in turn.keep]
    for backend in (*turn.observed.workloads, *present):
        drained = not (route and route.feeds(backend)) and backend in turn.observed.quiet
        if backend in present and not (backend in idle and drained and route is not None and route.accepted):
            wanted.setdefault(backend, 0)
    turn.note(weight=wanted.get(Backend(turn.desired.plan.revision), 0))
    marks = tuple(turn.marks)
    if wanted and (route is None or not route.as_declared or _said(route) != (wanted, turn.copies, marks)):
        turn.actions.insert(0, ShiftTraffic(wanted, turn.copies, marks))
    retired: list[Action] = [Retire(b) for b in idle if b not in present and b not in wanted]
    turn.act(*retired)
    if idle and not retired:
        turn.wake_in(1.0)


def _said(route: Route) -> tuple[Weights, Weights, tuple[Mark, ...]]:
    return route.weights, route.copies, route.marks
