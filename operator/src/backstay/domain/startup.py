"""Waiting for pods that are not ready: until they are, or until the version can be blamed for it."""

from dataclasses import dataclass, replace

from backstay.domain import deadline, rollback
from backstay.domain.observed import Backend, Blocked, Track
from backstay.domain.resource import Plan
from backstay.domain.rollback import Failure
from backstay.domain.status import Phase, RolloutState
from backstay.domain.turn import Turn

# Pods that do not get ready are read every so many seconds, and so many times within the deadline at most.
_READ_PODS_EVERY = 5.0
_READ_PODS_AT_MOST = 20


@dataclass(frozen=True, slots=True)
class Missing:
    """Backends in ``short`` have fewer ready pods than ``needed``.

    ``phase`` is what people see meanwhile; ``held`` marks time that the rollout's deadline does not count anyway.
    """

    phase: Phase
    short: tuple[Backend, ...]
    needed: int
    held: bool


def wait(turn: Turn, rollout: RolloutState, plan: Plan, missing: Missing) -> RolloutState:
    """Wait for pods. The version is blamed only for the time in which nothing in the cluster was in their way."""
    limit = plan.rollout.progress_deadline
    every = max(_READ_PODS_EVERY, limit / _READ_PODS_AT_MOST)
    waited = turn.now - rollout.ramp_since
    if waited >= min(every, limit):
        turn.need_pods(since=turn.now - every)
    blocked = _blocked(turn, rollout, missing, late=waited >= limit)
    rollout = deadline.leave_out(turn, rollout, held=blocked is not None or missing.held)
    if blocked is not None and turn.now - rollout.blocked_at >= every:
        rollout = replace(rollout, blocked_at=turn.now)
        turn.note(rollout=rollout)
    left = limit - (turn.now - max(rollout.ramp_since, rollout.blocked_at))
    turn.wake_in(min(left, every) if waited < limit else _READ_PODS_EVERY)
    message = _message(turn, rollout, missing)
    if blocked is not None:
        cause = f": {blocked.message}" if blocked.message else ""
        turn.say(missing.phase, f"{message}{cause}", stalled=blocked.reason if waited >= limit else "")
    elif left > 0:
        turn.say(missing.phase, message)
    elif rollout.alone:
        turn.say(Phase.PENDING, f"{message} within {limit:g} s: see the events of its pods", stalled="NotReady")
    else:
        turn.need_pods()
        canary = turn.observed.workload(Backend(rollout.revision))
        cause = f": {canary.trouble}" if canary.trouble else ""
        failure = Failure(f"its pods were not ready within {limit:g} s{cause}", said=canary.said)
        rollback.begin(turn, rollout, failure)
    return rollout


def _blocked(turn: Turn, rollout: RolloutState, missing: Missing, *, late: bool) -> Blocked | None:
    """Say what the version cannot be blamed for: the cluster, or what its baseline shares when time is up."""
    canary = Backend(rollout.revision)
    own = turn.observed.workload(canary).blocked
    if canary in missing.short and own is not None:
        return own
    if late and any(backend.track is Track.BASELINE for backend in missing.short):
        either = " either" if canary in missing.short else ""
        why = f"fresh pods of the stable version do not get ready{either}: repair the cluster or that version"
        return Blocked("BaselineNotReady", why)
    return Blocked("BaselineNotReady", "") if canary not in missing.short else None


def _message(turn: Turn, rollout: RolloutState, missing: Missing) -> str:
    backend, stable = missing.short[0], turn.status.stable
    whose = f"pods of version {rollout.version}"
    if backend.revision != rollout.revision and stable is not None:
        whose = f"fresh pods of version {stable.version} to compare with"
    return f"Waiting for {whose}: {turn.observed.ready(backend)} of {missing.needed} ready"
