"""Taking one version from its first request to full traffic."""

from dataclasses import replace

from backstay.domain import rescue, restarts, rollback
from backstay.domain.actions import KeepPlan, LocateSource
from backstay.domain.resource import ABORT, ModelDeployment, Plan
from backstay.domain.rollback import Failure
from backstay.domain.status import Ended, RolloutState, Verdict
from backstay.domain.steps import StepMachine, evidence_of
from backstay.domain.turn import Turn


def run(turn: Turn) -> None:
    """Start the declared revision's rollout, or take it one step further."""
    rollout = turn.status.rollout
    if rollout is None or rollout.revision != turn.desired.plan.revision:
        rollout = _start(turn, rollout)
    plan = turn.observed.plans.get(rollout.revision, turn.desired.plan)
    if not rollout.commit and turn.observed.set_by:
        rollout = replace(rollout, commit=turn.observed.set_by)
        turn.note(rollout=rollout)
    elif not rollout.commit:
        turn.act(LocateSource())
    rollout, failure = _failed(turn, rollout, plan)
    if failure is not None:
        rollback.begin(turn, rollout, failure)
    else:
        StepMachine(turn, rescue.watch(turn, rollout, plan), plan).go()


def _failed(turn: Turn, rollout: RolloutState, plan: Plan) -> tuple[RolloutState, Failure | None]:
    """Tell whether a person, the judge or the containers' restarts end the rollout."""
    reason = aborted(turn.desired, rollout)
    if reason:
        return rollout, Failure(reason)
    evidence = evidence_of(turn, rollout)
    if evidence is not None:
        turn.note(verdict=evidence.verdict, analysis=evidence.accumulators)
        if evidence.verdict is Verdict.FAIL:
            return rollout, Failure(evidence.sentence, evidence.details)
    rollout, failure = restarts.watch(turn, rollout, plan)
    turn.note(rollout=rollout)
    return rollout, failure


def supersede(turn: Turn, why: str) -> None:
    """Give up a live rollout because Git asks for something else; nothing is rejected."""
    rollout = turn.status.rollout
    if rollout is None:
        return
    turn.record(Ended(rollout.version, "Superseded", rollout.started_at, turn.now, why))
    turn.note(rollout=None, analysis={}, step="", verdict=None)
    turn.announce("RolloutSuperseded", f"Version {rollout.version} is taken back: {why}")


def _start(turn: Turn, former: RolloutState | None) -> RolloutState:
    desired = turn.desired
    if former is not None:
        supersede(turn, f"Git declares version {desired.plan.model.version} now")
    model = desired.plan.model
    rollout = RolloutState(
        id=f"{model.version}-{desired.generation}",
        revision=desired.plan.revision,
        version=model.version,
        digest=model.digest,
        started_at=turn.now,
        ramp_since=turn.now,
        first=turn.status.stable is None,
    )
    turn.note(rollout=rollout, analysis={}, verdict=None)
    turn.act(KeepPlan(desired.plan, renew=True))
    turn.announce("RolloutStarted", f"Version {model.version} is started (revision {rollout.revision})")
    return rollout


def aborted(desired: ModelDeployment, rollout: RolloutState) -> str:
    """Say why a person ends this rollout; empty where none does."""
    name, _, reason = desired.annotations.get(ABORT, "").partition(":")
    if name.strip() != rollout.id:
        return ""
    return f"aborted by a person: {reason.strip() or 'no reason given'}"
