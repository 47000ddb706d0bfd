"""Locks: one command at a time works on a state folder, and one playground at a time owns the loopback addresses.

A process in a network namespace of its own has loopback addresses of its own.
"""

import fcntl
import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from backstay_playground.errors import PlaygroundError
from backstay_playground.layout import Layout, user_cache, write_private
from backstay_playground.processes import Records


@contextmanager
def state_lock(state: Path) -> Iterator[None]:
    """Hold the lock of a state folder; the lock file lies outside of it, because `down` removes it.

    Raises:
        PlaygroundError: another command works on it.
    """
    folder = user_cache() / "locks"
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / hashlib.sha256(str(state).encode()).hexdigest()[:16]
    with path.open("a+", encoding="utf-8") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            raise PlaygroundError(
                f"Another command (process {file.read().strip() or 'unknown'}) is starting or stopping the playground "
                f"in {state}; wait until it is done."
            ) from None
        file.truncate(0)
        file.write(str(os.getpid()))
        file.flush()
        yield


def _owner_file() -> Path:
    network = Path("/proc/self/ns/net").stat().st_ino
    return user_cache() / f"owner-{network}"


def claim(layout: Layout) -> None:
    """Make this state folder the owner of this network's ClusterIPs and pod addresses, which all playgrounds share.

    Raises:
        PlaygroundError: another playground runs.
    """
    file = _owner_file()
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.with_name("owner.lock").open("a", encoding="utf-8") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        holder = Path(file.read_text(encoding="utf-8")) if file.exists() else layout.root
        if holder != layout.root and Records(Layout(holder).run).alive():
            raise PlaygroundError(
                f"A playground already runs from {holder}, and Services and pods of two would share their addresses. "
                f"Stop it first: python -m backstay_playground down --state {holder}"
            )
        write_private(file, str(layout.root))


def release(layout: Layout) -> None:
    """Give the ownership back, if this state folder has it."""
    file = _owner_file()
    if file.exists() and file.read_text(encoding="utf-8") == str(layout.root):
        file.unlink()
