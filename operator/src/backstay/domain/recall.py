"""Which version was stable, for a ModelDeployment whose status does not say so.

The status may be lost while the controller runs, or the cluster may be rebuilt from Git. A version counts as the first
one only where registry, Git and cluster all know of none before it.
"""

from backstay.domain.actions import KeepPlan, RecallStable
from backstay.domain.observed import Backend, NeverServed, NotRecalled, RecallUnavailable, ServedBefore
from backstay.domain.resource import ModelIdentity, Plan
from backstay.domain.status import Phase, Served
from backstay.domain.turn import Turn


def stable_is_known(turn: Turn) -> bool:
    """Tell whether the status says what is stable, or that the first version is on its way; else find it out."""
    rollout = turn.status.rollout
    return turn.status.stable is not None or (rollout is not None and rollout.first) or _recall(turn)


def _recall(turn: Turn) -> bool:
    """Find out what was stable; False while that is not known."""
    match turn.observed.recall:
        case NotRecalled():
            turn.act(RecallStable())
            turn.say(Phase.PENDING, "Asking the registry and Git which version was stable here before")
            return False
        case ServedBefore(model):
            _remember(turn, _plan_of(turn, model))
        case RecallUnavailable() | NeverServed():
            serving = _serving(turn)
            if serving is not None:
                _remember(turn, serving)
            elif isinstance(turn.observed.recall, RecallUnavailable):
                turn.act(RecallStable())
                turn.say(Phase.PENDING, turn.observed.recall.reason, stalled="MemoryUnavailable")
                turn.wake_in(5.0)
                return False
    return True


def _remember(turn: Turn, former: Plan) -> None:
    model = former.model
    turn.note(stable=Served(former.revision, model.version, model.digest, since=turn.now))
    if former.revision not in turn.observed.plans:
        turn.act(KeepPlan(former, renew=True))
    turn.announce("StableRecalled", f"Version {model.version} was stable here before")


def _plan_of(turn: Turn, model: ModelIdentity) -> Plan:
    """Return the plan by which a version served: as the cluster keeps it, or made from what is declared."""
    kept = [plan for plan in _kept(turn) if model.is_meant_by(plan.model)]
    if kept:
        return kept[0]
    declared = turn.desired.plan
    same = model.version == declared.model.version and model.digest in ("", declared.model.digest)
    return declared if same else declared.serving_version(model)


def _serving(turn: Turn) -> Plan | None:
    """Return the plan of the revision that serves here: the stable Service's, or else the one with most traffic.

    The declared revision alone on the route tells nothing: it may be a first version on its way.
    """
    declared = turn.desired.plan.revision
    found = next(iter(_kept(turn)), None)
    if found is None or found.revision == turn.observed.served:
        return found
    route = turn.observed.route
    serves = route is not None and route.weights.get(Backend(found.revision), 0) > 0
    return found if serves and found.revision != declared else None


def _kept(turn: Turn) -> list[Plan]:
    """List the plans that the cluster keeps and that are not rejected, those that serve before the others."""
    route, served, declared = turn.observed.route, turn.observed.served, turn.desired.plan.revision
    rejected = {mark.revision for mark in turn.marks}

    def rank(plan: Plan) -> tuple[bool, bool, int]:
        weight = route.weights.get(Backend(plan.revision), 0) if route is not None else 0
        return plan.revision == served, weight > 0 and plan.revision != declared, weight

    return sorted((p for p in turn.observed.plans.values() if p.revision not in rejected), key=rank, reverse=True)
