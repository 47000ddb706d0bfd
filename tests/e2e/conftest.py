"""The whole playground for the tests in this folder: real API server, Argo CD, Prometheus, gateway, Gitea and MLflow.

It is brought up once for all of them, or once a worker when they are distributed. Each test gets an environment of its
own in the same GitOps repository, so that none depends on what another left.
"""

import json
import os
import secrets
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import httpx
import pytest
from rich.console import Console

from backstay_playground.demo.rollouts import Observer
from backstay_playground.demo.stage import MODEL, Pace, Stage, Target
from backstay_playground.demo.traffic import Traffic
from backstay_playground.demo.waiting import wait_until
from backstay_playground.playground import Playground

# Fast, but with every kind of step: a comparison needs an interval after the one in which the weights changed.
FAST = Pace(
    steps=(
        {"weight": 20, "minDuration": "3s", "minRequests": 20},
        {"weight": 50, "minDuration": "2s"},
        {"weight": 100, "minDuration": "1s"},
    ),
    interval="1s",
    warmup="1s",
    warm_for="5s",
)
RATE = 30.0


@pytest.fixture
def fast() -> Pace:
    """Give the fast pace, to be changed."""
    return FAST


@pytest.fixture
def by_pull_request() -> Pace:
    """Give the fast pace with rollbacks that reach Git by a pull request."""
    return replace(FAST, write_back="pullRequest")


@pytest.fixture(scope="session")
def playground(worker_id: str) -> Iterator[Playground]:
    """Bring the playground up; with BACKSTAY_KEEP set it stays up for the next run.

    Tests that are distributed have a playground for each worker, in the worker's own network: what an earlier worker
    left behind, because it was killed, ran in another one.
    """
    state = "" if worker_id == "master" else f".playground-{worker_id}"
    running = Playground(state, console=Console(width=120))
    if state:
        running.down()
    running.up()
    yield running
    if not os.environ.get("BACKSTAY_KEEP"):
        running.down(keep_logs=True)


@pytest.fixture(scope="session")
def stage(playground: Playground) -> Stage:
    """Register the models, install the controller from this checkout, and push the GitOps repository."""
    made = Stage(playground, FAST)
    made.train(variants=True)
    playground.install_controller()
    made.push_repository()
    return made


@dataclass
class Delivery:
    """One environment of the example model: delivered, observed, and with traffic where a test wants it."""

    stage: Stage
    target: Target
    observer: Observer
    running: list[Traffic] = field(default_factory=list)

    @property
    def kubectl(self) -> Any:
        """Return kubectl for the playground's cluster."""
        return self.stage.playground.kubectl

    def get(self, kind: str, name: str = "") -> Any:
        """Read an object, or a list of them, from the environment's namespace."""
        names = [name] if name else []
        return json.loads(self.kubectl("get", kind, *names, f"--namespace={self.target.namespace}", "--output=json"))

    def model(self) -> dict[str, Any]:
        """Read the ModelDeployment."""
        found: dict[str, Any] = self.get("mdep", MODEL)
        return found

    def traffic(self, *, rate: float = RATE) -> Traffic:
        """Send prediction requests until the test ends, from when the gateway has the way to a server."""
        self.wait_until(f"the gateway leads to {self.target.hostname}", self._is_served)
        started = self.stage.traffic(self.target, rate=rate).start()
        self.running.append(started)
        return started

    def _is_served(self) -> bool:
        url = f"{self.stage.playground.gateway_url}/healthz"
        return httpx.get(url, headers={"Host": self.target.hostname}, trust_env=False, timeout=10).is_success

    def pods(self, revision: str) -> list[str]:
        """List the pods of a revision."""
        labels = f"--selector=backstay.dev/revision={revision}"
        found: str = self.kubectl("get", "pods", labels, f"--namespace={self.target.namespace}", "--output=name")
        return found.split()

    def wait_until(self, what: str, condition: Callable[[], bool], *, timeout: float = 120) -> None:
        """Poll until a condition holds."""
        wait_until(what, condition, timeout=timeout)

    def wait_until_synced(self, *, timeout: float = 120) -> str:
        """Wait until Argo CD shows the Application Synced and Healthy; return the commit it is at."""

        def healthy() -> bool:
            status = self.stage.application(self.target).get("status", {})
            return (status.get("sync", {}).get("status"), status.get("health", {}).get("status")) == (
                "Synced",
                "Healthy",
            )

        self.wait_until(f"Argo CD shows {self.target.application} Synced and Healthy", healthy, timeout=timeout)
        return str(self.stage.application(self.target)["status"]["sync"]["revision"])

    def stop(self) -> None:
        """Stop traffic and watches."""
        for traffic in self.running:
            traffic.stop()
        self.observer.stop()


@contextmanager
def _delivering(stage: Stage, test: str) -> Iterator[Callable[..., Delivery]]:
    """Give out environments of a test's own, and take them away at the end."""
    made: list[Delivery] = []

    def start(version: str = "1", *, name: str = "", pace: Pace = FAST) -> Delivery:
        wanted = name or test.replace("_", "-").lower()
        short = "".join(c for c in wanted if c.isalnum() or c == "-")[-24:].strip("-")
        # Registry and Git remember an environment, also from an earlier run on a playground that was kept.
        environment = f"{short}-{secrets.token_hex(2)}"
        stage.pace = pace
        target = stage.add_environment(environment, version)
        delivery = Delivery(stage, target, Observer(stage, target))
        made.append(delivery)
        delivery.observer.wait_stable(version, timeout=180)
        return delivery

    try:
        yield start
    finally:
        for delivery in made:
            delivery.stop()
            stage.remove_environment(delivery.target)


@pytest.fixture
def deliver(stage: Stage, request: pytest.FixtureRequest) -> Iterator[Any]:
    """Deliver the model into an environment of the test's own; ``deliver("1")`` waits until version 1 is stable."""
    with _delivering(stage, request.node.name) as start:
        yield start


@pytest.fixture(scope="module")
def deliver_for_module(stage: Stage, request: pytest.FixtureRequest) -> Iterator[Any]:
    """Deliver the model into an environment that the tests of a module share."""
    with _delivering(stage, request.module.__name__) as start:
        yield start
