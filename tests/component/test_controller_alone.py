"""The controller on an API server and nothing else, with its own account's rights: it says what is missing, and waits.

Nothing runs pods here, so the tests report them ready as a node would.
"""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import httpx
import pytest
import yaml

from backstay_playground.demo.waiting import wait_until
from backstay_playground.playground import Playground

pytestmark = pytest.mark.component

ROOT = Path(__file__).parents[2]
MINIMAL = Path(__file__).parent / "good_specs" / "minimal.yaml"
SYSTEM = "backstay-system"
ACCOUNT = "backstay-controller"
NAMESPACE = "alone"
MODEL = "fraud-detector"
PATIENCE = 60.0


class Cluster(Protocol):
    """What these tests need of the fixture `bare_cluster`."""

    playground: Playground

    @property
    def kubeconfig(self) -> Path: ...

    def kubectl(self, *args: str, stdin: str | None = None) -> subprocess.CompletedProcess[str]: ...


@dataclass
class Alone:
    """A controller as a local process, and what people see of its work."""

    cluster: Cluster
    process: subprocess.Popen[bytes]
    log_file: Path

    def log(self) -> str:
        return self.log_file.read_text(encoding="utf-8")

    def is_running(self) -> bool:
        return self.process.poll() is None

    def kubectl(self, *args: str, stdin: str | None = None) -> str:
        answer = self.cluster.kubectl(*args, f"--namespace={NAMESPACE}", stdin=stdin)
        assert answer.returncode == 0, answer.stderr
        return answer.stdout

    def find(self, kind: str, name: str) -> dict[str, Any]:
        """Read an object; empty while there is none."""
        text = self.kubectl("get", kind, name, "--ignore-not-found", "--output=json")
        found: dict[str, Any] = json.loads(text) if text else {}
        return found

    def status(self) -> dict[str, Any]:
        found: dict[str, Any] = self.find("mdep", MODEL).get("status", {})
        return found

    def wait_message(self, *words: str) -> dict[str, Any]:
        """Wait until the ModelDeployment's message holds these words; return its status."""
        try:
            wait_until(
                f"the message says {words}",
                lambda: all(word in self.status().get("message", "") for word in words),
                timeout=PATIENCE,
            )
        except Exception as problem:
            raise AssertionError(f"{problem}; the status is {self.status()}, the log {self.log()}") from problem
        return self.status()

    def report_ready(self, revision: str) -> None:
        """Say that a revision's pods are ready, as a node and the controller manager would."""
        name = f"{MODEL}-{revision}"
        wait_until(f"deployment {name} exists", lambda: self.find("deployment", name) != {}, timeout=PATIENCE)
        body = self.find("deployment", name)
        ready = dict.fromkeys(
            ("replicas", "readyReplicas", "updatedReplicas", "availableReplicas"), body["spec"]["replicas"]
        )
        report = {"status": {"observedGeneration": body["metadata"]["generation"], **ready}}
        self.kubectl(
            "patch", "deployment", name, "--subresource=status", "--type=merge", f"--patch={json.dumps(report)}"
        )


@pytest.fixture(scope="module")
def installed(bare_cluster: Cluster) -> Cluster:
    """Install the CRD and the controller's account with its rights, and nothing else."""
    for folder in ("crd", "rbac"):
        _succeed(bare_cluster, "apply", "--server-side", "-k", str(ROOT / "operator" / "config" / folder))
    _succeed(bare_cluster, "wait", "--for=condition=Established", "crd/modeldeployments.backstay.dev")
    for namespace in (SYSTEM, NAMESPACE):
        _succeed(bare_cluster, "create", "namespace", namespace)
    _succeed(bare_cluster, "create", "serviceaccount", ACCOUNT, f"--namespace={SYSTEM}")
    return bare_cluster


@pytest.fixture
def alone(installed: Cluster, tmp_path: Path) -> Iterator[Alone]:
    controller = _start(installed, tmp_path)
    yield controller
    controller.process.send_signal(signal.SIGTERM)
    controller.process.wait(timeout=30)


def _start(cluster: Cluster, folder: Path) -> Alone:
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("KUBE", "BACKSTAY"))}
    environment |= {
        "KUBECONFIG": str(_as_controller(cluster, folder)),
        "BACKSTAY_CLUSTER_NAME": "alone",
        "BACKSTAY_STATE": str(folder / "state"),
        # Any free ports.
        "POD_IP": "127.0.0.1",
        "BACKSTAY_HEALTH_PORT": "0",
        "BACKSTAY_METRICS_PORT": "0",
    }
    log = folder / "controller.log"
    with log.open("wb") as file:
        process = subprocess.Popen(
            [sys.executable, "-m", "backstay.controller"], env=environment, stdout=file, stderr=subprocess.STDOUT
        )
    return Alone(cluster, process, log)


def _as_controller(cluster: Cluster, folder: Path) -> Path:
    """Write a kubeconfig with a token of the controller's account."""
    token = _succeed(cluster, "create", "token", ACCOUNT, f"--namespace={SYSTEM}").strip()
    config = yaml.safe_load(cluster.kubeconfig.read_text(encoding="utf-8"))
    config["users"] = [{"name": ACCOUNT, "user": {"token": token}}]
    config["contexts"][0]["context"]["user"] = ACCOUNT
    file = folder / "kubeconfig"
    file.write_text(yaml.safe_dump(config), encoding="utf-8")
    return file


def _succeed(cluster: Cluster, *args: str) -> str:
    answer = cluster.kubectl(*args)
    assert answer.returncode == 0, answer.stderr
    return answer.stdout


def _manifest(version: str, *, registry: str) -> str:
    manifest = yaml.safe_load(MINIMAL.read_text(encoding="utf-8"))
    spec = manifest["spec"]
    spec["model"]["version"] = version
    spec["registry"]["uri"] = registry
    spec["rollout"] = {"steps": [{"weight": 50}, {"weight": 100}], "baseline": {"enabled": False}}
    spec["analysis"] = {"interval": "1s"}
    return json.dumps(manifest)


def register(registry: str, what: str, **content: str) -> None:
    answer = httpx.post(f"{registry}/api/2.0/mlflow/{what}/create", json=content, trust_env=False, timeout=30)
    assert answer.is_success, answer.text


def stalled(status: dict[str, Any]) -> list[str]:
    return [condition["reason"] for condition in status["conditions"] if condition["type"] == "Stalled"]


def test_it_says_what_is_missing_and_goes_on_when_that_is_there(alone: Alone) -> None:
    playground = alone.cluster.playground
    registry = playground.mlflow_url
    alone.kubectl("apply", "--server-side", "-f", "-", stdin=_manifest("1", registry=registry))
    status = alone.wait_message("The API server does not know HTTPRoute", "install the Gateway API")
    assert (status["phase"], stalled(status)) == ("Pending", ["Blocked"])
    playground.up(["gateway-types"])

    status = alone.wait_message(f"The registry {registry} does not answer for model {MODEL}")
    assert (status["phase"], stalled(status)) == ("Pending", ["MemoryUnavailable"])
    playground.up(["mlflow"])
    register(registry, "registered-models", name=MODEL)
    for _ in range(2):
        register(registry, "model-versions", name=MODEL, source="s3://models.example.com/alone")

    first = alone.wait_message("Waiting for pods of version 1: 0 of 1 ready")["rollout"]["revision"]
    alone.report_ready(first)
    assert alone.wait_message("Version 1 is stable")["phase"] == "Stable"
    route = alone.find("httproute", MODEL)
    alone.kubectl("delete", "httproute", MODEL)
    wait_until(
        "the kind that is new is watched too",
        lambda: alone.find("httproute", MODEL).get("metadata", {}).get("uid", "") not in ("", route["metadata"]["uid"]),
        timeout=PATIENCE,
    )

    alone.kubectl("apply", "--server-side", "-f", "-", stdin=_manifest("2", registry=registry))
    rollout = alone.wait_message("Waiting for pods of version 2")["rollout"]
    alone.report_ready(rollout["revision"])
    alone.wait_message("BACKSTAY_PROMETHEUS_URL is not set", "give the controller the address of Prometheus")
    assert alone.status()["weight"] == 0

    alone.kubectl("annotate", "mdep", MODEL, f"backstay.dev/abort={rollout['id']}: enough")
    status = alone.wait_message("Git was not changed", "tracking-id", "deliver it by an Argo CD Application")
    assert (status["phase"], status["stable"]["version"]) == ("RollingBack", "1")
    assert alone.is_running()
    assert "Traceback" not in alone.log()


def test_missing_rights_are_one_clear_line_in_the_log(installed: Cluster, tmp_path: Path) -> None:
    role = json.loads(_succeed(installed, "get", "clusterrole", ACCOUNT, "--output=json"))
    fewer = [rule for rule in role["rules"] if not {"services", "events"} & set(rule["resources"])]
    change = json.dumps({"rules": fewer})
    _succeed(installed, "patch", "clusterrole", ACCOUNT, "--type=merge", f"--patch={change}")
    try:
        alone = _start(installed, tmp_path)
        try:
            wait_until("the log names the rights", lambda: "The controller may not" in alone.log(), timeout=PATIENCE)
            # What cannot be listed keeps it from starting, so it tries again, and says it again.
            lines = [line for line in alone.log().splitlines() if "The controller may not" in line]
            for right in ("watch services.core", "create services.core", "create events.events.k8s.io"):
                assert right in lines[0]
            assert "deployments" not in lines[0]
            assert lines[0].endswith("Apply operator/config/rbac")
            assert "Traceback" not in alone.log()
        finally:
            alone.process.send_signal(signal.SIGTERM)
            alone.process.wait(timeout=30)
    finally:
        _succeed(installed, "apply", "--server-side", "--force-conflicts", "-k", str(ROOT / "operator/config/rbac"))


def test_a_template_that_nests_a_thousand_levels_is_told_to_its_owner_alone(installed: Cluster, tmp_path: Path) -> None:
    """Both where it is there when the controller starts, and where it comes later."""

    def create(name: str, *, levels: int = 0) -> None:
        manifest = json.loads(_manifest("1", registry="http://127.0.0.1:9"))
        manifest["metadata"]["name"] = name
        manifest["spec"]["serving"]["template"]["spec"]["nested"] = "here" if levels else "not"
        # Written out, since Python's own encoder cannot.
        text = json.dumps(manifest).replace('"here"', f"{'[' * levels}{']' * levels}")
        answer = installed.kubectl("create", "-f", "-", f"--namespace={NAMESPACE}", stdin=text)
        assert answer.returncode == 0, answer.stderr

    def told(controller: Alone, name: str, words: str = "") -> None:
        def status() -> str:
            path = "--output=jsonpath={.status.message} {.status.conditions[?(@.type=='Stalled')].reason}"
            return _succeed(installed, "get", "mdep", name, f"--namespace={NAMESPACE}", path)

        try:
            wait_until(
                f"{name} is told {words}", lambda: bool(status().strip()) and words in status(), timeout=PATIENCE
            )
        except Exception as problem:
            raise AssertionError(f"{problem}; its status is {status()}, the log {controller.log()}") from problem

    sentence = "spec.serving.template nests more than 100 levels; write it with fewer Blocked"
    create("deep", levels=1000)
    create("before")
    controller = _start(installed, tmp_path)
    try:
        told(controller, "deep", sentence)
        told(controller, "before")
        create("deepest", levels=9900)
        told(controller, "deepest", sentence)
        create("after")
        told(controller, "after")
        assert controller.is_running()
        assert "Traceback" not in controller.log()
    finally:
        controller.process.send_signal(signal.SIGTERM)
        controller.process.wait(timeout=30)
        for name in ("deep", "before", "deepest", "after"):
            installed.kubectl("delete", "mdep", name, f"--namespace={NAMESPACE}", "--ignore-not-found")
