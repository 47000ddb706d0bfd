"""The configuration files: that they say what their readers rely on."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import yaml

from backstay_playground.bootstrap import argocd_objects
from backstay_playground.control_plane import SERVICE_ADDRESSES
from backstay_playground.manifests import read
from backstay_playground.supporting import prometheus_config

Labels = dict[str, str]


def relabel(target: Labels, rules: list[Mapping[str, Any]]) -> Labels:
    """Do to a target what Prometheus does; an empty result means it is dropped."""
    labels = dict(target)
    for rule in rules:
        value = ";".join(labels.get(name, "") for name in rule.get("source_labels", []))
        match = re.fullmatch(str(rule.get("regex", "(.*)")), value)
        action = rule.get("action", "replace")
        if action == "keep" and match is None:
            return {}
        if action == "replace" and match is not None:
            labels[rule["target_label"]] = match.expand(re.sub(r"\$(\d)", r"\\\1", rule.get("replacement", "$1")))
    return {name: value for name, value in labels.items() if not name.startswith("__meta_")}


@dataclass(frozen=True)
class Pod:
    """A container port of a pod, as Prometheus discovers it; port 0 means that none is declared."""

    namespace: str = "fraud-production"
    labels: Mapping[str, str] = field(default_factory=lambda: {"app_kubernetes_io_managed_by": "backstay"})
    phase: str = "Running"
    port: int = 8080
    port_name: str = ""
    annotation: str = ""

    def target(self) -> Labels:
        found = {
            "__address__": "127.97.0.5" + (f":{self.port}" if self.port else ""),
            "__meta_kubernetes_namespace": self.namespace,
            "__meta_kubernetes_pod_name": "model-abc",
            "__meta_kubernetes_pod_ip": "127.97.0.5",
            "__meta_kubernetes_pod_phase": self.phase,
            **{f"__meta_kubernetes_pod_label_{name}": value for name, value in self.labels.items()},
        }
        if self.annotation:
            found["__meta_kubernetes_pod_annotation_prometheus_io_port"] = self.annotation
        if self.port_name:
            found["__meta_kubernetes_pod_container_port_name"] = self.port_name
        return found


@pytest.fixture
def jobs() -> dict[str, Any]:
    config = yaml.safe_load(prometheus_config("/state/kubeconfig"))
    return {job["job_name"]: job for job in config["scrape_configs"]}


def test_the_kubeconfig_is_filled_in_and_nothing_else(jobs: dict[str, Any]) -> None:
    assert [job["kubernetes_sd_configs"] for job in jobs.values()] == [
        [{"role": "pod", "kubeconfig_file": "/state/kubeconfig"}]
    ] * 2


def test_models_are_asked_twice_a_second() -> None:
    assert yaml.safe_load(prometheus_config("x"))["global"]["scrape_interval"] == "500ms"


def test_a_models_pod_carries_what_the_judge_asks_for(jobs: dict[str, Any]) -> None:
    labels = {
        "app_kubernetes_io_managed_by": "backstay",
        "backstay_dev_name": "fraud-detector",
        "backstay_dev_revision": "0123456789",
        "backstay_dev_track": "baseline",
    }
    assert relabel(Pod(labels=labels).target(), jobs["models"]["relabel_configs"]) == {
        "__address__": "127.97.0.5:8080",
        "namespace": "fraud-production",
        "pod": "model-abc",
        "modeldeployment": "fraud-detector",
        "revision": "0123456789",
        "track": "baseline",
    }


@pytest.mark.parametrize(
    ("pod", "address"),
    [
        (Pod(port=9000), "127.97.0.5:9000"),
        (Pod(port=9000, port_name="http"), "127.97.0.5:9000"),
        (Pod(port=0), "127.97.0.5:8080"),
        (Pod(port=9000, port_name="grpc", annotation="8080"), "127.97.0.5:8080"),
    ],
    ids=["a port without a name", "the port named http", "no port declared", "the annotation wins"],
)
def test_which_port_of_a_model_is_asked(jobs: dict[str, Any], pod: Pod, address: str) -> None:
    assert relabel(pod.target(), jobs["models"]["relabel_configs"])["__address__"] == address


@pytest.mark.parametrize(
    "pod",
    [Pod(labels={}), Pod(phase="Pending"), Pod(port_name="grpc")],
    ids=["somebody else's", "not running", "another port"],
)
def test_which_targets_are_no_models(jobs: dict[str, Any], pod: Pod) -> None:
    assert relabel(pod.target(), jobs["models"]["relabel_configs"]) == {}


def test_the_controller_is_asked_on_its_port_for_metrics_only(jobs: dict[str, Any]) -> None:
    rules = jobs["controller"]["relabel_configs"]
    metrics = Pod(namespace="backstay-system", labels={}, port=8082, port_name="metrics")
    assert relabel(metrics.target(), rules)["__address__"] == "127.97.0.5:8082"
    health = Pod(namespace="backstay-system", labels={}, port=8081, port_name="health")
    assert relabel(health.target(), rules) == {}
    assert relabel(Pod(port_name="metrics").target(), rules) == {}


def test_services_have_the_addresses_that_in_cluster_urls_rely_on() -> None:
    objects = list(yaml.safe_load_all(read("services.yaml")))
    services = [item for item in objects if item["kind"] == "Service"]
    found = {
        f"{item['metadata']['name']}.{item['metadata']['namespace']}": item["spec"]["ports"][0]["port"]
        for item in services
    }
    assert found == {"gitea.forge": 3000, "mlflow.mlops": 5000, "prometheus.monitoring": 9090}
    addresses = tuple((item["spec"]["clusterIP"], item["spec"]["ports"][0]["port"]) for item in services)
    assert addresses == SERVICE_ADDRESSES


def test_the_health_of_a_model_deployment_joins_argo_cds_configuration(tmp_path: Path) -> None:
    patch = tmp_path / "patch.yaml"
    patch.write_text("kind: ConfigMap\ndata: {resource.customizations.health.x: return 1}\n")
    by_name = {item["metadata"]["name"]: item for item in argocd_objects(patch)}
    assert by_name["argocd-cm"]["data"] == {"resource.customizations.health.x": "return 1"}
    without = {item["metadata"]["name"]: item for item in argocd_objects(tmp_path / "none.yaml")}
    assert without["argocd-cm"]["data"] == {}
