"""Backstay's judge on the simulated rollouts: nothing but its own kernels, in the order the controller uses them.

What this module adds is what the controller does around the kernels: join intervals at low traffic, leave out the one
after a change of weights, take the fresh baseline during the warm-up, and learn from stable's pods beforehand.
"""

from dataclasses import dataclass

import numpy as np

from backstay.judge import combine, counts, dependence, labels, latency, onset, shift
from backstay_bench_judge.cohorts import Cohorts
from backstay_bench_judge.judging import NEVER, Judged
from backstay_bench_judge.scenarios import LABEL_DELAY_COHORTS, Kind, Scenario
from backstay_bench_judge.simulate import Arm, Bools, Floats, History, Rollouts

ALPHA = 0.05
LEAST_REQUESTS = 30
HARM = 2.0
HARM_LEVEL = 0.05
# The loss of AUC at which the confidence sequence is tightest.
AUC_THAT_MATTERS = 0.02


@dataclass(frozen=True, slots=True)
class Options:
    """How the judge is set.

    Attributes:
        tolerance: the ratio of odds that counts as no harm.
        pods: whether the differences between stable's pods widen the tolerance; then it tests at alpha / 2.
    """

    tolerance: float = 1.0
    pods: bool = False


def default(rollouts: Rollouts) -> Judged:
    """Everything as it comes."""
    return judge(rollouts, Options())


def tolerant(rollouts: Rollouts) -> Judged:
    """A quarter more errors are no harm."""
    return judge(rollouts, Options(tolerance=1.25))


def allowing_for_pods(rollouts: Rollouts) -> Judged:
    """The tolerance widened by how far stable's pods differ."""
    return judge(rollouts, Options(pods=True))


def judge(rollouts: Rollouts, options: Options) -> Judged:
    """Judge a batch; of several signals the mean of their evidence."""
    if rollouts.cohorts is not None:
        return Judged(_labelled(rollouts.cohorts), -np.log(ALPHA))
    members = rollouts.family or (rollouts,)
    evidence = [_log_evidence(member, options) for member in members]
    score = evidence[0] if len(evidence) == 1 else combine.log_mean(np.stack(evidence, axis=-1), np.ones(len(evidence)))
    passed = np.all([_no_harm(member) for member in members], axis=0)
    return Judged(score, -np.log(ALPHA / 2 if options.pods else ALPHA), passed=passed)


def hazard(scenario: Scenario, step: int) -> float:
    """Return the share of the held-back mass that starts with a step: 1 / (steps left)."""
    return 1 / (len(scenario.shares) - step)


def joined(canary: Arm, control: Arm, ends: Bools, left_out: Bools) -> tuple[Arm, Arm]:
    """Join intervals until both arms together have 30 requests or a step ends; the joined stands at its last interval.

    Args:
        canary: the increments of every interval.
        control: the same of its control.
        ends: ``[intervals]``, the last interval of each step.
        left_out: ``[intervals]``, those after a change of weights.
    """
    stacked = [_stack(arm.where(~left_out)) for arm in (canary, control)]
    out = [np.zeros_like(values) for values in stacked]
    pending = [np.zeros_like(values[:, 0]) for values in stacked]
    for t in range(len(ends)):
        pending = [held + values[:, t] for held, values in zip(pending, stacked, strict=True)]
        enough = (pending[0][:, 0] + pending[1][:, 0] >= LEAST_REQUESTS) | ends[t]
        for arm, held in zip(out, pending, strict=True):
            arm[:, t] = held * enough[:, None]
        pending = [held * ~enough[:, None] for held in pending]
    first, second = (Arm(values[..., 0], values[..., 1], values[..., 2:]) for values in out)
    return first, second


def _stack(arm: Arm) -> Floats:
    buckets = arm.buckets if arm.buckets.size else np.zeros((*arm.requests.shape, 0))
    return np.concatenate([arm.requests[..., None], arm.errors[..., None], buckets], axis=-1)


def _intervals(rollouts: Rollouts) -> tuple[Arm, Arm]:
    step = rollouts.step
    begins = np.diff(step, prepend=step[0]) > 0
    ends = np.append(step[1:] > step[:-1], True)  # noqa: FBT003 - a value, not an option
    return joined(rollouts.canary, rollouts.control, ends, begins)


def _log_evidence(rollouts: Rollouts, options: Options) -> Floats:
    canary, control = _intervals(rollouts)
    weights = None
    match rollouts.scenario.kind:
        case Kind.LATENCY:
            by_edge = latency.increments(canary.buckets, control.buckets)
            added = by_edge.reshape(*by_edge.shape[:2], -1)
        case Kind.DISTRIBUTION:
            added, weights = _shifts(canary.buckets, control.buckets)
        case _:
            psi = _tolerance(rollouts, options)[:, None]
            added = counts.increments(
                canary.errors, control.errors, canary.requests, control.requests, tolerance=psi, ratios=counts.ERRORS
            )
            added = added / _dispersion(rollouts.history)[:, None, None]
    return _mixed(rollouts, added, weights)


def _mixed(rollouts: Rollouts, added: Floats, weights: Floats | None) -> Floats:
    """Carry the mixture over onsets through the intervals."""
    state = onset.waiting((rollouts.runs,), added.shape[-1])
    result = np.empty(added.shape[:2])
    previous = -1
    for t, step in enumerate(rollouts.step):
        state = onset.step(state, added[:, t], hazard(rollouts.scenario, int(step)) if step != previous else 0.0)
        result[:, t] = onset.log_evidence(state, weights)
        previous = step
    return result


def _shifts(canary: Floats, control: Floats) -> tuple[Floats, Floats]:
    """Half of the evidence on weights learnt from earlier intervals, half on the tilts."""
    both = (canary.sum(axis=-1) > 0) & (control.sum(axis=-1) > 0)
    c, s = canary * both[..., None], control * both[..., None]
    pooled = c + s
    total = pooled.sum(axis=-1, keepdims=True)
    expected = c.sum(axis=-1, keepdims=True) * pooled / np.where(total > 0, total, 1.0)
    earlier = [np.cumsum(values, axis=1) - values for values in (c, expected, pooled)]
    learnt = shift.history_weights(*earlier)
    tilts = shift.tilts(c.shape[-1])
    by_history = shift.increments(c, s, learnt[..., None, :])
    by_tilt = np.concatenate([shift.increments(c, s, tilt[None, :]) for tilt in tilts], axis=-1)
    weights = np.concatenate([[0.5], np.full(len(tilts), 0.5 / len(tilts))])
    return np.concatenate([by_history, by_tilt], axis=-1), weights


def _dispersion(history: History) -> Floats:
    phi = [
        dependence.dispersion(events, requests)
        for events, requests in zip(history.errors, history.requests, strict=True)
    ]
    return np.asarray(phi)


def _tolerance(rollouts: Rollouts, options: Options) -> Floats:
    if not options.pods:
        return np.full(rollouts.runs, options.tolerance)
    history = rollouts.history
    sigma = [
        dependence.pod_spread(events, requests)
        for events, requests in zip(history.errors.sum(axis=1), history.requests.sum(axis=1), strict=True)
    ]
    pods = rollouts.scenario.nuisance.canary_pods
    return dependence.widened(options.tolerance, sigma=np.asarray(sigma), canary_pods=pods, baseline_pods=3 * pods)


def _no_harm(rollouts: Rollouts) -> Bools:
    """Tell which runs have shown, at every step anew, that the version does no harm."""
    if rollouts.scenario.kind is Kind.DISTRIBUTION:
        return np.ones(rollouts.runs, dtype=np.bool_)
    canary, control = _intervals(rollouts)
    added = counts.no_harm(canary.errors, control.errors, canary.requests, control.requests, ratio=HARM)
    shown = np.ones(rollouts.runs, dtype=np.bool_)
    for step in np.unique(rollouts.step):
        gathered = np.cumsum(added[:, rollouts.step == step], axis=1)
        shown &= gathered.max(axis=1) >= -np.log(HARM_LEVEL)
    return shown


def _labelled(cohorts: Cohorts) -> Floats:
    """Evidence of a lower AUC, in the interval in which the labels are there."""
    score = np.full(cohorts.loss.shape, NEVER)
    delay = LABEL_DELAY_COHORTS
    for run, k in np.argwhere(cohorts.variance[:, :-delay] > 0):
        harm = labels.Estimate(float(cohorts.loss[run, k]), float(cohorts.variance[run, k]))
        score[run, k + delay] = labels.log_evidence(harm, tuned_at=AUC_THAT_MATTERS**-2)
    return score
