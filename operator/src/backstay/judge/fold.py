"""Adding intervals to memories: many rollouts at once, their signals stacked into arrays by shape."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from backstay.domain.signals import NoHarm
from backstay.judge import dependence, objectives, onset
from backstay.judge.arrays import Bools, Floats, Ints
from backstay.judge.batch import Rows, Rule, rule_of
from backstay.judge.memory import Learnt, Memory, Process, State
from backstay.judge.objectives import Window
from backstay.judge.panel import SPLIT, Kind, Panel, Shape
from backstay.judge.process import Given, advance, log_evidence, start
from backstay.judge.silence import Flow

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
    requests of both arms, 0 where that is not known, and ``pods`` how many pods each arm has. ``due`` are the requests
    of both arms, canary first, by each signal that is to count while they flow.
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
    due: Mapping[str, tuple[float, float]] = field(default_factory=dict)


def counted(c: float, s: float, n_c: float, n_s: float) -> Floats:
    """Bring an event count into the form of ``Interval.signals``; an event belongs to a request."""
    return np.array([[max(n_c - c, 0.0), c], [max(n_s - s, 0.0), s]])


class _Tick(NamedTuple):
    """What all signals of a rollout share in one tick, by rollout.

    ``before`` and ``now`` are steps, ``over`` tells that counts from before ``now`` cannot be joined with those of it.
    """

    before: Ints
    now: Ints
    steps: Ints
    over: Bools
    kept: Floats
    planned: Floats
    pods: Ints
    learnt: Sequence[Mapping[str, Learnt]]

    @staticmethod
    def of(memories: Sequence[Memory], intervals: Sequence[Interval], panels: Sequence[Panel]) -> "_Tick":
        """Collect it."""
        return _Tick(
            np.array([memory.step for memory in memories]),
            np.array([interval.step for interval in intervals]),
            np.array([interval.steps for interval in intervals]),
            np.array(
                [
                    not interval.comparable or interval.step != memory.step or interval.mix != memory.mix
                    for memory, interval in zip(memories, intervals, strict=True)
                ],
                dtype=np.bool_,
            ),
            np.array([panel.kept for panel in panels]),
            np.array([interval.planned for interval in intervals]),
            np.array([interval.pods for interval in intervals]).reshape(-1, 2),
            [memory.learnt for memory in memories],
        )


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
    entry = _Entry()
    for index, (memory, interval, panel) in enumerate(zip(memories, intervals, panels, strict=True)):
        if interval.tick > memory.tick:
            drafts[index] = _Draft(dict(memory.signals), memory.split)
            _watch(drafts[index], memory, interval, panel)
            if not (freeze and memory.failed):
                entry.enlist(index, memory, interval, panel)
    tick = _Tick.of(memories, intervals, panels)
    for rows in entry.groups.values():
        _advance(rows, tick, drafts)
    folded = list(memories)
    for index, draft in drafts.items():
        folded[index] = _remember(memories[index], intervals[index], panels[index], draft)
    return folded


def reaches(log_e: Mapping[str, float], panel: Panel, *, alpha: float) -> bool:
    """Tell whether compared signals with this evidence fail a rollout.

    Refined: their weighted mean reaches 1/alpha. In the base form each has its share of alpha for itself.
    """
    # No mean is above the highest, and mostly that is far away.
    if not log_e or max(log_e.values()) < -math.log(alpha):
        return False
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
    for name, rule in panel.limits:
        seen = interval.signals.get(name)
        without, events = (float(x) for x in seen[0]) if seen is not None else (0.0, 0.0)
        known = memory.signals.get(name)
        window = known if isinstance(known, Window) else Window()
        draft.states[name] = objectives.watch(
            window, rule, tick=interval.tick, requests=without + events, events=events
        )


class _Entry:
    """Where processes are enlisted, by shape."""

    def __init__(self) -> None:
        self.groups: dict[Shape, Rows] = {}
        self._places: dict[int, tuple[tuple[str, Rows, int], ...]] = {}

    def enlist(self, index: int, memory: Memory, interval: Interval, panel: Panel) -> None:
        """Enlist all processes of a rollout."""
        places = self._places.get(id(panel))
        if places is None:
            places = self._places[id(panel)] = tuple(
                (part.signal.name, *self._place(part.shape, rule_of(part))) for part in panel.compared
            )
        known, seen = memory.signals, interval.signals if interval.comparable else {}
        for name, rows, rule in places:
            process = known.get(name)
            if not isinstance(process, Process):
                process = Process(start(rows.shape))
            rows.add(index, name, process, seen.get(name), rule)
        if panel.split_tolerance and 0.0 < interval.planned < 1.0 and interval.comparable:
            rows, rule = self._place(SPLIT, Rule(panel.split_tolerance, NoHarm().ratio, 0.0))
            arms = np.array(interval.arms, dtype=np.float64).reshape(2, 1)
            rows.add(index, "", memory.split or Process(start(SPLIT)), arms, rule)

    def _place(self, shape: Shape, rule: Rule) -> tuple[Rows, int]:
        rows = self.groups.setdefault(shape, Rows(shape))
        rows.table.append(rule)
        return rows, len(rows.table) - 1


def _advance(rows: Rows, tick: _Tick, drafts: Mapping[int, _Draft]) -> None:
    """Move all processes of one shape; first those whose waiting counts belong to weights that are gone."""
    shape, size, at = rows.shape, len(rows.rollouts), np.array(rows.rollouts)
    states = np.concatenate([process.row for process in rows.processes]).reshape(size, -1)
    seen = np.concatenate(rows.seen, dtype=np.float64).reshape(size, 2, shape.buckets)
    joined, waiting = seen, [i for i, process in enumerate(rows.processes) if process.pending is not None]
    taken, over = np.array([process.step for process in rows.processes]), tick.over[at]
    if waiting:
        pending = np.zeros_like(seen)
        pending[waiting] = [rows.processes[i].pending for i in waiting]
        states, taken = _take(
            rows, tick, _Batch(states, taken, tick.before[at], pending), over & pending.any(axis=(1, 2))
        )
        pending[over] = 0.0
        joined = pending + seen
    joins = shape.refined and shape.kind is not Kind.SPLIT
    whole = joined.sum(axis=(1, 2)) >= (ENOUGH if joins else 0)
    states, taken = _take(rows, tick, _Batch(states, taken, tick.now[at], joined), whole)
    keeps = (~whole & joined.any(axis=(1, 2))).tolist()
    evidence, steps = log_evidence(shape, states).tolist(), taken.tolist()
    for i, (rollout, name) in enumerate(zip(rows.rollouts, rows.names, strict=True)):
        process = Process(states[i].copy(), step=steps[i], pending=joined[i].copy() if keeps[i] else None)
        draft = drafts[rollout]
        if shape.kind is Kind.SPLIT:
            draft.split = process
        else:
            draft.states[name] = process
            draft.log_e[name] = evidence[i]


def _take(rows: Rows, tick: _Tick, batch: _Batch, chosen: Bools) -> tuple[Floats, Ints]:
    """Advance the chosen rows in which both arms had requests; returns the states, and the last steps taken.

    Of the split, an arm without requests is just what is looked for.
    """
    states, taken, steps, seen = batch
    arms = seen.sum(axis=2)
    moved = chosen & (arms.any(axis=1) if rows.shape.kind is Kind.SPLIT else arms.all(axis=1))
    if not moved.any():
        return states, taken
    fresh = taken != steps
    given = _given(rows, tick, fresh, steps)
    if moved.all():
        return advance(rows.shape, states, seen, given), steps
    states, taken = states.copy(), taken.copy()
    states[moved] = advance(rows.shape, states[moved], seen[moved], given.only(moved))
    taken[moved] = steps[moved]
    return states, taken


_UNLEARNT = Learnt()


def _given(rows: Rows, tick: _Tick, fresh: Bools, steps: Ints) -> Given:
    """Collect what is known of each row's interval before it."""
    at = np.array(rows.rollouts)
    left = np.maximum(tick.steps[at] - steps, 1)
    hazard = onset.hazard(fresh, left, tick.kept[at]) if rows.shape.refined else np.zeros(len(at))
    tolerance, ratio, smallest = np.array(rows.table)[rows.rules].T
    phi, sigma = np.ones(len(at)), np.zeros(len(at))
    if any(tick.learnt):
        learnt = [tick.learnt[i].get(name, _UNLEARNT) for i, name in zip(rows.rollouts, rows.names, strict=True)]
        phi, sigma = np.array(learnt).T
    pods = tick.pods[at]
    tolerance = dependence.widened(tolerance, sigma=sigma, canary_pods=pods[:, 0], baseline_pods=pods[:, 1])
    given = Given(tolerance, hazard, fresh.astype(np.float64), phi, ratio, smallest, tick.planned[at])
    return Given(*(np.ascontiguousarray(getattr(given, name)) for name in given.__dataclass_fields__))


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
        edges=memory.edges,
        split=draft.split,
        learnt=memory.learnt,
        flows=_flows(memory, interval),
    )


_NO_FLOWS = (Flow(), Flow())


def _flows(memory: Memory, interval: Interval) -> dict[str, tuple[Flow, Flow]]:
    flows = dict(memory.flows)
    for name, (canary, baseline) in interval.due.items():
        seen = interval.signals.get(name)
        # Thousands of these are added in a tick, and numpy's own sum takes three times as long.
        c, s = np.add.reduce(seen, 1).tolist() if seen is not None else (0.0, 0.0)
        ours, theirs = flows.get(name, _NO_FLOWS)
        flows[name] = (ours.after(canary, c), theirs.after(baseline, s))
    return flows
