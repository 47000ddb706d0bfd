"""Which revisions are asked for in one query, and which queries wait: one model's trouble is not to be all models'."""

import time
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, field

# For so long, in seconds, what could not be read together with others is asked for apart, in so many queries at most.
_APART_FOR = 300.0
_MOST_APART = 16
# After a query was too slow it is not put again for so many seconds, and for twice as long each further time.
_FIRST_PAUSE, _LONGEST_PAUSE = 30.0, 600.0


@dataclass(slots=True)
class _Kept:
    """The groups of revisions that a template is asked for apart from all others, until a time."""

    until: float
    groups: list[frozenset[str]] = field(default_factory=list)


class Apart:
    """Remembers which revisions made a joint query fail, by template, so that the others still take one query."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._kept: dict[str, _Kept] = {}

    def groups(self, template: str, revisions: Sequence[str], at_once: int) -> list[tuple[str, ...]]:
        """Return what to ask for together: so many revisions at once, and behind them those that are kept apart."""
        kept = self._kept.get(template)
        if kept is not None and kept.until < self._clock():
            self._kept.pop(template, None)
            kept = None
        apart = [group for group in kept.groups if not group.isdisjoint(revisions)] if kept else []
        alone = frozenset[str]().union(*apart)
        rest = [revision for revision in revisions if revision not in alone]
        parts = [tuple(rest[at : at + at_once]) for at in range(0, len(rest), at_once)]
        parts += [tuple(revision for revision in revisions if revision in group) for group in apart]
        return parts or [()]

    def keep(self, template: str, group: Iterable[str]) -> None:
        """Ask for a group apart from now on, for a while."""
        kept = self._kept.setdefault(template, _Kept(self._clock() + _APART_FOR))
        if len(kept.groups) < _MOST_APART:
            kept.groups.append(frozenset(group))


@dataclass(frozen=True, slots=True)
class _Pause:
    """How long a query rests after it was too slow, and until when."""

    seconds: float
    until: float


class Patience:
    """Remembers which queries were too slow, so that they are put seldom."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._pauses: dict[str, _Pause] = {}
        self._answered: set[str] = set()

    def order(self, templates: Collection[str], shared: Collection[str]) -> list[str]:
        """Put what is shared first, then what was answered before: what may be slow must not delay it."""
        return sorted(templates, key=lambda one: (one not in shared, one not in self._answered))

    def rests(self, template: str) -> float:
        """Return for how many seconds a query is not to be put."""
        pause = self._pauses.get(template)
        return max(pause.until - self._clock(), 0.0) if pause is not None else 0.0

    def slow(self, template: str) -> float:
        """Note that a query was too slow; returns for how many seconds it rests."""
        known = self._pauses.get(template)
        seconds = min(known.seconds * 2, _LONGEST_PAUSE) if known is not None else _FIRST_PAUSE
        self._pauses[template] = _Pause(seconds, self._clock() + seconds)
        self._answered.discard(template)
        return seconds

    def answered(self, template: str) -> None:
        """Note that a query was answered in time."""
        self._pauses.pop(template, None)
        self._answered.add(template)
