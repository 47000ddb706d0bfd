"""Local processes that outlive the command which started them, and are never confused with a stranger's.

A process is known by its number, the boot of the machine and its start time in clock ticks since that boot: numbers are
reused, and wall-clock start times move when the clock is set.
"""

import atexit
import json
import os
import signal
import subprocess
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

import psutil

from backstay_playground.layout import write_private

MEMBER_VARIABLE = "BACKSTAY_PLAYGROUND_MEMBER"
"""Set in every started process to `<state folder>:<component>`; children inherit it, so orphans can be found."""

_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
# Children of this process must be waited for, else they stay behind as zombies while it lives.
_children: dict[int, subprocess.Popen[bytes]] = {}


@atexit.register
def _part() -> None:
    """Wait for the children that have ended, and part from those that live on without Python's warning about them."""
    for child in _children.values():
        if child.poll() is None:
            child.returncode = 0


@dataclass(frozen=True)
class Identity:
    """One process for the time of its life: pid, id of the boot, start time in clock ticks since the boot."""

    pid: int
    boot: str
    ticks: int


@dataclass(frozen=True)
class Record:
    """What was started under a name: `started` is in seconds since the epoch, for people only."""

    identity: Identity
    argv: tuple[str, ...]
    environment: str
    started: float


def parse_stat(text: str) -> tuple[str, int]:
    """Return the state letter and the start time in ticks from the text of /proc/PID/stat.

    The command's name stands in parentheses and may hold spaces and parentheses itself.
    """
    fields = text.rpartition(")")[2].split()
    return fields[0], int(fields[19])


def identify(pid: int) -> Identity:
    """Return the identity of a live process.

    Raises:
        ProcessLookupError: no such process, or only its zombie is left.
    """
    try:
        state, ticks = parse_stat(Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace"))
    except (FileNotFoundError, ProcessLookupError) as error:
        raise ProcessLookupError(f"process {pid} is gone") from error
    if state in "ZX":
        raise ProcessLookupError(f"process {pid} has ended")
    return Identity(pid, _BOOT_ID.read_text(encoding="ascii").strip(), ticks)


def is_alive(identity: Identity) -> bool:
    """Tell whether exactly this process still runs; reaps it if it was our child."""
    child = _children.get(identity.pid)
    if child is not None and child.poll() is not None:
        del _children[identity.pid]
    try:
        return identify(identity.pid) == identity
    except ProcessLookupError:
        return False


def spawn(argv: Sequence[str], *, env: Mapping[str, str], log: Path, cwd: Path) -> Identity:
    """Start a process in a session of its own, its output appended to `log`.

    Raises:
        FileNotFoundError: the program does not exist.
        ProcessLookupError: it ended at once.
    """
    with log.open("ab") as output:
        child = subprocess.Popen(  # noqa: S603, RUF100 - a list, and it must outlive this block
            argv,
            env=dict(env),
            cwd=cwd,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    _children[child.pid] = child
    return identify(child.pid)


def descendants(roots: Iterable[Identity]) -> set[Identity]:
    """Return the live ones of `roots` and all processes below them."""
    found: set[Identity] = set()
    for root in roots:
        if not is_alive(root):
            continue
        found.add(root)
        with suppress(psutil.NoSuchProcess):
            for child in psutil.Process(root.pid).children(recursive=True):
                with suppress(ProcessLookupError):
                    found.add(identify(child.pid))
    return found


def members(state: Path, component: str = "") -> set[Identity]:
    """Return the live processes that carry the mark of this state folder, of one component or of all."""
    mark = f"{MEMBER_VARIABLE}={state}:{component}".encode()
    found: set[Identity] = set()
    for folder in Path("/proc").iterdir():
        if not folder.name.isdigit() or int(folder.name) == os.getpid():
            continue
        # Processes of other users cannot be read, and are not ours.
        with suppress(OSError):
            variables = (folder / "environ").read_bytes().split(b"\0")
            if any(variable == mark if component else variable.startswith(mark) for variable in variables):
                found.add(identify(int(folder.name)))
    return found


def terminate(targets: Iterable[Identity], *, grace: float) -> None:
    """Ask processes to end, and kill those that still live after `grace` seconds."""
    waiting = {target for target in targets if _signal(target, signal.SIGTERM)}
    waiting = _wait_gone(waiting, grace)
    for target in waiting:
        _signal(target, signal.SIGKILL)
    _wait_gone(waiting, 5)


def kill(identity: Identity) -> None:
    """Kill a process at once, as a crash would."""
    _signal(identity, signal.SIGKILL)
    _wait_gone({identity}, 5)


def _signal(identity: Identity, number: signal.Signals) -> bool:
    if not is_alive(identity):
        return False
    with suppress(ProcessLookupError):
        os.kill(identity.pid, number)
    return True


def _wait_gone(targets: set[Identity], seconds: float) -> set[Identity]:
    deadline = time.monotonic() + seconds
    while (left := {target for target in targets if is_alive(target)}) and time.monotonic() < deadline:
        time.sleep(0.05)
    return left


class Records:
    """The records of started processes, one file a name."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def save(self, name: str, record: Record) -> None:
        """Remember what runs under `name`."""
        write_private(self._folder / f"{name}.json", json.dumps(asdict(record)))

    def load(self) -> dict[str, Record]:
        """Return all records; one that was cut short by a crash is left out."""
        found: dict[str, Record] = {}
        for path in sorted(self._folder.glob("*.json")):
            with suppress(ValueError, KeyError, TypeError, FileNotFoundError):
                raw = json.loads(path.read_text(encoding="utf-8"))
                identity = Identity(**raw["identity"])
                found[path.stem] = Record(identity, tuple(raw["argv"]), raw["environment"], raw["started"])
        return found

    def alive(self) -> dict[str, Record]:
        """Return the records whose process lives."""
        return {name: record for name, record in self.load().items() if is_alive(record.identity)}

    def forget(self, name: str) -> None:
        """Drop the record of `name`."""
        (self._folder / f"{name}.json").unlink(missing_ok=True)
