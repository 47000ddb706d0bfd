from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[2]
SCRAPE = yaml.safe_load((ROOT / "monitoring" / "prometheus" / "scrape.yaml").read_text())
TARGET_LABELS = {
    "namespace": "__meta_kubernetes_namespace",
    "pod": "__meta_kubernetes_pod_name",
    "modeldeployment": "__meta_kubernetes_pod_label_backstay_dev_name",
    "revision": "__meta_kubernetes_pod_label_backstay_dev_revision",
    "track": "__meta_kubernetes_pod_label_backstay_dev_track",
}


@pytest.fixture
def models() -> dict[str, Any]:
    (job,) = [job for job in SCRAPE["scrape_configs"] if job["job_name"] == "backstay-models"]
    assert isinstance(job, dict)
    return job


def test_the_targets_carry_the_labels_that_the_controller_asks_for(models: dict[str, Any]) -> None:
    set_by = {
        rule["target_label"]: rule["source_labels"] for rule in models["relabel_configs"] if "target_label" in rule
    }
    assert set_by == {label: [source] for label, source in TARGET_LABELS.items()}


def test_only_backstays_pods_and_the_servers_port_are_scraped(models: dict[str, Any]) -> None:
    (discovery,) = models["kubernetes_sd_configs"]
    assert discovery["selectors"] == [{"role": "pod", "label": "app.kubernetes.io/managed-by=backstay"}]
    base = yaml.safe_load((ROOT / "applications" / "fraud-detector" / "base" / "modeldeployment.yaml").read_text())
    (port,) = base["spec"]["serving"]["template"]["spec"]["containers"][0]["ports"]
    kept = {
        rule["source_labels"][0]: rule["regex"] for rule in models["relabel_configs"] if rule.get("action") == "keep"
    }
    assert port["name"] in kept["__meta_kubernetes_pod_container_port_name"].split("|")


def test_the_default_interval_of_an_analysis_holds_four_scrapes(models: dict[str, Any]) -> None:
    crd = yaml.safe_load((ROOT / "operator" / "config" / "crd" / "modeldeployments.yaml").read_text())
    schema = crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    interval = schema["properties"]["spec"]["properties"]["analysis"]["properties"]["interval"]["default"]
    assert 4 * int(models["scrape_interval"].removesuffix("s")) <= int(interval.removesuffix("s"))
