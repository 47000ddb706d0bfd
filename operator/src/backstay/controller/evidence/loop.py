"""The evidence loop: on a fixed grid of ticks, one query a metric for all models with a live rollout."""

import asyncio
import heapq
import logging
import math
from collections.abc import Callable, Iterable
from collections.abc import Set as AbstractSet
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

from backstay.adapters.prometheus.client import Prometheus, PrometheusUnavailableError, Reading
from backstay.controller.evidence.failure_burst import FailureBurst
from backstay.controller.evidence.following import Following, Interest, Standing, follow, lateness
from backstay.controller.evidence.profiles import SHARED
from backstay.controller.evidence.recorder import Recorder
from backstay.controller.runtime import metrics
from backstay.controller.runtime.background import Calm, at_once
from backstay.controller.runtime.queue import Wake
from backstay.domain.observed import Backend, Evidence
from backstay.domain.resource import Key
from backstay.domain.status import Verdict
from backstay.judge.fold import fold_many

_LOG = logging.getLogger(__name__)

# The most ticks that are taken one by one after an absence; earlier ones are joined into one interval.
_CATCH_UP = 60
# The most ticks that are asked for at once. What was missed must not cost a query a tick: a controller that is ended
# again and again would have ever more to read, and never be done.
_AT_ONCE = 20
# The most times at which stable's past is read, how many of them at once, and the most models for which it is read
# together, so that ticks have their turn between. Rollouts that begin in one minute are asked for together.
_LOOKS_BACK = 240
_LOOKS_AT_ONCE = 61
_LEARN_AT_ONCE = 50
_TOGETHER = 60.0
_LEARN_AGAIN_AFTER = 5.0
# What is new is read between the ticks, so many seconds after the last that came, and after so many at most: after a
# restart all are new, and what they missed is read at once for all.
_NEW_AFTER, _NEW_AT_MOST_AFTER = 0.5, 5.0
# How often Prometheus is asked while it does not answer: a drain is not to wait for the next tick after its return.
_AWAY_TRY_EVERY = 1.0
# For how long, in seconds, the judging of what was missed waits for drains in its midst, each time that some of it was
# read: not longer, as the API server may not take them.
_DRAINS_FIRST = 10.0
# How many models a second are woken only to write down how far they are: what this takes from the API server must not
# grow with the number of rollouts. Memory that is not written is read again from Prometheus after a restart.
_PROGRESS_RATE = 10.0
_PROGRESS_EVERY = 5.0


class EvidenceLoop:
    """Reads, folds, judges; wakes the models whose evidence is new."""

    def __init__(
        self,
        prometheus: Prometheus | None,
        wake: Wake,
        clock: Callable[[], float],
        recorder: Recorder | None = None,
        calm: Calm = at_once,
    ) -> None:
        self._prometheus = prometheus
        self._wake = wake
        self._clock = clock
        self._recorder = recorder
        self._calm = calm
        self._followed: dict[Key, Following] = {}
        self._revisions: dict[Key, frozenset[str]] = {}
        self._wanted = asyncio.Event()
        self._lacking = asyncio.Event()
        self._threads = ThreadPoolExecutor(max_workers=2, thread_name_prefix="prometheus")
        self.last_tick = clock()
        # When the last new model came.
        self._new_at = 0.0
        # What the last tick failed with: it is told once, not every tick.
        self._problem = ""
        self._burst = FailureBurst(clock, calm)

    def watch(self, key: Key, interest: Interest) -> None:
        """Follow a model from now on."""
        known = self._followed.get(key)
        self._followed[key] = follow(known, key, interest, now=self._clock())
        self._revisions[key] = interest.revisions
        if known is None:
            self._new_at = self._clock()
            self._wanted.set()
        if self._followed[key].lacks_history:
            self._lacking.set()

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

    def answered(self) -> dict[Key, float]:
        """Return for every live rollout when Prometheus last answered, or since when it is asked, in Unix seconds."""
        return {f.key: f.answered_at or f.since for f in list(self._followed.values()) if f.trial is not None}

    def turn(self, key: Key) -> float | None:
        """Return when it was a live rollout's turn to write down how far it is; None for what is not judged."""
        followed = self._followed.get(key)
        return followed.progress_at if followed is not None and followed.trial is not None else None

    def quiet(self, key: Key, backend: Backend, drained_at: float) -> bool:
        """Tell whether a drained backend gets no more requests."""
        followed = self._followed.get(key)
        return followed is not None and followed.is_quiet(backend, drained_at, self._clock())

    async def settled(self) -> None:
        """Wait for the end of a burst of failures; see `failure_burst`."""
        await self._burst.wait()

    def healthy(self, patience: float = 60.0) -> bool:
        """Tell whether ticks are taken as they come due."""
        return not self._followed or self._clock() - self.last_tick < patience + max(
            followed.analysis.interval for followed in self._followed.values()
        )

    async def run(self) -> None:
        """Take every tick, and learn beside that, until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._take_ticks())
            group.create_task(self._learn())

    async def _take_ticks(self) -> None:
        while True:
            if not self._followed:
                self._wanted.clear()
                await self._wanted.wait()
                self.last_tick = self._clock()
            intervals = {followed.analysis.interval for followed in self._followed.values()}
            at, due, interval = min(self._next(interval) for interval in intervals)
            self._wanted.clear()
            try:
                # A model that is new may come due before the tick that is waited for.
                await asyncio.wait_for(self._wanted.wait(), max(at - self._clock(), 0.0))
            except TimeoutError:
                await self._tick(interval, due)

    def _next(self, interval: float) -> tuple[float, float, float]:
        """Return when to read next for models with this interval, which tick of the grid, and the interval.

        That is the first tick that some model still lacks.
        """
        latest = math.floor((self._clock() - lateness(interval)) / interval) * interval
        ready = [f for f in self._followed.values() if f.analysis.interval == interval and not f.lacks_history]
        behind = [followed for followed in ready if followed.tick < latest - interval / 2]
        if behind and all(followed.unavailable for followed in ready):
            at = self.last_tick + min(_AWAY_TRY_EVERY, interval)
            return max(self._clock(), at), latest, interval
        if any(not followed.unavailable for followed in behind):
            quiet = max(self.last_tick, self._new_at) + _NEW_AFTER
            at = min(quiet, self.last_tick + min(_NEW_AT_MOST_AFTER, interval))
            return max(self._clock(), at), latest, interval
        # What alone is refused is asked for with the others' next tick.
        return latest + interval + lateness(interval), latest + interval, interval

    async def _tick(self, interval: float, due: float) -> None:
        every = [f for f in self._followed.values() if f.analysis.interval == interval]
        begun, since, failed = self._clock(), self.last_tick, 0
        try:
            ready = [followed for followed in every if not followed.lacks_history]
            # What could not be read last time has ticks to make good, which the others are not to be asked for again.
            for group in ([f for f in ready if not f.unavailable], [f for f in ready if f.unavailable]):
                failed += await self._take_missed(group, interval, due)
            self._burst.count(failed, interval=interval, tick=due)
            self.last_tick = self._clock()
            refused = [followed.unavailable for followed in self._still(ready)]
            self._note(refused[0] if refused and all(refused) else "", self.last_tick - begun)
        except PrometheusUnavailableError as problem:
            self.last_tick = self._clock()
            self._note(str(problem), self.last_tick - begun)
            for followed in every:
                followed.unavailable = str(problem)
            self._wake_with_news(every)
        self._wake_for_progress(self._still(every), min(begun - since, interval))

    def _note(self, problem: str, seconds: float) -> None:
        """Count a tick that took so many seconds; ``problem`` says what kept all models from being read."""
        if problem and problem != self._problem:
            _LOG.warning("%s", problem)
        self._problem = problem
        metrics.TICKS.labels("unavailable" if problem else "read").inc()
        if not problem:
            metrics.TICK_SECONDS.observe(seconds)

    async def _take_missed(self, group: list[Following], interval: float, due: float) -> int:
        """Read and judge all ticks that a group lacks; returns how many fail that did not before."""
        failed = 0
        for ticks in self._ticks(group, interval, due) if group else ():
            behind = [f for f in self._still(group) if not f.started or f.tick < ticks[-1]]
            if not behind:
                continue
            readings = await self._read(behind, ticks)
            answered_at, served = self._clock(), []
            for followed in behind:
                refused = followed.refused(readings[0], self._revisions.get(followed.key, frozenset()))
                if refused:
                    followed.unavailable = refused
                else:
                    followed.answered_at = answered_at
                    served.append(followed)
            self._wake_with_news(followed for followed in behind if followed.unavailable)
            failed += await self._judge(served, readings, due)
            if not served:
                break
        return failed

    async def _judge(self, group: Iterable[Following], readings: Iterable[Reading], due: float) -> int:
        """Hand readings to models one after the other; returns how many fail that did not before."""
        failed, until = 0, self._clock() + _DRAINS_FIRST
        for reading in readings:
            group = self._still(group)
            self._take([f for f in group if not f.started or f.tick < reading.at], reading)
            failing = self._wake_with_news(group)
            failed += failing
            if failing and reading.at < due:
                # Drains are not to wait until everything that was missed has been judged.
                await self._calm(max(until - self._clock(), 0.0))
            else:
                await asyncio.sleep(0)
        return failed

    def _still(self, group: Iterable[Following]) -> list[Following]:
        """List who of a group is still followed, while others work.

        What was drained meanwhile goes on where it was. A rollout that began meanwhile is not of the group.
        """
        pairs = ((followed, self._followed.get(followed.key)) for followed in group)
        return [now for before, now in pairs if now is not None and (now is before or now.trial is None)]

    def _wake_with_news(self, group: Iterable[Following]) -> int:
        """Wake those about whom a decision may differ now; what failed is to be drained before all else.

        Returns how many fail that did not before.
        """
        count = 0
        for followed in group:
            standing = followed.standing()
            if standing != followed.told:
                failed, failed_before = _fails(standing), _fails(followed.told)
                followed.told = standing
                count += failed and not failed_before
                self._wake(followed.key, urgent=failed)
        return count

    def _wake_for_progress(self, group: list[Following], seconds: float) -> None:
        """Wake what drains, and in turn as many of the others as may write their progress in so many seconds."""
        for followed in group:
            if followed.trial is None:
                self._wake(followed.key)
        count = max(1, round(_PROGRESS_RATE * seconds))
        now = self._clock()
        live = (f for f in group if f.trial is not None and now - f.progress_at >= _PROGRESS_EVERY)
        for followed in heapq.nsmallest(count, live, key=lambda followed: followed.progress_at):
            followed.progress_at = now
            self._wake(followed.key)

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
                before = followed.unavailable
                try:
                    interval = followed.advance(reading)
                except Exception as problem:  # noqa: BLE001 - one model must not end the reading of all
                    followed.unavailable = f"The controller cannot judge what Prometheus answers: {problem!r}"
                    if followed.unavailable != before:
                        _LOG.exception("%s: its counters cannot be judged", followed.key)
                    continue
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

    async def _learn(self) -> None:
        """Read stable's past for rollouts that begin, until cancelled."""
        while True:
            self._lacking.clear()
            lacking = [followed for followed in self._followed.values() if followed.lacks_history]
            lacking = heapq.nsmallest(_LEARN_AT_ONCE, lacking, key=lambda followed: followed.learning_at)
            for followed in lacking:
                followed.learning_at = self._clock()
            try:
                await self._learn_of(lacking)
            except PrometheusUnavailableError as problem:
                for followed in lacking:
                    followed.unavailable = str(problem)
            self._wake_with_news(followed for followed in lacking if followed.unavailable)
            if len(lacking) > sum(followed.lacks_history for followed in lacking):
                self._wanted.set()
            elif lacking:
                await asyncio.sleep(_LEARN_AGAIN_AFTER)
            else:
                await self._lacking.wait()

    async def _learn_of(self, group: list[Following]) -> None:
        together: dict[tuple[float, float, float], list[Following]] = {}
        for followed in group:
            began = followed.trial.began if followed.trial is not None else 0.0
            end = math.floor(began / _TOGETHER) * _TOGETHER
            analysis = followed.analysis
            together.setdefault((analysis.interval, analysis.dependence.history, end), []).append(followed)
        for (interval, history, end), beginning in together.items():
            step = max(interval, history / _LOOKS_BACK)
            times = [end - step * back for back in range(math.ceil(history / step), -1, -1)]
            wanted = frozenset[str]().union(*(followed.templates for followed in beginning))
            revisions = {followed.trial.stable for followed in beginning if followed.trial is not None}
            pasts = [followed.past() for followed in beginning]
            refused = dict[Key, str]()
            for at in range(0, len(times), _LOOKS_AT_ONCE):
                readings = await self._ask(wanted, revisions, times[at : at + _LOOKS_AT_ONCE])
                for followed, past in zip(beginning, pasts, strict=True):
                    past.add(readings)
                    if problem := followed.refused(readings[0], revisions):
                        refused[followed.key] = problem
            for followed, past in zip(beginning, pasts, strict=True):
                followed.unavailable = refused.get(followed.key, "")
                if not followed.unavailable:
                    followed.learn(past)

    async def _read(self, group: list[Following], ticks: list[float]) -> list[Reading]:
        revisions = {revision for followed in group for revision in self._revisions.get(followed.key, ())}
        return await self._ask(frozenset[str]().union(*(f.templates for f in group)), revisions, ticks)

    async def _ask(self, wanted: AbstractSet[str], revisions: AbstractSet[str], ticks: list[float]) -> list[Reading]:
        if self._prometheus is None:
            raise PrometheusUnavailableError(
                "BACKSTAY_PROMETHEUS_URL is not set: give the controller the address of Prometheus"
            )
        loop = asyncio.get_running_loop()
        read = partial(self._prometheus.read, wanted, revisions, ticks, shared=SHARED)
        return await loop.run_in_executor(self._threads, read)


def _fails(standing: Standing | None) -> bool:
    return standing is not None and standing.verdict is Verdict.FAIL
