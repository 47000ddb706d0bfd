"""Backstay's judge on the simulated rollouts: nothing but its own processes and its own verdict.

``backstay.judge.fold`` carries one memory a rollout, interval by interval. Here many rollouts of one panel go through
the same processes as rows of one array, with the same rules of joining, which a test holds against ``fold`` itself.
"""

from dataclasses import dataclass

import numpy as np

from backstay.domain.signals import NoHarm
from backstay.domain.status import Verdict
from backstay.judge import combine, dependence, labels, onset, process
from backstay.judge.fold import ENOUGH
from backstay.judge.memory import Learnt, Memory, Process
from backstay.judge.panel import Compared, Count, Distribution, Judged, Latency, Panel, Shape, shape_of
from backstay.judge.process import Given
from backstay.judge.verdict import assess
from backstay_bench_judge import judging
from backstay_bench_judge.cohorts import Cohorts
from backstay_bench_judge.judging import NEVER
from backstay_bench_judge.scenarios import LABEL_DELAY_COHORTS, Kind
from backstay_bench_judge.shapes import BUCKETS, EDGES
from backstay_bench_judge.simulate import Bools, Floats, Ints, Rollouts

ALPHA = 0.05
# The loss of AUC at which the confidence sequence is tightest.
AUC_THAT_MATTERS = 0.02
# Stable and the fresh baseline, in units of the canary's pods.
_BASELINE_PODS = 3


@dataclass(frozen=True, slots=True)
class Options:
    """How the judge is set.

    Attributes:
        tolerance: the ratio of odds that counts as no harm.
        bursts: whether the dispersion of stable's errors in the hour before divides the evidence.
        pods: whether the differences between stable's pods widen the tolerance; then it tests at alpha / 2.
    """

    tolerance: float = 1.0
    bursts: bool = False
    pods: bool = False


def default(rollouts: Rollouts) -> judging.Judged:
    """As the controller runs it."""
    return judge(rollouts, Options())


def tolerant(rollouts: Rollouts) -> judging.Judged:
    """A quarter more errors are no harm."""
    return judge(rollouts, Options(tolerance=1.25))


def allowing_for_bursts(rollouts: Rollouts) -> judging.Judged:
    """The evidence divided by the dispersion of stable's errors."""
    return judge(rollouts, Options(bursts=True))


def allowing_for_pods(rollouts: Rollouts) -> judging.Judged:
    """The tolerance widened by how far stable's pods differ, beside that."""
    return judge(rollouts, Options(bursts=True, pods=True))


def judge(rollouts: Rollouts, options: Options) -> judging.Judged:
    """Judge a batch; of several signals by the mean of their evidence."""
    if rollouts.cohorts is not None:
        return judging.Judged(_labelled(rollouts.cohorts), -np.log(ALPHA))
    courses = [follow(member, options) for member in rollouts.family or (rollouts,)]
    evidence = np.stack([course.log_e for course in courses], axis=-1)
    score = evidence[..., 0] if len(courses) == 1 else combine.log_mean(evidence, np.ones(len(courses)))
    budget = ALPHA / 2 if options.pods else ALPHA
    return judging.Judged(score, -np.log(budget), passed=_promotable(rollouts, courses, options))


@dataclass(frozen=True, slots=True)
class Course:
    """One signal's way through a batch.

    ``log_e`` is ``[runs, intervals]``; ``ends`` holds the processes' rows and the last steps that they took, at the end
    of each step.
    """

    log_e: Floats
    ends: tuple[tuple[Floats, Ints], ...]
    learnt: tuple[Learnt, ...]

    def at(self, step: int, run: int) -> Process:
        """Return one run's process at the end of a step."""
        rows, taken = self.ends[step]
        return Process(rows[run], step=int(taken[run]))


class _Flow:
    """The processes of one signal in all runs, as rows, and what waits to be joined."""

    def __init__(self, shape: Shape, *, steps: int, tolerance: Floats, phi: Floats) -> None:
        runs = len(phi)
        self.shape, self.steps, self.tolerance, self.phi = shape, steps, tolerance, phi
        self.rows = np.tile(process.start(shape), (runs, 1))
        self.taken = np.full(runs, -1)
        self.waiting = np.zeros((runs, 2, shape.buckets))

    def take(self, seen: Floats, chosen: Bools, step: int) -> None:
        """Advance the chosen runs in which both arms had requests."""
        moved = chosen & seen.sum(axis=2).all(axis=1)
        fresh = self.taken != step
        runs = len(self.phi)
        given = Given(
            tolerance=self.tolerance,
            hazard=onset.hazard(fresh, self.steps - step, onset.KEPT),
            fresh=fresh.astype(np.float64),
            phi=self.phi,
            ratio=np.full(runs, NoHarm().ratio),
            smallest=np.zeros(runs),
            planned=np.zeros(runs),
        )
        if moved.any():
            self.rows[moved] = process.advance(self.shape, self.rows[moved], seen[moved], given.only(moved))
            self.taken[moved] = step


def follow(rollouts: Rollouts, options: Options) -> Course:
    """Take one signal of all runs through all intervals."""
    learnt = _learn(rollouts, options)
    seen = _seen(rollouts)
    flow = _Flow(
        shape_of(rule(rollouts, options), refined=True),
        steps=len(rollouts.scenario.shares),
        tolerance=dependence.widened(
            options.tolerance,
            sigma=np.array([known.sigma for known in learnt]),
            canary_pods=rollouts.scenario.nuisance.canary_pods,
            baseline_pods=_BASELINE_PODS * rollouts.scenario.nuisance.canary_pods,
        ),
        phi=np.array([known.phi for known in learnt]),
    )
    log_e, ends = np.empty(seen.shape[:2]), []
    before = int(rollouts.step[0]), bool(rollouts.warm[0])
    for t, (step, warm) in enumerate(zip(rollouts.step.tolist(), rollouts.warm.tolist(), strict=True)):
        changed = step != before[0]
        if (step, warm) != before:
            flow.take(flow.waiting, np.asarray(flow.waiting.any(axis=(1, 2))), before[0])
            flow.waiting[:] = 0.0
        if changed:
            ends.append((flow.rows.copy(), flow.taken.copy()))
        # The interval after a change of weights belongs to neither share.
        joined = flow.waiting + (0.0 if changed else seen[:, t])
        whole = joined.sum(axis=(1, 2)) >= ENOUGH
        flow.take(joined, whole, step)
        flow.waiting = np.where(whole[:, None, None], 0.0, joined)
        log_e[:, t] = process.log_evidence(flow.shape, flow.rows)
        before = step, warm
    ends.append((flow.rows.copy(), flow.taken.copy()))
    return Course(log_e, tuple(ends), learnt)


def rule(rollouts: Rollouts, options: Options) -> Compared:
    """Return what the judge is asked to compare."""
    match rollouts.scenario.kind:
        case Kind.LATENCY:
            return Latency(EDGES.seconds, options.tolerance, NoHarm())
        case Kind.DISTRIBUTION:
            return Distribution(BUCKETS)
        case _:
            return Count(options.tolerance, NoHarm())


def panel(rollouts: Rollouts, options: Options) -> Panel:
    """Return the panel of all signals, named by their numbers."""
    members = rollouts.family or (rollouts,)
    signals = tuple(Judged(str(index), rule(member, options)) for index, member in enumerate(members))
    return Panel(ALPHA, signals, kept=onset.KEPT)


def _seen(rollouts: Rollouts) -> Floats:
    """Return both arms' counts by bucket, ``[runs, intervals, 2, buckets]``; of events: without, and with it."""
    arms = (rollouts.canary, rollouts.control)
    if rollouts.canary.buckets.size:
        return np.stack([arm.buckets for arm in arms], axis=2)
    return np.stack([np.stack([arm.requests - arm.errors, arm.errors], axis=-1) for arm in arms], axis=2)


def _learn(rollouts: Rollouts, options: Options) -> tuple[Learnt, ...]:
    """Learn from stable's pods in the hour before, where that is asked for and there is something to count."""
    history = rollouts.history
    if not (options.bursts or options.pods) or not history.requests.shape[1]:
        return (Learnt(),) * rollouts.runs
    found = []
    for events, requests in zip(history.errors, history.requests, strict=True):
        sigma = dependence.pod_spread(events.sum(axis=0), requests.sum(axis=0)) if options.pods else 0.0
        found.append(Learnt(dependence.dispersion(events, requests) if options.bursts else 1.0, sigma))
    return tuple(found)


def _promotable(rollouts: Rollouts, courses: list[Course], options: Options) -> Bools:
    """Tell which runs the product's verdict passes at the end of every step."""
    asked = panel(rollouts, options)
    steps = len(rollouts.scenario.shares)
    passed = np.ones(rollouts.runs, dtype=np.bool_)
    for step in range(steps):
        for run in np.flatnonzero(passed):
            signals = {str(index): course.at(step, int(run)) for index, course in enumerate(courses)}
            memory = Memory(tick=1.0, step=step, steps=steps, signals=signals)
            passed[run] = assess(memory, asked).verdict is Verdict.PASS
    return passed


def _labelled(cohorts: Cohorts) -> Floats:
    """Evidence of a lower AUC, in the interval in which the labels are there."""
    score = np.full(cohorts.loss.shape, NEVER)
    delay = LABEL_DELAY_COHORTS
    for run, k in np.argwhere(cohorts.variance[:, :-delay] > 0):
        harm = labels.Estimate(float(cohorts.loss[run, k]), float(cohorts.variance[run, k]))
        score[run, k + delay] = labels.log_evidence(harm, tuned_at=AUC_THAT_MATTERS**-2)
    return score
