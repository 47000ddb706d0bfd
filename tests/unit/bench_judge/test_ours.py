"""Backstay in the benchmark is the product: the same evidence and the same verdicts as its own fold and assess."""

from dataclasses import replace

import numpy as np
import pytest

from backstay.domain.status import Verdict
from backstay.judge import process
from backstay.judge.fold import Interval, fold
from backstay.judge.memory import Memory, Process
from backstay.judge.verdict import assess
from backstay_bench_judge import ours
from backstay_bench_judge.ours import Options
from backstay_bench_judge.scenarios import CENTRE, STEPPED, Kind, Nuisance, Scenario
from backstay_bench_judge.simulate import Rollouts, batches

STEPS = replace(CENTRE, shares=STEPPED, minutes=12, nuisance=Nuisance("tried", warm_up_minutes=4, burst=2, pod_sd=0.3))


def folded(rollouts: Rollouts, run: int, options: Options) -> tuple[list[float], list[Verdict]]:
    """Take one run through the product's own memory: log E after each interval, the verdict at each step's end."""
    panel = ours.panel(rollouts, options)
    part = panel.compared[0]
    seen = ours._seen(rollouts)  # noqa: SLF001 - the same counts go into both
    learnt = ours._learn(rollouts, options)[run]  # noqa: SLF001 - and the same hour before
    steps = rollouts.step.tolist()
    memory, evidence, verdicts = Memory(learnt={"0": learnt}), [], []
    pods = rollouts.scenario.nuisance.canary_pods
    for t, step in enumerate(steps):
        interval = Interval(
            tick=float(t + 1),
            signals={"0": seen[run, t]},
            requests=float(rollouts.canary.requests[run, t]),
            step=step,
            steps=len(rollouts.scenario.shares),
            mix=str(bool(rollouts.warm[t])),
            comparable=t == 0 or step == steps[t - 1],
            pods=(pods, 3 * pods),
        )
        ended = memory
        memory = fold(memory, interval, panel, freeze=False)
        state = memory.signals["0"]
        assert isinstance(state, Process)
        evidence.append(float(process.log_evidence(part.shape, state.row)))
        if t and step != steps[t - 1]:
            verdicts.append(assess(ended, panel).verdict)
    return evidence, [*verdicts, assess(memory, panel).verdict]


@pytest.mark.parametrize(
    ("scenario", "options"),
    [
        (replace(STEPS, effect=2.0), Options()),
        (replace(STEPS, effect=2.0), Options(bursts=True)),
        (replace(STEPS, traffic=0.2), Options(tolerance=1.25)),
        (replace(STEPS, traffic=20.0), Options(bursts=True, pods=True)),
        (Scenario(kind=Kind.LATENCY, base=0.10, effect=2.0, minutes=8, shares=(0.10, 0.50)), Options()),
        (Scenario(kind=Kind.DISTRIBUTION, base=0.0, effect=0.1, minutes=8, shares=(0.10, 0.50)), Options()),
    ],
    ids=["steps", "bursts", "low traffic, tolerance", "pods", "latency", "distribution"],
)
def test_evidence_is_that_of_the_products_memory(scenario: Scenario, options: Options) -> None:
    rollouts = next(batches(scenario, seed=1, runs=2))
    course = ours.follow(rollouts, options)
    for run in range(2):
        evidence, _ = folded(rollouts, run, options)
        assert course.log_e[run].tolist() == pytest.approx(evidence, abs=1e-9)


def test_promotion_is_the_products_verdict() -> None:
    scenario = replace(CENTRE, shares=(0.10, 0.50), minutes=30, traffic=20.0)
    rollouts = next(batches(scenario, seed=1, runs=4))
    judged = ours.default(rollouts)
    assert judged.passed is not None
    for run in range(4):
        _, verdicts = folded(rollouts, run, Options())
        assert judged.passed[run] == all(verdict is Verdict.PASS for verdict in verdicts)
    assert judged.passed.any()


def test_a_harmful_version_fails_and_a_harmless_one_does_not() -> None:
    harmful, harmless = (
        ours.default(next(batches(replace(CENTRE, effect=effect, traffic=20.0, minutes=20), seed=1, runs=20)))
        for effect in (5.0, 1.0)
    )
    assert (harmful.score.max(axis=1) >= harmful.threshold).all()
    assert (harmless.score.max(axis=1) >= harmless.threshold).mean() <= 0.1


def test_labels_are_judged_when_they_have_come() -> None:
    scenario = Scenario(kind=Kind.LABELS, traffic=0.2, base=0.2, shares=(0.5,), effect=0.3, minutes=12 * 60)
    judged = ours.default(next(batches(scenario, seed=1, runs=5)))
    assert np.isneginf(judged.score[:, :3]).all()
    assert (judged.score[:, 3:] >= judged.threshold).any(axis=1).all()
