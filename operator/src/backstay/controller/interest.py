"""What the evidence loop has to read of one model, from what was decided about it."""

import logging
from collections.abc import Sequence
from itertools import takewhile

from backstay.controller.evidence.following import Interest, Trial
from backstay.domain.observed import Backend, Observed, Route, Track
from backstay.domain.resource import ApprovalStep, Key, ModelDeployment, Plan, Step, WeightStep
from backstay.domain.split import FULL
from backstay.domain.status import RolloutState, Status
from backstay.judge.memory import Memory, edges_of
from backstay.judge.panel import panel_of

_LOG = logging.getLogger(__name__)


def interest_in(desired: ModelDeployment, status: Status, seen: Observed, *, changed_at: float) -> Interest | None:
    """Return what has to be read of a model; None while nothing is tried and nothing is drained.

    Args:
        desired: the resource as declared.
        status: what was decided.
        seen: what the decision was made on.
        changed_at: when the route's weights last changed, in Unix seconds.
    """
    rollout, route = status.rollout, seen.route
    idle = {b.revision for b in seen.workloads if route is not None and b in route.weights and not route.weights[b]}
    revisions = {backend.revision for backend in seen.workloads} | idle
    if rollout is not None:
        plan = seen.plans.get(rollout.revision, desired.plan)
        trial = _trial(rollout, status, plan, seen, changed_at)
        memory = _memory(desired.key, status, plan)
        return Interest(plan.analysis, frozenset(revisions | {rollout.revision}), trial, memory)
    return Interest(desired.plan.analysis, frozenset(revisions), None, Memory()) if idle else None


def _trial(rollout: RolloutState, status: Status, plan: Plan, seen: Observed, changed_at: float) -> Trial:
    stable, steps = status.stable, plan.rollout.steps
    canary = Backend(rollout.revision)
    wanted = [canary]
    fresh = plan.rollout.baseline and stable is not None
    baseline = Backend(stable.revision, Track.BASELINE) if stable and fresh else None
    if baseline is not None and baseline in seen.workloads:
        wanted.append(baseline)
    before_full = list(takewhile(lambda step: not _is_full(step), steps))
    compared = any(not isinstance(step, ApprovalStep) for step in before_full)
    return Trial(
        rollout=rollout.id,
        stable=stable.revision if stable else "",
        canary=rollout.revision,
        step=rollout.step,
        opening=all(isinstance(step, ApprovalStep) for step in steps[: rollout.step]),
        changed_at=changed_at,
        warm_until=rollout.ramp_since + plan.rollout.warmup,
        baseline=fresh,
        comparable=stable is not None and not rollout.alone and compared,
        pods={backend: max(seen.ready(backend), 1) for backend in wanted},
        steps=max(len(before_full), 1),
        began=rollout.started_at,
        planned=_share(seen.route, canary),
        stable_pods=max(seen.ready(Backend(stable.revision)), 1) if stable else 0,
        demanded=0 if rollout.alone else _demanded(steps, rollout.step),
    )


def _memory(key: Key, status: Status, plan: Plan) -> Memory:
    """Read what the judge remembers; where people have spoilt it, the evidence begins anew."""
    try:
        return Memory.of(status.analysis, panel_of(plan.analysis, edges_of(status.analysis)))
    except (ValueError, KeyError, TypeError, AttributeError) as problem:
        _LOG.warning("%s: status.analysis cannot be read (%r), so its evidence begins anew", key, problem)
        return Memory()


def _is_full(step: Step) -> bool:
    return isinstance(step, WeightStep) and step.weight == FULL


def _demanded(steps: Sequence[Step], index: int) -> int:
    """Return the requests that a step asks for before it may end."""
    step = steps[min(index, len(steps) - 1)]
    return 0 if isinstance(step, ApprovalStep) else step.min_requests


def _share(route: Route | None, backend: Backend) -> float:
    """Return a backend's share of the weights of a route; 0 where it has none."""
    total = sum(route.weights.values()) if route else 0
    return route.weights.get(backend, 0) / total if route and total else 0.0
