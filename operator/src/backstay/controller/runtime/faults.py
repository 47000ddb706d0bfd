"""Named places where the controller can be made to die, to prove that it may die anywhere.

With ``BACKSTAY_FAULTS`` set to a folder, reaching a point whose name is a file there removes the file and ends the
process with SIGKILL. Where many controllers run in one process, `reached` may be set in the context of each: it is
told the name of every point, and ends that controller alone by raising. Without both, a point costs two comparisons.
"""

import os
import signal
from collections.abc import Callable
from contextvars import ContextVar
from pathlib import Path

_FOLDER = os.environ.get("BACKSTAY_FAULTS", "")
reached: ContextVar[Callable[[str], None] | None] = ContextVar("reached", default=None)

WRITES = (
    "old-plan",
    "plan",
    "workload",
    "service",
    "stable-service",
    "restore",
    "config",
    "route",
    "status",
    "event",
    "retire-service",
    "retire-plan",
    "retire-workload",
    "alias",
    "rollback-tag",
    "refresh",
    "fetch",
    "push",
    "pull-request",
    "merge",
)


def point(name: str) -> None:
    """Die here, once, if asked to. Names are ``before:`` and ``after:`` one of ``WRITES``."""
    told = reached.get()
    if told is not None:
        told(name)
    if not _FOLDER:
        return
    try:
        (Path(_FOLDER) / name).unlink()
    except OSError:
        return
    os.kill(os.getpid(), signal.SIGKILL)
