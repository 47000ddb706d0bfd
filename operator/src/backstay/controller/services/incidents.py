"""Incident records: an issue at the forge for each rollback, asked for in the background."""

import asyncio
import posixpath
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from backstay.adapters.messages.incident import incident_of
from backstay.controller.runtime.background import Background
from backstay.controller.services.gitops import PASSING, PERMANENT, GitOps
from backstay.domain import observed
from backstay.domain.resource import Key, ModelDeployment
from backstay.domain.status import RollbackRecord

_AGAIN_AFTER = 25.0


@dataclass(slots=True)
class _Known:
    rollback: str
    answer: observed.IncidentAnswer
    again_at: float


class Incidents:
    """Answers about incident records, by ModelDeployment."""

    def __init__(self, gitops: GitOps, background: Background, clock: Callable[[], float]) -> None:
        self._gitops = gitops
        self._background = background
        self._clock = clock
        self._known: dict[Key, _Known] = {}
        self._threads = ThreadPoolExecutor(max_workers=2, thread_name_prefix="incidents")

    def answer(self, key: Key, record: RollbackRecord | None) -> observed.IncidentAnswer:
        """Return what is known of the rollback's issue."""
        known = self._known.get(key)
        if record is None or known is None or known.rollback != record.id:
            return observed.Unreported()
        return known.answer

    def report(self, desired: ModelDeployment, record: RollbackRecord, started_at: float) -> None:
        """Start opening the issue, unless that was tried a moment ago."""
        known = self._known.get(desired.key)
        if known is None or known.rollback != record.id or self._clock() >= known.again_at:
            self._background.start(desired.key, "incident", lambda: self._report(desired, record, started_at))

    def forget(self, key: Key) -> None:
        """Drop what is remembered of a deleted ModelDeployment."""
        self._known.pop(key, None)

    async def _report(self, desired: ModelDeployment, record: RollbackRecord, started_at: float) -> None:
        answer: observed.IncidentAnswer
        try:
            source = await self._gitops.source(desired)
            environment = posixpath.basename(source.path.rstrip("/"))
            report = incident_of(desired, record, environment=environment, started_at=started_at)
            url = await asyncio.get_running_loop().run_in_executor(
                self._threads, lambda: self._gitops.writers.forge(source).report(report)
            )
            answer = observed.Reported(url)
        except PERMANENT as problem:
            answer = observed.Unreportable(str(problem))
        except PASSING as problem:
            answer = observed.Unreported(str(problem))
        self._known[desired.key] = _Known(record.id, answer, self._clock() + _AGAIN_AFTER)
