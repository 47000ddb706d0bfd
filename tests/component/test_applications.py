"""The example application: its overlays build, and a real API server accepts what comes out."""

import json
import subprocess
from pathlib import Path
from typing import Any, Protocol

import pytest
import yaml
from rich.console import Console

from backstay_playground.build import binaries

pytestmark = pytest.mark.component

ROOT = Path(__file__).parents[2]
APPLICATIONS = ROOT / "applications"
CRD = ROOT / "operator" / "config" / "crd" / "modeldeployments.yaml"
ENVIRONMENTS = {
    "staging": ("fraud-staging", "staging.fraud-detector.example.com"),
    "production": ("fraud-production", "fraud-detector.example.com"),
}


class Cluster(Protocol):
    """What these tests need of the fixture `cluster`."""

    def kubectl(self, *args: str, stdin: str | None = None) -> subprocess.CompletedProcess[str]: ...


@pytest.fixture(scope="session")
def kustomize() -> Path:
    return binaries(["kustomize"], Console())["kustomize"]


def build(kustomize: Path, folder: Path) -> list[dict[str, Any]]:
    done = subprocess.run([kustomize, "build", str(folder)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""  # warnings of deprecated fields
    return list(yaml.safe_load_all(done.stdout))


def overlay(environment: str) -> Path:
    return APPLICATIONS / "fraud-detector" / "overlays" / environment


@pytest.mark.parametrize("environment", ENVIRONMENTS)
def test_an_overlay_is_one_model_deployment_of_its_environment(kustomize: Path, environment: str) -> None:
    (built,) = build(kustomize, overlay(environment))
    namespace, hostname = ENVIRONMENTS[environment]
    assert (built["kind"], built["metadata"]["name"]) == ("ModelDeployment", "fraud-detector")
    assert built["metadata"]["namespace"] == namespace
    assert built["spec"]["traffic"]["gatewayAPI"]["hostnames"] == [hostname]
    assert built["spec"]["model"] == {"name": "fraud-detector", "version": "1"}


@pytest.mark.parametrize("environment", ENVIRONMENTS)
def test_the_version_file_alone_says_which_model(kustomize: Path, environment: str) -> None:
    version = yaml.safe_load((overlay(environment) / "model-version.yaml").read_text())
    assert version == {
        "apiVersion": "backstay.dev/v1alpha1",
        "kind": "ModelDeployment",
        "metadata": {"name": "fraud-detector"},
        "spec": {"model": {"name": "fraud-detector", "version": "1"}},
    }
    assert "model" not in yaml.safe_load((overlay(environment) / "settings.yaml").read_text())["spec"]
    (base,) = build(kustomize, APPLICATIONS / "fraud-detector" / "base")
    assert "model" not in base["spec"]
    assert "namespace" not in base["metadata"]


def test_production_goes_slowly(kustomize: Path) -> None:
    (built,) = build(kustomize, overlay("production"))
    assert [step["weight"] for step in built["spec"]["rollout"]["steps"]] == [5, 25, 50, 100]


@pytest.mark.parametrize("environment", ENVIRONMENTS)
def test_the_api_server_accepts_it(cluster: Cluster, kustomize: Path, environment: str) -> None:
    (built,) = build(kustomize, overlay(environment))
    namespace = built["metadata"]["namespace"]
    installed = cluster.kubectl("apply", "--server-side", "-f", str(CRD))
    assert installed.returncode == 0, installed.stderr
    ready = cluster.kubectl("wait", "--for=condition=Established", "crd/modeldeployments.backstay.dev")
    assert ready.returncode == 0, ready.stderr
    cluster.kubectl("create", "namespace", namespace)
    labels = {"app": "fraud-detector"}
    # The pod template is opaque to the CRD; a Deployment made of it is not.
    deployment = {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "fraud-detector", "namespace": namespace},
        "spec": {
            "selector": {"matchLabels": labels},
            "template": {"metadata": {"labels": labels}, **built["spec"]["serving"]["template"]},
        },
    }
    for document in (built, deployment):
        answer = cluster.kubectl(
            "apply", "--dry-run=server", "--validate=strict", "-f", "-", stdin=json.dumps(document)
        )
        assert answer.returncode == 0, answer.stderr
        assert answer.stderr == ""


def test_argocd_is_told_of_every_overlay() -> None:
    files = [yaml.safe_load(file.read_text()) for file in (APPLICATIONS / "argocd").iterdir()]
    applications = {item["metadata"]["name"]: item for item in files}
    # The one besides delivers these.
    assert set(applications) == {"models", *(f"fraud-detector-{environment}" for environment in ENVIRONMENTS)}
    assert (ROOT / applications["models"]["spec"]["source"]["path"]).resolve() == APPLICATIONS / "argocd"
    for environment, (namespace, _) in ENVIRONMENTS.items():
        application = applications[f"fraud-detector-{environment}"]
        spec = application["spec"]
        assert (ROOT / spec["source"]["path"]).resolve() == overlay(environment)
        assert spec["destination"]["namespace"] == namespace
        assert spec["syncPolicy"]["automated"] == {"prune": True, "selfHeal": True}
        assert spec["syncPolicy"]["retry"]["refresh"] is True
        # Changes of these folders and no others make Argo CD render this Application again.
        paths = application["metadata"]["annotations"]["argocd.argoproj.io/manifest-generate-paths"].split(";")
        watched = {(overlay(environment) / path).resolve() for path in paths}
        assert watched == {overlay(environment), APPLICATIONS / "fraud-detector" / "base"}
