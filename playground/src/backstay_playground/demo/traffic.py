"""Steady prediction requests through the gateway, each one written down."""

import asyncio
import hashlib
import itertools
import json
import threading
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import aiohttp

_TIMEOUT = aiohttp.ClientTimeout(total=10)
_BAD = 400


@dataclass(frozen=True, slots=True)
class Answer:
    """One request: when it began and ended (Unix seconds), the answer's status (0: none came), who answered.

    ``version`` is empty where no model server answered: the gateway did, or nobody. ``body`` is the index of what was
    sent, ``request_id`` what the server calls the request, ``said`` a digest of the answer.
    """

    began: float
    ended: float
    status: int
    version: str
    problem: str = ""
    body: int = -1
    request_id: str = ""
    said: str = ""


@dataclass(frozen=True, slots=True)
class Tally:
    """Answers counted: by version and outcome, and the requests that no model server answered."""

    requests: int
    lost: int
    answers: dict[str, dict[str, int]]


class Traffic:
    """Sends ``rate`` requests a second from a thread of its own, whatever becomes of the earlier ones."""

    def __init__(self, url: str, *, host: str, bodies: Sequence[bytes], rate: float) -> None:
        self._url = f"{url}/invocations"
        self._headers = {"Host": host, "Content-Type": "application/json"}
        self._bodies = bodies
        self._pause = 1 / rate
        self._answers: list[Answer] = []
        self._stop = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run()), name="traffic", daemon=True)

    def start(self) -> "Traffic":
        """Start sending."""
        self._thread.start()
        return self

    def stop(self) -> None:
        """Stop sending and wait for the last answers."""
        self._stop.set()
        self._thread.join(timeout=30)

    def answers(self, *, since: float = 0.0) -> list[Answer]:
        """Return what was written down of the requests that began at a time or later."""
        return [answer for answer in list(self._answers) if answer.began >= since]

    def lost(self, *, since: float = 0.0) -> list[Answer]:
        """Return the requests that no model server answered."""
        return [answer for answer in self.answers(since=since) if not answer.version]

    def tally(self) -> Tally:
        """Count what was written down."""
        return tally(self.answers())

    async def _run(self) -> None:
        connector = aiohttp.TCPConnector(limit=100, keepalive_timeout=30)
        async with aiohttp.ClientSession(connector=connector, timeout=_TIMEOUT) as session:
            tasks: set[asyncio.Task[None]] = set()
            due = time.monotonic()
            for index in itertools.cycle(range(len(self._bodies))):
                if self._stop.is_set():
                    break
                task = asyncio.create_task(self._send(session, index))
                tasks.add(task)
                task.add_done_callback(tasks.discard)
                # A sender that fell behind does not catch up in a burst: that would not be steady traffic.
                due = max(due + self._pause, time.monotonic() - self._pause)
                await asyncio.sleep(max(due - time.monotonic(), 0))
            await asyncio.gather(*tasks)

    async def _send(self, session: aiohttp.ClientSession, index: int) -> None:
        began = time.time()
        try:
            async with session.post(self._url, data=self._bodies[index], headers=self._headers) as response:
                content = await response.read()
                answer = Answer(
                    began,
                    time.time(),
                    response.status,
                    response.headers.get("X-Model-Version", ""),
                    body=index,
                    request_id=response.headers.get("X-Request-Id", ""),
                    said=hashlib.blake2b(content, digest_size=8).hexdigest(),
                )
        except (TimeoutError, aiohttp.ClientError) as problem:
            answer = Answer(began, time.time(), 0, "", repr(problem))
        self._answers.append(answer)


def tally(answers: Iterable[Answer]) -> Tally:
    """Count answers by version; a request without a version in its answer is lost."""
    requests = lost = 0
    counted: dict[str, dict[str, int]] = {}
    for answer in answers:
        requests += 1
        if not answer.version:
            lost += 1
            continue
        outcome = counted.setdefault(answer.version, {"ok": 0, "error": 0})
        outcome["ok" if answer.status < _BAD else "error"] += 1
    return Tally(requests, lost, counted)


def bodies(lines: str) -> list[bytes]:
    """Read request bodies from JSON lines."""
    return [json.dumps(json.loads(line)).encode() for line in lines.splitlines() if line.strip()]
