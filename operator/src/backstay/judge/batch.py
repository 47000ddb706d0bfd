"""The processes of one shape in one tick, as columns."""

from typing import NamedTuple

import numpy as np

from backstay.domain.signals import NoHarm
from backstay.judge.arrays import Floats
from backstay.judge.memory import Process
from backstay.judge.panel import Count, Distribution, Latency, Part, Shape

_NO_HARM = NoHarm()


class Rule(NamedTuple):
    """What a signal is judged by: the tolerance, the harm to rule out, and the shift that counts as none."""

    tolerance: float
    ratio: float
    smallest: float


class Rows:
    """The processes of one shape in one tick, on their way through a batch: in columns, since there are thousands.

    ``rules`` are places in ``table``, which has an entry for each signal of each panel.
    """

    __slots__ = ("names", "nothing", "processes", "rollouts", "rules", "seen", "shape", "table")

    def __init__(self, shape: Shape) -> None:
        self.shape = shape
        self.nothing = np.zeros((2, shape.buckets))
        self.rollouts: list[int] = []
        self.names: list[str] = []
        self.processes: list[Process] = []
        self.seen: list[Floats] = []
        self.rules: list[int] = []
        self.table: list[Rule] = []

    def add(self, rollout: int, name: str, process: Process, seen: Floats | None, rule: int) -> None:
        """Enlist a process; no counts are none."""
        self.rollouts.append(rollout)
        self.names.append(name)
        self.processes.append(process)
        self.seen.append(self.nothing if seen is None else seen)
        self.rules.append(rule)


def rule_of(part: Part) -> Rule:
    """Read a compared signal's rule."""
    match part.signal.rule:
        case Count() | Latency() as rule:
            return Rule(rule.tolerance, (rule.no_harm or _NO_HARM).ratio, 0.0)
        case Distribution() as rule:
            return Rule(1.0, _NO_HARM.ratio, rule.smallest)
        case _:
            raise TypeError(f"Signal {part.signal.name} is not compared between the arms")
