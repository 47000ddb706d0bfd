"""Backstay, as it is measured."""

from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import yaml

from backstay_bench_scale.contender import (
    INTERVAL,
    NAMESPACE,
    NEW,
    PROMETHEUS,
    WEIGHT,
    Contender,
    Object,
    Stores,
    found,
    name,
)
from backstay_bench_scale.process import ControllerProcess
from backstay_playground.environment import controller_environment
from backstay_playground.layout import repository_root
from backstay_playground.playground import Playground

_MODELS = "/apis/backstay.dev/v1alpha1/modeldeployments"
_ROUTES = "/apis/gateway.networking.k8s.io/v1/httproutes"
_ONE_NAMESPACE = f"/apis/backstay.dev/v1alpha1/namespaces/{NAMESPACE}/modeldeployments"
_MODEL = "scale"
METRICS = "http://127.0.0.1:31082/metrics"
_HEALTH_PORT = 31081
_BASELINE = {"warmup": "0s"}
_LASTING: Object = {
    "rollout": {
        "steps": [{"weight": WEIGHT, "minDuration": "24h"}, {"weight": 100}],
        "baseline": _BASELINE,
        "deadline": "48h",
    }
}
_BRISK: Object = {
    "rollout": {
        "steps": [{"weight": WEIGHT, "minDuration": "10s"}, {"weight": 100, "minDuration": "5s"}],
        "baseline": _BASELINE,
    },
    "rollback": {"warmFor": "0s"},
}


class Backstay(Contender):
    """This project's controller, with a registry."""

    name = "Backstay"
    components = ("kube-controller-manager", "gateway-types", "mlflow")
    watched = (_MODELS, _ROUTES)

    def __init__(self, *, brisk: bool = False) -> None:
        """Let canaries stay at one weight, or, if it is to be brisk, end within seconds."""
        self._pace = _BRISK if brisk else _LASTING
        self._registry = ""
        self._canaries: dict[int, str] = {}

    def install(self, playground: Playground) -> None:
        """Apply the definition, and register two versions of a model."""
        playground.kubectl("apply", "--server-side", "-k", str(repository_root() / "operator" / "config" / "crd"))
        playground.kubectl.wait_for_definitions()
        playground.kubectl("create", "namespace", "backstay-system")
        self._registry = playground.mlflow_url
        for what, content in (
            ("registered-models", {"name": _MODEL}),
            *[("model-versions", {"name": _MODEL, "source": "s3://models.example.com/scale"})] * 2,
        ):
            url = f"{self._registry}/api/2.0/mlflow/{what}/create"
            httpx.post(url, json=content, trust_env=False, timeout=30).raise_for_status()

    def process(self, playground: Playground, folder: Path) -> ControllerProcess:
        """Run it with what is in the image alone: the project's own environment has more, which MLflow would load."""
        python = controller_environment() / "bin" / "python"
        variables = {
            "KUBECONFIG": str(playground.kubeconfig),
            "BACKSTAY_CLUSTER_NAME": "scale",
            "BACKSTAY_STATE": str(folder / "state"),
            "BACKSTAY_PROMETHEUS_URL": PROMETHEUS,
            "POD_IP": "127.0.0.1",
            "BACKSTAY_HEALTH_PORT": str(_HEALTH_PORT),
            "BACKSTAY_METRICS_PORT": str(urlsplit(METRICS).port),
            **_allocator(),
            "PYTHONPATH": str(repository_root() / "operator" / "src"),
        }
        return ControllerProcess([str(python), "-m", "backstay.controller"], variables, folder / "controller.log")

    def objects(self, number: int) -> list[tuple[str, Object]]:
        """Return one ModelDeployment."""
        gateway = {"name": "models", "namespace": "gateways"}
        spec = {
            "model": {"name": _MODEL, "version": "1"},
            "registry": {"uri": self._registry},
            "serving": {"template": {"spec": {"containers": [{"name": "server", "image": "server:1"}]}}},
            "traffic": {"gatewayAPI": {"gateway": gateway, "hostnames": [f"{name(number)}.example.com"]}},
            **self._pace,
            "analysis": {"interval": f"{INTERVAL:g}s"},
        }
        meta = {"name": name(number), "namespace": NAMESPACE}
        body = {"apiVersion": "backstay.dev/v1alpha1", "kind": "ModelDeployment", "metadata": meta, "spec": spec}
        return [(_ONE_NAMESPACE, body)]

    def bump(self, number: int, version: str = NEW) -> tuple[str, Object]:
        """Change the version."""
        return f"{_ONE_NAMESPACE}/{name(number)}", {"spec": {"model": {"version": version}}}

    def is_stable(self, stores: Stores, number: int) -> bool:
        """Read its phase."""
        return self._status(stores, number).get("phase") == "Stable"

    def weight(self, stores: Stores, number: int) -> int:
        """Read the weight of the revision that was tried last from its route."""
        rollout = self._status(stores, number).get("rollout")
        if rollout:
            self._canaries[number] = f"{name(number)}-{rollout['revision']}"
        for rule in found(stores, _ROUTES, name(number)).get("spec", {}).get("rules", ()):
            for ref in rule["backendRefs"]:
                if ref["name"] == self._canaries.get(number):
                    return int(ref["weight"])
        return 0

    def serves(self, stores: Stores, number: int) -> str:
        """Return the version that serves while nothing is under way; nothing otherwise."""
        status = self._status(stores, number)
        return str(status["stable"]["version"]) if status.get("phase") == "Stable" else ""

    def _status(self, stores: Stores, number: int) -> dict[str, Any]:
        status: dict[str, Any] = found(stores, _MODELS, name(number)).get("status", {})
        return status


def _allocator() -> dict[str, str]:
    """Return what the project's own manifest tells the memory allocator."""
    manifest = repository_root() / "operator" / "config" / "manager" / "controller.yaml"
    for document in yaml.safe_load_all(manifest.read_text(encoding="utf-8")):
        if document["kind"] == "Deployment":
            (container,) = document["spec"]["template"]["spec"]["containers"]
            return {one["name"]: one["value"] for one in container["env"] if one["name"].startswith("MALLOC_")}
    raise ValueError(f"{manifest} has no Deployment")
