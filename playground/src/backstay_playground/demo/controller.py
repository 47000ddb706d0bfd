"""Doing to the controller what a cluster does to it: restarts, crashes, a second one beside it; and asking it."""

import json
from typing import TypeAlias

import httpx
from prometheus_client.parser import text_string_to_metric_families

from backstay_playground.errors import PlaygroundError
from backstay_playground.install import DEPLOYMENT, NAMESPACE
from backstay_playground.node.agent import ledger_folder
from backstay_playground.node.process import Ledger
from backstay_playground.playground import Playground
from backstay_playground.processes import kill


def kill_controller(playground: Playground) -> None:
    """End the controller's process with SIGKILL; the node starts the container again.

    Raises:
        PlaygroundError: it does not run.
    """
    ledger = Ledger(ledger_folder(playground.layout.node))
    found = [identity for owner, identity in ledger.load().items() if owner.namespace == NAMESPACE]
    if not found:
        raise PlaygroundError("The controller does not run, so it cannot be killed")
    for identity in found:
        kill(identity)


def restart_controller(playground: Playground) -> None:
    """Replace the controller's pod by a new one, and wait until that is ready."""
    playground.kubectl("rollout", "restart", f"--namespace={NAMESPACE}", f"deployment/{DEPLOYMENT}")
    wait_for_controller(playground)


def scale_controller(playground: Playground, replicas: int) -> None:
    """Run this many controllers side by side, and wait until all are ready."""
    playground.kubectl("scale", f"--namespace={NAMESPACE}", f"deployment/{DEPLOYMENT}", f"--replicas={replicas}")
    wait_for_controller(playground)


def wait_for_controller(playground: Playground) -> None:
    """Wait until every controller that should run is ready."""
    playground.kubectl("rollout", "status", f"--namespace={NAMESPACE}", "--timeout=120s", f"deployment/{DEPLOYMENT}")


Metrics: TypeAlias = dict[tuple[str, tuple[tuple[str, str], ...]], float]
"""Values by name and sorted labels."""


def metrics(playground: Playground) -> Metrics:
    """Read the metrics of the playground's controller."""
    pods = json.loads(playground.kubectl("get", "pods", f"--namespace={NAMESPACE}", "--output=json"))["items"]
    address = next(pod["status"]["podIP"] for pod in pods if pod["status"].get("phase") == "Running")
    return read_metrics(f"http://{address}:8082/metrics")


def read_metrics(url: str) -> Metrics:
    """Read the metrics of a controller."""
    text = httpx.get(url, trust_env=False, timeout=10).raise_for_status().text
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }
