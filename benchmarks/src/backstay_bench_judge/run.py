"""Run cells: simulate, let every judge judge, make their false rollbacks equal, and keep what the report needs."""

import json
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np

from backstay_bench_judge.field import JUDGES, OURS
from backstay_bench_judge.judging import Judge
from backstay_bench_judge.measure import Outcomes, matching, outcomes
from backstay_bench_judge.scenarios import Kind, Scenario
from backstay_bench_judge.simulate import Floats, batches

OWN, MATCHED, AT_ALPHA = "own", "matched", "at alpha"
ALPHA = 0.05
# DeLong's variances are computed run by run.
LABELS_PART = 5


@dataclass(frozen=True, slots=True)
class Cell:
    """One judge in one scenario under one setting of its threshold.

    ``setting`` is "own" (as configured), "matched" (threshold moved until harmless versions of the same cell are rolled
    back as often as Backstay does) or "at alpha" (the same, 5 % for every judge). ``fewer`` is by how many bad answers
    the judge served fewer than Backstay in the same runs, on average, ``fewer_error`` the standard error of that.
    """

    scenario: str
    judge: str
    setting: str
    runs: int
    rolled_back: int
    promoted: int
    bad_mean: float
    bad_p90: float
    delay_mean: float
    delay_p90: float
    false_rate: float
    fewer: float = 0.0
    fewer_error: float = 0.0


@dataclass(frozen=True, slots=True)
class Results:
    """All cells, and how they were made."""

    command: str
    runs: int
    seed: int
    cells: tuple[Cell, ...] = field(default_factory=tuple)

    def save(self, path: Path) -> None:
        """Write them as JSON."""
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(asdict(self), indent=1) + "\n")

    @staticmethod
    def load(path: Path) -> "Results":
        """Read what ``save`` wrote."""
        document = json.loads(path.read_text())
        return Results(**{**document, "cells": tuple(Cell(**cell) for cell in document["cells"])})


def groups(scenarios: Iterable[Scenario]) -> list[tuple[Scenario, ...]]:
    """Put together the scenarios whose harmless version is the same; a group is the unit of work."""
    found: dict[str, dict[str, Scenario]] = defaultdict(dict)
    for scenario in scenarios:
        found[scenario.null.name][scenario.name] = scenario
    return [tuple(group.values()) for group in found.values()]


def run(
    scenarios: Sequence[Scenario],
    *,
    seed: int,
    runs: int,
    jobs: int = 1,
    finished: Callable[[str, int], None] = lambda _name, _count: None,
) -> tuple[Cell, ...]:
    """Run all scenarios; ``finished`` is told each group's harmless cell and size as it ends."""
    work = groups(scenarios)
    done: dict[int, tuple[Cell, ...]] = {}
    if jobs == 1:
        for index, group in enumerate(work):
            done[index] = run_group(group, seed=seed, runs=runs)
            finished(group[0].null.name, len(group))
    else:
        with ProcessPoolExecutor(jobs) as pool:
            tasks = {pool.submit(run_group, group, seed=seed, runs=runs): index for index, group in enumerate(work)}
            for task in as_completed(tasks):
                index = tasks[task]
                done[index] = task.result()
                finished(work[index][0].null.name, len(work[index]))
    return tuple(cell for index in sorted(done) for cell in done[index])


def run_group(group: Sequence[Scenario], *, seed: int, runs: int) -> tuple[Cell, ...]:
    """Run one harmless cell and its harmful versions."""
    null = group[0].null
    runs = max(runs // LABELS_PART, 1) if null.kind is Kind.LABELS else runs
    judges = [judge for judge in JUDGES if null.kind in judge.kinds]
    harmless, highest = _judge_all(null, judges, seed=seed, runs=runs, thresholds=None)
    target = float(harmless[OURS, OWN].rolled_back.mean())
    thresholds = {
        (judge.name, setting): matching(highest[judge.name], rate)
        for judge in judges
        for setting, rate in ((MATCHED, target), (AT_ALPHA, ALPHA))
        if (judge.name, setting) != (OURS, MATCHED)
    }
    rates = {key: float((highest[key[0]] >= threshold).mean()) for key, threshold in thresholds.items()} | {
        (judge.name, OWN): float(harmless[judge.name, OWN].rolled_back.mean()) for judge in judges
    }
    rates[OURS, MATCHED] = target
    cells: list[Cell] = []
    for scenario in group:
        if scenario.harmless:
            cells += [_cell(scenario, key, found, harmless, rates) for key, found in harmless.items()]
            continue
        harmful, _ = _judge_all(scenario, judges, seed=seed, runs=runs, thresholds=thresholds)
        cells += [_cell(scenario, key, found, harmful, rates) for key, found in harmful.items()]
    return tuple(cells)


Key = tuple[str, str]


def _judge_all(
    scenario: Scenario, judges: Sequence[Judge], *, seed: int, runs: int, thresholds: dict[Key, float] | None
) -> tuple[dict[Key, Outcomes], dict[str, Floats]]:
    """Judge every batch; return what happened by judge and setting, and the highest score of each run."""
    parts: dict[Key, list[Outcomes]] = defaultdict(list)
    highest: dict[str, list[Floats]] = defaultdict(list)
    for rollouts in batches(scenario, seed=seed, runs=runs):
        for judge in judges:
            judged = judge.judge(rollouts)
            own = outcomes(rollouts, judged, score=judged.score, threshold=judged.threshold)
            parts[judge.name, OWN].append(own)
            highest[judge.name].append(judged.dial.max(axis=1))
            for setting in (MATCHED, AT_ALPHA) if thresholds is not None else ():
                threshold = (thresholds or {}).get((judge.name, setting))
                found = own if threshold is None else outcomes(rollouts, judged, score=judged.dial, threshold=threshold)
                parts[judge.name, setting].append(found)
    joined = {key: Outcomes.join(found) for key, found in parts.items()}
    return joined, {name: np.concatenate(found) for name, found in highest.items()}


def _cell(
    scenario: Scenario, key: Key, found: Outcomes, everyone: dict[Key, Outcomes], rates: dict[Key, float]
) -> Cell:
    ours = everyone[OURS, key[1]]
    fewer = ours.bad - found.bad
    runs = len(found.bad)
    return Cell(
        scenario.name,
        *key,
        runs,
        int(found.rolled_back.sum()),
        int(found.promoted.sum()),
        float(found.bad.mean()),
        float(np.quantile(found.bad, 0.9)),
        float(found.delay.mean()),
        float(np.quantile(found.delay, 0.9)),
        rates[key],
        float(fewer.mean()),
        float(fewer.std() / np.sqrt(runs)),
    )
