"""The steps between components: objects in the cluster, and accounts."""

import os
import secrets
from collections.abc import Mapping, Sequence
from pathlib import Path
from string import Template
from typing import Any

import yaml

from backstay_playground import gitea
from backstay_playground.component import Setting, Step
from backstay_playground.delivery import ENVOY_VERSION
from backstay_playground.kubectl import Kubectl
from backstay_playground.layout import repository_root, write_private
from backstay_playground.manifests import read
from backstay_playground.pki import kubeconfig
from backstay_playground.tools import module_directory, run_tool

_GATEWAY_TYPES = (
    "gatewayclasses.gateway.networking.k8s.io",
    "gateways.gateway.networking.k8s.io",
    "httproutes.gateway.networking.k8s.io",
    "envoyproxies.gateway.envoyproxy.io",
)
_ARGOCD_TYPES = ("applications.argoproj.io", "appprojects.argoproj.io")
# A year: longer than any playground lives, so that Prometheus needs no renewal.
_ACCOUNT_LIFETIME = "8760h"


def steps(setting: Setting, kubectl: Kubectl) -> list[Step]:
    """Return the steps, each safe to repeat."""
    return [
        Step("services", ("kube-apiserver",), lambda: _services(setting, kubectl)),
        Step("gateway-types", ("kube-apiserver",), lambda: _gateway_types(kubectl)),
        Step("argocd-types", ("kube-apiserver",), lambda: _argocd_types(kubectl)),
        Step("gateway", ("services", "gateway-types"), lambda: _gateway(setting, kubectl)),
        Step("gateway-secrets", ("services",), lambda: _gateway_secrets(setting)),
        Step("argocd", ("services", "argocd-types"), lambda: _argocd(setting, kubectl)),
        Step("prometheus-account", ("services",), lambda: _prometheus_account(setting, kubectl)),
        Step("gitea-account", ("gitea",), lambda: _gitea_account(setting)),
        Step("argocd-repository", ("gitea-account", "services"), lambda: _argocd_repository(setting, kubectl)),
    ]


def _services(setting: Setting, kubectl: Kubectl) -> None:
    values = {name: setting.ports[name] for name in ("gitea", "mlflow", "prometheus")}
    kubectl.apply(Template(read("services.yaml")).substitute(values))


def _gateway_types(kubectl: Kubectl) -> None:
    folder = module_directory("envoy-gateway") / "charts" / "gateway-helm" / "charts" / "crds" / "crds"
    _define(kubectl, [folder / "gatewayapi-crds.yaml", folder / "generated"], wait_for=_GATEWAY_TYPES)


def _argocd_types(kubectl: Kubectl) -> None:
    # Not ApplicationSet: its definition is three times the rest, and no controller for it runs here.
    folder = module_directory("argocd") / "manifests" / "crds"
    _define(kubectl, [folder / "application-crd.yaml", folder / "appproject-crd.yaml"], wait_for=_ARGOCD_TYPES)


def _define(kubectl: Kubectl, files: Sequence[Path], *, wait_for: Sequence[str]) -> None:
    """Create resource types and wait until the API server serves those that are used next."""
    kubectl.apply_files(files)
    kubectl.wait_for_definitions(*wait_for)


def _gateway(setting: Setting, kubectl: Kubectl) -> None:
    values = {"envoy_version": ENVOY_VERSION, "gateway_port": setting.ports["gateway"]}
    kubectl.apply(Template(read("gateway.yaml")).substitute(values))


def argocd_objects(patch: Path) -> list[dict[str, Any]]:
    """Return Argo CD's objects; the data of `patch`, a ConfigMap, joins argocd-cm where the file exists."""
    objects: list[dict[str, Any]] = list(yaml.safe_load_all(read("argocd.yaml")))
    if patch.exists():
        addition: Mapping[str, Any] = yaml.safe_load(patch.read_text(encoding="utf-8")) or {}
        for item in objects:
            if item["metadata"]["name"] == "argocd-cm":
                item["data"] |= addition.get("data", {})
    return objects


def _argocd(setting: Setting, kubectl: Kubectl) -> None:
    key = setting.layout.pki / "argocd-server-key"
    if not key.exists():
        write_private(key, secrets.token_urlsafe(32))
    objects = argocd_objects(repository_root() / "operator" / "config" / "argocd" / "argocd-cm-patch.yaml")
    objects.append(
        _secret("argocd-secret", {"app.kubernetes.io/part-of": "argocd"}, {"server.secretkey": key.read_text("utf-8")})
    )
    kubectl.apply(yaml.safe_dump_all(objects))


def _argocd_repository(setting: Setting, kubectl: Kubectl) -> None:
    account = gitea.connect(setting)
    data = {"type": "git", "url": gitea.IN_CLUSTER_URL, "username": account.user, "password": account.token}
    labels = {"argocd.argoproj.io/secret-type": "repo-creds"}
    kubectl.apply(yaml.safe_dump(_secret("playground-gitea", labels, data)))


def _secret(name: str, labels: Mapping[str, str], data: Mapping[str, str]) -> dict[str, Any]:
    metadata = {"name": name, "namespace": "argocd", "labels": dict(labels)}
    return {"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "stringData": dict(data)}


def _prometheus_account(setting: Setting, kubectl: Kubectl) -> None:
    file = setting.layout.data("prometheus") / "kubeconfig"
    if file.exists():
        return
    token = kubectl(
        "create", "token", "prometheus", "--namespace=monitoring", f"--duration={_ACCOUNT_LIFETIME}"
    ).strip()
    text = kubeconfig(server=setting.api_url, authority=setting.pki.authority, user="prometheus", token=token)
    write_private(file, text)


def _gitea_account(setting: Setting) -> None:
    gitea.create_account(setting)


def _gateway_secrets(setting: Setting) -> None:
    """Let Envoy Gateway make the secrets that it looks for in the cluster, if they are not there."""
    run_tool(
        [str(setting.binaries["envoy-gateway"]), "certgen", "--disable-topology-injector"],
        env={**os.environ, "KUBECONFIG": str(setting.layout.kubeconfig)},
        what="the secrets of Envoy Gateway",
    )
