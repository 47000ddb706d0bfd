"""A controller under test, as a process of its own."""

import os
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import psutil


class ControllerProcess:
    """Starts, ends and measures one controller.

    Args:
        command: what is run.
        variables: what is added to the environment.
        log: the file that its output goes to.
    """

    def __init__(self, command: Sequence[str], variables: Mapping[str, str], log: Path) -> None:
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("KUBE", "BACKSTAY"))}
        self._variables = {**kept, "NO_PROXY": "127.0.0.1", "no_proxy": "127.0.0.1", **variables}
        self._command = list(command)
        self._log = log
        self.started_at = 0.0
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it, without waiting for anything."""
        self.started_at = time.time()
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(self._command, env=self._variables, stdout=log, stderr=subprocess.STDOUT)

    def stop(self) -> None:
        """End it as its pod is ended."""
        if self._process is not None:
            self._process.terminate()
            try:
                self._process.wait(timeout=30)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
            self._process = None

    @property
    def _measured(self) -> psutil.Process:
        if self._process is None:
            raise ProcessLookupError("the controller does not run")
        return psutil.Process(self._process.pid)

    def seconds(self) -> float:
        """Return the processor time that it has taken."""
        times = self._measured.cpu_times()
        return times.user + times.system

    def memory(self) -> float:
        """Return its resident memory in MiB."""
        return float(self._measured.memory_info().rss / 2**20)

    def descriptors(self) -> int:
        """Return how many files and sockets it has open."""
        return int(self._measured.num_fds())
