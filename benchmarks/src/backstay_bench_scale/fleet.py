"""`make bench-fleet`: many clusters whose controllers roll back in the same repository at once, simulated.

Each controller pushes as the real one does: all that waits goes into one push, which succeeds if nobody has pushed
since it fetched; whoever loses a race waits a moment and fetches again. People's merges are done by the forge and never
lose.
"""

import heapq
import itertools
import random
import statistics
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from backstay.adapters.gitops.branch import ATTEMPTS, PAUSE

# After how long a controller comes back that has used up its attempts.
_LATER = 5.0
_SEED = 7
_LONGEST = 4 * 3600.0


@dataclass(frozen=True, slots=True)
class Forge:
    """How long a fetch and a push take, in seconds: their median, each with a spread of a third."""

    name: str
    fetch: float
    push: float


# The first as bench-crowd measures it here, the second an assumption for a forge on the Internet.
FORGES = (Forge("in the same network", 0.15, 0.3), Forge("on the Internet", 0.8, 1.2))


@dataclass(slots=True)
class Repository:
    """A branch: how often it has changed."""

    version: int = 0
    pushes: int = 0
    attempts: int = 0


@dataclass(slots=True)
class Controller:
    """One cluster's writer of a branch: when each of its rollbacks was wanted, and when it was pushed."""

    repository: Repository
    forge: Forge
    waiting: list[float] = field(default_factory=list)
    taken: list[float] = field(default_factory=list)

    def run(self, chance: random.Random, now: Callable[[], float]) -> Iterator[float]:
        """Push until nothing waits; yields the seconds until it goes on."""
        while self.waiting:
            batch, self.waiting = self.waiting, []
            for attempt in itertools.count(1):
                yield _spread(chance, self.forge.fetch)
                seen = self.repository.version
                self.repository.attempts += 1
                yield _spread(chance, self.forge.push)
                if self.repository.version == seen:
                    break
                yield _LATER if attempt % ATTEMPTS == 0 else chance.uniform(*PAUSE)
            self.repository.version += 1
            self.repository.pushes += 1
            self.taken.extend(now() - since for since in batch)


def _spread(chance: random.Random, median: float) -> float:
    return median * chance.lognormvariate(0.0, 1 / 3)


class Fleet:
    """Clusters whose models fail within ten seconds.

    Args:
        clusters: how many controllers there are.
        failures: how many models fail in each.
        repositories: among how many branches the clusters are divided evenly.
        merges: how many of people's merges each branch gets a second.
        forge: how long a fetch and a push take.
    """

    def __init__(self, clusters: int, failures: int, repositories: int, merges: float, forge: Forge) -> None:
        self.branches = [Repository() for _ in range(repositories)]
        self._controllers = [Controller(self.branches[number % repositories], forge) for number in range(clusters)]
        self._wanted = clusters * failures
        self._merges = merges
        self._chance = random.Random(_SEED)  # noqa: S311 - the same figures again
        self._now = 0.0
        self._sequence = itertools.count()
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._running: dict[int, Iterator[float]] = {}
        for number in range(clusters):
            for _ in range(failures):
                self._at(self._chance.uniform(0, 10), partial(self._fail, number))
        for branch in self.branches:
            self._merge_later(branch)

    def run(self) -> list[float]:
        """Return the seconds from each verdict to its push, sorted; fewer than there are where it takes hours."""
        while self._events and self._now < _LONGEST and sum(len(one.taken) for one in self._controllers) < self._wanted:
            self._now, _, what = heapq.heappop(self._events)
            what()
        return sorted(time for one in self._controllers for time in one.taken)

    @property
    def attempts(self) -> float:
        """Return the attempts a push."""
        pushes = sum(branch.pushes for branch in self.branches)
        return sum(branch.attempts for branch in self.branches) / max(pushes, 1)

    def _at(self, when: float, what: Callable[[], None]) -> None:
        heapq.heappush(self._events, (when, next(self._sequence), what))

    def _fail(self, number: int) -> None:
        controller = self._controllers[number]
        controller.waiting.append(self._now)
        if number not in self._running:
            self._running[number] = controller.run(self._chance, lambda: self._now)
            self._go_on(number)

    def _go_on(self, number: int) -> None:
        pause = next(self._running[number], None)
        if pause is None:
            del self._running[number]
        else:
            self._at(self._now + pause, partial(self._go_on, number))

    def _merge(self, branch: Repository) -> None:
        branch.version += 1
        self._merge_later(branch)

    def _merge_later(self, branch: Repository) -> None:
        if self._merges:
            self._at(self._now + self._chance.expovariate(self._merges), partial(self._merge, branch))


def bench(
    clusters: Annotated[int, typer.Option(min=1, help="How many clusters there are.")] = 50,
    failures: Annotated[int, typer.Option(min=1, help="How many models fail in each within ten seconds.")] = 100,
    merges: Annotated[float, typer.Option(min=0, help="People's merges a second, over all repositories.")] = 0.1,
) -> None:
    """Simulate rollbacks of many clusters at once, by how many repositories they are divided among."""
    table = Table("forge", "repositories", "pushed: half after, s", "all after, s", "attempts a push")
    for forge in FORGES:
        for repositories in sorted({1, min(5, clusters), min(10, clusters), clusters}):
            fleet = Fleet(clusters, failures, repositories, merges / repositories, forge)
            taken = fleet.run()
            left = clusters * failures - len(taken)
            last = f"{taken[-1]:.0f}" if not left else f"{left} never"
            half = f"{statistics.median(taken):.1f}" if taken else "-"
            table.add_row(forge.name, str(repositories), half, last, f"{fleet.attempts:.1f}")
    Console().print(table)


if __name__ == "__main__":
    typer.run(bench)
