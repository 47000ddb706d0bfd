"""The work queue: each key once, one worker a key, delays on a heap, failures with growing pauses."""

import asyncio
import heapq
import random
from collections.abc import Awaitable, Callable, Hashable
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)

_FIRST_PAUSE = 0.2
_LONGEST_PAUSE = 30.0


class WorkQueue(Generic[K]):
    """A deduplicating queue with per-key serialisation.

    A key that is added while a worker has it is given out again after that worker is done.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._ready: dict[K, float] = {}
        self._busy: set[K] = set()
        self._again: set[K] = set()
        self._delayed: list[tuple[float, int, K]] = []
        self._due: dict[K, float] = {}
        self._failures: dict[K, int] = {}
        self._sequence = 0
        self._changed = asyncio.Event()

    def add(self, key: K) -> None:
        """Ask for a look at the key now."""
        if key in self._busy:
            self._again.add(key)
            return
        if key not in self._ready:
            self._ready[key] = self._clock()
        self._changed.set()

    def add_after(self, key: K, delay: float) -> None:
        """Ask for a look after so many seconds, unless one comes due earlier anyway."""
        due = self._clock() + delay
        if key in self._due and self._due[key] <= due:
            return
        self._due[key] = due
        self._sequence += 1
        heapq.heappush(self._delayed, (due, self._sequence, key))
        self._changed.set()

    def retry(self, key: K) -> float:
        """Ask for a look after a pause that doubles with each failure in a row; returns the pause in seconds."""
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
        return max((self._clock() - since for since in self._ready.values()), default=0.0)

    def __len__(self) -> int:
        """Count the keys that are ready."""
        return len(self._ready)

    async def work(self, handle: Callable[[K], Awaitable[None]]) -> None:
        """Give keys to ``handle`` one after another, for ever; run several of these side by side."""
        while True:
            key = await self._next()
            try:
                await handle(key)
            finally:
                self._busy.discard(key)
                if key in self._again:
                    self._again.discard(key)
                    self.add(key)

    async def _next(self) -> K:
        while True:
            self._promote_due()
            if self._ready:
                key = next(iter(self._ready))
                del self._ready[key]
                self._busy.add(key)
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
