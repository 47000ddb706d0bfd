"""A folder on this machine that one process has for itself."""

import fcntl
import os
import shutil
from pathlib import Path

from backstay.adapters.git.command import GitUnavailable

COPY = "rendering-"
"""How the names of folders begin in which a part of a work tree is rendered."""


class WorkFolder:
    """A folder with a lock in it, which processes that are started with ``lock`` hold too.

    Args:
        path: the folder; made when it is taken, for us alone.
        purpose: what it is for, named in errors.
        passing: how the names of folders in it begin that are of no use to the next process.
    """

    def __init__(self, path: Path, *, purpose: str, passing: tuple[str, ...]) -> None:
        self.path = path
        self.lock = -1
        self._purpose = purpose
        self._passing = passing

    def take(self) -> bool:
        """Lock the folder and remove what a killed process has left; False if it is ours already.

        Raises:
            GitUnavailable: another process has it, or one that it started and that outlives it.
            OSError: the folder cannot be made or opened.
        """
        if self.lock >= 0:
            return False
        self.path.mkdir(parents=True, exist_ok=True, mode=0o700)
        lock = os.open(self.path / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(lock)
            raise GitUnavailable(
                f"The work folder for {self._purpose} is in use by another process; "
                "let that one end, or give each its own folder"
            ) from None
        self.lock = lock
        for prefix in self._passing:
            for left in self.path.glob(f"{prefix}*"):
                shutil.rmtree(left, ignore_errors=True)
        return True

    def close(self) -> None:
        """Let another process have the folder."""
        if self.lock >= 0:
            os.close(self.lock)
            self.lock = -1
