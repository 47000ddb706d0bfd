"""What a promotion tells of staging, read from a real API server."""

from __future__ import annotations

import base64
import gzip
import json
import os
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml

if TYPE_CHECKING:
    from tests.component.cli.conftest import Backstay, GitOps, Registry
    from tests.component.conftest import Cluster

pytestmark = pytest.mark.component

ROOT = Path(__file__).parents[3]
NAMESPACE = "fraud-staging"


@pytest.fixture
def staging(cluster: Cluster, gitops: GitOps, backstay: Backstay, registry: Registry, tmp_path: Path) -> dict[str, Any]:
    """Staging declares version 2, in Git and in the cluster; returned is the object."""
    for _ in range(2):
        registry.register(folder=tmp_path)
    assert backstay("bump", "fraud-detector", "-e", "staging", "--version", "2").exit_code == 0
    gitops.git("pull", "--quiet", "origin", "main", cwd=gitops.person)
    overlay = gitops.person / "applications/fraud-detector/overlays/staging"
    text = subprocess.run(["kustomize", "build", str(overlay)], check=True, capture_output=True, text=True).stdout
    namespace = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}}
    for stdin in ((ROOT / "operator/config/crd/modeldeployments.yaml").read_text(), json.dumps(namespace)):
        assert cluster.kubectl("apply", "--server-side", "-f", "-", stdin=stdin).returncode == 0
    assert cluster.kubectl("wait", "--for=condition=Established", "crd/modeldeployments.backstay.dev").returncode == 0
    applied = cluster.kubectl("apply", "-f", "-", stdin=text)
    assert applied.returncode == 0, applied.stderr
    declared: dict[str, Any] = yaml.safe_load(text)
    return declared


def at(**ago: float) -> str:
    return (datetime.now(UTC) - timedelta(**ago)).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def report(cluster: Cluster, status: dict[str, Any]) -> None:
    patch = json.dumps({"status": {"conditions": [], "weight": 100, **status}})
    done = cluster.kubectl(
        *("patch", "mdep", "fraud-detector", "-n", NAMESPACE, "--subresource=status", "--type=merge", "-p", patch)
    )
    assert done.returncode == 0, done.stderr


def evidence(cluster: Cluster, rollout: str) -> None:
    interval = {"canary": {"total": 1200, "events": 3}, "baseline": {"total": 3600, "events": 9}}
    signal = {"name": "errors", "kind": "count", "intervals": [interval, interval]}
    packed = gzip.compress(json.dumps({"alpha": 0.05, "signals": [signal]}).encode())
    document = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {
            "name": "fraud-detector-evidence",
            "namespace": NAMESPACE,
            "annotations": {"backstay.dev/rollout": rollout},
        },
        "binaryData": {"evidence.json.gz": base64.b64encode(packed).decode()},
    }
    assert cluster.kubectl("apply", "-f", "-", stdin=json.dumps(document)).returncode == 0


def body(gitops: GitOps, registry: Registry, cluster: Cluster) -> str:
    """Run the command in a process of its own: the client looks for its configuration when it is imported."""
    command = [*(sys.executable, "-m", "backstay.cli"), "promote", "fraud-detector", "--dry-run", "-o", "json"]
    environment = {**os.environ, "KUBECONFIG": str(cluster.kubeconfig), "BACKSTAY_REGISTRY": registry.uri}
    done = subprocess.run(
        command, cwd=gitops.person, env=environment, capture_output=True, text=True, check=False, timeout=120
    )
    assert (done.returncode, done.stderr) == (0, "")
    text: str = json.loads(done.stdout)["pullRequest"]["body"]
    return text


def test_the_pull_request_tells_what_staging_saw(
    cluster: Cluster, gitops: GitOps, registry: Registry, staging: dict[str, Any]
) -> None:
    revision = "0123456789"
    digest = staging["spec"]["model"]["digest"]
    report(
        cluster,
        {
            "phase": "Stable",
            "stable": {"revision": revision, "version": "2", "digest": digest, "since": at(hours=26)},
            "history": [{"version": "2", "outcome": "Promoted", "startedAt": at(hours=27), "endedAt": at(hours=26)}],
        },
    )
    evidence(cluster, "2-4")
    text = body(gitops, registry, cluster)
    assert "- [x] Seen to be stable in staging" in text
    assert "- Version 2 has been stable for 26 h, phase Stable\n" in text
    assert "- Its rollout took 60 min and ended Promoted\n" in text
    assert "- Signal errors: no evidence of harm in 2,400 of its requests during the rollout\n" in text
    evidence(cluster, "1-2")
    assert "Signal errors" not in body(gitops, registry, cluster)


@pytest.mark.usefixtures("staging")
def test_the_words_of_a_container_do_not_reach_the_pull_request(
    cluster: Cluster, gitops: GitOps, registry: Registry
) -> None:
    reason, said = "its pods were not ready within 600 s: container server ended with code 3", "@everyone look here"
    rollback = {
        "rollout": "2-4",
        "fromRevision": "0123456789",
        "from": "2",
        "toRevision": "abcdef0123",
        "to": "1",
        "state": "AwaitingSync",
        "reason": reason,
        "said": said,
        "failedAt": at(minutes=1),
    }
    report(
        cluster,
        {
            "phase": "RollingBack",
            "message": f"Version 2 failed: {reason}: {said}. Writing version 1 back to Git",
            "stable": {"revision": "abcdef0123", "version": "1", "since": at(days=3)},
            "rollback": rollback,
        },
    )
    text = body(gitops, registry, cluster)
    assert f"It serves version 1 as stable, not version 2: version 2 failed: {reason}" in text
    assert "look here" not in text


@pytest.mark.usefixtures("staging")
def test_a_version_that_is_not_stable_yet_is_told(cluster: Cluster, gitops: GitOps, registry: Registry) -> None:
    report(
        cluster,
        {
            "phase": "Progressing",
            "message": "Version 2 gets 25 % of the requests",
            "stable": {"revision": "0123456789", "version": "1", "since": at(days=3)},
            "history": [],
        },
    )
    text = body(gitops, registry, cluster)
    assert "- [ ] Seen to be stable in staging" in text
    assert "It serves version 1 as stable, not version 2: Version 2 gets 25 % of the requests" in text
    gone = cluster.kubectl("delete", "mdep", "fraud-detector", "-n", NAMESPACE)
    assert gone.returncode == 0
    assert "- The cluster was not asked: ModelDeployment fraud-detector: " in body(gitops, registry, cluster)
