"""The work queue: each key once, one worker a key, urgent ones first; delays on a heap, pauses after failures."""

import asyncio
import heapq
import random
from collections.abc import Awaitable, Callable, Hashable, Iterable
from contextlib import suppress
from typing import Generic, Protocol, TypeVar

from backstay.domain.resource import Key

K = TypeVar("K", bound=Hashable)

# So many times as many entries as keys the heap may have, those that were replaced included.
_STALE = 2
_FIRST_PAUSE = 0.2
_LONGEST_PAUSE = 30.0


class Wake(Protocol):
    """Asks for a look at a model."""

    def __call__(self, key: Key, /, *, urgent: bool = False) -> None:
        """Ask; an urgent one comes before all others."""


class WorkQueue(Generic[K]):
    """A deduplicating queue with per-key serialisation.

    A key that is added while a worker has it is given out again after that worker is done.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        # Since when each waits.
        self._ready: dict[K, float] = {}
        self._urgent: dict[K, float] = {}
        # Those that workers have, and whether each is urgent; those that were added meanwhile, likewise.
        self._busy: dict[K, bool] = {}
        self._again: dict[K, bool] = {}
        self._delayed: list[tuple[float, int, K]] = []
        self._due: dict[K, float] = {}
        # Urgent ones that failed, and wait for another try.
        self._retried: set[K] = set()
        self._failures: dict[K, int] = {}
        self._sequence = 0
        self._changed = asyncio.Event()
        self._calm = asyncio.Event()
        self._calm.set()

    def add(self, key: K, *, urgent: bool = False) -> None:
        """Ask for a look at the key now; an urgent one is given out before all others."""
        urgent = urgent or key in self._retried
        self._retried.discard(key)
        if urgent:
            self._calm.clear()
        if key in self._busy:
            self._again[key] = urgent or self._again.get(key, False)
            return
        since = self._ready.pop(key, None) if urgent else None
        waiting = self._urgent if urgent else self._ready
        if key not in self._urgent:
            waiting.setdefault(key, self._clock() if since is None else since)
        self._changed.set()

    def put_first(self, keys: Iterable[K]) -> None:
        """Let keys that wait come before all others that are not urgent."""
        first = {key: self._ready.pop(key) for key in keys if key in self._ready}
        self._ready = first | self._ready

    async def calm(self, patience: float) -> None:
        """Wait until no urgent key waits, is worked on or is to be tried again, for so many seconds at most."""
        with suppress(TimeoutError):
            await asyncio.wait_for(self._calm.wait(), patience)

    def add_after(self, key: K, delay: float) -> None:
        """Ask for a look after so many seconds, unless one comes due earlier anyway."""
        due = self._clock() + delay
        if key in self._due and self._due[key] <= due:
            return
        self._due[key] = due
        self._sequence += 1
        heapq.heappush(self._delayed, (due, self._sequence, key))
        if len(self._delayed) > _STALE * (len(self._due) + 1):
            # What an earlier time has taken the place of would otherwise stay until its own, which may be a day ahead.
            self._delayed = [entry for entry in self._delayed if self._due.get(entry[2]) == entry[0]]
            heapq.heapify(self._delayed)
        self._changed.set()

    def retry(self, key: K) -> float:
        """Ask for a look after a pause that doubles with each failure in a row; returns the pause in seconds.

        What was urgent stays so.
        """
        if self._busy.get(key):
            self._retried.add(key)
        count = self._failures.get(key, 0)
        self._failures[key] = count + 1
        pause: float = min(_FIRST_PAUSE * 2**count, _LONGEST_PAUSE) * random.uniform(0.7, 1.3)  # noqa: S311 - jitter, no secret
        self.add_after(key, pause)
        return pause

    def succeeded(self, key: K) -> None:
        """Forget the key's failures."""
        self._failures.pop(key, None)

    def oldest_age(self) -> float:
        """Return for how many seconds the longest-waiting ready key has waited."""
        waiting = (*self._ready.values(), *self._urgent.values())
        return self._clock() - min(waiting) if waiting else 0.0

    def __len__(self) -> int:
        """Count the keys that are ready."""
        return len(self._ready) + len(self._urgent)

    async def work(self, handle: Callable[[K], Awaitable[None]], *, urgent_only: bool = False) -> None:
        """Give keys to ``handle`` one after another, until cancelled; run several of these side by side.

        What takes ``urgent_only`` keys is free for them while all others wait for slow answers.
        """
        while True:
            key = await self._next(urgent_only=urgent_only)
            try:
                await handle(key)
            finally:
                del self._busy[key]
                if key in self._again:
                    self.add(key, urgent=self._again.pop(key))
                if not (self._urgent or self._retried or any(self._busy.values())):
                    self._calm.set()

    async def _next(self, *, urgent_only: bool) -> K:
        while True:
            self._promote_due()
            waiting = self._urgent if urgent_only else self._urgent or self._ready
            if waiting:
                key = next(iter(waiting))
                del waiting[key]
                self._busy[key] = waiting is self._urgent
                return key
            self._changed.clear()
            pause = max(self._delayed[0][0] - self._clock(), 0.0) if self._delayed else None
            try:
                await asyncio.wait_for(self._changed.wait(), pause)
            except TimeoutError:
                continue

    def _promote_due(self) -> None:
        now = self._clock()
        while self._delayed and self._delayed[0][0] <= now:
            due, _, key = heapq.heappop(self._delayed)
            if self._due.get(key) == due:
                del self._due[key]
                self.add(key)
