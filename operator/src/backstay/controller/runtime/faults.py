"""Named places where the controller can be made to die, to prove that it may die anywhere.

With ``BACKSTAY_FAULTS`` set to a folder, reaching a point whose name is a file there removes the file and ends the
process with SIGKILL. Without it, a point costs one comparison.
"""

import os
import signal
from pathlib import Path

_FOLDER = os.environ.get("BACKSTAY_FAULTS", "")

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
    if not _FOLDER:
        return
    try:
        (Path(_FOLDER) / name).unlink()
    except OSError:
        return
    os.kill(os.getpid(), signal.SIGKILL)
