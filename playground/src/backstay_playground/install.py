"""Installs the Backstay controller into the playground, as a user of Backstay would: one overlay on the checkout."""

import hashlib
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from backstay_playground.gitea import IN_CLUSTER_URL, Gitea
from backstay_playground.kubectl import FIELD_MANAGER, Kubectl
from backstay_playground.layout import write_private

NAMESPACE = "backstay-system"
DEPLOYMENT = "backstay-controller"
SETTINGS = {
    "BACKSTAY_CLUSTER_NAME": "playground",
    "BACKSTAY_PROMETHEUS_URL": "http://prometheus.monitoring:9090",
    "BACKSTAY_ARGOCD_NAMESPACE": "argocd",
}
"""The controller's configuration in the playground."""


def apply_folder(kubectl: Kubectl, folder: Path) -> None:
    """Apply a Kustomize folder on the server side; fields others took over are taken back."""
    kubectl("apply", "--server-side", "--force-conflicts", f"--field-manager={FIELD_MANAGER}", f"--kustomize={folder}")


def overlay(relative_root: str, *, account: Gitea, code: str) -> dict[str, Mapping[str, Any]]:
    """Return the overlay's files: what the playground changes in the manifests at `relative_root`.

    `code` identifies the controller's sources: the controller starts anew when they, or its settings, change.
    """
    secret = {"url": f"{IN_CLUSTER_URL}/", "username": account.user, "password": account.token, "forge": "gitea"}
    digest = hashlib.sha256(repr((code, sorted(SETTINGS.items()), sorted(secret.items()))).encode()).hexdigest()[:16]
    template = {"metadata": {"annotations": {"playground.backstay.dev/installed": digest}}}
    patches = [
        _object("v1", "ConfigMap", "backstay-config", data=SETTINGS),
        _object("apps/v1", "Deployment", DEPLOYMENT, spec={"template": template}),
    ]
    return {
        "kustomization.yaml": {
            "apiVersion": "kustomize.config.k8s.io/v1beta1",
            "kind": "Kustomization",
            "resources": [relative_root, "git-credentials.yaml"],
            "patches": [{"patch": yaml.safe_dump(patch)} for patch in patches],
        },
        # A Secret's keys cannot hold slashes, so the credential's name is a prefix.
        "git-credentials.yaml": _object(
            "v1",
            "Secret",
            "backstay-git-credentials",
            stringData={f"playground.{key}": value for key, value in secret.items()},
        ),
    }


def _object(version: str, kind: str, name: str, **content: Mapping[str, Any]) -> dict[str, Any]:
    return {"apiVersion": version, "kind": kind, "metadata": {"name": name, "namespace": NAMESPACE}, **content}


def _digest_of_sources(root: Path) -> str:
    digest = hashlib.sha256()
    for folder in (root / "operator" / "src" / "backstay", root / "serving" / "src" / "backstay_contract"):
        for source in sorted(folder.rglob("*.py")):
            digest.update(str(source.relative_to(root)).encode() + b"\0" + source.read_bytes() + b"\0")
    return digest.hexdigest()


def install_controller(kubectl: Kubectl, *, root: Path, account: Gitea) -> None:
    """Install the controller from the checkout `root` and wait until it is available.

    Args:
        kubectl: The cluster.
        root: The checkout, whose kustomization.yaml is what `kubectl apply -k .` applies.
        account: Whose credentials the controller gets for Gitea.

    Raises:
        PlaygroundError: an object is refused, or the controller does not become available within 2 minutes.
    """
    # Outside of the checkout: Kustomize refuses an overlay that lies in the folder it builds on.
    with tempfile.TemporaryDirectory(prefix="backstay-install-") as place:
        folder = Path(place).resolve()
        # Kustomize takes relative folders only.
        relative = os.path.relpath(root.resolve(), folder)
        files = overlay(relative, account=account, code=_digest_of_sources(root))
        for name, content in files.items():
            write_private(folder / name, yaml.safe_dump(content))
        apply_folder(kubectl, folder)
    kubectl("rollout", "status", f"--namespace={NAMESPACE}", "--timeout=120s", f"deployment/{DEPLOYMENT}")
