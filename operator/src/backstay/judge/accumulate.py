"""The judge's memory of one rollout: small enough for ``status``, and resumed from it to the bit."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from backstay.domain.resource import Analysis, Comparison, Objective
from backstay.judge.first_counts import GRID, NOTHING, Counts, exponents

# The most parts that an objective's window is kept in.
_SLOTS = 12


@dataclass(frozen=True, slots=True)
class Slot:
    """A part of an objective's window: when it began (Unix seconds), the canary's requests and events in it."""

    start: float
    requests: float
    events: float


@dataclass(frozen=True, slots=True)
class SignalMemory:
    """What one signal has gathered: exponents and totals of a comparison, or the window of an objective."""

    exponents: tuple[float, ...] = ()
    totals: Counts = NOTHING
    window: tuple[Slot, ...] = ()
    violations: int = 0
    failed: bool = False


@dataclass(frozen=True, slots=True)
class Memory:
    """Everything gathered of one rollout up to ``tick`` (Unix seconds, 0 before the first).

    ``requests`` are the canary's in step ``step``.
    """

    tick: float = 0.0
    step: int = 0
    requests: float = 0.0
    signals: Mapping[str, SignalMemory] = field(default_factory=dict)

    @staticmethod
    def of(document: Mapping[str, Any]) -> "Memory":
        """Read what ``to_dict`` wrote."""
        return Memory(
            tick=document.get("tick", 0.0),
            step=document.get("step", 0),
            requests=document.get("requests", 0.0),
            signals={
                name: SignalMemory(
                    exponents=tuple(entry.get("exponents", ())),
                    totals=Counts(*entry["totals"]) if "totals" in entry else NOTHING,
                    window=tuple(Slot(*slot) for slot in entry.get("window", ())),
                    violations=entry.get("violations", 0),
                    failed=entry.get("failed", False),
                )
                for name, entry in document.get("signals", {}).items()
            },
        )

    def to_dict(self) -> dict[str, Any]:
        """Write it as JSON data."""
        return {
            "tick": self.tick,
            "step": self.step,
            "requests": self.requests,
            "signals": {name: _signal_document(memory) for name, memory in self.signals.items()},
        }


def _signal_document(memory: SignalMemory) -> dict[str, Any]:
    document: dict[str, Any] = {}
    if memory.exponents:
        totals = memory.totals
        document["exponents"] = list(memory.exponents)
        document["totals"] = [
            totals.canary_requests,
            totals.canary_events,
            totals.stable_requests,
            totals.stable_events,
        ]
    if memory.window:
        document["window"] = [[slot.start, slot.requests, slot.events] for slot in memory.window]
    if memory.violations:
        document["violations"] = memory.violations
    if memory.failed:
        document["failed"] = True
    return document


@dataclass(frozen=True, slots=True)
class Interval:
    """One interval of evidence, ending at ``tick``.

    ``comparable`` is False where the route's weights changed in it: its two shares do not mix. ``step`` is the step it
    belongs to.
    """

    tick: float
    counts: Counts
    step: int = 0
    comparable: bool = True


def fold(memory: Memory, interval: Interval, analysis: Analysis) -> Memory:
    """Add one interval. An interval that is not later than the last one changes nothing: nothing counts twice."""
    if interval.tick <= memory.tick:
        return memory
    requests = memory.requests if interval.step == memory.step else 0.0
    signals = {}
    for signal in analysis.signals:
        gathered = memory.signals.get(signal.name, SignalMemory())
        match signal.rule:
            case Comparison() as rule:
                signals[signal.name] = _compare(gathered, interval, rule)
            case Objective() as rule:
                signals[signal.name] = _watch(gathered, interval, rule)
    return Memory(
        tick=interval.tick,
        step=interval.step,
        requests=requests + interval.counts.canary_requests,
        signals=signals,
    )


def _compare(memory: SignalMemory, interval: Interval, rule: Comparison) -> SignalMemory:
    if not interval.comparable or not interval.counts.comparable:
        return memory
    added = exponents(interval.counts, tolerance=rule.tolerance)
    before = memory.exponents or tuple(0.0 for _ in GRID)
    return replace(
        memory,
        exponents=tuple(x + y for x, y in zip(before, added, strict=True)),
        totals=memory.totals + interval.counts,
    )


def _watch(memory: SignalMemory, interval: Interval, rule: Objective) -> SignalMemory:
    """Slide the window; a violation is counted once an interval in which the window's ratio is above the limit."""
    length = rule.window / _SLOTS
    counts, window = interval.counts, list(memory.window)
    if counts.canary_requests or counts.canary_events:
        if window and interval.tick - window[-1].start < length:
            last = window.pop()
            window.append(Slot(last.start, last.requests + counts.canary_requests, last.events + counts.canary_events))
        else:
            window.append(Slot(interval.tick, counts.canary_requests, counts.canary_events))
    window = [slot for slot in window if slot.start > interval.tick - rule.window]
    requests = sum(slot.requests for slot in window)
    events = sum(slot.events for slot in window)
    above = requests >= rule.min_requests and events > rule.limit * requests
    violations = memory.violations + 1 if above and counts.canary_requests else 0 if not above else memory.violations
    return replace(
        memory, window=tuple(window), violations=violations, failed=memory.failed or violations >= rule.violations
    )
