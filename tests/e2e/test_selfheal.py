"""Somebody meddles with what Backstay or Argo CD keeps: it is put back within seconds."""

import json
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
import yaml

from backstay_playground.demo.stage import MODEL, PRODUCTION, Stage
from backstay_playground.demo.traffic import Traffic
from backstay_playground.demo.waiting import wait_until
from backstay_playground.demo.watcher import weights
from backstay_playground.kubectl import Kubectl
from backstay_playground.layout import repository_root

pytestmark = pytest.mark.e2e

PATIENCE = 60.0
# What a ModelDeployment owns, directly or not.
CHILDREN = {"deployment", "replicaset", "pod", "service", "httproute", "configmap", "controllerrevision"}
# What Kubernetes itself puts into every namespace.
EVERYWHERE = {"configmap/kube-root-ca.crt", "serviceaccount/default"}


@dataclass
class Case:
    """An environment with stable version 1 that the tests here share, and the traffic that never stops."""

    delivery: Any
    traffic: Traffic
    revision: str

    @property
    def workload(self) -> str:
        return f"{MODEL}-{self.revision}"

    def kubectl(self, *args: str) -> str:
        answer: str = self.delivery.kubectl(*args, f"--namespace={self.delivery.target.namespace}")
        return answer

    def find(self, kind: str, name: str) -> dict[str, Any]:
        """Read an object; empty while there is none."""
        text = self.kubectl("get", kind, name, "--ignore-not-found", "--output=json")
        found: dict[str, Any] = json.loads(text) if text else {}
        return found

    def delete(self, kind: str, name: str) -> None:
        self.kubectl("delete", kind, name, "--wait=false")

    def patch(self, kind: str, name: str, change: object, how: str = "json") -> None:
        self.kubectl("patch", kind, name, f"--type={how}", f"--patch={json.dumps(change)}")

    def wait_for_answers(self) -> None:
        """Wait until ten requests in a row that begin from now on are answered."""
        begun = time.time()

        def answered() -> bool:
            last = self.traffic.answers(since=begun)[-10:]
            return len(last) == 10 and all(answer.version for answer in last)

        self.delivery.wait_until("requests are answered", answered, timeout=PATIENCE)


@pytest.fixture(scope="module")
def case(deliver_for_module: Any) -> Case:
    delivery = deliver_for_module("1")
    return Case(delivery, delivery.traffic(), delivery.model()["status"]["stable"]["revision"])


def essence(body: dict[str, Any]) -> dict[str, Any]:
    """Take what makes an object what it is, without what differs when it is made again."""
    spec = {name: value for name, value in body.get("spec", {}).items() if name not in ("clusterIP", "clusterIPs")}
    meta = body.get("metadata", {})
    return {"spec": spec, "data": body.get("data"), "labels": meta.get("labels"), "owners": meta.get("ownerReferences")}


def first_container(what: str, value: object) -> list[dict[str, object]]:
    return [{"op": "replace", "path": f"/spec/template/spec/containers/0/{what}", "value": value}]


# An object that the pods do not depend on: kind, name (empty: the stable workload's), what somebody does to it.
HARMLESS: dict[str, tuple[str, str, Callable[[Case, str, str], None]]] = {
    "route-named-to-other-hosts": (
        "httproute",
        MODEL,
        lambda case, kind, name: case.patch(
            kind, name, [{"op": "add", "path": "/spec/hostnames/-", "value": "elsewhere.example.com"}]
        ),
    ),
    "route-with-another-filter": (
        "httproute",
        MODEL,
        lambda case, kind, name: case.patch(
            kind,
            name,
            [
                {
                    "op": "add",
                    "path": "/spec/rules/0/filters",
                    "value": [
                        {
                            "type": "ResponseHeaderModifier",
                            "responseHeaderModifier": {"set": [{"name": "x", "value": "y"}]},
                        }
                    ],
                }
            ],
        ),
    ),
    "service-of-the-model-deleted": ("service", MODEL, Case.delete),
    "plan-deleted": ("controllerrevision", "", Case.delete),
    "workload-scaled": (
        "deployment",
        "",
        lambda case, kind, name: _ignore(case.kubectl("scale", kind, name, "--replicas=2")),
    ),
    "workload-restarted": (
        "deployment",
        "",
        lambda case, kind, name: _ignore(case.kubectl("rollout", "restart", kind, name)),
    ),
    "image-changed": (
        "deployment",
        "",
        lambda case, kind, name: case.patch(kind, name, first_container("image", "backstay/serving:0.0.1")),
    ),
    "variable-changed": (
        "deployment",
        "",
        lambda case, kind, name: _ignore(case.kubectl("set", "env", f"{kind}/{name}", "MODEL_VERSION=2")),
    ),
    "variable-added": (
        "deployment",
        "",
        lambda case, kind, name: _ignore(case.kubectl("set", "env", f"{kind}/{name}", "SERVING_THRESHOLD_2=0.9")),
    ),
    "port-added": (
        "service",
        "",
        lambda case, kind, name: case.patch(
            kind, name, [{"op": "add", "path": "/spec/ports/-", "value": {"name": "more", "port": 9999}}]
        ),
    ),
    "command-added": (
        "deployment",
        "",
        lambda case, kind, name: case.patch(
            kind, name, [{"op": "add", "path": "/spec/template/spec/containers/0/command", "value": ["sleep", "60"]}]
        ),
    ),
}


def _ignore(_: str) -> None:
    """Let a call whose answer does not matter be a lambda's whole body."""


@pytest.mark.parametrize("what", HARMLESS)
def test_an_edit_is_put_back_and_no_request_is_lost(case: Case, what: str) -> None:
    kind, name, meddle = HARMLESS[what]
    name = name or case.workload
    case.wait_for_answers()
    begun, before = time.time(), case.find(kind, name)
    meddle(case, kind, name)
    after = case.find(kind, name)
    assert after.get("metadata", {}).get("resourceVersion") != before["metadata"]["resourceVersion"]
    case.delivery.wait_until(
        f"{kind} {name} is as before",
        lambda: essence(case.find(kind, name)) == essence(before),
        timeout=PATIENCE,
    )
    case.delivery.wait_until(
        "the stable version's own pods serve alone",
        lambda: len(case.delivery.pods(case.revision)) == 1,
        timeout=PATIENCE,
    )
    assert case.traffic.lost(since=begun) == []
    assert {answer.version for answer in case.traffic.answers(since=begun)} <= {"1"}


@pytest.mark.parametrize("kind", ["httproute", "service", "deployment"])
def test_what_the_gateway_needs_is_made_again(case: Case, kind: str) -> None:
    name = MODEL if kind == "httproute" else case.workload
    case.wait_for_answers()
    before = case.find(kind, name)
    case.delete(kind, name)
    case.delivery.wait_until(
        f"{kind} {name} is there again",
        lambda: (
            (found := case.find(kind, name)) != {}
            and found["metadata"]["uid"] != before["metadata"]["uid"]
            and essence(found) == essence(before)
        ),
        timeout=PATIENCE,
    )
    case.wait_for_answers()


def test_argo_cd_takes_an_edit_of_the_spec_back(case: Case) -> None:
    case.wait_for_answers()
    begun = time.time()
    other = case.delivery.stage.versions["2"]
    case.patch("mdep", MODEL, {"spec": {"model": {"version": "2", "digest": other.digest}}}, "merge")
    case.delivery.observer.model.wait(
        "somebody's version is declared",
        lambda body: body["spec"]["model"]["version"] == "2",
        timeout=PATIENCE,
        since=begun,
    )
    case.delivery.observer.wait_stable("1", timeout=PATIENCE, since=begun)
    status = case.delivery.model()["status"]
    assert "rejected" not in status
    assert status["stable"]["revision"] == case.revision
    assert case.traffic.lost(since=begun) == []


def test_a_deleted_model_deployment_comes_back_from_git_as_it_was(case: Case) -> None:
    case.wait_for_answers()
    begun, before = time.time(), case.delivery.model()
    case.delete("mdep", MODEL)
    again = case.delivery.observer.model.wait(
        "the ModelDeployment is there again",
        lambda body: body["metadata"]["uid"] != before["metadata"]["uid"] and "deleted" not in body,
        timeout=PATIENCE,
        since=begun,
    )
    case.delivery.observer.wait_stable("1", timeout=PATIENCE, since=again.at)
    case.wait_for_answers()
    # It was stable before, so it is not tried as a first version again.
    assert "history" not in case.delivery.model()["status"]


def test_weights_edited_in_mid_canary_are_put_back(case: Case) -> None:
    case.wait_for_answers()
    delivery, begun = case.delivery, time.time()
    delivery.stage.merge_bump(delivery.target, "2")
    delivery.stage.refresh(delivery.target)
    canary = f"{MODEL}-{delivery.observer.revision('2', since=begun, timeout=PATIENCE)}"
    delivery.observer.wait_weight(canary.removeprefix(f"{MODEL}-"), timeout=PATIENCE)
    edited = [
        {"name": name, "port": 8080, "weight": 95 if name == canary else 1}
        for name in weights(case.find("httproute", MODEL))
    ]
    case.patch("httproute", MODEL, [{"op": "replace", "path": "/spec/rules/0/backendRefs", "value": edited}])
    edit = delivery.observer.route.wait(
        "somebody's weights are seen", lambda body: weights(body).get(canary) == 95, timeout=PATIENCE, since=begun
    )
    delivery.observer.route.wait(
        "the rollout's weights are back",
        lambda body: weights(body).get(canary) in (20, 50),
        timeout=PATIENCE,
        since=edit.at,
    )
    assert case.traffic.lost(since=begun) == []


def left_in(kubectl: Kubectl, namespace: str) -> set[str]:
    """List every object of a namespace, of whatever kind, but what Kubernetes puts there and events."""
    kinds = kubectl("api-resources", "--namespaced", "--verbs=list", "--output=name").split()
    wanted = ",".join(kind for kind in kinds if not kind.startswith("events"))
    return set(kubectl("get", wanted, f"--namespace={namespace}", "--output=name").split()) - EVERYWHERE


def kinds_in(kubectl: Kubectl, namespace: str) -> set[str]:
    return {name.partition("/")[0].partition(".")[0] for name in left_in(kubectl, namespace)}


def test_deleting_the_application_with_everything_leaves_nothing(case: Case) -> None:
    delivery = case.delivery
    kubectl, namespace = delivery.kubectl, delivery.target.namespace
    case.traffic.stop()
    assert kinds_in(kubectl, namespace) >= CHILDREN
    application = ("applications.argoproj.io", delivery.target.application, "--namespace=argocd")
    finalizer = {"metadata": {"finalizers": ["resources-finalizer.argocd.argoproj.io"]}}
    kubectl("patch", *application, "--type=merge", f"--patch={json.dumps(finalizer)}")
    kubectl("delete", *application, "--timeout=60s")
    delivery.wait_until("nothing is left", lambda: left_in(kubectl, namespace) == set(), timeout=PATIENCE)


def test_a_deleted_model_deployment_without_argo_cd_leaves_nothing(stage: Stage) -> None:
    kubectl, namespace = stage.playground.kubectl, f"fraud-plain-{secrets.token_hex(2)}"
    manifest = yaml.safe_load(kubectl("kustomize", str(repository_root() / PRODUCTION.folder)))
    manifest["metadata"]["namespace"] = namespace
    spec = manifest["spec"]
    spec["serving"]["replicas"] = 1
    spec["traffic"]["gatewayAPI"]["hostnames"] = [f"{namespace}.example.com"]
    spec["rollout"]["steps"] = [{"weight": 100}]
    kubectl("create", "namespace", namespace)
    try:
        kubectl.apply(yaml.safe_dump(manifest))
        stable = ("--for=jsonpath={.status.phase}=Stable", "--timeout=120s")
        kubectl("wait", f"mdep/{MODEL}", f"--namespace={namespace}", *stable)
        assert kinds_in(kubectl, namespace) >= CHILDREN
        kubectl("delete", "mdep", MODEL, f"--namespace={namespace}")
        wait_until("nothing is left", lambda: left_in(kubectl, namespace) == set(), timeout=PATIENCE)
    finally:
        kubectl("delete", "namespace", namespace, "--wait=false")
