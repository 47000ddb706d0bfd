"""Adding intervals to memories: many rollouts at once, their signals stacked into arrays by shape."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from backstay.judge import dependence, objectives
from backstay.judge.arrays import Bools, Floats, Ints
from backstay.judge.memory import Learnt, Memory, Process, State
from backstay.judge.objectives import Limit, Window
from backstay.judge.panel import SPLIT, Count, Distribution, Kind, Latency, NoHarm, Panel, Part, Shape
from backstay.judge.process import Given, advance, log_evidence, start

# Intervals are joined until both arms together have so many requests. By totals, never by events: what is joined must
# not depend on what is being tested.
ENOUGH = 30


@dataclass(frozen=True, slots=True)
class Interval:
    """One interval of evidence, ending at ``tick``.

    ``signals`` holds counts of shape [2, buckets], canary first; an event count is [requests without, requests with].
    ``comparable`` is False where the route's weights changed in it: its two shares do not mix. ``step`` is the step it
    belongs to, out of ``steps`` in which two arms are compared; ``mix`` names what the baseline is made of, since
    intervals are only joined while that stays. ``planned`` is the canary's planned share of the
    requests of both arms, 0 where that is not known, and ``pods`` how many pods each arm has.
    """

    tick: float
    signals: Mapping[str, Floats]
    requests: float
    step: int = 0
    steps: int = 1
    mix: str = ""
    comparable: bool = True
    planned: float = 0.0
    arms: tuple[float, float] = (0.0, 0.0)
    pods: tuple[int, int] = (1, 1)


def counted(c: float, s: float, n_c: float, n_s: float) -> Floats:
    """Bring an event count into the form of ``Interval.signals``; an event belongs to a request."""
    return np.array([[max(n_c - c, 0.0), c], [max(n_s - s, 0.0), s]])


@dataclass(slots=True)
class _Row:
    """One process of one rollout in one tick, on its way through a batch."""

    rollout: int
    name: str
    process: Process
    seen: Floats | None
    memory: Memory
    interval: Interval
    part: Part | None = None
    tolerance: float = 1.0


class _Batch(NamedTuple):
    """Rows of one shape, the last step that each took, the step and the counts that it takes now."""

    states: Floats
    taken: Ints
    steps: Ints
    seen: Floats


@dataclass(slots=True)
class _Draft:
    """What a rollout's next memory is put together from."""

    states: dict[str, State]
    split: Process | None
    log_e: dict[str, float] = field(default_factory=dict)


def fold(memory: Memory, interval: Interval, panel: Panel, *, freeze: bool = True) -> Memory:
    """Add one interval to one memory; see ``fold_many``."""
    return fold_many([memory], [interval], [panel], freeze=freeze)[0]


def fold_many(
    memories: Sequence[Memory], intervals: Sequence[Interval], panels: Sequence[Panel], *, freeze: bool = True
) -> list[Memory]:
    """Add one interval to each of many memories.

    An interval that is not later than the last one changes nothing: nothing counts twice. The result is to the bit
    what folding them one at a time gives.

    Args:
        memories: one for each rollout.
        intervals: the interval of each.
        panels: what is judged of each.
        freeze: let comparisons stand still once they have failed, so that what is told is what they failed with.
    """
    drafts: dict[int, _Draft] = {}
    groups: dict[Shape, list[_Row]] = {}
    for index, (memory, interval, panel) in enumerate(zip(memories, intervals, panels, strict=True)):
        if interval.tick > memory.tick:
            drafts[index] = _Draft(dict(memory.signals), memory.split)
            _watch(drafts[index], memory, interval, panel)
            if not (freeze and memory.failed):
                _enlist(groups, index, memory, interval, panel)
    for shape, rows in groups.items():
        _advance(shape, rows, drafts)
    folded = list(memories)
    for index, draft in drafts.items():
        folded[index] = _remember(memories[index], intervals[index], panels[index], draft)
    return folded


def reaches(log_e: Mapping[str, float], panel: Panel, *, alpha: float) -> bool:
    """Tell whether compared signals with this evidence fail a rollout.

    Refined: their weighted mean reaches 1/alpha. In the base form each has its share of alpha for itself.
    """
    if not panel.refinements:
        return any(log_e.get(part.signal.name, 0.0) >= -math.log(alpha * part.share) for part in panel.compared)
    return bool(panel.compared) and together(log_e, panel) >= -math.log(alpha)


def together(log_e: Mapping[str, float], panel: Panel) -> float:
    """Return the logarithm of the weighted mean of the compared signals' E; a signal not named has E = 1."""
    parts = [(log_e.get(part.signal.name, 0.0), part.share) for part in panel.compared]
    top = max(e for e, _ in parts)
    return top + math.log(math.fsum(share * math.exp(e - top) for e, share in parts))


def budget(memory: Memory, panel: Panel) -> float:
    """Return the alpha that comparisons have: half, where pods are known to differ and the tolerance covers that."""
    return panel.alpha / 2 if any(learnt.sigma for learnt in memory.learnt.values()) else panel.alpha


def _watch(draft: _Draft, memory: Memory, interval: Interval, panel: Panel) -> None:
    for signal in panel.signals:
        if isinstance(signal.rule, Limit):
            seen = interval.signals.get(signal.name)
            without, events = (float(x) for x in seen[0]) if seen is not None else (0.0, 0.0)
            known = memory.signals.get(signal.name)
            window = known if isinstance(known, Window) else Window()
            draft.states[signal.name] = objectives.watch(
                window, signal.rule, tick=interval.tick, requests=without + events, events=events
            )


def _enlist(groups: dict[Shape, list[_Row]], index: int, memory: Memory, interval: Interval, panel: Panel) -> None:
    for part in panel.compared:
        name = part.signal.name
        known = memory.signals.get(name)
        process = known if isinstance(known, Process) else Process(start(part.shape))
        seen = interval.signals.get(name) if interval.comparable else None
        groups.setdefault(part.shape, []).append(_Row(index, name, process, seen, memory, interval, part))
    if panel.split_tolerance and 0.0 < interval.planned < 1.0 and interval.comparable:
        process = memory.split or Process(start(SPLIT))
        seen = np.array(interval.arms, dtype=np.float64).reshape(2, 1)
        groups.setdefault(SPLIT, []).append(
            _Row(index, "", process, seen, memory, interval, None, panel.split_tolerance)
        )


def _advance(shape: Shape, rows: list[_Row], drafts: Mapping[int, _Draft]) -> None:
    """Move all processes of one shape; first those whose waiting counts belong to weights that are gone."""
    states = np.stack([row.process.row for row in rows])
    nothing = np.zeros((2, shape.buckets))
    waiting = np.stack([nothing if row.process.pending is None else row.process.pending for row in rows])
    seen = np.stack([nothing if row.seen is None else row.seen for row in rows])
    joins = shape.refined and shape.kind is not Kind.SPLIT
    taken = np.array([row.process.step for row in rows])
    over = np.array(
        [
            not row.interval.comparable or (row.interval.step, row.interval.mix) != (row.memory.step, row.memory.mix)
            for row in rows
        ]
    )
    before = np.array([row.memory.step for row in rows])
    now = np.array([row.interval.step for row in rows])
    stale = over & waiting.any(axis=(1, 2))
    states, taken = _take(shape, rows, _Batch(states, taken, before, waiting), stale)
    waiting[over] = 0.0
    joined = waiting + seen
    whole = joined.sum(axis=(1, 2)) >= (ENOUGH if joins else 0)
    states, taken = _take(shape, rows, _Batch(states, taken, now, joined), whole)
    keeps = ~whole & joined.any(axis=(1, 2))
    evidence = log_evidence(shape, states).tolist()
    for i, row in enumerate(rows):
        process = Process(states[i].copy(), step=int(taken[i]), pending=joined[i].copy() if keeps[i] else None)
        if shape.kind is Kind.SPLIT:
            drafts[row.rollout].split = process
        else:
            drafts[row.rollout].states[row.name] = process
            drafts[row.rollout].log_e[row.name] = evidence[i]


def _take(shape: Shape, rows: Sequence[_Row], batch: _Batch, chosen: Bools) -> tuple[Floats, Ints]:
    """Advance the chosen rows in which both arms had requests; returns the states, and the last steps taken.

    Of the split, an arm without requests is just what is looked for.
    """
    states, taken, steps, seen = batch
    arms = seen.sum(axis=2)
    moved = chosen & (arms.any(axis=1) if shape.kind is Kind.SPLIT else arms.all(axis=1))
    if not moved.any():
        return states, taken
    fresh = taken != steps
    given = _given(shape, rows, fresh.astype(np.float64), steps)
    if moved.all():
        return advance(shape, states, seen, given), steps
    states, taken = states.copy(), taken.copy()
    states[moved] = advance(shape, states[moved], seen[moved], given.only(moved))
    taken[moved] = steps[moved]
    return states, taken


_UNLEARNT = Learnt()
_NO_HARM = NoHarm()


def _given(shape: Shape, rows: Sequence[_Row], fresh: Floats, steps: Ints) -> Given:
    """Collect what is known of each row's interval before it."""
    size = len(rows)
    compared_steps = np.array([row.interval.steps for row in rows])
    hazard = fresh / np.maximum(compared_steps - steps, 1) if shape.refined else np.zeros(size)
    values = np.array([_rule_values(row) for row in rows])
    learnt = np.array([row.memory.learnt.get(row.name, _UNLEARNT) for row in rows])
    pods = np.array([row.interval.pods for row in rows])
    tolerance = dependence.widened(values[:, 0], sigma=learnt[:, 1], canary_pods=pods[:, 0], baseline_pods=pods[:, 1])
    planned = np.array([row.interval.planned for row in rows])
    return Given(tolerance, hazard, fresh, learnt[:, 0], values[:, 1], values[:, 2], planned)


def _rule_values(row: _Row) -> tuple[float, float, float]:
    """Return tolerance, the harm to rule out, and the shift that counts as none."""
    match row.part.signal.rule if row.part else None:
        case Count() | Latency() as rule:
            return rule.tolerance, (rule.no_harm or _NO_HARM).ratio, 0.0
        case Distribution() as rule:
            return 1.0, _NO_HARM.ratio, rule.smallest
        case _:
            return row.tolerance, _NO_HARM.ratio, 0.0


def _remember(memory: Memory, interval: Interval, panel: Panel, draft: _Draft) -> Memory:
    same = interval.step == memory.step
    return Memory(
        tick=interval.tick,
        step=interval.step,
        steps=interval.steps,
        mix=interval.mix,
        requests=(memory.requests if same else 0.0) + interval.requests,
        failed=memory.failed or reaches(draft.log_e, panel, alpha=budget(memory, panel)),
        signals=draft.states,
        split=draft.split,
        learnt=memory.learnt,
    )
