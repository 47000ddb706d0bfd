"""Work beside the reconciles: one task of a name at a time for a ModelDeployment, which is woken when it ends.

Work that returns False has no news and wakes no model: the look would only start the same work again. Where many models
wait in the queue for longer than the pause between two tries, all of them would always be in it.

It begins when nothing urgent is left to the reconciles: what failed is drained before anything is told to anybody.
"""

import asyncio
import logging
from collections.abc import Callable, Coroutine
from typing import Any, TypeAlias

from backstay.domain.resource import Key

_LOG = logging.getLogger(__name__)

# After an unexpected failure the key is woken, and asks again, only then.
_PAUSE = 5.0
# The longest that work waits for drains, which may be in trouble themselves.
_PATIENCE = 5.0


Work: TypeAlias = Callable[[], Coroutine[Any, Any, bool | None]]
Calm: TypeAlias = Callable[[float], Coroutine[Any, Any, None]]
"""Waits until nothing urgent is left, for so many seconds at most."""


async def at_once(patience: float) -> None:
    """Wait for nothing."""
    del patience


class Background:
    """Tasks that reconciles have started."""

    def __init__(self, changed: Callable[[Key], None], calm: Calm = at_once) -> None:
        self.wake = changed
        self._calm = calm
        self._tasks: dict[tuple[Key, str], asyncio.Task[None]] = {}

    def busy(self, key: Key, name: str) -> bool:
        """Tell whether such a task is running."""
        return (key, name) in self._tasks

    def start(self, key: Key, name: str, work: Work) -> None:
        """Start a task, unless one of its name is running for the key."""
        if not self.busy(key, name):
            self._tasks[key, name] = asyncio.create_task(self._run(key, name, work))

    async def stop(self) -> None:
        """Cancel everything; the next controller asks again."""
        tasks = list(self._tasks.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _run(self, key: Key, name: str, work: Work) -> None:
        news: bool | None = True
        try:
            await self._calm(_PATIENCE)
            news = await work()
        except Exception:  # noqa: BLE001 - logged; the model that is woken asks again
            _LOG.exception("%s: %s did not end well", key, name)
            await asyncio.sleep(_PAUSE)
        finally:
            del self._tasks[key, name]
            if news is not False:
                self.wake(key)
