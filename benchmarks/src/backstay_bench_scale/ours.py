"""Backstay, as it is measured."""

import os
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
# The registry's answers about a version hold the notes of all who serve it, so it is shared by a few alone.
_SHARED_BY = 100
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
    components: tuple[str, ...] = ("kube-controller-manager", "gateway-types", "mlflow")
    watched = (_MODELS, _ROUTES)

    def __init__(self, models: int, *, brisk: bool = False) -> None:
        """Let canaries of so many models stay at one weight, or, if it is to be brisk, end within seconds."""
        super().__init__(models)
        self._pace = _BRISK if brisk else _LASTING
        self._registry = ""
        self._canaries: dict[int, str] = {}

    def install(self, playground: Playground) -> None:
        """Apply the definition, and register two versions of each model."""
        playground.kubectl("apply", "--server-side", "-k", str(repository_root() / "operator" / "config" / "crd"))
        playground.kubectl.wait_for_definitions()
        playground.kubectl("create", "namespace", "backstay-system")
        self._registry = playground.mlflow_url
        with httpx.Client(base_url=f"{self._registry}/api/2.0/mlflow", trust_env=False, timeout=30) as client:
            for number in range(0, self._models, _SHARED_BY):
                version = {"name": _registered(number), "source": "s3://models.example.com/scale"}
                for what, content in (
                    ("registered-models", {"name": _registered(number)}),
                    *[("model-versions", version)] * 2,
                ):
                    client.post(f"{what}/create", json=content).raise_for_status()

    def process(self, playground: Playground, folder: Path) -> ControllerProcess:
        """Run it with what is in the image alone: the project's own environment has more, which MLflow would load."""
        python = controller_environment() / "bin" / "python"
        variables = self._variables(playground, folder)
        return ControllerProcess([str(python), "-m", "backstay.controller"], variables, folder / "controller.log")

    def _variables(self, playground: Playground, folder: Path) -> dict[str, str]:
        return {
            "KUBECONFIG": str(playground.kubeconfig),
            "BACKSTAY_CLUSTER_NAME": "scale",
            "BACKSTAY_STATE": str(folder / "state"),
            "BACKSTAY_PROMETHEUS_URL": PROMETHEUS,
            "POD_IP": "127.0.0.1",
            "BACKSTAY_HEALTH_PORT": str(_HEALTH_PORT),
            "BACKSTAY_METRICS_PORT": str(urlsplit(METRICS).port),
            **_allocator(),
            "PYTHONPATH": os.pathsep.join(str(repository_root() / part / "src") for part in ("operator", "serving")),
        }

    def objects(self, number: int) -> list[tuple[str, Object]]:
        """Return one ModelDeployment."""
        return [(_ONE_NAMESPACE, self.declared(number))]

    def declared(self, number: int) -> Object:
        """Return a ModelDeployment of version 1."""
        gateway = {"name": "models", "namespace": "gateways"}
        spec = {
            "model": {"name": _registered(number), "version": "1"},
            "registry": {"uri": self._registry},
            "serving": {"template": {"spec": {"containers": [{"name": "server", "image": "server:1"}]}}},
            "traffic": {"gatewayAPI": {"gateway": gateway, "hostnames": [f"{name(number)}.example.com"]}},
            **self._pace,
            "analysis": {"interval": f"{INTERVAL:g}s"},
        }
        meta = {"name": name(number), "namespace": NAMESPACE}
        return {"apiVersion": "backstay.dev/v1alpha1", "kind": "ModelDeployment", "metadata": meta, "spec": spec}

    def bump(self, number: int, version: str = NEW) -> tuple[str, Object]:
        """Change the version."""
        return f"{_ONE_NAMESPACE}/{name(number)}", {"spec": {"model": {"version": version}}}

    def is_stable(self, stores: Stores, number: int) -> bool:
        """Read its phase."""
        return self.status(stores, number).get("phase") == "Stable"

    def weight(self, stores: Stores, number: int) -> int:
        """Read the weight of the revision that was tried last from its route."""
        rollout = self.status(stores, number).get("rollout")
        if rollout:
            self._canaries[number] = f"{name(number)}-{rollout['revision']}"
        for rule in found(stores, _ROUTES, name(number)).get("spec", {}).get("rules", ()):
            for ref in rule["backendRefs"]:
                if ref["name"] == self._canaries.get(number):
                    return int(ref["weight"])
        return 0

    def serves(self, stores: Stores, number: int) -> str:
        """Return the version that serves while nothing is under way; nothing otherwise."""
        status = self.status(stores, number)
        return str(status["stable"]["version"]) if status.get("phase") == "Stable" else ""

    def status(self, stores: Stores, number: int) -> dict[str, Any]:
        """Return the status of a model; an empty one while there is none."""
        status: dict[str, Any] = found(stores, _MODELS, name(number)).get("status", {})
        return status


def _registered(number: int) -> str:
    return f"scale-{number // _SHARED_BY}"


def _allocator() -> dict[str, str]:
    """Return what the project's own manifest tells the memory allocator."""
    manifest = repository_root() / "operator" / "config" / "manager" / "controller.yaml"
    for document in yaml.safe_load_all(manifest.read_text(encoding="utf-8")):
        if document["kind"] == "Deployment":
            (container,) = document["spec"]["template"]["spec"]["containers"]
            return {one["name"]: one["value"] for one in container["env"] if one["name"].startswith("MALLOC_")}
    raise ValueError(f"{manifest} has no Deployment")
