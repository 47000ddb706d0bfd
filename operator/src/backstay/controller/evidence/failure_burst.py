"""Many models that fail at one tick: something that they share broke, and more may follow.

Nothing is committed to Git until a tick finds no further failure and all that failed are drained.
"""

import asyncio
from collections.abc import Callable
from contextlib import suppress

from backstay.controller.runtime.background import Calm

# So many failures at one tick are a burst.
_LEAST = 3
# The longest that anything waits for the end of a burst after such a tick, in seconds.
_PATIENCE = 30.0


class FailureBurst:
    """Counts failures by tick, and lets others wait for the end of a burst.

    Args:
        clock: returns the time in Unix seconds.
        calm: waits until nothing urgent is left, for so many seconds at most.
    """

    def __init__(self, clock: Callable[[], float], calm: Calm) -> None:
        self._clock = clock
        self._calm = calm
        # The last tick of each interval at which a burst was seen, or a failure after one.
        self._ticks: dict[float, float] = {}
        self._seen_at = 0.0
        self._over = asyncio.Event()
        self._over.set()

    def count(self, failures: int, *, interval: float, tick: float) -> None:
        """Note the failures of a tick, which may be read in several parts."""
        if self._clock() > self._seen_at + _PATIENCE:
            self._ticks.clear()
        if failures >= _LEAST or (failures and interval in self._ticks):
            self._ticks[interval] = tick
            self._over.clear()
        elif self._ticks.get(interval, tick) < tick:
            del self._ticks[interval]
        if failures >= _LEAST:
            self._seen_at = self._clock()
        if not self._ticks:
            self._over.set()

    async def wait(self) -> None:
        """Wait, where there is a burst, until a tick finds no further failure and all that failed are drained.

        It waits for half a minute at most after the tick at which many failed.
        """
        until = self._seen_at + _PATIENCE
        if until > self._clock():
            with suppress(TimeoutError):
                await asyncio.wait_for(self._over.wait(), until - self._clock())
            await self._calm(max(until - self._clock(), 0.0))
