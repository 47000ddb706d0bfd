"""Run a program whose input others wrote: its memory, processor time, time and output are limited."""

import os
import selectors
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

# A shell sets the limits: they hold from the program's first instruction on, and no Python code has to run between fork
# and exec of a process with threads. A limit that cannot be set is stricter already. No core and no file is written.
_LAUNCH = '{ ulimit -c 0; ulimit -f 0; ulimit -t "$1"; ulimit -d "$2"; } 2>/dev/null; shift 2; exec "$@"'
_CHUNK = 65_536
_LONGEST_ERROR = 65_536


@dataclass(frozen=True, slots=True)
class Limits:
    """What a program may use.

    Args:
        memory: bytes of data; the program is refused more by the system, and has to end by itself.
        processor_seconds: of all its threads together; then the system kills it.
        seconds: from start to end.
        output: bytes on its standard output. Of its error output the first 64 KiB are kept.
    """

    memory: int
    processor_seconds: int
    seconds: float
    output: int


@dataclass(frozen=True, slots=True)
class Ended:
    """How a program ended by itself, or by the system: ``status`` is negative for a signal."""

    status: int
    out: bytes
    error: bytes


class Exceeded(StrEnum):
    """The limit for which a program was killed here."""

    TIME = "time"
    OUTPUT = "output"


def run(command: Sequence[str], *, environment: Mapping[str, str], folder: Path, limits: Limits) -> Ended | Exceeded:
    """Run a program in a folder, without input and with this environment alone; nothing of it is left afterwards.

    Args:
        command: the program's path, and its arguments.
        environment: all of its environment variables.
        folder: where it runs.
        limits: what it may use.

    Raises:
        OSError: it cannot be started.
    """
    kib = limits.memory // 1024
    with subprocess.Popen(
        ["/bin/sh", "-c", _LAUNCH, "sh", str(limits.processor_seconds), str(kib), *command],
        env=dict(environment),
        cwd=folder,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
    ) as process:
        ended: Ended | Exceeded | None = None
        try:
            ended = _watched(process, limits)
        finally:
            if not isinstance(ended, Ended):
                os.killpg(process.pid, signal.SIGKILL)
        return ended


def _watched(process: "subprocess.Popen[bytes]", limits: Limits) -> Ended | Exceeded:
    """Read what a program writes until it ends or exceeds a limit."""
    deadline = time.monotonic() + limits.seconds
    out, error = bytearray(), bytearray()
    with selectors.DefaultSelector() as streams:
        streams.register(process.stdout, selectors.EVENT_READ, out)  # type: ignore[arg-type]  # it is a pipe
        streams.register(process.stderr, selectors.EVENT_READ, error)  # type: ignore[arg-type]
        while streams.get_map():
            left = deadline - time.monotonic()
            ready = streams.select(left) if left > 0 else []
            if not ready:
                return Exceeded.TIME
            for key, _ in ready:
                part = os.read(key.fd, _CHUNK)
                if not part:
                    streams.unregister(key.fileobj)
                elif key.data is out or len(error) < _LONGEST_ERROR:
                    key.data.extend(part)
            if len(out) > limits.output:
                return Exceeded.OUTPUT
    try:
        status = process.wait(max(deadline - time.monotonic(), 0))
    except subprocess.TimeoutExpired:
        return Exceeded.TIME
    return Ended(status, bytes(out), bytes(error[:_LONGEST_ERROR]))
