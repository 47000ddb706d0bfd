"""When the stable version can no longer serve: a ready canary takes all traffic, and gives it back to its steps later.

A fix for a broken version is a new version like any other. Without this it would wait for pods of the broken one, to be
compared with them, while clients get no answer.
"""

from dataclasses import replace

from backstay.domain.observed import Backend, Track
from backstay.domain.resource import PAUSE, ApprovalStep, Plan
from backstay.domain.status import RolloutState
from backstay.domain.turn import Turn


def watch(turn: Turn, rollout: RolloutState, plan: Plan) -> RolloutState:
    """Begin a rescue where stable has been down for too long, and end it where stable is up again for as long."""
    stable = turn.status.stable
    if rollout.first or stable is None:
        return rollout
    up = any(turn.observed.ready(Backend(stable.revision, track)) for track in Track)
    look = _rescued if rollout.rescued_at else _not_rescued
    after = look(turn, rollout, plan, up=up)
    if after != rollout:
        turn.note(rollout=after)
    return after


def _not_rescued(turn: Turn, rollout: RolloutState, plan: Plan, *, up: bool) -> RolloutState:
    if up:
        return replace(rollout, stable_down_since=0.0)
    since = rollout.stable_down_since or turn.now
    left = plan.rollout.rescue_after - (turn.now - since)
    if left > 0:
        turn.wake_in(left)
    elif turn.observed.ready(Backend(rollout.revision)) and not _waits_for_a_person(turn, rollout, plan):
        turn.announce(
            "StableNotServing",
            f"No pod of version {_stable(turn)} has been ready for {plan.rollout.rescue_after:g} s: "
            f"version {rollout.version} takes all traffic",
            warning=True,
        )
        return _afresh(replace(rollout, rescued_at=turn.now, stable_down_since=0.0), turn.now)
    return replace(rollout, stable_down_since=since)


def _rescued(turn: Turn, rollout: RolloutState, plan: Plan, *, up: bool) -> RolloutState:
    if not up:
        return replace(rollout, stable_up_since=0.0)
    since = rollout.stable_up_since or turn.now
    left = plan.rollout.rescue_after - (turn.now - since)
    if left > 0:
        turn.wake_in(left)
        return replace(rollout, stable_up_since=since)
    turn.announce(
        "StableServesAgain",
        f"Pods of version {_stable(turn)} have been ready again for {plan.rollout.rescue_after:g} s: "
        f"version {rollout.version} takes its steps from the first one on",
    )
    return _afresh(replace(rollout, rescued_at=0.0, stable_up_since=0.0), turn.now)


def _afresh(rollout: RolloutState, now: float) -> RolloutState:
    return replace(rollout, step=0, ramp_since=now, ready_since=0.0, step_since=0.0)


def _stable(turn: Turn) -> str:
    return turn.status.stable.version if turn.status.stable else ""


def _waits_for_a_person(turn: Turn, rollout: RolloutState, plan: Plan) -> bool:
    """Tell whether a person paused the rollout, or must approve it first: a rescue goes past neither."""
    steps = plan.rollout.steps
    paused = turn.desired.annotations.get(PAUSE) == rollout.id
    return paused or isinstance(steps[min(rollout.step, len(steps) - 1)], ApprovalStep)
