"""Notifications: what the controller announces, sent to whom a Secret names, beside everything else."""

import asyncio
import logging
import re
from collections import deque
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from backstay.adapters.messages.plain import notification_text
from backstay.adapters.notify import Target, Tone, read_targets, send
from backstay.controller.runtime import metrics
from backstay.domain.actions import Announce, Severity
from backstay.domain.resource import ModelDeployment

_LOG = logging.getLogger(__name__)

# How long is waited before each further attempt, in seconds.
PAUSES = (2.0, 5.0, 15.0, 60.0)
# The most messages that wait for one target; beyond that the oldest are dropped.
MOST_WAITING = 200
_FAILURES = frozenset({"RollingBack", "RolloutFailed", "WriteBackRefused"})
_SUCCESSES = frozenset({"Promoted", "PromotionDone", "RolledBack"})


@dataclass(frozen=True, slots=True)
class Message:
    """What people get."""

    title: str
    body: str
    tone: Tone


class Notifications:
    """Sends messages in the background, those for one target in their order.

    A message is handed in after the status that it tells of was written, so that a controller that is killed and
    decides again does not repeat it. What waits when the process ends is lost.

    Args:
        folder: the mounted Secret, read again for each message; None sends nothing.
        pauses: how long is waited before each further attempt, in seconds.
    """

    def __init__(self, folder: Path | None, pauses: tuple[float, ...] = PAUSES) -> None:
        self._folder = folder
        self._pauses = pauses
        self._news: deque[tuple[ModelDeployment, Announce, tuple[str, ...]]] = deque()
        self._sorting: asyncio.Task[None] | None = None
        self._waiting: dict[str, deque[tuple[Target, Message]]] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._problems: tuple[str, ...] = ()
        self._threads = ThreadPoolExecutor(max_workers=16, thread_name_prefix="notifications")

    def tell(
        self, desired: ModelDeployment, announcements: Iterable[Announce], addresses: tuple[str, ...] = ()
    ) -> None:
        """Hand in what was announced of a ModelDeployment; returns at once. ``addresses`` stay links in it."""
        if self._folder is None:
            return
        self._news.extend((desired, announcement, addresses) for announcement in announcements)
        if self._news and (self._sorting is None or self._sorting.done()):
            self._sorting = asyncio.create_task(self._sort(self._folder))

    async def stop(self) -> None:
        """End all attempts."""
        tasks = [*self._tasks.values(), *([self._sorting] if self._sorting else [])]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._threads.shutdown(wait=False, cancel_futures=True)

    async def _sort(self, folder: Path) -> None:
        """Give each message to the targets that want it."""
        while self._news:
            desired, announcement, addresses = self._news.popleft()
            targets = await self._targets(folder)
            message = message_of(desired, announcement, addresses)
            for target in targets:
                if target.wants(announcement.reason, desired.key.namespace):
                    self._queue(target, message)

    async def _targets(self, folder: Path) -> tuple[Target, ...]:
        targets, problems = await asyncio.get_running_loop().run_in_executor(self._threads, read_targets, folder)
        if problems != self._problems:
            for problem in problems:
                _LOG.error("Notifications: %s", problem)
            self._problems = problems
        return targets

    def _queue(self, target: Target, message: Message) -> None:
        waiting = self._waiting.setdefault(target.name, deque())
        if len(waiting) == MOST_WAITING:
            waiting.popleft()
            metrics.NOTIFICATIONS.labels(target.name, "dropped").inc()
            _LOG.warning("%s takes no notifications, and the oldest that waited was dropped", target.name)
        waiting.append((target, message))
        task = self._tasks.get(target.name)
        if task is None or task.done():
            self._tasks[target.name] = asyncio.create_task(self._deliver(target.name))

    async def _deliver(self, name: str) -> None:
        waiting = self._waiting[name]
        while waiting:
            target, message = waiting.popleft()
            for taken in await asyncio.gather(*(self._sent(url, message) for url in target.urls)):
                metrics.NOTIFICATIONS.labels(name, "sent" if taken else "failed").inc()
                if not taken:
                    _LOG.warning(
                        "%s was not notified: %s; its server refuses it or does not answer", name, message.title
                    )

    async def _sent(self, url: str, message: Message) -> bool:
        for pause in (*self._pauses, None):
            if await asyncio.get_running_loop().run_in_executor(self._threads, self._attempt, url, message):
                return True
            if pause is not None:
                await asyncio.sleep(pause)
        return False

    @staticmethod
    def _attempt(url: str, message: Message) -> bool:
        try:
            return send(url, title=message.title, body=message.body, tone=message.tone)
        except Exception as problem:  # noqa: BLE001 - a service's plugin may fail in its own way; its words may hold a token
            _LOG.warning("A notification failed with %s", type(problem).__name__)
            return False


def message_of(desired: ModelDeployment, announcement: Announce, addresses: tuple[str, ...]) -> Message:
    """Word an announcement for people who do not look at the cluster; ``addresses`` stay links in it."""
    doing = re.sub(r"(?<!^)(?=[A-Z])", " ", announcement.reason).lower()
    if announcement.reason in _FAILURES:
        tone = Tone.FAILURE
    elif announcement.reason in _SUCCESSES:
        tone = Tone.SUCCESS
    else:
        tone = Tone.WARNING if announcement.severity is Severity.WARNING else Tone.INFO
    title, body = notification_text(f"{desired.key}: {doing}"), notification_text(announcement.message, addresses)
    return Message(title, body, tone)
