"""A rollout's evidence judged again: with the same code, to the same numbers."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from backstay.domain.status import Verdict
from backstay.judge.document import Evidence, Shared, Taken
from backstay.judge.fold import Interval, budget, fold, reaches
from backstay.judge.memory import Memory, Process
from backstay.judge.panel import SPLIT
from backstay.judge.process import log_evidence
from backstay.judge.verdict import assess, failing_signals, split_verdict


def judge(evidence: Evidence) -> dict[str, Any]:
    """Judge the intervals in order and return the answer as JSON data.

    ``failedAt`` counts intervals from 0.
    """
    panel, memory = evidence.panel, Memory(learnt=evidence.learnt)
    shapes = {part.signal.name: part.shape for part in panel.compared}
    told: dict[str, list[float]] = {name: [] for name in shapes}
    split: list[float] = []
    failed: set[str] = set()
    failed_at: int | None = None
    for index in range(max(map(len, evidence.intervals), default=0)):
        taken = {
            signal.name: intervals[index]
            for signal, intervals in zip(panel.signals, evidence.intervals, strict=True)
            if index < len(intervals)
        }
        shared = evidence.split[index] if index < len(evidence.split) else Shared()
        memory = fold(memory, _interval(index, taken, evidence.steps, shared), panel, freeze=False)
        log_e = {name: _log_e(memory, name, shapes) for name in shapes}
        for name in taken:
            told[name].append(log_e[name])
        alpha = budget(memory, panel)
        if reaches(log_e, panel, alpha=alpha):
            failed_at = index if failed_at is None else failed_at
            failed |= failing_signals(log_e, panel, alpha=alpha)
        if memory.split is not None:
            split.append(float(log_evidence(SPLIT, memory.split.row)))
            lost = split_verdict(memory)
            if lost is not None and lost.verdict is Verdict.FAIL and failed_at is None:
                failed_at = index
    last = assess(replace(memory, failed=False), panel)
    return {
        "verdict": str(last.verdict if failed_at is None else Verdict.FAIL),
        "failedAt": failed_at,
        "signals": [
            {
                "name": signal.name,
                "verdict": str(Verdict.FAIL if signal.name in failed else signal.verdict),
                "logE": told.get(signal.name, split),
                "effect": signal.effect.to_dict() if signal.effect else {},
            }
            for signal in last.signals
        ],
    }


def _log_e(memory: Memory, name: str, shapes: Mapping[str, Any]) -> float:
    state = memory.signals[name]
    return float(log_evidence(shapes[name], state.row)) if isinstance(state, Process) else 0.0


def _interval(index: int, taken: Mapping[str, Taken], steps: int, shared: Shared) -> Interval:
    first = next(iter(taken.values()))
    return Interval(
        tick=float(index + 1),
        signals={name: one.counts for name, one in taken.items()},
        requests=float(first.counts[0].sum()),
        step=first.step,
        steps=steps,
        mix=first.mix,
        comparable=first.comparable,
        planned=shared.planned,
        arms=(shared.canary, shared.others),
        pods=first.pods,
    )
