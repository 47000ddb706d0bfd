"""What the registry must say of a version before any pod of it is started.

A version that is on its way, or has served, is not asked about again: a registry that is away holds what is new, and
never a rollback. No answer is never a pass.
"""

from backstay.domain import rollback, rollout
from backstay.domain.actions import AskGates
from backstay.domain.observed import GatesAnswered, GatesUnasked, GatesUnavailable
from backstay.domain.rollback import Failure
from backstay.domain.rules import OnGateFailure
from backstay.domain.split import split
from backstay.domain.status import Gate, Phase, RolloutState
from backstay.domain.turn import Turn

_AGAIN_AFTER = 30.0
_LOOK_AGAIN = 5.0
_FAILED = "GateFailed"


def open_for(turn: Turn) -> bool:
    """Tell whether the declared revision may be started; where it may not, see to what happens instead."""
    revision, model, status = turn.desired.plan.revision, turn.desired.plan.model, turn.status
    if status.rollout is not None and status.rollout.revision == revision:
        return True
    if status.stable is not None and (status.stable.version, status.stable.digest) == (model.version, model.digest):
        # Another configuration of what serves already.
        return True
    if status.gated == revision and all(gate.passed for gate in status.gates):
        return True
    answer = turn.observed.gates
    if isinstance(answer, GatesAnswered):
        turn.note(gated=revision, gates=answer.gates)
        failed = [gate for gate in answer.gates if not gate.passed]
        if not failed:
            return True
        if turn.desired.on_gate_failure is OnGateFailure.ROLLBACK and status.stable is not None:
            _roll_back(turn, failed)
            return False
    _hold(turn)
    return False


def _hold(turn: Turn) -> None:
    stable, model = turn.status.stable, turn.desired.plan.model
    rollout.supersede(turn, f"Git declares version {model.version} now")
    turn.note(step="", analysis={}, verdict=None)
    if stable is not None:
        turn.live = split(turn.observed, stable=stable.revision, baseline=True)
    turn.act(AskGates())
    idle = Phase.DEGRADED if stable is not None else Phase.PENDING
    match turn.observed.gates:
        case GatesUnasked():
            turn.say(Phase.STARTING, f"Asking the registry about version {model.version}")
            turn.wake_in(_LOOK_AGAIN)
        case GatesUnavailable(reason):
            turn.say(idle, f"Version {model.version} is not started yet: {reason}", stalled="RegistryUnavailable")
            turn.wake_in(_LOOK_AGAIN)
        case GatesAnswered(gates):
            message = f"Version {model.version} is not started: {_told([gate for gate in gates if not gate.passed])}"
            if (turn.status.stalled, turn.status.message) != (_FAILED, message):
                turn.announce(_FAILED, message, warning=True)
            turn.say(idle, message, stalled=_FAILED)
            turn.wake_in(_AGAIN_AFTER)


def _roll_back(turn: Turn, failed: list[Gate]) -> None:
    """Have Git put right, as if the version had been tried."""
    desired, model = turn.desired, turn.desired.plan.model
    rollout.supersede(turn, f"Git declares version {model.version} now")
    refused = RolloutState(
        id=f"{model.version}-{desired.generation}",
        revision=desired.plan.revision,
        version=model.version,
        digest=model.digest,
        started_at=turn.now,
        commit=turn.observed.set_by,
    )
    details = tuple(f"gate={gate.name} result={gate.result}" for gate in failed)
    rollback.begin(turn, refused, Failure(f"the registry: {_told(failed)}", details))


def _told(failed: list[Gate]) -> str:
    return "; ".join(gate.message for gate in failed)
