"""Fixed limits over a sliding window: test (e). They are outside alpha.

What people know from other tools, and want as a backstop: a ratio of events to requests beyond a limit, so many times
in a row, or in so many of the last looks.
"""

from dataclasses import dataclass, replace
from enum import StrEnum

# The most parts that a window is kept in.
SLOTS = 12


class Beyond(StrEnum):
    """On which side of the limit a ratio violates it."""

    ABOVE = "above"
    BELOW = "below"


@dataclass(frozen=True, slots=True)
class Limit:
    """A limit on the ratio of events to requests of the canary.

    ``window`` is in seconds. It fails at ``violations`` looks beyond the limit: in a row, or among the last ``looks``
    where that is not 0. A window with fewer than ``min_requests`` violates nothing.
    """

    limit: float
    beyond: Beyond = Beyond.ABOVE
    window: float = 60.0
    min_requests: float = 20
    violations: int = 1
    looks: int = 0


@dataclass(frozen=True, slots=True)
class Slot:
    """A part of a window: when it began (Unix seconds), the requests and events in it."""

    start: float
    requests: float
    events: float


@dataclass(frozen=True, slots=True)
class Window:
    """What an objective has seen: its slots, and the last looks as bits, the latest lowest, 1 for a violation."""

    slots: tuple[Slot, ...] = ()
    bits: int = 0
    failed: bool = False

    @property
    def requests(self) -> float:
        """Count the requests in the window."""
        return sum(slot.requests for slot in self.slots)

    @property
    def events(self) -> float:
        """Count the events in the window."""
        return sum(slot.events for slot in self.slots)


def watch(window: Window, limit: Limit, *, tick: float, requests: float, events: float) -> Window:
    """Slide the window to ``tick`` and look.

    A look is an interval with requests: one without neither violates nor ends a row of violations, unless the window
    has come back within its limit.
    """
    slots = list(window.slots)
    if requests or events:
        if slots and tick - slots[-1].start < limit.window / SLOTS:
            last = slots.pop()
            slots.append(Slot(last.start, last.requests + requests, last.events + events))
        else:
            slots.append(Slot(tick, requests, events))
    moved = replace(window, slots=tuple(slot for slot in slots if slot.start > tick - limit.window))
    bad = moved.requests >= limit.min_requests and _violates(limit, moved)
    return _looked(moved, limit, bad=bad, counts=requests > 0)


def _violates(limit: Limit, window: Window) -> bool:
    allowed = limit.limit * window.requests
    return window.events > allowed if limit.beyond is Beyond.ABOVE else window.events < allowed


def _looked(window: Window, limit: Limit, *, bad: bool, counts: bool) -> Window:
    if limit.looks:
        bits = window.bits
        if counts:
            bits = (bits << 1 | bad) & ((1 << limit.looks) - 1)
        failed = bits.bit_count() >= limit.violations
    else:
        # In a row: only the ones at the low end matter, so no more of them are kept than fail.
        bits = window.bits if bad else 0
        if bad and counts:
            bits = (bits << 1 | 1) & ((1 << limit.violations) - 1)
        failed = bits.bit_count() >= limit.violations
    return replace(window, bits=bits, failed=window.failed or failed)
