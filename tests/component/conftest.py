"""A real API server for the tests in this folder: etcd and kube-apiserver, started once a session on free ports."""

import os
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from rich.console import Console

from backstay_playground.gitea import Gitea
from backstay_playground.playground import Playground

LISTENERS = ("etcd", "etcd-peer", "kube-apiserver", "kube-controller-manager", "mlflow")


@dataclass(frozen=True)
class Cluster:
    """An API server that a test may also stop and start; what it stores stays."""

    playground: Playground

    @property
    def kubeconfig(self) -> Path:
        return self.playground.kubeconfig

    def kubectl(self, *args: str, stdin: str | None = None) -> subprocess.CompletedProcess[str]:
        """Run kubectl as the administrator and return how it ended."""
        kubectl = self.playground.kubectl
        return subprocess.run(
            kubectl.argv(*args),
            input=stdin or "",
            env=kubectl.environment(),
            capture_output=True,
            text=True,
            check=False,
        )

    def start_api_server(self) -> None:
        self.playground.up(["kube-apiserver"])

    def stop_api_server(self) -> None:
        self.playground.stop("kube-apiserver")


def free_ports(count: int) -> list[int]:
    """Return ports that nobody listens on now."""
    sockets = [socket.socket() for _ in range(count)]
    for each in sockets:
        each.bind(("127.0.0.1", 0))
    ports = [int(each.getsockname()[1]) for each in sockets]
    for each in sockets:
        each.close()
    return ports


@contextmanager
def _started(folder: Path) -> Iterator[Cluster]:
    ports = dict(zip(LISTENERS, free_ports(len(LISTENERS)), strict=True))
    with Path(os.devnull).open("w", encoding="utf-8") as silence:
        playground = Playground(folder, ports=ports, console=Console(file=silence))
        try:
            started = Cluster(playground)
            started.start_api_server()
            yield started
        finally:
            playground.down()


@pytest.fixture(scope="session")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """Start etcd and an API server, building them the first time."""
    with _started(tmp_path_factory.mktemp("cluster")) as started:
        yield started


@pytest.fixture(scope="module")
def bare_cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """Start an API server for one module alone, in which no other test has installed anything."""
    with _started(tmp_path_factory.mktemp("bare")) as started:
        yield started


@pytest.fixture(scope="session")
def controllers(cluster: Cluster) -> Cluster:
    """Return the same cluster with a controller manager: Deployments, Jobs and service accounts work."""
    cluster.playground.up(["kube-controller-manager"])
    return cluster


@pytest.fixture(scope="session")
def gitea(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gitea]:
    """Start Gitea with an account that may do everything."""
    (port,) = free_ports(1)
    with Path(os.devnull).open("w", encoding="utf-8") as silence:
        playground = Playground(tmp_path_factory.mktemp("gitea"), ports={"gitea": port}, console=Console(file=silence))
        try:
            playground.up(["gitea-account"])
            yield playground.gitea
        finally:
            playground.down()
