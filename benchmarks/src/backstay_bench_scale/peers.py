"""Argo Rollouts and Flagger, as they are measured: weights by NGINX's canary Ingress, one metric that fails at once.

Both ask for one number a canary: the share of its requests that fail.
"""

import json
from pathlib import Path

from rich.console import Console

from backstay_bench_scale.contender import (
    INTERVAL,
    NAMESPACE,
    PROMETHEUS,
    WEIGHT,
    Contender,
    Object,
    Stores,
    found,
    name,
)
from backstay_bench_scale.process import ControllerProcess
from backstay_playground.build import binaries
from backstay_playground.playground import Playground
from backstay_playground.tools import module_directory

_INGRESSES = "/apis/networking.k8s.io/v1/ingresses"
_WEIGHT = "nginx.ingress.kubernetes.io/canary-weight"
_LIMIT = 0.05
_PORT = 8080
_ROLLOUTS = "/apis/argoproj.io/v1alpha1/rollouts"
_CANARIES = "/apis/flagger.app/v1beta1/canaries"


def _in(group: str, plural: str) -> str:
    return f"{group}/namespaces/{NAMESPACE}/{plural}"


def _object(api: str, kind: str, thing: str, spec: Object) -> Object:
    return {"apiVersion": api, "kind": kind, "metadata": {"name": thing, "namespace": NAMESPACE}, "spec": spec}


def _ingress(number: int, service: str) -> tuple[str, Object]:
    backend = {"service": {"name": service, "port": {"number": _PORT}}}
    path = {"path": "/", "pathType": "Prefix", "backend": backend}
    rules = [{"host": f"{name(number)}.example.com", "http": {"paths": [path]}}]
    body = _object("networking.k8s.io/v1", "Ingress", name(number), {"ingressClassName": "nginx", "rules": rules})
    body["metadata"]["annotations"] = {"kubernetes.io/ingress.class": "nginx"}
    del body["spec"]["ingressClassName"]
    return _in("/apis/networking.k8s.io/v1", "ingresses"), body


def _pods(number: int) -> Object:
    """Return what a Deployment and a Rollout say of their pods."""
    selector = {"matchLabels": {"app": name(number)}}
    return {"replicas": 1, "selector": selector, "template": _template(number, "1")}


def _template(number: int, version: str) -> Object:
    container = {
        "name": "server",
        "image": "server:1",
        "ports": [{"containerPort": _PORT}],
        "env": [{"name": "MODEL_VERSION", "value": version}],
    }
    return {"metadata": {"labels": {"app": name(number)}}, "spec": {"containers": [container]}}


def _weight(stores: Stores, ingress: str) -> int:
    return int(found(stores, _INGRESSES, ingress).get("metadata", {}).get("annotations", {}).get(_WEIGHT, 0))


class ArgoRollouts(Contender):
    """Argo Rollouts with an analysis in the background, of which the first failure decides."""

    name = "Argo Rollouts 1.9.1"
    components = ("kube-controller-manager",)
    watched = (_ROLLOUTS, _INGRESSES)

    def install(self, playground: Playground) -> None:
        """Apply the definitions, and the one AnalysisTemplate."""
        folder = module_directory("argo-rollouts") / "manifests" / "crds"
        playground.kubectl("apply", "--server-side", "-k", str(folder))
        playground.kubectl.wait_for_definitions()
        playground.kubectl("create", "namespace", "argo-rollouts")
        metric = {
            "name": "errors",
            "interval": f"{INTERVAL:g}s",
            "failureLimit": 0,
            "successCondition": f"result[0] < {_LIMIT}",
            "provider": {"prometheus": {"address": PROMETHEUS, "query": 'share_of_errors{model="{{args.model}}"}'}},
        }
        spec = {"args": [{"name": "model"}], "metrics": [metric]}
        playground.kubectl.apply(json.dumps(_object("argoproj.io/v1alpha1", "AnalysisTemplate", "errors", spec)))

    def process(self, playground: Playground, folder: Path) -> ControllerProcess:
        """Run it as it is, in a namespace of its own."""
        binary = binaries(["argo-rollouts"], Console(quiet=True))["argo-rollouts"]
        command = [
            str(binary),
            f"--kubeconfig={playground.kubeconfig}",
            "--leader-elect=false",
            "--loglevel=warn",
            "--metricsPort=31084",
            "--healthzPort=31085",
        ]
        return ControllerProcess(command, {"ARGO_ROLLOUTS_NAMESPACE": "argo-rollouts"}, folder / "controller.log")

    def objects(self, number: int) -> list[tuple[str, Object]]:
        """Return a Rollout with its two Services and its Ingress."""
        model = name(number)
        port = {"port": _PORT, "targetPort": _PORT}
        services = [
            _object("v1", "Service", f"{model}-{role}", {"selector": {"app": model}, "ports": [port]})
            for role in ("stable", "canary")
        ]
        canary = {
            "stableService": f"{model}-stable",
            "canaryService": f"{model}-canary",
            "trafficRouting": {"nginx": {"stableIngress": model}},
            "analysis": {"templates": [{"templateName": "errors"}], "args": [{"name": "model", "value": model}]},
            "steps": [{"setWeight": WEIGHT}, {"pause": {}}],
        }
        spec = {**_pods(number), "strategy": {"canary": canary}}
        return [
            *((_in("/api/v1", "services"), service) for service in services),
            _ingress(number, f"{model}-stable"),
            (_in("/apis/argoproj.io/v1alpha1", "rollouts"), _object("argoproj.io/v1alpha1", "Rollout", model, spec)),
        ]

    def bump(self, number: int) -> tuple[str, Object]:
        """Change the pods' template."""
        path = f"{_in('/apis/argoproj.io/v1alpha1', 'rollouts')}/{name(number)}"
        return path, {"spec": {"template": _template(number, "2")}}

    def is_stable(self, stores: Stores, number: int) -> bool:
        """Read its phase."""
        return bool(found(stores, _ROLLOUTS, name(number)).get("status", {}).get("phase") == "Healthy")

    def weight(self, stores: Stores, number: int) -> int:
        """Read the weight of the Ingress that it made."""
        return _weight(stores, f"{name(number)}-{name(number)}-canary")


class Flagger(Contender):
    """Flagger with a threshold of one failed check."""

    name = "Flagger 1.44.0"
    components = ("kube-controller-manager",)
    watched = (_CANARIES, _INGRESSES)

    def install(self, playground: Playground) -> None:
        """Apply the definitions, and the one MetricTemplate."""
        definitions = module_directory("flagger") / "artifacts" / "flagger" / "crd.yaml"
        playground.kubectl("apply", "--server-side", "-f", str(definitions))
        playground.kubectl.wait_for_definitions()
        spec = {
            "provider": {"type": "prometheus", "address": PROMETHEUS},
            "query": 'share_of_errors{model="{{ target }}"}',
        }
        playground.kubectl.apply(json.dumps(_object("flagger.app/v1beta1", "MetricTemplate", "errors", spec)))

    def process(self, playground: Playground, folder: Path) -> ControllerProcess:
        """Run it as it is."""
        binary = binaries(["flagger"], Console(quiet=True))["flagger"]
        command = [
            str(binary),
            f"-kubeconfig={playground.kubeconfig}",
            "-mesh-provider=nginx",
            f"-metrics-server={PROMETHEUS}",
            "-log-level=warning",
            "-port=31086",
        ]
        return ControllerProcess(command, {}, folder / "controller.log")

    def objects(self, number: int) -> list[tuple[str, Object]]:
        """Return a Deployment with its Ingress and its Canary."""
        model = name(number)
        metric = {
            "name": "errors",
            "templateRef": {"name": "errors"},
            "interval": "1m",
            "thresholdRange": {"max": _LIMIT},
        }
        canary = {
            "targetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": model},
            "ingressRef": {"apiVersion": "networking.k8s.io/v1", "kind": "Ingress", "name": model},
            "service": {"port": _PORT, "targetPort": _PORT},
            # It has no step that stays: this one comes again and again.
            "analysis": {
                "interval": f"{INTERVAL:g}s",
                "threshold": 1,
                "stepWeights": [WEIGHT] * 1000,
                "metrics": [metric],
            },
        }
        return [
            (_in("/apis/apps/v1", "deployments"), _object("apps/v1", "Deployment", model, _pods(number))),
            _ingress(number, model),
            (_in("/apis/flagger.app/v1beta1", "canaries"), _object("flagger.app/v1beta1", "Canary", model, canary)),
        ]

    def bump(self, number: int) -> tuple[str, Object]:
        """Change the pods' template."""
        return f"{_in('/apis/apps/v1', 'deployments')}/{name(number)}", {"spec": {"template": _template(number, "2")}}

    def is_stable(self, stores: Stores, number: int) -> bool:
        """Read its phase."""
        status = found(stores, _CANARIES, name(number)).get("status", {})
        return status.get("phase") in ("Initialized", "Succeeded")

    def weight(self, stores: Stores, number: int) -> int:
        """Read the weight of the Ingress that it made."""
        return _weight(stores, f"{name(number)}-canary")
