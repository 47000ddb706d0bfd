"""Whether the canary's containers end more often than those of the baseline.

A pod that crashes under its requests answers nothing, so it counts no errors: the judge does not see it.
"""

from dataclasses import replace

from backstay.domain.observed import Backend, Track
from backstay.domain.resource import Plan
from backstay.domain.rollback import Failure
from backstay.domain.status import RolloutState
from backstay.domain.turn import Turn

# The pods are read again where fewer than wanted are ready, at most once in so many seconds.
_READ_EVERY = 1.0


def begin(turn: Turn, rollout: RolloutState, plan: Plan) -> RolloutState:
    """Note how often containers had ended before the version's first traffic: a difficult start fails nothing."""
    turn.need_pods()
    baseline = turn.observed.workload(_baseline(turn, plan)).restarts
    canary = turn.observed.workload(Backend(rollout.revision)).restarts
    return replace(
        rollout, traffic_since=turn.now, restarts_before=canary - baseline, baseline_restarts=max(baseline, 0)
    )


def watch(turn: Turn, rollout: RolloutState, plan: Plan) -> tuple[RolloutState, Failure | None]:
    """Compare the restarts since the version's first traffic with those of the baseline.

    Returns:
        The rollout with the baseline's restarts noted, and the failure where there are too many of the canary's.
    """
    if rollout.alone or not rollout.traffic_since:
        return rollout, None
    canary = turn.observed.workload(Backend(rollout.revision))
    if canary.ready < canary.replicas:
        turn.need_pods(since=turn.now - _READ_EVERY)
    # Baseline pods are removed at full traffic: what they showed until then still counts.
    baseline = max(rollout.baseline_restarts, turn.observed.workload(_baseline(turn, plan)).restarts)
    rollout = replace(rollout, baseline_restarts=baseline)
    more, most = canary.restarts - baseline - rollout.restarts_before, plan.rollout.max_restarts
    if more <= most:
        return rollout, None
    allowed = f" (rollout.maxRestarts allows {most})" if most else ""
    reason = f"its containers ended {_times(more)} more than those of the stable version{allowed}"
    if canary.ended:
        reason += f", the last time: {canary.ended}"
    return rollout, Failure(reason, (f"signal=restarts verdict=Fail value={more} limit={most}",), said=canary.said)


def _baseline(turn: Turn, plan: Plan) -> Backend:
    """Return the pods to compare with: the fresh ones of stable, or its own where no fresh ones are wanted."""
    stable = turn.status.stable.revision if turn.status.stable else ""
    return Backend(stable, Track.BASELINE if plan.rollout.baseline else Track.PRIMARY)


def _times(count: int) -> str:
    return "once" if count == 1 else f"{count} times"
