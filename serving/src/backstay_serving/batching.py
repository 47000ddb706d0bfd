"""Joining the requests that wait into one call of the model.

A call on a hundred rows costs many models little more than one on a single row. While one call runs, requests gather;
the next call takes them together. A request that waits alone may be made to wait a little longer for company.
"""

import asyncio
from collections import deque
from collections.abc import Callable
from concurrent.futures import Executor
from dataclasses import dataclass

from backstay_serving.outcome import Outcome
from backstay_serving.settings import BatchSettings
from backstay_serving.state import Endpoint


@dataclass(frozen=True)
class _Waiting:
    endpoint: Endpoint
    body: bytes
    content_type: str
    outcome: asyncio.Future[Outcome]


class Batcher:
    """Asks the model, for several requests at once. Used on the event loop's thread only.

    Args:
        settings: how requests are joined.
        executor: where the model predicts, one call at a time.
        joined: told how many requests a call answers.
    """

    def __init__(self, settings: BatchSettings, executor: Executor, joined: Callable[[int], object]) -> None:
        self._settings = settings
        self._executor = executor
        self._joined = joined
        self._waiting: deque[_Waiting] = deque()
        self._full = asyncio.Event()
        self._runner: set[asyncio.Task[None]] = set()

    async def ask(self, endpoint: Endpoint, body: bytes, content_type: str) -> Outcome:
        """Return what comes of one request."""
        if self._settings.max_requests == 1:
            # The executor's own queue: its thread takes the next request without waiting for the loop.
            self._joined(1)
            return await asyncio.get_running_loop().run_in_executor(self._executor, endpoint.answer, body, content_type)
        asked = _Waiting(endpoint, body, content_type, asyncio.get_running_loop().create_future())
        self._waiting.append(asked)
        if len(self._waiting) >= self._settings.max_requests:
            self._full.set()
        if not self._runner:
            task = asyncio.create_task(self._run())
            self._runner.add(task)
            task.add_done_callback(self._runner.discard)
        return await asked.outcome

    async def _run(self) -> None:
        while self._waiting:
            await self._wait_for_company()
            batch = self._take()
            requests = [(asked.body, asked.content_type) for asked in batch]
            loop = asyncio.get_running_loop()
            self._joined(len(batch))
            try:
                outcomes = await loop.run_in_executor(self._executor, batch[0].endpoint.answer_together, requests)
            except Exception as error:  # noqa: BLE001  a mistake of this server's own, which each caller is told of
                for asked in batch:
                    if not asked.outcome.done():
                        asked.outcome.set_exception(error)
                continue
            for asked, outcome in zip(batch, outcomes, strict=True):
                if not asked.outcome.done():  # its caller may have been cancelled
                    asked.outcome.set_result(outcome)

    async def _wait_for_company(self) -> None:
        if len(self._waiting) >= self._settings.max_requests or self._settings.max_wait_seconds <= 0:
            return
        self._full.clear()
        try:
            await asyncio.wait_for(self._full.wait(), self._settings.max_wait_seconds)
        except TimeoutError:
            return

    def _take(self) -> list[_Waiting]:
        batch = [self._waiting.popleft()]
        size = len(batch[0].body)
        while self._waiting and len(batch) < self._settings.max_requests:
            size += len(self._waiting[0].body)
            if size > self._settings.max_bytes:
                break
            batch.append(self._waiting.popleft())
        return batch
