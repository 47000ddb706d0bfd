"""A rollout's evidence as a document, written and read.

What a document holds is described in ``docs/judge.md``. Everything here is pure; reading files is the command's part.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from itertools import pairwise
from typing import Any, TypeAlias

import numpy as np

from backstay.domain.signals import NoHarm
from backstay.judge import ratio
from backstay.judge.arrays import Floats
from backstay.judge.fold import Interval
from backstay.judge.memory import Learnt
from backstay.judge.objectives import Limit
from backstay.judge.panel import Compared, Count, Distribution, Judged, Latency, Panel, Part

_TOP = ("alpha", "refinements", "steps", "signals", "split", "keptWithin")
_SIGNAL = ("name", "kind", "weight", "phi", "sigma", "intervals")
_RULE = {
    "count": ("tolerance", "noHarm"),
    "latency": ("tolerance", "noHarm", "edges"),
    "distribution": ("minimumShift", "ordered"),
}
# Larger whole numbers have no exact floating-point form.
_LARGEST = 2**53
_INTERVAL = ("canary", "baseline", "step", "mix", "comparable", "pods")
_SPLIT = ("tolerance", "intervals")
_SPLIT_INTERVAL = ("canary", "others", "planned")


class EvidenceError(ValueError):
    """The document cannot be judged; the sentence names the signal and what to write instead."""


@dataclass(frozen=True, slots=True)
class Taken:
    """One interval of one signal: counts of shape [2, buckets], canary first, and what it was measured under."""

    counts: Floats
    step: int = 0
    mix: str = ""
    comparable: bool = True
    pods: tuple[int, int] = (1, 1)


@dataclass(frozen=True, slots=True)
class Shared:
    """How the traffic was split in one interval: the requests of both arms, and the canary's planned share."""

    canary: float = 0.0
    others: float = 0.0
    planned: float = 0.0


@dataclass(frozen=True, slots=True)
class Evidence:
    """A document, read and checked. ``intervals`` are in the order of the panel's signals."""

    panel: Panel
    steps: int
    intervals: tuple[tuple[Taken, ...], ...]
    learnt: Mapping[str, Learnt] = field(default_factory=dict)
    split: tuple[Shared, ...] = ()


def document_of(panel: Panel, intervals: Sequence[Interval], learnt: Mapping[str, Learnt]) -> dict[str, Any]:
    """Write intervals that were judged as a document that ``evidence_of`` reads; it is judged to the same numbers.

    Objectives, which are limits and no evidence, are left out. A signal that has no counts in an interval has zeros.
    """
    document: dict[str, Any] = {
        "alpha": panel.alpha,
        "refinements": panel.refinements,
        "steps": max((interval.steps for interval in intervals), default=1),
        "keptWithin": panel.kept,
        "signals": [
            {
                "name": part.signal.name,
                "weight": part.signal.weight,
                **_rule_document(part.signal.rule),
                **learnt.get(part.signal.name, Learnt())._asdict(),
                "intervals": [_interval_document(part, interval) for interval in intervals],
            }
            for part in panel.compared
        ],
    }
    if panel.split_tolerance:
        shared = [asdict(Shared(*interval.arms, interval.planned)) for interval in intervals]
        document["split"] = {"tolerance": panel.split_tolerance, "intervals": shared}
    return document


def _rule_document(rule: Compared | Limit) -> dict[str, Any]:
    match rule:
        case Count():
            document: dict[str, Any] = {"kind": "count", "tolerance": rule.tolerance}
        case Latency():
            document = {"kind": "latency", "tolerance": rule.tolerance, "edges": list(rule.edges)}
        case Distribution():
            return {"kind": "distribution", "minimumShift": rule.smallest, "ordered": rule.ordered}
        case _:
            raise TypeError(f"{rule} is not compared between the arms")
    return document | ({"noHarm": asdict(rule.no_harm)} if rule.no_harm else {})


def _interval_document(part: Part, interval: Interval) -> dict[str, Any]:
    counts = interval.signals.get(part.signal.name)
    if counts is None:
        counts = np.zeros((2, part.shape.buckets))
    arms: list[Any] = [[round(count) for count in arm] for arm in counts]
    if isinstance(part.signal.rule, Count):
        arms = [{"total": sum(arm), "events": arm[1]} for arm in arms]
    where = {
        "step": interval.step,
        "mix": interval.mix,
        "comparable": interval.comparable,
        "pods": list(interval.pods),
    }
    return {"canary": arms[0], "baseline": arms[1], **where}


def evidence_of(document: Any) -> Evidence:
    """Read and check a document.

    Raises:
        EvidenceError: saying in one sentence what is wrong, with which signal, and what to write instead.
    """
    top = _object(document, "the document", _TOP)
    signals = _list(top.get("signals"), "signals")
    if not signals:
        raise EvidenceError("signals is empty: name at least one signal")
    read = [_signal(entry, index) for index, entry in enumerate(signals)]
    names = [signal.name for signal, _, _ in read]
    repeated = next((name for name in names if names.count(name) > 1), "")
    if repeated:
        raise EvidenceError(f"two signals are called {repeated}: give each a name of its own")
    refined = top.get("refinements", True)
    if not isinstance(refined, bool):
        raise EvidenceError(f"refinements is {refined!r}: write true or false")
    alpha = _number(top.get("alpha"), "alpha", above=0.0, below=1.0)
    steps = _number(top.get("steps", 1), "steps", least=1, whole=True)
    tolerance, split = _split(top["split"]) if "split" in top else (0.0, ())
    signals_read = tuple(signal for signal, _, _ in read)
    kept = _number(top.get("keptWithin", 0.0), "keptWithin", least=0.0, below=1.0)
    panel = Panel(alpha, signals_read, refinements=refined, split_tolerance=tolerance, kept=kept)
    _agree(read)
    learnt = {signal.name: taught for signal, taught, _ in read}
    return Evidence(panel, int(steps), tuple(intervals for _, _, intervals in read), learnt, split)


def _split(entry: Any) -> tuple[float, tuple[Shared, ...]]:
    split = _object(entry, "split", _SPLIT)
    tolerance = _number(split.get("tolerance", ratio.TOLERANCE), "split.tolerance", least=1.0)
    shared = []
    for place, one in enumerate(_list(split.get("intervals"), "split.intervals")):
        what = f"split.intervals[{place}]"
        values = _object(one, what, _SPLIT_INTERVAL)
        canary, others = (
            _number(values.get(arm), f"{what}.{arm}", least=0, whole=True) for arm in ("canary", "others")
        )
        shared.append(Shared(canary, others, _number(values.get("planned"), f"{what}.planned", least=0.0, below=1.0)))
    return tolerance, tuple(shared)


_Signal: TypeAlias = tuple[Judged, Learnt, tuple[Taken, ...]]


def _agree(read: Sequence[_Signal]) -> None:
    """Refuse signals whose intervals of one place were not measured under the same step, mix and weights."""
    for index in range(max(len(intervals) for _, _, intervals in read)):
        seen = {
            (one.step, one.mix, one.comparable, one.pods): signal.name
            for signal, _, intervals in read
            for one in intervals[index : index + 1]
        }
        if len(seen) > 1:
            one, other = list(seen.values())[:2]
            raise EvidenceError(
                f"signals {one} and {other} differ in step, mix, comparable or pods of intervals[{index}]: "
                "write the same in both, since intervals of one place are measured at one time"
            )


def _signal(entry: Any, index: int) -> _Signal:
    if not isinstance(entry, dict) or not isinstance(entry.get("name"), str) or not entry["name"]:
        raise EvidenceError(f'signals[{index}] has no name: write "name": "errors", say')
    what = f"signal {entry['name']}"
    kind = entry.get("kind")
    if not isinstance(kind, str) or kind not in _RULE:
        raise EvidenceError(f"{what}: kind is {kind!r}: write one of {', '.join(_RULE)}")
    _object(entry, what, (*_SIGNAL, *_RULE[kind]))
    weight = _number(entry.get("weight", 1.0), f"{what}: weight", above=0.0)
    listed = _list(entry.get("intervals"), f"{what}: intervals")
    rule, read = _rule(kind, entry, what, listed)
    intervals = tuple(_taken(one, f"{what}: intervals[{place}]", read) for place, one in enumerate(listed))
    phi = _number(entry.get("phi", 1.0), f"{what}: phi", least=1.0)
    sigma = _number(entry.get("sigma", 0.0), f"{what}: sigma", least=0.0)
    return Judged(entry["name"], rule, weight), Learnt(phi, sigma), intervals


Read = Callable[[Any, str], Floats]


def _rule(kind: str, entry: Mapping[str, Any], what: str, listed: Sequence[Any]) -> tuple[Compared, Read]:
    """Return a signal's rule, and how one arm of its intervals is read."""
    tolerance = _number(entry.get("tolerance", 1.0), f"{what}: tolerance", least=1.0)
    no_harm = _no_harm(entry["noHarm"], what) if "noHarm" in entry else None
    if kind == "count":
        return Count(tolerance, no_harm), _total_and_events
    if kind == "latency":
        edges = [_number(edge, f"{what}: edges", above=0.0) for edge in _list(entry.get("edges"), f"{what}: edges")]
        if not edges or any(one >= other for one, other in pairwise(edges)):
            raise EvidenceError(f"{what}: edges are {edges}: write the buckets' upper ends in seconds, rising")
        return Latency(tuple(edges), tolerance, no_harm), _buckets(len(edges) + 1, "one more than there are edges")
    smallest = _number(entry.get("minimumShift", 0.0), f"{what}: minimumShift", least=0.0, below=1.0)
    ordered = entry.get("ordered", True)
    if not isinstance(ordered, bool):
        raise EvidenceError(f"{what}: ordered is {ordered!r}: write true or false")
    first = listed[0].get("canary") if listed and isinstance(listed[0], dict) else None
    size = len(first) if isinstance(first, list) else 1
    return Distribution(max(size, 1), smallest, ordered), _buckets(size, "as many as in the first interval")


def _no_harm(entry: Any, what: str) -> NoHarm:
    values = _object(entry, f"{what}: noHarm", ("ratio", "level"))
    return NoHarm(
        _number(values.get("ratio", 2.0), f"{what}: noHarm.ratio", above=1.0),
        _number(values.get("level", 0.05), f"{what}: noHarm.level", above=0.0, below=1.0),
    )


def _taken(entry: Any, what: str, read: Read) -> Taken:
    one = _object(entry, what, _INTERVAL)
    arms = [read(one.get(arm), f"{what}.{arm}") for arm in ("canary", "baseline")]
    mix, comparable = one.get("mix", ""), one.get("comparable", True)
    if not isinstance(mix, str) or not isinstance(comparable, bool):
        raise EvidenceError(f"{what}: mix is a text and comparable true or false")
    step = _number(one.get("step", 0), f"{what}.step", least=0, whole=True)
    pods = [_number(count, f"{what}.pods", least=1, whole=True) for count in _list(one.get("pods", [1, 1]), what)]
    if len(pods) != len(arms):
        raise EvidenceError(f"{what}.pods has {len(pods)} numbers: write how many pods each arm has, the canary first")
    return Taken(np.stack(arms), int(step), mix, comparable, (int(pods[0]), int(pods[1])))


def _total_and_events(entry: Any, what: str) -> Floats:
    arm = _object(entry, what, ("total", "events"))
    total = _number(arm.get("total"), f"{what}.total", least=0, whole=True)
    events = _number(arm.get("events"), f"{what}.events", least=0, whole=True)
    if events > total:
        raise EvidenceError(f"{what} has {events:g} events in {total:g} requests: total counts all requests")
    return np.array([total - events, events])


def _buckets(size: int, why: str) -> Read:
    def read(entry: Any, what: str) -> Floats:
        counts = _list(entry, what)
        if len(counts) != size or not size:
            raise EvidenceError(
                f"{what} has {len(counts)} buckets instead of {size}: write a count for each bucket, {why}, "
                "the same ones in both arms"
            )
        return np.array([_number(count, what, least=0, whole=True) for count in counts])

    return read


def _object(entry: Any, what: str, known: Sequence[str]) -> Mapping[str, Any]:
    if not isinstance(entry, dict):
        raise EvidenceError(f"{what} is {_shown(entry)}: write an object with {', '.join(known)}")
    unknown = next((name for name in entry if name not in known), None)
    if unknown is not None:
        raise EvidenceError(f"{what} has an unknown field {unknown!r}: known are {', '.join(known)}")
    return entry


def _list(entry: Any, what: str) -> Sequence[Any]:
    if not isinstance(entry, list):
        raise EvidenceError(f"{what} is {_shown(entry)}: write a list")
    return entry


def _shown(entry: Any) -> str:
    return "missing" if entry is None else repr(entry)[:40]


def _number(  # noqa: PLR0913 - the bounds are one idea, and read best by name
    entry: Any,
    what: str,
    *,
    least: float = -math.inf,
    above: float = -math.inf,
    below: float = math.inf,
    whole: bool = False,
) -> float:
    if isinstance(entry, bool) or not isinstance(entry, int | float) or not abs(entry) <= _LARGEST:
        raise EvidenceError(f"{what} is {_shown(entry)}: write a number")
    if entry < least or entry <= above or entry >= below:
        bounds = [f"at least {least:g}"] * (least > -math.inf)
        bounds += [f"above {above:g}"] * (above > -math.inf) + [f"below {below:g}"] * (below < math.inf)
        raise EvidenceError(f"{what} is {entry:g}: it must be {' and '.join(bounds)}")
    if whole and entry != int(entry):
        raise EvidenceError(
            f"{what} is {entry:g}: counts are whole numbers; take differences of raw counters, not rate() or increase()"
        )
    return float(entry)
