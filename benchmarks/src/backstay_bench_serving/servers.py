"""The servers that are compared: how each is started with a model in a folder, and asked whether it is ready."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import httpx
import psutil

from backstay_playground.environment import environment
from backstay_playground.errors import PlaygroundError
from backstay_playground.layout import repository_root

_PATIENCE = 120.0
_MLSERVER_PINS = repository_root() / "requirements" / "bench-mlserver.txt"
BATCHES = 16


@dataclass(frozen=True, slots=True)
class Kind:
    """One way to serve the model: what is run for a folder and a port, with which variables, and what says ready."""

    name: str
    command: Callable[[Path, int, Path], Sequence[str]]
    ready: str
    variables: Mapping[str, str] = field(default_factory=dict)


@dataclass(slots=True)
class Server:
    """A running one; ``started`` is how long it took to be ready, in seconds."""

    kind: Kind
    process: subprocess.Popen[bytes]
    port: int
    started: float

    @property
    def url(self) -> str:
        """The address of predictions, which all of them answer in MLflow's protocol."""
        return f"http://127.0.0.1:{self.port}/invocations"

    def memory(self) -> float:
        """Return the resident memory of its processes, in MiB."""
        root = psutil.Process(self.process.pid)
        return sum(process.memory_info().rss for process in (root, *root.children(recursive=True))) / 2**20

    def stop(self) -> None:
        """Ask it to end, and wait until it has."""
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(timeout=30)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


def _backstay(model: Path, port: int, _: Path) -> Sequence[str]:
    return [sys.executable, "-m", "backstay_serving", f"--model-uri={model}", f"--port={port}", *_NAMED]


_NAMED = ("--model-name=bench", "--model-version=1", "--pod-ip=127.0.0.1")


def _mlflow(model: Path, port: int, _: Path) -> Sequence[str]:
    serve = ["models", "serve", f"--model-uri={model}", f"--port={port}", "--host=127.0.0.1"]
    return [sys.executable, "-m", "mlflow", *serve, "--env-manager=local", "--workers=1"]


def _mlserver(model: Path, port: int, folder: Path, **given: int) -> Sequence[str]:
    folder.mkdir(parents=True, exist_ok=True)
    ports = {"http_port": port, "grpc_port": port + 1000, "metrics_port": port + 2000}
    settings = {"host": "127.0.0.1", **ports, **given}
    implementation = {"implementation": "mlserver_mlflow.MLflowRuntime", "parameters": {"uri": str(model)}}
    (folder / "settings.json").write_text(json.dumps(settings), encoding="utf-8")
    (folder / "model-settings.json").write_text(json.dumps({"name": "bench", **implementation}), encoding="utf-8")
    return [str(environment(_MLSERVER_PINS) / "bin" / "mlserver"), "start", str(folder)]


KINDS = (
    Kind("Backstay", _backstay, "/readyz"),
    Kind("Backstay, batches", _backstay, "/readyz", {"BATCH_MAX_REQUESTS": str(BATCHES)}),
    Kind("mlflow models serve", _mlflow, "/ping"),
    Kind("MLServer", _mlserver, "/v2/models/bench/ready"),
    Kind("MLServer, one process", partial(_mlserver, parallel_workers=0), "/v2/models/bench/ready"),
)


def prepare() -> None:
    """Install what is not there yet."""
    environment(_MLSERVER_PINS)


def start(kind: Kind, model: Path, port: int, folder: Path, processors: Sequence[int]) -> Server:
    """Start a server on some processors and wait until it is ready.

    Raises:
        PlaygroundError: it is not in time, or ends.
    """
    log = folder / f"{kind.name.replace(' ', '-')}-{port}.log"
    # MLflow looks for uvicorn on the PATH.
    path = f"{Path(sys.executable).parent}:{os.environ.get('PATH', '')}"
    variables = {**os.environ, **kind.variables, "NO_PROXY": "127.0.0.1", "OMP_NUM_THREADS": "1", "PATH": path}
    command = kind.command(model, port, folder / f"server-{port}")
    begun = time.monotonic()
    with log.open("wb") as file:
        process = subprocess.Popen(command, env=variables, stdout=file, stderr=subprocess.STDOUT, cwd=folder)
    os.sched_setaffinity(process.pid, processors)
    while True:
        if process.poll() is not None or time.monotonic() > begun + _PATIENCE:
            raise PlaygroundError(f"{kind.name} did not get ready; the end of its log: {log.read_text()[-1500:]}")
        try:
            if httpx.get(f"http://127.0.0.1:{port}{kind.ready}", trust_env=False, timeout=2).is_success:
                return Server(kind, process, port, time.monotonic() - begun)
        except httpx.HTTPError:
            pass
        time.sleep(0.05)
