"""etcd, the API server, the controller manager and the process node."""

import json
import sys

from backstay_playground.checks import Http
from backstay_playground.component import Component, Setting

SERVICE_RANGE = "127.96.0.0/16"
SERVICE_ADDRESSES = (("127.96.0.10", 3000), ("127.96.0.11", 5000), ("127.96.0.12", 9090))
"""Where Gitea, MLflow and Prometheus are found by pods, as manifests/services.yaml has them."""

IMAGES = {
    "backstay/serving:0.1.0": [sys.executable, "-m", "backstay_serving"],
    "backstay/controller:0.1.0": [sys.executable, "-m", "backstay.controller"],
}
"""What the process node runs for a container that names no command: image name -> local command."""

WARM = (
    *("sklearn.compose", "sklearn.ensemble", "sklearn.linear_model", "sklearn.pipeline", "pandas"),
    *("aiohttp", "kopf", "kubernetes", "prometheus_api_client", "prometheus_client", "requests", "starlette"),
    *("tenacity", "typer", "uvicorn", "uvloop", "yaml"),
)
"""The libraries of those images that the process node imports once for all pods."""

# Endpoints with loopback addresses are refused by the API server; the node's service proxy looks at pods instead.
_CONTROLLERS_OFF = (
    "node-ipam-controller",
    "endpointslice-controller",
    "endpoints-controller",
    "endpointslice-mirroring-controller",
)


def components(setting: Setting) -> list[Component]:
    """Return the components that make a cluster."""
    return [_etcd(setting), _api_server(setting), _controller_manager(setting), _node(setting)]


def _etcd(setting: Setting) -> Component:
    url, peer = setting.url("etcd"), setting.url("etcd-peer")
    return Component(
        name="etcd",
        purpose="the cluster's storage",
        argv=(
            str(setting.binaries["etcd"]),
            f"--data-dir={setting.layout.data('etcd')}",
            f"--listen-client-urls={url}",
            f"--advertise-client-urls={url}",
            f"--listen-peer-urls={peer}",
            f"--initial-advertise-peer-urls={peer}",
            f"--initial-cluster=default={peer}",
            "--unsafe-no-fsync",
            "--log-level=warn",
        ),
        where=url,
        ready=Http(f"{url}/health"),
        tools=("etcd",),
        ports=("etcd", "etcd-peer"),
        prepare=lambda: setting.layout.data("etcd").mkdir(mode=0o700, parents=True, exist_ok=True),
    )


def _api_server(setting: Setting) -> Component:
    pki = setting.pki
    return Component(
        name="kube-apiserver",
        purpose="the Kubernetes API",
        argv=(
            str(setting.binaries["kube-apiserver"]),
            f"--etcd-servers={setting.url('etcd')}",
            "--bind-address=127.0.0.1",
            "--advertise-address=127.0.0.1",
            f"--secure-port={setting.ports['kube-apiserver']}",
            f"--tls-cert-file={pki.server_certificate}",
            f"--tls-private-key-file={pki.server_key}",
            f"--token-auth-file={pki.tokens}",
            "--service-account-issuer=https://kubernetes.default.svc",
            f"--service-account-key-file={pki.accounts_key}",
            f"--service-account-signing-key-file={pki.accounts_key}",
            f"--service-cluster-ip-range={SERVICE_RANGE}",
            "--endpoint-reconciler-type=none",
            "--authorization-mode=RBAC",
            "--allow-privileged=true",
            "--enable-priority-and-fairness=false",
        ),
        where=setting.api_url,
        ready=Http(f"{setting.api_url}/readyz", authority=pki.authority),
        after=("etcd",),
        tools=("kube-apiserver",),
        ports=("kube-apiserver",),
        # It waits for its clients' watches to end, which they have no reason to.
        grace=2,
    )


def _controller_manager(setting: Setting) -> Component:
    port, pki = setting.ports["kube-controller-manager"], setting.pki
    return Component(
        name="kube-controller-manager",
        purpose="Deployments, ReplicaSets, garbage collection",
        argv=(
            str(setting.binaries["kube-controller-manager"]),
            f"--kubeconfig={setting.layout.kubeconfig}",
            "--leader-elect=false",
            "--bind-address=127.0.0.1",
            f"--secure-port={port}",
            f"--tls-cert-file={pki.server_certificate}",
            f"--tls-private-key-file={pki.server_key}",
            f"--service-account-private-key-file={pki.accounts_key}",
            f"--root-ca-file={pki.authority}",
            "--use-service-account-credentials=false",
            f"--controllers=*,{','.join(f'-{name}' for name in _CONTROLLERS_OFF)}",
        ),
        where=f"https://127.0.0.1:{port}",
        ready=Http(f"https://127.0.0.1:{port}/healthz", authority=pki.authority),
        after=("kube-apiserver",),
        tools=("kube-controller-manager",),
        ports=("kube-controller-manager",),
    )


def _node(setting: Setting) -> Component:
    layout, url = setting.layout, setting.url("node")

    def prepare() -> None:
        layout.node.mkdir(exist_ok=True)
        layout.images.write_text(json.dumps(IMAGES, indent=2), encoding="utf-8")

    return Component(
        name="node",
        purpose="runs pods as local processes, forwards Services",
        argv=(
            *(sys.executable, "-m", "backstay_playground.node"),
            f"--kubeconfig={layout.kubeconfig}",
            f"--state={layout.node}",
            f"--logs={layout.pod_logs}",
            f"--images={layout.images}",
            f"--port={setting.ports['node']}",
            *(f"--warm={library}" for library in WARM),
        ),
        where=url,
        ready=Http(f"{url}/healthz"),
        after=("services",),
        ports=("node",),
        fixed=SERVICE_ADDRESSES,
        prepare=prepare,
        # A restarted node takes over the pods' processes, as a restarted kubelet does.
        leaves_children=True,
    )
