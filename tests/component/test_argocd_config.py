"""operator/config/argocd on a real API server, and its Lua in the real Argo CD."""

import json
import os
import subprocess
from pathlib import Path
from typing import Any, Protocol

import pytest
import yaml
from rich.console import Console

from backstay_playground.build import binaries

pytestmark = pytest.mark.component

CONFIG = Path(__file__).parents[2] / "operator" / "config" / "argocd"
STATUS = {"observedGeneration": 3, "message": "approve 2/3", "step": "2/3", "rollout": {"id": "4a7d1ed414474e40"}}


class Cluster(Protocol):
    """What these tests need of the fixture `cluster`."""

    def kubectl(self, *args: str, stdin: str | None = None) -> subprocess.CompletedProcess[str]: ...


def test_the_keys_join_those_of_an_existing_argocd(cluster: Cluster) -> None:
    cluster.kubectl("create", "namespace", "argocd")
    existing = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": "argocd-cm", "namespace": "argocd"},
        "data": {"url": "https://argocd.example.com"},
    }
    cluster.kubectl("apply", "--server-side", "--field-manager=argocd", "-f", "-", stdin=json.dumps(existing))
    applied = cluster.kubectl("apply", "--server-side", "-k", str(CONFIG))
    assert applied.returncode == 0, applied.stderr
    stored = json.loads(cluster.kubectl("get", "configmap", "argocd-cm", "-n", "argocd", "-o", "json").stdout)
    ours = yaml.safe_load((CONFIG / "argocd-cm-patch.yaml").read_text())["data"]
    assert ours.items() <= stored["data"].items()
    assert stored["data"]["url"] == "https://argocd.example.com"
    assert stored["metadata"]["labels"]["app.kubernetes.io/part-of"] == "argocd"


@pytest.fixture(scope="session")
def argocd() -> Path:
    return binaries(["argocd"], Console())["argocd"]


def overrides(argocd: Path, folder: Path, status: dict[str, Any], *command: str) -> str:
    """Let Argo CD run the Lua on a ModelDeployment and return what it prints."""
    resource = {
        "apiVersion": "backstay.dev/v1alpha1",
        "kind": "ModelDeployment",
        "metadata": {"name": "fraud-detector", "namespace": "fraud-production", "generation": 3},
        "spec": {
            "rollout": {"steps": [{"weight": 10}, {"approval": {}}, {"weight": 100}]},
            "analysis": {"alpha": 0.05},
        },
        "status": STATUS | status,
    }
    path = folder / "resource.yaml"
    path.write_text(json.dumps(resource))
    name, *rest = command
    answer = subprocess.run(
        [
            *(str(argocd), "admin", "settings", "resource-overrides", name, str(path), *rest),
            *("--argocd-cm-path", str(CONFIG / "argocd-cm-patch.yaml")),
        ],
        env={**os.environ, "ARGOCD_BINARY_NAME": "argocd", "KUBECONFIG": os.devnull, "HOME": str(folder)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert answer.returncode == 0, answer.stderr
    return answer.stdout


@pytest.mark.parametrize(
    ("status", "health"),
    [
        ({"phase": "Progressing"}, "Progressing"),
        ({"phase": "AwaitingApproval"}, "Suspended"),
        ({"phase": "RollingBack", "conditions": [{"type": "Stalled", "status": "True"}]}, "Degraded"),
        ({"phase": "Stable"}, "Healthy"),
        ({"phase": "Stable", "observedGeneration": 2}, "Progressing"),
    ],
)
def test_argocd_reads_the_health(argocd: Path, tmp_path: Path, status: dict[str, Any], health: str) -> None:
    assert f"STATUS: {health}" in overrides(argocd, tmp_path, status, "health")


def test_argocd_offers_the_actions(argocd: Path, tmp_path: Path) -> None:
    listed = overrides(argocd, tmp_path, {"phase": "AwaitingApproval"}, "list-actions").split()
    assert listed == ["NAME", "DISABLED", "abort", "false", "approve", "false", "pause", "false", "resume", "true"]


def test_argocd_approves_and_changes_nothing_else(argocd: Path, tmp_path: Path) -> None:
    printed = overrides(argocd, tmp_path, {"phase": "AwaitingApproval"}, "run-action", "approve")
    changed = [line for line in printed.splitlines() if line.startswith(("<", ">"))]
    assert changed == [">   annotations:", ">     backstay.dev/approve: 4a7d1ed414474e40/2"]
