"""The account of the time that a rollout's deadline does not count."""

from dataclasses import replace

from backstay.domain.status import RolloutState
from backstay.domain.turn import Turn


def leave_out(turn: Turn, rollout: RolloutState, *, held: bool) -> RolloutState:
    """Begin or end a time that is not counted; returns the rollout, which is noted on the turn's sheet as well."""
    now = turn.now
    if held and not rollout.held_since:
        rollout = replace(rollout, held_since=now)
    elif not held and rollout.held_since:
        rollout = replace(rollout, held=rollout.held + now - rollout.held_since, held_since=0.0)
    turn.note(rollout=rollout)
    return rollout
