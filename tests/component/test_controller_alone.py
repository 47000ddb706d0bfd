"""The controller on a bare API server, with its own rights: it says what is missing, and goes on when it is there."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Protocol

import pytest
import yaml
from tenacity import Retrying, retry_if_exception_type, stop_after_delay, wait_fixed

pytestmark = pytest.mark.component

ROOT = Path(__file__).parents[2]
NAMESPACE = "alone"
MODEL = yaml.safe_load((Path(__file__).parent / "good_specs" / "minimal.yaml").read_text(encoding="utf-8"))


class Cluster(Protocol):
    """What these tests need of the fixture `cluster`."""

    kubeconfig: Path

    def kubectl(self, *args: str, stdin: str | None = None) -> subprocess.CompletedProcess[str]: ...


def eventually(seconds: float = 40) -> Retrying:
    return Retrying(
        retry=retry_if_exception_type((AssertionError, KeyError)),
        wait=wait_fixed(0.3),
        stop=stop_after_delay(seconds),
        reraise=True,
    )


def kubectl(cluster: Cluster, *args: str, stdin: str | None = None) -> str:
    answer = cluster.kubectl(*args, stdin=stdin)
    assert answer.returncode == 0, answer.stderr
    return answer.stdout


def account_kubeconfig(cluster: Cluster, folder: Path, account: str) -> Path:
    """Write a kubeconfig that is the account and nothing more."""
    document = yaml.safe_load(cluster.kubeconfig.read_text(encoding="utf-8"))
    token = kubectl(cluster, "create", "token", account, "--namespace=backstay-system").strip()
    document["users"] = [{"name": document["users"][0]["name"], "user": {"token": token}}]
    file = folder / f"{account}.kubeconfig"
    file.write_text(yaml.safe_dump(document), encoding="utf-8")
    return file


class Controller:
    """The controller as a local process."""

    def __init__(self, kubeconfig: Path, folder: Path) -> None:
        self.log = folder / f"{kubeconfig.stem}.log"
        environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith(("KUBE", "BACKSTAY"))},
            "KUBECONFIG": str(kubeconfig),
            "BACKSTAY_CLUSTER_NAME": "alone",
            "BACKSTAY_STATE": str(folder / "state"),
            "BACKSTAY_HEALTH_PORT": "0",
            "BACKSTAY_METRICS_PORT": "0",
            "POD_IP": "127.0.0.1",
        }
        with self.log.open("w", encoding="utf-8") as output:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "backstay.controller"], env=environment, stdout=output, stderr=subprocess.STDOUT
            )

    def said(self) -> str:
        return self.log.read_text(encoding="utf-8")

    def stop(self) -> int:
        self.process.terminate()
        return self.process.wait(timeout=30)


@pytest.fixture(scope="module")
def installed(cluster: Cluster) -> Iterator[Cluster]:
    """Install Backstay on an API server that has nothing else."""
    kubectl(cluster, "apply", "--kustomize", str(ROOT))
    kubectl(cluster, "create", "namespace", NAMESPACE)
    yield cluster
    kubectl(cluster, "delete", "namespace", NAMESPACE, "--wait=false")


def status(cluster: Cluster) -> dict[str, Any]:
    text = kubectl(cluster, "get", "mdep", MODEL["metadata"]["name"], f"--namespace={NAMESPACE}", "--output=json")
    found: dict[str, Any] = json.loads(text)["status"]
    return found


def test_what_is_missing_is_said_and_found_without_a_restart(installed: Any, tmp_path: Path) -> None:
    controller = Controller(account_kubeconfig(installed, tmp_path, "backstay-controller"), tmp_path)
    try:
        kubectl(installed, "apply", f"--namespace={NAMESPACE}", "--filename=-", stdin=yaml.safe_dump(MODEL))
        for attempt in eventually():
            with attempt:
                assert "install the Gateway API" in status(installed)["message"], controller.said()
        assert any(c["type"] == "Stalled" for c in status(installed)["conditions"])
        assert "BACKSTAY_PROMETHEUS_URL is not set" in controller.said()
        installed.playground.up(["gateway-types"])
        for attempt in eventually(90):
            with attempt:
                assert "The registry" in status(installed)["message"], controller.said()
        assert controller.process.poll() is None
        assert "Traceback" not in controller.said()
    finally:
        assert controller.stop() in (0, -15)


def test_an_account_without_rights_is_told_which_are_missing(installed: Any, tmp_path: Path) -> None:
    kubectl(installed, "create", "serviceaccount", "nobody", "--namespace=backstay-system")
    controller = Controller(account_kubeconfig(installed, tmp_path, "nobody"), tmp_path)
    try:
        for attempt in eventually():
            with attempt:
                assert "The controller may not: watch modeldeployments.backstay.dev" in controller.said()
        assert "Apply operator/config/rbac" in controller.said()
    finally:
        controller.stop()
        kubectl(installed, "delete", "serviceaccount", "nobody", "--namespace=backstay-system")
