"""An event loop whose time is simulated: it jumps to the next timer as soon as nothing is left to do."""

import asyncio
import contextvars
import selectors
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

_USUAL_THREADS = 32
# What a turn of the loop takes, in seconds: a timer may fire a nanosecond early, and whoever sets it again for what is
# left must not do so for ever.
_TURN = 1e-6


class NothingLeftError(Exception):
    """Nothing is due, now or at any time: whatever is waited for will never come."""


class _Jumps(selectors.SelectSelector):
    """Watches no files, and lets the time that the loop would wait pass at once."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0
        self.turns = 0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if timeout is None:
            raise NothingLeftError("No timer is set: what is waited for will never come")
        self.turns += 1
        self.now += max(timeout, _TURN)
        return []

    def get_map(self) -> Mapping[Any, selectors.SelectorKey]:
        return super().get_map()


@dataclass(slots=True)
class _Pool:
    """The threads of one executor: so many, of which some are taken, and the work that waits for one."""

    size: int
    taken: int = 0
    waiting: "deque[tuple[asyncio.Future[Any], Callable[[], Any], contextvars.Context]]" = field(default_factory=deque)


class SimulatedLoop(asyncio.SelectorEventLoop):
    """Runs coroutines in simulated time, and what is meant for threads in the loop itself.

    Work for an executor is run in one go when one of its threads is free. It says how long it takes by `spend`: its
    thread is taken, and its answer is held back, for that time. Its effects are there from the start.
    """

    def __init__(self) -> None:
        self._jumps = _Jumps()
        super().__init__(self._jumps)
        self._pools: dict[Any, _Pool] = {}
        self._spent = 0.0

    def time(self) -> float:
        """Return the seconds since the beginning of the world."""
        return self._jumps.now

    @property
    def turns(self) -> int:
        """How often the loop has run what was ready."""
        return self._jumps.turns

    def spend(self, seconds: float) -> None:
        """Let the work that is running for an executor take so many seconds more."""
        self._spent += seconds

    def run_in_executor(self, executor: Any, func: Callable[..., Any], *args: Any) -> "asyncio.Future[Any]":  # type: ignore[override]  # a Future, as the base class returns
        """Run something as if a thread of the executor did."""
        size = getattr(executor, "_max_workers", _USUAL_THREADS)
        pool = self._pools.setdefault(executor, _Pool(size))
        answer = self.create_future()
        pool.waiting.append((answer, partial(func, *args), contextvars.copy_context()))
        self._begin(pool)
        return answer

    def _begin(self, pool: _Pool) -> None:
        while pool.waiting and pool.taken < pool.size:
            answer, work, context = pool.waiting.popleft()
            if answer.cancelled():
                continue
            pool.taken += 1
            self._spent = 0.0
            try:
                settle: Callable[[], None] = partial(answer.set_result, context.run(work))
            except BaseException as problem:  # noqa: BLE001 - handed to who waits, as an executor does
                settle = partial(answer.set_exception, problem)
            self.call_later(self._spent, self._end, pool, answer, settle)

    def _end(self, pool: _Pool, answer: "asyncio.Future[Any]", settle: Callable[[], None]) -> None:
        pool.taken -= 1
        if not answer.done():
            settle()
        self._begin(pool)
