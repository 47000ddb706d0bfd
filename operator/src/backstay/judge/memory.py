"""The judge's memory of one rollout: small enough for ``status``, and resumed from it to the bit."""

import base64
import binascii
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple, TypeAlias

import numpy as np

from backstay.judge.arrays import Floats
from backstay.judge.objectives import Limit, Slot, Window
from backstay.judge.panel import SPLIT, Panel, Shape
from backstay.judge.process import layout
from backstay.judge.silence import Flow


class Learnt(NamedTuple):
    """What stable's pods taught before the canary had traffic: the size of clusters, and how far pods differ.

    ``sigma`` is the upper limit of the standard deviation of the pods' log rates, 0 where nothing was learnt.
    """

    phi: float = 1.0
    sigma: float = 0.0


class Process:
    """A compared signal's row, the last step it took an interval of, and counts that wait to be joined with later ones.

    ``pending`` has shape [2, buckets], canary first.
    """

    __slots__ = ("pending", "row", "step")

    def __init__(self, row: Floats, *, step: int = -1, pending: Floats | None = None) -> None:
        self.row = row
        self.step = step
        self.pending = pending

    def __eq__(self, other: object) -> bool:
        """Compare to the bit."""
        return (
            isinstance(other, Process)
            and self.step == other.step
            and self.row.tobytes() == other.row.tobytes()
            and (self.pending is None) == (other.pending is None)
            and (self.pending is None or other.pending is None or np.array_equal(self.pending, other.pending))
        )

    __hash__ = None  # type: ignore[assignment]  # it holds arrays


State: TypeAlias = Process | Window


@dataclass(frozen=True, slots=True)
class Memory:
    """Everything gathered of one rollout up to ``tick`` (Unix seconds, 0 before the first).

    ``requests`` are the canary's in step ``step``. ``steps`` are those in which two arms are compared,
    ``mix`` names what the baseline of the last interval was made of. ``failed`` marks
    comparisons that reached their limit: they stand still from there on, as they were. ``edges`` are those in which
    histograms are judged, chosen when they were first read. ``flows`` are those of the signals that are to count while
    requests flow, canary first.
    """

    tick: float = 0.0
    step: int = 0
    steps: int = 1
    mix: str = ""
    requests: float = 0.0
    failed: bool = False
    signals: Mapping[str, State] = field(default_factory=dict)
    edges: Mapping[str, tuple[float, ...]] = field(default_factory=dict)
    split: Process | None = None
    learnt: Mapping[str, Learnt] = field(default_factory=dict)
    flows: Mapping[str, tuple[Flow, Flow]] = field(default_factory=dict)

    @staticmethod
    def of(document: Mapping[str, Any], panel: Panel) -> "Memory":
        """Read what ``to_dict`` wrote. A signal that was stored in another form begins anew."""
        shapes = {part.signal.name: part.shape for part in panel.compared}
        entries = document.get("signals", {})
        states: dict[str, State] = {}
        for signal in panel.signals:
            entry = entries.get(signal.name, {})
            state = _window(entry) if isinstance(signal.rule, Limit) else _process(entry, shapes[signal.name])
            if state is not None:
                states[signal.name] = state
        return Memory(
            tick=document.get("tick", 0.0),
            step=document.get("step", 0),
            steps=document.get("steps", 1),
            mix=document.get("mix", ""),
            requests=document.get("requests", 0.0),
            failed=document.get("failed", False),
            signals=states,
            edges=edges_of(document),
            split=_process(document.get("split", {}), SPLIT),
            learnt={name: Learnt(*values) for name, values in document.get("learnt", {}).items()},
            flows={name: (_flow(ours), _flow(theirs)) for name, (ours, theirs) in document.get("flows", {}).items()},
        )

    def to_dict(self, panel: Panel) -> dict[str, Any]:
        """Write it as JSON data."""
        shapes = {part.signal.name: part.shape for part in panel.compared}
        document: dict[str, Any] = {
            "tick": self.tick,
            "step": self.step,
            "steps": self.steps,
            "requests": self.requests,
            "signals": {
                name: _process_document(state, shapes[name]) if isinstance(state, Process) else _window_document(state)
                for name, state in self.signals.items()
            },
        }
        if self.edges:
            document["edges"] = {name: list(edges) for name, edges in self.edges.items()}
        if self.mix:
            document["mix"] = self.mix
        if self.failed:
            document["failed"] = True
        if self.split is not None:
            document["split"] = _process_document(self.split, SPLIT)
        if self.learnt:
            document["learnt"] = {name: list(values) for name, values in self.learnt.items()}
        if self.flows:
            document["flows"] = {name: [_flow_document(flow) for flow in flows] for name, flows in self.flows.items()}
        return document


def edges_of(document: Mapping[str, Any]) -> dict[str, tuple[float, ...]]:
    """Read the edges out of what ``Memory.to_dict`` wrote: without them there is no panel to read the rest with."""
    return {name: tuple(edges) for name, edges in document.get("edges", {}).items()}


def _process_document(process: Process, shape: Shape) -> dict[str, Any]:
    document: dict[str, Any] = {"state": layout(shape).encode(process.row), "step": process.step}
    if process.pending is not None:
        # Fewer than 30 requests in all, so a byte is enough for each number.
        document["pending"] = base64.b85encode(process.pending.astype(np.uint8).tobytes()).decode()
    return document


def _process(entry: Mapping[str, Any], shape: Shape) -> Process | None:
    if "state" not in entry:
        return None
    try:
        row = layout(shape).decode(entry["state"])
        pending = None
        if "pending" in entry:
            waiting = np.frombuffer(base64.b85decode(entry["pending"]), dtype=np.uint8)
            pending = waiting.astype(np.float64).reshape(2, shape.buckets)
    except (ValueError, binascii.Error):
        return None
    return Process(row, step=entry.get("step", -1), pending=pending)


def _flow_document(flow: Flow) -> list[float]:
    """Write a flow; mostly every request was counted, and its number says all."""
    values = [round(value) if float(value).is_integer() else value for value in flow]
    return values[:1] if flow == Flow(flow.requests, flow.requests) else values


def _flow(values: list[float]) -> Flow:
    if len(values) == 1:
        return Flow(values[0], values[0])
    requests, counted, silent, intervals, gap = values
    return Flow(requests, counted, silent, int(intervals), int(gap))


def _window_document(window: Window) -> dict[str, Any]:
    document: dict[str, Any] = {}
    if window.slots:
        document["window"] = [[slot.start, slot.requests, slot.events] for slot in window.slots]
    if window.bits:
        document["violations"] = window.bits
    if window.failed:
        document["failed"] = True
    return document


def _window(entry: Mapping[str, Any]) -> Window | None:
    slots = tuple(Slot(*slot) for slot in entry.get("window", ()))
    return Window(slots, entry.get("violations", 0), failed=entry.get("failed", False))
