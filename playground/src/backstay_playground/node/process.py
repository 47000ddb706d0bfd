"""One container's process: started or adopted, watched through a pidfd, ended with its whole session."""

import asyncio
import json
import os
import signal
import subprocess
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path

from backstay_playground.layout import write_private
from backstay_playground.node.namespace import wrap
from backstay_playground.processes import Identity, identify, parse_stat


@dataclass(frozen=True)
class Exited:
    """The process ended with this code; 128 + n after signal n, as a shell counts."""

    code: int

    @classmethod
    def of(cls, returned: int) -> "Exited":
        """Count as a shell does what Python gives as -n after signal n."""
        return cls(returned if returned >= 0 else 128 - returned)


@dataclass(frozen=True)
class Vanished:
    """The process ended, and as it was not our child nobody knows how."""


Exit = Exited | Vanished


@dataclass(frozen=True)
class Launch:
    """Everything needed to start a process.

    Args:
        argv: The program and its arguments.
        env: Its environment.
        cwd: Its working folder.
        log: The file that its output is added to.
        mounts: Path inside -> path on the host.
        entered: Whether probes or hooks run commands beside it, with its environment.
    """

    argv: Sequence[str]
    env: Mapping[str, str]
    cwd: Path
    log: Path
    mounts: Mapping[str, Path] = field(default_factory=dict)
    entered: bool = False


class Process:
    """A running process; `ended` gives how it ended. Make one with `start` or `adopt`, inside the event loop."""

    def __init__(self, identity: Identity, reap: Callable[[], Exit]) -> None:
        self.identity = identity
        self._pidfd = os.pidfd_open(identity.pid)
        self._reap = reap
        self._loop = asyncio.get_running_loop()
        self._ended: asyncio.Future[Exit] = self._loop.create_future()
        self._loop.add_reader(self._pidfd, self._on_end)

    def _on_end(self) -> None:
        self._loop.remove_reader(self._pidfd)
        # Before the zombie is reaped its number cannot belong to a stranger: now is the time to end its children.
        kill_session(self.identity)
        self._ended.set_result(self._reap())
        os.close(self._pidfd)

    def environment(self) -> dict[str, str]:
        """Return the environment that the process was started with; empty when it is gone."""
        try:
            words = Path(f"/proc/{self.identity.pid}/environ").read_bytes().decode(errors="replace").split("\0")
        except OSError:
            return {}
        return dict(word.split("=", 1) for word in words if "=" in word)

    async def ended(self) -> Exit:
        """Wait until the process ends; being cancelled does not hurt it."""
        return await asyncio.shield(self._ended)

    def terminate(self) -> None:
        """Ask the process to end."""
        if not self._ended.done():
            with suppress(ProcessLookupError):
                signal.pidfd_send_signal(self._pidfd, signal.SIGTERM)

    def kill(self) -> None:
        """End the process and everything in its session."""
        if not self._ended.done():
            with suppress(ProcessLookupError):
                signal.pidfd_send_signal(self._pidfd, signal.SIGKILL)


def start(launch: Launch) -> Process:
    """Start a process in a session of its own that outlives the node.

    Raises:
        OSError: it cannot be started.
    """
    launch.log.parent.mkdir(parents=True, exist_ok=True)
    with launch.log.open("ab") as log:
        child = subprocess.Popen(  # noqa: S603, RUF100 - a list, and the process must outlive this block
            wrap(launch.argv, mounts=launch.mounts),
            env=dict(launch.env),
            cwd=launch.cwd,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )

    def reap() -> Exit:
        return Exited.of(child.wait())

    return Process(identity_of_child(child.pid), reap)


def identity_of_child(pid: int) -> Identity:
    """Identify a process that has not been reaped."""
    # One that already ended is a zombie until then; its start time can be read all the same.
    try:
        return identify(pid)
    except ProcessLookupError:
        _, ticks = parse_stat(Path(f"/proc/{pid}/stat").read_text(encoding="utf-8"))
        return Identity(pid, identify(os.getpid()).boot, ticks)


def adopt(identity: Identity) -> Process:
    """Watch a process that an earlier node started.

    Raises:
        ProcessLookupError: it is gone.
    """
    if identify(identity.pid) != identity:
        raise ProcessLookupError(f"process {identity.pid} is another one now")
    return Process(identity, Vanished)


def session(identity: Identity) -> Iterator[int]:
    """Yield the pids that live in a process's session, also when the process itself is gone."""
    for folder in Path("/proc").iterdir():
        if not folder.name.isdigit():
            continue
        with suppress(OSError):
            text = (folder / "stat").read_text(encoding="utf-8", errors="replace")
            state, ticks = parse_stat(text)
            leader = int(text.rpartition(")")[2].split()[3])
            if leader != identity.pid or ticks < identity.ticks:
                continue
            # The number of a leader is not given away while its session lives, but a later one may have it.
            if int(folder.name) == leader and ticks != identity.ticks:
                return
            if state not in "ZX":
                yield int(folder.name)


def kill_session(identity: Identity) -> None:
    """Kill every process of a session at once."""
    for pid in list(session(identity)):
        with suppress(ProcessLookupError, PermissionError):
            os.kill(pid, signal.SIGKILL)


@dataclass(frozen=True)
class Owner:
    """Which container a process is: the pod's uid, its namespace and name, and the container's name."""

    uid: str
    namespace: str
    pod: str
    container: str

    def __str__(self) -> str:
        return f"{self.namespace}/{self.pod} {self.container}"


class Ledger:
    """What runs, on disk: one file a container, so that a restarted node or `reap` finds every process."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def save(self, owner: Owner, identity: Identity) -> None:
        """Remember the process of a container."""
        write_private(self._file(owner), json.dumps({"owner": asdict(owner), "identity": asdict(identity)}))

    def forget(self, owner: Owner) -> None:
        """Drop a container's process."""
        self._file(owner).unlink(missing_ok=True)

    def load(self) -> dict[Owner, Identity]:
        """Return all that was saved; a file that a crash cut short counts as not saved."""
        found: dict[Owner, Identity] = {}
        for path in self._folder.glob("*.json"):
            with suppress(ValueError, KeyError, TypeError, FileNotFoundError):
                raw = json.loads(path.read_text(encoding="utf-8"))
                found[Owner(**raw["owner"])] = Identity(**raw["identity"])
        return found

    def _file(self, owner: Owner) -> Path:
        return self._folder / f"{owner.uid}.{owner.container}.json"
