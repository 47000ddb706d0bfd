"""Starting Python programs warm: libraries are imported once, in a process that forks for every program.

A model server spends three seconds of processor time on importing scikit-learn, which on two cores is most of what a
playground's pods cost. The forked process is the program's own in every other way: its session, environment, folder,
log, view of the file system, signals and exit code. Only third-party libraries belong here; the program itself is
imported afresh each time, so that it is always the one in the working tree.
"""

import json
import logging
import os
import runpy
import socket
import subprocess
import sys
from collections.abc import Sequence
from enum import Enum
from importlib import import_module
from pathlib import Path
from typing import Any, NoReturn

from backstay_playground.node.namespace import CANNOT_START, ViewError, enter
from backstay_playground.node.process import Exit, Exited, Launch, Process, Vanished, identity_of_child

logger = logging.getLogger(__name__)

_LARGEST = 1 << 20
_PATIENCE = 30.0


class _State(Enum):
    IMPORTING = "importing"
    READY = "ready"
    GONE = "gone"


def _fits(launch: Launch) -> bool:
    """Tell whether a program can be forked.

    Python's own options and variables would come too late, and what is run inside a container gets the environment
    that its process was started with, which a fork does not show.
    """
    python = list(launch.argv[:2]) == [sys.executable, "-m"] and len(launch.argv) > len(("python", "-m"))
    return python and not launch.entered and not any(name.startswith("PYTHON") for name in launch.env)


class WarmStart:
    """The node's end: asks for forks, and for how they ended.

    Args:
        libraries: Modules to import. Threads that they start are missing from every program.
    """

    def __init__(self, libraries: Sequence[str]) -> None:
        self._socket, other = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        # numpy's libraries read it when they are loaded, and a thread of theirs would not survive the fork.
        env = {**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
        self._server = subprocess.Popen([sys.executable, "-m", __name__, *libraries], stdin=other.fileno(), env=env)
        other.close()
        self._socket.setblocking(False)
        self._state = _State.IMPORTING

    def start(self, launch: Launch) -> Process | None:
        """Start a program warm; None when it is none for that, or while the libraries are being imported."""
        if not _fits(launch) or not self._is_ready():
            return None
        launch.log.parent.mkdir(parents=True, exist_ok=True)
        answer = self._ask(
            {
                "module": launch.argv[2],
                "arguments": list(launch.argv[3:]),
                "env": dict(launch.env),
                "cwd": str(launch.cwd),
                "log": str(launch.log),
                "mounts": [(inside, str(outside)) for inside, outside in launch.mounts.items()],
            }
        )
        if answer is None:
            return None
        pid = int(answer["pid"])

        def reap() -> Exit:
            ended = self._ask({"reap": pid})
            return Vanished() if ended is None else Exited.of(int(ended["code"]))

        return Process(identity_of_child(pid), reap)

    def close(self) -> None:
        """End the forking process; the programs stay."""
        self._socket.close()
        # It may still be importing.
        self._server.terminate()
        self._server.wait()

    def _is_ready(self) -> bool:
        if self._state is _State.IMPORTING:
            try:
                imported = self._socket.recv(_LARGEST)
            except BlockingIOError:
                return False
            self._socket.settimeout(_PATIENCE)
            self._state = _State.READY if imported else _State.GONE
        return self._state is _State.READY

    def _ask(self, request: dict[str, Any]) -> dict[str, Any] | None:
        if self._state is not _State.READY:
            return None
        try:
            self._socket.send(json.dumps(request).encode())
            answer = self._socket.recv(_LARGEST)
            problem = "it has ended"
        except OSError as error:
            answer, problem = b"", str(error)
        if not answer:
            logger.warning("Programs are started cold from now on, the warm start does not answer: %s", problem)
            self._state = _State.GONE
            return None
        found: dict[str, Any] = json.loads(answer)
        return found


def _serve(control: socket.socket) -> dict[str, Any]:
    """Fork on request until the node is gone. In a forked process, and only there, this returns: what to become."""
    control.send(b"{}")
    while request := control.recv(_LARGEST):
        asked = json.loads(request)
        if "reap" in asked:
            _, status = os.waitpid(asked["reap"], 0)
            control.send(json.dumps({"code": os.waitstatus_to_exitcode(status)}).encode())
            continue
        parent, child = os.pipe()
        pid = os.fork()
        if pid == 0:
            control.close()
            os.close(parent)
            os.setsid()
            os.close(child)
            return dict(asked)
        os.close(child)
        # Closed as soon as the session is there, by which the node ends a program with all its children.
        os.read(parent, 1)
        os.close(parent)
        control.send(json.dumps({"pid": pid}).encode())
    sys.exit(0)


def _become(asked: dict[str, Any]) -> NoReturn:
    """Run a module as `python -m` does, with everything that a cold start would give it."""
    for path, flags, descriptors in (
        (os.devnull, os.O_RDONLY, (0,)),
        (asked["log"], os.O_WRONLY | os.O_APPEND | os.O_CREAT, (1, 2)),
    ):
        opened = os.open(path, flags, 0o644)
        for descriptor in descriptors:
            os.dup2(opened, descriptor)
        os.close(opened)
    os.environ.clear()
    os.environ.update(asked["env"])
    os.chdir(asked["cwd"])
    try:
        enter(asked["mounts"])
    except ViewError as error:
        sys.stderr.write(f"{error}\n")
        sys.exit(CANNOT_START)
    sys.argv[1:] = asked["arguments"]
    sys.path[0] = str(Path.cwd())
    runpy.run_module(asked["module"], run_name="__main__", alter_sys=True)
    sys.exit(0)


if __name__ == "__main__":
    for library in sys.argv[1:]:
        import_module(library)
    # Standard input is the socket, and it ends with the node.
    _become(_serve(socket.socket(fileno=os.dup(0))))
