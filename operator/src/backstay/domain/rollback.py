"""Rolling back: drain first, then Git, then wait until Git is what runs."""

from dataclasses import dataclass, replace

from backstay.domain.actions import (
    CommitRollback,
    LocateRollback,
    RefreshApplication,
    ReportIncident,
    TellRegistry,
    WithdrawRollback,
)
from backstay.domain.observed import (
    Backend,
    Located,
    Mark,
    NotSynced,
    Proposed,
    Reported,
    Synced,
    Unreportable,
    Unreported,
    Unwritten,
    WriteRefused,
    Written,
)
from backstay.domain.resource import Rejection
from backstay.domain.rules import Incident
from backstay.domain.split import split
from backstay.domain.status import (
    REJECTED_LENGTH,
    Ended,
    Phase,
    RollbackRecord,
    RollbackState,
    RolloutState,
    Verdict,
    with_words,
)
from backstay.domain.turn import Turn

SYNC_PATIENCE = 300.0
# How often Argo CD is asked, in seconds: a sync is known a tenth later than it could be at most, and a crowd of
# rollbacks that wait for a busy Argo CD does not keep it busy.
_ASK_EVERY, _ASK_AT_LEAST_EVERY = 0.25, 5.0
_TELL_AGAIN = 30.0


@dataclass(frozen=True, slots=True)
class Failure:
    """Why a rollout ends: the sentence, the lines for the commit, when the verdict fell (0: now).

    ``inconclusive`` marks a deadline that passed without enough evidence either way. ``said`` are a container's own
    words about it: people at the cluster see them behind the sentence, and Git never gets them.
    """

    reason: str
    details: tuple[str, ...] = ()
    at: float = 0.0
    inconclusive: bool = False
    said: str = ""


def begin(turn: Turn, rollout: RolloutState, failure: Failure) -> None:
    """End a rollout that failed: no more traffic, and the reason on record before anything else happens."""
    at, reason, full_reason = failure.at or turn.now, failure.reason, with_words(failure.reason, failure.said)
    turn.note(
        rollout=None,
        analysis={},
        step="",
        verdict=Verdict.INCONCLUSIVE if failure.inconclusive else Verdict.FAIL,
        gated="",
    )
    turn.record(Ended(rollout.version, "Failed", rollout.started_at, turn.now, reason))
    stable = turn.status.stable
    if stable is None:
        identity = turn.rollback_id(rollout.version, rollout.digest, rollout.id)
        _reject(turn, Rejection(rollout.version, rollout.digest, identity, rollout.revision))
        turn.announce(
            "RolloutFailed",
            f"Version {rollout.version} failed and there is no earlier one: {full_reason}",
            warning=True,
        )
        return
    revision_only = stable.version == rollout.version and stable.digest == rollout.digest
    record = RollbackRecord(
        rollout=rollout.id,
        from_revision=rollout.revision,
        from_version=rollout.version,
        from_digest=rollout.digest,
        to_revision=stable.revision,
        to_version=stable.version,
        reason=reason,
        said=failure.said,
        failed_at=at,
        revision_only=revision_only,
        inconclusive=failure.inconclusive,
        evidence=failure.details,
        bad_commit=rollout.commit,
    )
    if revision_only:
        record = replace(record, id=turn.rollback_id(rollout.version, rollout.digest, rollout.id))
    elif rollout.commit:
        record = replace(record, id=turn.rollback_id(rollout.version, rollout.digest, rollout.commit))
    former = turn.status.rollback
    if former is not None and former.state is RollbackState.AWAITING_MERGE:
        turn.act(WithdrawRollback(former))
    turn.note(rollback=record)
    _mark(turn, record)
    turn.announce("RollingBack", f"{_who(record)} gets no more traffic: {full_reason}", warning=True)


def resume(turn: Turn) -> None:
    """Take up a rollback of which only the mark on the route was written before the controller ended."""
    rollout, route = turn.status.rollout, turn.observed.route
    if rollout is None or route is None:
        return
    mark = next((mark for mark in route.marks if mark.revision == rollout.revision and not lifted(turn, mark)), None)
    if mark is not None:
        begin(turn, rollout, Failure(mark.reason, mark.evidence, mark.at, mark.inconclusive))


def lifted(turn: Turn, mark: Mark) -> bool:
    """Tell whether a person's commit has lifted this rejection."""
    return bool(turn.desired.retry_of) and mark.rollback_id == turn.desired.retry_of


def advance(turn: Turn) -> None:
    """Take the rollback on record one stage further."""
    _tell_registry(turn)
    _report(turn)
    record = turn.status.rollback
    if record is None or record.state is RollbackState.DONE:
        return
    _mark(turn, record)
    match record.state:
        case RollbackState.DRAINING:
            _drain(turn, record)
        case RollbackState.COMMITTING | RollbackState.AWAITING_MERGE | RollbackState.REFUSED:
            _commit(turn, record)
        case RollbackState.AWAITING_SYNC:
            _await_sync(turn, record)


def _tell_registry(turn: Turn) -> None:
    """Have the failed version marked in the registry, beside everything else and however long that takes."""
    record = turn.status.rollback
    if record is None or record.told or record.revision_only or not record.id:
        return
    if turn.observed.told_registry:
        turn.note(rollback=replace(record, told=True))
        return
    turn.act(TellRegistry(record))
    turn.wake_in(_TELL_AGAIN)


def _report(turn: Turn) -> None:
    """Have a rollback that is done put on record for people, once."""
    record = turn.status.rollback
    if record is None or record.state is not RollbackState.DONE or record.incident or record.revision_only:
        return
    if turn.desired.rollback.incident is Incident.NONE:
        return
    match turn.observed.incident:
        case Reported(url):
            turn.note(rollback=replace(record, incident=url))
            turn.announce("IncidentReported", f"{url} is about the rollback of version {record.from_version}")
        case Unreportable(reason):
            turn.note(rollback=replace(record, incident=f"none: {reason}"))
            turn.announce("IncidentNotReported", reason, warning=True)
        case Unreported():
            ended = [one for one in turn.status.history if one.version == record.from_version]
            turn.act(ReportIncident(record, ended[-1].started_at if ended else 0.0))
            turn.wake_in(_TELL_AGAIN)


def describe(turn: Turn, record: RollbackRecord) -> None:
    """Say where the rollback stands, while Git still declares the failed version."""
    went = f"{_who(record)} failed: {record.full_reason}. "
    if record.state is RollbackState.REFUSED:
        turn.say(
            Phase.ROLLING_BACK,
            f"{went}All traffic is on version {record.to_version}, but Git was not changed: {record.note}. "
            "This is tried again every 30 s",
            stalled="WriteBackRefused",
        )
        return
    if record.state is RollbackState.AWAITING_MERGE:
        turn.say(
            Phase.ROLLING_BACK,
            f"{went}All traffic is on version {record.to_version}, and Git still declares {record.from_version} until "
            f"{record.pull_request} is merged: {record.note}",
            stalled="AwaitingMerge",
        )
        return
    good = f"version {record.to_version}"
    doing = {
        RollbackState.DRAINING: f"Moving its traffic to {'the former one' if record.revision_only else good}",
        RollbackState.COMMITTING: f"Writing {good} back to Git",
        RollbackState.AWAITING_SYNC: f"Waiting for Argo CD to sync commit {record.commit[:10]}",
    }.get(record.state, "Done")
    cause = f" ({record.note})" if record.note else ""
    late = record.state is RollbackState.AWAITING_SYNC and turn.now - record.pushed_at > SYNC_PATIENCE
    turn.say(Phase.ROLLING_BACK, f"{went}{doing}{cause}", stalled="AwaitingSync" if late else "")


def _who(record: RollbackRecord) -> str:
    if record.revision_only:
        return f"The new configuration of version {record.from_version}"
    return f"Version {record.from_version}"


def _drain(turn: Turn, record: RollbackRecord) -> None:
    if turn.observed.route is not None and turn.observed.route.feeds(Backend(record.from_revision)):
        weights = split(turn.observed, stable=record.to_revision, baseline=True)
        if weights is None:
            turn.wake_in(1.0)
        return
    if turn.observed.route is not None and not any(
        m.revision == record.from_revision for m in turn.observed.route.marks
    ):
        return
    state = RollbackState.DONE if record.revision_only else RollbackState.COMMITTING
    turn.note(rollback=replace(record, drained_at=turn.now, state=state))
    turn.wake_in(0.0)


def _commit(turn: Turn, record: RollbackRecord) -> None:
    answer = turn.observed.write_back
    if not record.id:
        if isinstance(answer, Located):
            found = replace(record, id=answer.rollback_id, bad_commit=answer.bad_commit)
            turn.note(rollback=found)
            _mark(turn, found)
            turn.wake_in(0.0)
        else:
            turn.act(LocateRollback(record))
            _awaiting_git(turn, record)
        return
    if isinstance(answer, Written) and not answer.commit:
        # Git has moved on by itself and there is nothing to write: nothing to wait for either.
        _finish(turn, replace(record, note=answer.note))
        return
    if isinstance(answer, Written):
        turn.note(
            rollback=replace(
                record, state=RollbackState.AWAITING_SYNC, commit=answer.commit, pushed_at=answer.at, note=answer.note
            )
        )
        done = answer.note or f"Git says version {record.to_version} again"
        turn.announce("RollbackPushed", f"{done}: commit {answer.commit[:10]}")
        turn.wake_in(0.0)
        return
    stable = turn.status.stable
    plan = turn.plan_for(stable) if stable else None
    if plan is None:
        note = f"the plan of version {record.to_version} is gone; commit that version yourself"
        turn.note(rollback=replace(record, state=RollbackState.REFUSED, note=note))
        return
    turn.act(CommitRollback(record, plan.model))
    _awaiting_git(turn, record)


def _awaiting_git(turn: Turn, record: RollbackRecord) -> None:
    match turn.observed.write_back:
        case WriteRefused(reason):
            if record.state is not RollbackState.REFUSED:
                turn.announce("WriteBackRefused", reason, warning=True)
            turn.note(rollback=replace(record, state=RollbackState.REFUSED, note=reason))
            turn.wake_in(30.0)
        case Proposed(url, at, waiting):
            if (record.state, record.pull_request) != (RollbackState.AWAITING_MERGE, url):
                turn.announce("RollbackProposed", f"{url} puts version {record.to_version} back: {waiting}")
            state = RollbackState.AWAITING_MERGE
            turn.note(rollback=replace(record, state=state, pull_request=url, proposed_at=at, note=waiting))
            turn.wake_in(5.0)
        case Unwritten(waiting):
            # An open pull request keeps what it waits for until the forge is asked again.
            kept = record.note if record.state is RollbackState.AWAITING_MERGE else ""
            turn.note(rollback=replace(record, note=waiting or kept))
            turn.wake_in(5.0)
        case Located() | Written():
            turn.wake_in(0.0)


def _await_sync(turn: Turn, record: RollbackRecord) -> None:
    match turn.observed.sync:
        case Synced(at):
            _finish(turn, replace(record, synced_at=at))
            turn.announce(
                "RolledBack",
                f"Version {record.from_version} is out of Git and cluster: Argo CD synced commit {record.commit[:10]}",
            )
        case NotSynced(cause):
            if cause != record.note and cause:
                turn.note(rollback=replace(record, note=cause))
            every = min(max(_ASK_EVERY, (turn.now - record.pushed_at) / 10), _ASK_AT_LEAST_EVERY)
            turn.act(RefreshApplication(record.commit, every))
            turn.wake_in(every)


def _finish(turn: Turn, record: RollbackRecord) -> None:
    """Close the record; what was rejected for want of evidence only may be tried again."""
    turn.note(rollback=replace(record, state=RollbackState.DONE))
    if record.inconclusive:
        turn.note(rejected=tuple(r for r in turn.status.rejected if r.revision != record.from_revision))
        turn.marks = [mark for mark in turn.marks if mark.revision != record.from_revision]


def _mark(turn: Turn, record: RollbackRecord) -> None:
    """Keep the rejection in status and on the route; an unproven deadline rejects this revision, and only for now."""
    whole = not (record.revision_only or record.inconclusive)
    rejection = Rejection(
        version=record.from_version if whole else "",
        digest=record.from_digest if whole else "",
        rollback_id=record.id,
        revision=record.from_revision,
    )
    _reject(turn, rejection)
    mark = Mark(
        revision=rejection.revision,
        version=rejection.version,
        digest=rejection.digest,
        reason=record.reason,
        at=record.failed_at,
        rollback_id=record.id,
        inconclusive=record.inconclusive,
        evidence=record.evidence,
    )
    turn.marks = [*(other for other in turn.marks if other.revision != mark.revision), mark]


def _reject(turn: Turn, rejection: Rejection) -> None:
    others = tuple(
        entry for entry in turn.status.rejected if entry.revision != rejection.revision or not rejection.revision
    )
    turn.note(rejected=(*others, rejection)[-REJECTED_LENGTH:])
