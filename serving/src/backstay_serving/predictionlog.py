"""The prediction log: what was asked and answered, one JSON document a line, written beside the answers.

An answer never waits for the log. Lines go through a bounded queue to a thread of their own; what does not fit, and
what cannot be written, is dropped and counted. Requests are sampled by their id and not by chance, so that two servers
that saw the same request (a mirrored one, say) keep the same ones.
"""

import contextlib
import hashlib
import json
import logging
import math
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from logging.handlers import RotatingFileHandler
from pathlib import Path
from typing import Any, Literal

from backstay_serving.outcome import Answered
from backstay_serving.settings import Identity, StartError

_LOG = logging.getLogger(__name__)
_MOST_WAITING = 10_000  # lines; some 10 MB for thirty features
_CLOSE_SECONDS = 3.0
_ROUND_SECONDS = 0.1
REDACTED = "[redacted]"

DropReason = Literal["queue_full", "write_failed"]


@dataclass(frozen=True)
class LogSettings:
    """What is logged, and where to.

    Attributes:
        path: the file that is written; older ones get `.1`, `.2` and so on.
        max_bytes: the size at which a file is put aside.
        files: how many of those are kept beside the present one.
        sample: the share of requests that is logged, 0 to 1.
        redact: names of features whose values are not written.
    """

    path: Path
    max_bytes: int
    files: int
    sample: float
    redact: frozenset[str]


@dataclass(frozen=True)
class NoLog:
    """No prediction log was asked for."""


@dataclass(frozen=True)
class LogCounts:
    """Whom to tell what became of lines: a number of them at a time, from any thread."""

    written: Callable[[int], object]
    dropped: Callable[[DropReason, int], object]


class PredictionLog:
    """An open prediction log.

    Args:
        settings: what is logged.
        identity: the model and version to name in every line.
        counts: told of lines written and dropped.
        most_waiting: how many lines may wait for the disk.

    Raises:
        StartError: the file cannot be written to.
    """

    def __init__(
        self, settings: LogSettings, identity: Identity, counts: LogCounts, *, most_waiting: int = _MOST_WAITING
    ) -> None:
        self._settings = settings
        self._facts = {"model": identity.name, "version": identity.version, "revision": identity.revision}
        self._counts = counts
        self._most_waiting = most_waiting
        self._queue: deque[tuple[str, float, Answered]] = deque()
        self._waiting = 0  # lines, those of the request that is being written included
        self._closing = False
        self._changed = threading.Condition()
        try:
            self._file = _RotatingFile(settings, failed=lambda: counts.dropped("write_failed", 1))
        except OSError as error:
            raise StartError(
                f"Cannot write the prediction log {settings.path}: {error.strerror}; mount a volume there that this "
                "user may write to, or set PREDICTION_LOG"
            ) from error
        # A daemon, so that a disk that hangs cannot keep the process.
        self._thread = threading.Thread(target=self._write, name="prediction-log", daemon=True)
        self._thread.start()

    def offer(self, request_id: str, answered: Answered, now: float | None = None) -> None:
        """Take an answer to the log, if it is sampled and there is room; returns at once and never raises.

        Args:
            request_id: of the request.
            answered: what it was answered.
            now: the time of the answer in Unix seconds; the present where it is left out.
        """
        if not is_sampled(request_id, self._settings.sample):
            return
        lines = len(answered.answers)
        with self._changed:
            fits = not self._closing and self._waiting + lines <= self._most_waiting
            if fits:
                self._waiting += lines
                self._queue.append((request_id, time.time() if now is None else now, answered))
        if not fits:
            self._counts.dropped("queue_full", lines)

    def close(self, seconds: float = _CLOSE_SECONDS) -> None:
        """Write what waits, for a limited time, and close the file; what is left then is counted as dropped."""
        with self._changed:
            self._closing = True
            self._changed.notify()
        self._thread.join(timeout=seconds)
        with self._changed:
            left = sum(len(answered.answers) for _, _, answered in self._queue)
            self._queue.clear()
        if left:
            self._counts.dropped("write_failed", left)
            _LOG.warning("%d lines of the prediction log were not written within %g s", left, seconds)

    def _write(self) -> None:
        while True:
            with self._changed:
                if not self._queue:
                    # By the clock, not woken for each answer: that would take the processor from the next prediction.
                    self._changed.wait_for(lambda: self._closing, timeout=_ROUND_SECONDS)
                if not self._queue:
                    if self._closing:
                        break
                    continue
                request_id, at, answered = self._queue.popleft()
            try:
                for line in lines_of(request_id, at, answered, facts=self._facts, redact=self._settings.redact):
                    if self._file.write(line):
                        self._counts.written(1)
            except Exception:  # noqa: BLE001  the thread must live on
                _LOG.exception("Lines could not be made of a prediction", extra={"kind": "prediction log"})
                self._counts.dropped("write_failed", len(answered.answers))
            with self._changed:
                self._waiting -= len(answered.answers)
        with contextlib.suppress(OSError):  # what a full disk still owes was counted when it was refused
            self._file.close()


class _RotatingFile(RotatingFileHandler):
    """The standard library's rotating file, for lines instead of log records.

    Args:
        settings: the file and its limits.
        failed: told of each line that could not be written.
    """

    def __init__(self, settings: LogSettings, failed: Callable[[], object]) -> None:
        super().__init__(
            settings.path, maxBytes=settings.max_bytes, backupCount=settings.files, encoding="utf-8", errors="replace"
        )
        self._failed = failed
        self._lost = False

    def write(self, line: str) -> bool:
        """Write one line and say whether it went out."""
        self._lost = False
        self.handle(logging.LogRecord("", logging.INFO, "", 0, line, None, None))
        return not self._lost

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: ARG002, N802  the library's signature
        """Count a line that a full or broken disk refused, and say so once in a while."""
        self._lost = True
        self._failed()
        _LOG.error("The prediction log cannot be written: %s", sys.exception(), extra={"kind": "prediction log"})


def is_sampled(request_id: str, sample: float) -> bool:
    """Say whether a request belongs to the sample; the same id always gives the same answer."""
    place = int.from_bytes(hashlib.blake2b(request_id.encode(), digest_size=8).digest()) / 2**64
    return place < sample


def lines_of(
    request_id: str, at: float, answered: Answered, *, facts: Mapping[str, str], redact: frozenset[str]
) -> Sequence[str]:
    """Make the lines of one request, one for each of its rows.

    Args:
        request_id: of the request.
        at: the time of the answer, in Unix seconds.
        answered: what it was answered.
        facts: what is the same in every line.
        redact: features whose values are left out. Rows without names are left out whole, since it is not known what
            they hold.
    """
    said_at = datetime.fromtimestamp(at, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    lines = []
    for row, (features, answer) in enumerate(zip(answered.inputs(), answered.answers, strict=True)):
        document: dict[str, Any] = {"id": request_id, "row": row, "time": said_at, **facts}
        document["features"] = _redacted(features, redact) if redact else features
        document["answer"] = answer
        if len(answered.scores) == len(answered.answers):
            document["score"] = answered.scores[row]
        try:
            lines.append(_dumped(document))
        except ValueError:  # rare, so that it is not looked for in every line
            lines.append(_dumped(_without_nan(document)))
    return lines


def _dumped(document: Any) -> str:
    return json.dumps(document, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def _without_nan(value: Any) -> Any:
    """Write null for what is no finite number: JSON has no word for it."""
    match value:
        case dict():
            return {key: _without_nan(inner) for key, inner in value.items()}
        case list() | tuple():
            return [_without_nan(inner) for inner in value]
        case float() if not math.isfinite(value):
            return None
        case _:
            return value


def _redacted(features: Any, redact: frozenset[str]) -> Any:
    if not isinstance(features, dict):
        return REDACTED
    return {name: REDACTED if name in redact else value for name, value in features.items()}
