"""The evidence loop: on a fixed grid of ticks, one query a metric for all models with a live rollout."""

import asyncio
import logging
import math
from collections.abc import Callable, Iterable
from collections.abc import Set as AbstractSet
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from backstay.adapters.prometheus import Prometheus, PrometheusUnavailableError, Reading
from backstay.controller import metrics
from backstay.controller.following import Following, Interest, follow, lateness
from backstay.controller.record import Recorder
from backstay.domain.observed import Backend, Evidence
from backstay.domain.resource import Key
from backstay.judge.fold import fold_many

_LOG = logging.getLogger(__name__)

# The most ticks that are taken one by one after an absence; earlier ones are joined into one interval.
_CATCH_UP = 60
# The most ticks that are asked for at once. What was missed must not cost a query a tick: a controller that is ended
# again and again would have ever more to read, and never be done.
_AT_ONCE = 20
# The most times at which stable's past is read, and the most models for which it is read in one tick: the others begin
# one tick later. Rollouts that begin in one minute are asked for together.
_LOOKS_BACK = 240
_LEARN_AT_ONCE = 50
_TOGETHER = 60.0


class EvidenceLoop:
    """Reads, folds, judges; wakes the models whose evidence is new."""

    def __init__(
        self,
        prometheus: Prometheus | None,
        changed: Callable[[Key], None],
        clock: Callable[[], float],
        recorder: Recorder | None = None,
    ) -> None:
        self._prometheus = prometheus
        self._changed = changed
        self._clock = clock
        self._recorder = recorder
        self._followed: dict[Key, Following] = {}
        self._revisions: dict[Key, frozenset[str]] = {}
        self._wanted = asyncio.Event()
        self._threads = ThreadPoolExecutor(max_workers=2, thread_name_prefix="prometheus")
        self.last_tick = clock()
        # What the last tick failed with: it is told once, not every tick.
        self._problem = ""

    def watch(self, key: Key, interest: Interest) -> None:
        """Follow a model from now on."""
        known = self._followed.get(key)
        self._followed[key] = follow(known, key, interest, now=self._clock())
        self._revisions[key] = interest.revisions
        if known is None:
            self._wanted.set()

    def forget(self, key: Key) -> None:
        """Follow a model no longer."""
        self._followed.pop(key, None)
        self._revisions.pop(key, None)

    def evidence(self, key: Key) -> Evidence | None:
        """Return what the judge says of a model's live rollout."""
        followed = self._followed.get(key)
        return followed.evidence() if followed else None

    def answered_at(self, key: Key) -> float:
        """Return when Prometheus last answered for a model, in Unix seconds."""
        followed = self._followed.get(key)
        return followed.answered_at if followed else 0.0

    def quiet(self, key: Key, backends: Iterable[Backend], drained_at: float) -> frozenset[Backend]:
        """Return which of these drained backends get no more requests."""
        followed, now = self._followed.get(key), self._clock()
        if followed is None:
            return frozenset()
        return frozenset(b for b in backends if followed.is_quiet(b, drained_at, now))

    def healthy(self, patience: float = 60.0) -> bool:
        """Tell whether ticks are taken as they come due."""
        return not self._followed or self._clock() - self.last_tick < patience + max(
            followed.analysis.interval for followed in self._followed.values()
        )

    async def run(self) -> None:
        """Take every tick, for ever."""
        while True:
            if not self._followed:
                self._wanted.clear()
                await self._wanted.wait()
                self.last_tick = self._clock()
            intervals = {followed.analysis.interval for followed in self._followed.values()}
            due, interval = min((self._next(interval), interval) for interval in intervals)
            self._wanted.clear()
            try:
                # A model that is new may come due before the tick that is waited for.
                await asyncio.wait_for(self._wanted.wait(), max(due + lateness(interval) - self._clock(), 0.0))
            except TimeoutError:
                await self._tick(interval, due)

    def _next(self, interval: float) -> float:
        """Return the first tick of the grid that some model with this interval still lacks."""
        now = self._clock() - lateness(interval)
        latest = math.floor(now / interval) * interval
        behind = any(
            followed.tick < latest - interval / 2 and not followed.unavailable
            for followed in self._followed.values()
            if followed.analysis.interval == interval
        )
        return latest if behind else latest + interval

    async def _tick(self, interval: float, due: float) -> None:
        every = group = [f for f in self._followed.values() if f.analysis.interval == interval]
        try:
            begun = self._clock()
            await self._learn(group)
            group = [followed for followed in group if not followed.lacks_history]
            for ticks in self._ticks(group, interval, due):
                behind = [f for f in group if not f.started or f.tick < ticks[-1]]
                readings = await self._read(behind, ticks)
                answered_at = self._clock()
                for followed in behind:
                    followed.answered_at = answered_at
                for reading in readings:
                    self._take([f for f in behind if not f.started or f.tick < reading.at], reading)
                    # Drains are not to wait until everything that was missed has been judged.
                    await asyncio.sleep(0)
            self.last_tick = self._clock()
            self._problem = ""
            metrics.TICKS.labels("read").inc()
            metrics.TICK_SECONDS.observe(self.last_tick - begun)
        except PrometheusUnavailableError as problem:
            if str(problem) != self._problem:
                _LOG.warning("%s", problem)
            self._problem = str(problem)
            metrics.TICKS.labels("unavailable").inc()
            self.last_tick = self._clock()
            for followed in every:
                followed.unavailable = str(problem)
        for followed in every:
            self._changed(followed.key)

    def document(self, key: Key, rollout: str) -> dict[str, Any]:
        """Return the evidence of a model's rollout for ``backstay judge``, as far as it was recorded here."""
        followed = self._followed.get(key)
        if followed is None or self._recorder is None:
            return {}
        return self._recorder.document(key, rollout, followed.panel, followed.memory.learnt)

    def _take(self, group: list[Following], reading: Reading) -> None:
        """Hand a reading to models, and judge all that it ends in one go."""
        ended = []
        for followed in group:
            if followed.started or not followed.memory.tick or reading.at >= followed.memory.tick:
                interval = followed.advance(reading)
                if interval is not None:
                    ended.append((followed, interval))
        if self._recorder is not None:
            for followed, interval in ended:
                if followed.trial is not None and interval.tick > followed.memory.tick:
                    self._recorder.add(followed.key, followed.trial.rollout, interval)
        memories = fold_many(
            [followed.memory for followed, _ in ended],
            [interval for _, interval in ended],
            [followed.panel for followed, _ in ended],
        )
        for (followed, _), memory in zip(ended, memories, strict=True):
            followed.memory = memory

    def _ticks(self, group: list[Following], interval: float, due: float) -> list[list[float]]:
        """List what has to be read: for a model resumed from status its last tick, then every one that was missed.

        Each list is asked for at once.
        """
        earliest = due
        for followed in group:
            if followed.started:
                earliest = min(earliest, followed.tick + interval)
            elif followed.memory.tick:
                earliest = min(earliest, followed.memory.tick)
        count = min(round((due - earliest) / interval), _CATCH_UP)
        missed = [due - step * interval for step in range(count, -1, -1)]
        resumed = {f.memory.tick for f in group if not f.started and f.memory.tick and f.memory.tick < missed[0]}
        together = [missed[first : first + _AT_ONCE] for first in range(0, len(missed), _AT_ONCE)]
        return [*([tick] for tick in sorted(resumed)), *together]

    async def _learn(self, group: list[Following]) -> None:
        """Read stable's past for rollouts that begin."""
        together: dict[tuple[float, float], list[Following]] = {}
        for followed in [f for f in group if f.lacks_history][:_LEARN_AT_ONCE]:
            began = followed.trial.began if followed.trial is not None else 0.0
            end = math.floor(began / _TOGETHER) * _TOGETHER
            together.setdefault((followed.analysis.dependence.history, end), []).append(followed)
        for (history, end), beginning in together.items():
            step = max(beginning[0].analysis.interval, history / _LOOKS_BACK)
            times = [end - step * back for back in range(math.ceil(history / step), -1, -1)]
            wanted = frozenset[str]().union(*(followed.templates for followed in beginning))
            revisions = {followed.trial.stable for followed in beginning if followed.trial is not None}
            readings = await self._ask(wanted, revisions, times)
            for followed in beginning:
                followed.learn(readings)

    async def _read(self, group: list[Following], ticks: list[float]) -> list[Reading]:
        revisions = {revision for followed in group for revision in self._revisions.get(followed.key, ())}
        readings = await self._ask(frozenset[str]().union(*(f.templates for f in group)), revisions, ticks)
        problems = readings[0].problems
        refused = next((problems[f.metrics.requests] for f in group if f.metrics.requests in problems), "")
        if refused:
            raise PrometheusUnavailableError(refused)
        return readings

    async def _ask(self, wanted: AbstractSet[str], revisions: AbstractSet[str], ticks: list[float]) -> list[Reading]:
        if self._prometheus is None:
            raise PrometheusUnavailableError(
                "BACKSTAY_PROMETHEUS_URL is not set: give the controller the address of Prometheus"
            )
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._threads, self._prometheus.read, wanted, revisions, ticks)
