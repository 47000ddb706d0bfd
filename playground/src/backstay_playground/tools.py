"""The programs the playground builds, each from a Go module of its own under playground/tools.

One module a component, because their dependencies conflict. Versions live in the go.mod files, and nowhere else.
"""

import hashlib
import json
import re
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

from backstay_playground.errors import PlaygroundError
from backstay_playground.layout import repository_root

_PLAIN = ("-s", "-w")


@dataclass(frozen=True)
class Tool:
    """One program: the folder under playground/tools, the main package, and how it is linked.

    `stamps` are linker variables set to a text in which {version}, {major} and {minor} stand for the module's version.
    What is `for_benchmarks` alone is built when one of these runs.
    """

    name: str
    folder: str
    module: str
    package: str
    tags: str = ""
    cgo: bool = False
    stamps: Mapping[str, str] = field(default_factory=dict)
    for_benchmarks: bool = False

    @property
    def directory(self) -> Path:
        """Return the folder with go.mod."""
        return repository_root() / "playground" / "tools" / self.folder

    @property
    def version(self) -> str:
        """Return the version of the module that go.mod asks for, without the leading v."""
        return module_version((self.directory / "go.mod").read_text(encoding="utf-8"), self.module)

    def flags(self) -> tuple[str, ...]:
        """Return the flags of `go build`, without the output and the package."""
        major, minor, _ = self.version.split(".", 2)
        stamps = [
            f"-X {variable}={text.format(version=self.version, major=major, minor=minor)}"
            for variable, text in self.stamps.items()
        ]
        tags = ("-tags", self.tags) if self.tags else ()
        return ("-trimpath", "-buildvcs=false", *tags, "-ldflags", " ".join((*_PLAIN, *stamps)))

    def key(self) -> str:
        """Return 12 hex digits that change whenever the built program could."""
        digest = hashlib.sha256()
        for source in sorted([self.directory / "go.mod", self.directory / "go.sum", *self.directory.glob("*.go")]):
            digest.update(source.name.encode() + b"\0" + source.read_bytes() + b"\0")
        digest.update("\0".join((self.package, *self.flags())).encode())
        return digest.hexdigest()[:12]


def module_version(go_mod: str, module: str) -> str:
    """Return the version that the text of a go.mod requires of `module`, without the leading v.

    Raises:
        PlaygroundError: go.mod does not require it.
    """
    match = re.search(rf"^(?:require)?\s+{re.escape(module)}\s+v(\S+)", go_mod, flags=re.MULTILINE)
    if match is None:
        raise PlaygroundError(f"The go.mod under playground/tools does not require {module}; restore it from Git.")
    return match[1]


ENVOY_GATEWAY_PROBES = ("127.0.0.1", 18083)
"""Address and port where Envoy Gateway answers probes; it is set when it is linked."""

# Nothing but the linker can move these off ports 8081 and 8080 of all addresses, which every pod would then miss.
_ENVOY_GATEWAY_STAMPS = {
    "github.com/envoyproxy/gateway/internal/provider/kubernetes.healthProbeBindAddress": "{}:{}".format(
        *ENVOY_GATEWAY_PROBES
    ),
    "sigs.k8s.io/controller-runtime/pkg/metrics/server.DefaultBindAddress": "0",
}

_K8S = "k8s.io/kubernetes"
_K8S_STAMPS = {
    "k8s.io/component-base/version.gitVersion": "v{version}",
    "k8s.io/component-base/version.gitMajor": "{major}",
    "k8s.io/component-base/version.gitMinor": "{minor}",
}
_ARGO_ROLLOUTS = "github.com/argoproj/argo-rollouts"
_ARGO_CD = "github.com/argoproj/argo-cd/v3"

TOOLS: Mapping[str, Tool] = {
    tool.name: tool
    for tool in (
        Tool("etcd", "etcd", "go.etcd.io/etcd/server/v3", "go.etcd.io/etcd/server/v3"),
        Tool("kube-apiserver", "kubernetes", _K8S, f"{_K8S}/cmd/kube-apiserver", stamps=_K8S_STAMPS),
        Tool("kube-controller-manager", "kubernetes", _K8S, f"{_K8S}/cmd/kube-controller-manager", stamps=_K8S_STAMPS),
        Tool("kubectl", "kubernetes", _K8S, f"{_K8S}/cmd/kubectl", stamps=_K8S_STAMPS),
        Tool("kustomize", "kustomize", "sigs.k8s.io/kustomize/kustomize/v5", "sigs.k8s.io/kustomize/kustomize/v5"),
        # Asks the model servers that are compared.
        Tool(
            "vegeta",
            "vegeta",
            "github.com/tsenart/vegeta/v12",
            "github.com/tsenart/vegeta/v12",
            for_benchmarks=True,
        ),
        Tool("redis", "redis", "github.com/alicebob/miniredis/v2", "."),
        Tool(
            "prometheus",
            "prometheus",
            "github.com/prometheus/prometheus",
            "github.com/prometheus/prometheus/cmd/prometheus",
            # Every other service discovery pulls in a cloud's client library.
            tags="remove_all_sd,enable_kubernetes_sd",
        ),
        # Tests the alerts.
        Tool(
            "promtool",
            "prometheus",
            "github.com/prometheus/prometheus",
            "github.com/prometheus/prometheus/cmd/promtool",
            tags="remove_all_sd,enable_kubernetes_sd",
        ),
        Tool(
            "envoy-gateway",
            "envoy-gateway",
            "github.com/envoyproxy/gateway",
            "github.com/envoyproxy/gateway/cmd/envoy-gateway",
            stamps=_ENVOY_GATEWAY_STAMPS,
        ),
        Tool("argocd", "argocd", _ARGO_CD, f"{_ARGO_CD}/cmd", stamps={f"{_ARGO_CD}/common.version": "{version}"}),
        Tool(
            "gitea",
            "gitea",
            "code.gitea.io/gitea",
            "code.gitea.io/gitea",
            tags="sqlite sqlite_unlock_notify",
            cgo=True,
        ),
        # What is measured beside Backstay.
        Tool(
            "argo-rollouts",
            "argo-rollouts",
            _ARGO_ROLLOUTS,
            f"{_ARGO_ROLLOUTS}/cmd/rollouts-controller",
            for_benchmarks=True,
        ),
        Tool(
            "flagger",
            "flagger",
            "github.com/fluxcd/flagger",
            "github.com/fluxcd/flagger/cmd/flagger",
            for_benchmarks=True,
        ),
    )
}


@cache
def module_directory(name: str) -> Path:
    """Return the folder with the sources of the module of tool `name`, fetched if Go's cache does not hold it.

    Raises:
        PlaygroundError: Go cannot fetch it.
    """
    tool = TOOLS[name]
    command = ["go", "mod", "download", "-json", tool.module]
    answer = subprocess.run(command, cwd=tool.directory, capture_output=True, text=True, check=False)
    if answer.returncode != 0:
        raise PlaygroundError(
            f"Go cannot fetch the module {tool.module}: {answer.stderr.strip()[-500:]} "
            "Check the network and GOPROXY, then try again."
        )
    return Path(json.loads(answer.stdout)["Dir"])


def run_tool(command: Sequence[str], *, env: Mapping[str, str], what: str) -> str:
    """Run a program to its end, to make `what`, and return what it prints.

    Raises:
        PlaygroundError: it fails; the text holds the end of its output.
    """
    answer = subprocess.run(command, env=env, capture_output=True, text=True, check=False)
    if answer.returncode != 0:
        output = (answer.stdout + answer.stderr).strip()[-800:]
        raise PlaygroundError(f"Making {what} failed; `down` and `up` start over. It said: {output}")
    return answer.stdout
