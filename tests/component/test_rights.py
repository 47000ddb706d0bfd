"""Who may do what, once `kubectl apply -k .` has run: the controller's account, and people."""

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

import pytest
import yaml
from kubernetes import client, config
from tenacity import Retrying, retry_if_exception_type, stop_after_delay, wait_fixed

pytestmark = pytest.mark.component

ROOT = Path(__file__).parents[2]
MINIMAL = Path(__file__).parent / "good_specs" / "minimal.yaml"
CONTROLLER = "system:serviceaccount:backstay-system:backstay-controller"
NAMESPACE = "rights-tests"
APPLICATIONS = {
    "apiVersion": "apiextensions.k8s.io/v1",
    "kind": "CustomResourceDefinition",
    "metadata": {"name": "applications.argoproj.io"},
    "spec": {
        "group": "argoproj.io",
        "scope": "Namespaced",
        "names": {"kind": "Application", "plural": "applications"},
        "versions": [
            {
                "name": "v1alpha1",
                "served": True,
                "storage": True,
                "schema": {"openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": True}},
            }
        ],
    },
}
APPLICATION = {
    "apiVersion": "argoproj.io/v1alpha1",
    "kind": "Application",
    "metadata": {"name": "fraud-detector", "labels": {"team": "payments"}, "annotations": {"example.com/note": "1"}},
    "spec": {
        "project": "default",
        "source": {"repoURL": "http://gitea.forge:3000/models/models.git", "path": "."},
        "destination": {"server": "https://kubernetes.default.svc"},
    },
}
REFRESH = "argocd.argoproj.io/refresh"


class Cluster(Protocol):
    """What these tests need of the fixture `cluster`."""

    kubeconfig: Path

    def kubectl(self, *args: str, stdin: str | None = None) -> subprocess.CompletedProcess[str]: ...


def eventually() -> Retrying:
    """Repeat until no assertion fails: the API server takes new rights and policies up after a moment."""
    return Retrying(
        stop=stop_after_delay(30), wait=wait_fixed(0.1), retry=retry_if_exception_type(AssertionError), reraise=True
    )


def succeed(answer: subprocess.CompletedProcess[str]) -> None:
    assert answer.returncode == 0, answer.stderr


@pytest.fixture(scope="module")
def installed(cluster: Cluster) -> Iterator[Cluster]:
    """Install Backstay, one ModelDeployment and one Application; wait until the admission policies are in force."""
    succeed(cluster.kubectl("apply", "-k", str(ROOT)))
    # Argo CD's own definition, where another test has installed it, is left alone.
    if cluster.kubectl("get", "crd", "applications.argoproj.io").returncode != 0:
        succeed(cluster.kubectl("create", "-f", "-", stdin=json.dumps(APPLICATIONS)))
    for crd in ("modeldeployments.backstay.dev", "applications.argoproj.io"):
        succeed(cluster.kubectl("wait", "--for=condition=Established", f"crd/{crd}"))
    cluster.kubectl("create", "namespace", NAMESPACE)
    for attempt in eventually():
        with attempt:
            succeed(cluster.kubectl("apply", "-n", NAMESPACE, "-f", str(MINIMAL)))
            succeed(cluster.kubectl("apply", "-n", NAMESPACE, "-f", "-", stdin=json.dumps(APPLICATION)))
    for user, roles in {"robin": ("view", "edit"), "kim": ("view", "edit", "approve")}.items():
        for role in roles:
            cluster.kubectl(
                *("create", "rolebinding", f"{user}-{role}", "-n", NAMESPACE),
                *(f"--clusterrole=backstay-{role}", f"--user={user}"),
            )
    for attempt in eventually():
        with attempt:
            assert "backstay-people" in patch(cluster, "robin", {"backstay.dev/pause": "probe"}, dry_run=True)
            assert "refresh-only" in patch_application(cluster, {"spec": {"project": "probe"}}, dry_run=True)
            assert patch(cluster, "kim", {"backstay.dev/pause": "probe"}, dry_run=True) == ""
    yield cluster
    cluster.kubectl("delete", "deployment", "-n", "backstay-system", "backstay-controller", "--wait=false")
    cluster.kubectl("delete", "modeldeployments,applications.argoproj.io", "-n", NAMESPACE, "--all", "--wait=false")


def patch(cluster: Cluster, user: str, annotations: dict[str, str | None], *, dry_run: bool = False) -> str:
    """Set annotations of the ModelDeployment as `user`; return the refusal, empty when it is done."""
    answer = cluster.kubectl(
        *("patch", "mdep", "fraud-detector", "-n", NAMESPACE, f"--as={user}", "--type=merge"),
        *("-p", json.dumps({"metadata": {"annotations": annotations}})),
        *(("--dry-run=server",) if dry_run else ()),
    )
    return answer.stderr if answer.returncode else ""


def patch_application(cluster: Cluster, change: object, *, dry_run: bool = False) -> str:
    """Change the Application as the controller; return the refusal, empty when it is done."""
    answer = cluster.kubectl(
        *("patch", "applications.argoproj.io", "fraud-detector", "-n", NAMESPACE, f"--as={CONTROLLER}"),
        *("--type=merge", "-p", json.dumps(change)),
        *(("--dry-run=server",) if dry_run else ()),
    )
    return answer.stderr if answer.returncode else ""


@pytest.fixture(scope="module")
def reviews(installed: Cluster) -> Iterator[client.AuthorizationV1Api]:
    with config.new_client_from_config(str(installed.kubeconfig)) as connection:
        yield client.AuthorizationV1Api(connection)


def may(reviews: client.AuthorizationV1Api, verb: str, what: str, *, name: str = "") -> bool:
    """Ask whether the controller's account may do `verb` on `group/resource[/subresource]` in any namespace."""
    group, resource, *subresource = what.split("/")
    attributes = client.V1ResourceAttributes(
        verb=verb, group=group, resource=resource, subresource="".join(subresource), namespace=NAMESPACE, name=name
    )
    spec = client.V1SubjectAccessReviewSpec(
        user=CONTROLLER,
        groups=["system:serviceaccounts", "system:serviceaccounts:backstay-system", "system:authenticated"],
        resource_attributes=attributes,
    )
    answer = reviews.create_subject_access_review(client.V1SubjectAccessReview(spec=spec))
    return answer.status is not None and bool(answer.status.allowed)


@pytest.mark.parametrize(
    ("what", "verbs"),
    [
        ("backstay.dev/modeldeployments", "get list watch"),
        ("backstay.dev/modeldeployments/status", "get patch update"),
        ("apps/deployments", "get list watch create patch delete"),
        ("apps/controllerrevisions", "get list watch create patch delete"),
        ("/services", "get list watch create patch delete"),
        ("/configmaps", "get create patch"),
        ("/pods", "get list watch"),
        ("gateway.networking.k8s.io/httproutes", "get list watch create update patch delete"),
        ("gateway.networking.k8s.io/gateways", "get list watch"),
        ("argoproj.io/applications", "get patch"),
        ("events.k8s.io/events", "create patch"),
        ("authorization.k8s.io/selfsubjectaccessreviews", "create"),
    ],
)
def test_the_controller_may(reviews: client.AuthorizationV1Api, what: str, verbs: str) -> None:
    refused = [verb for verb in verbs.split() if not may(reviews, verb, what)]
    assert refused == []


def test_the_controller_may_read_the_namespace_that_names_the_cluster(reviews: client.AuthorizationV1Api) -> None:
    assert may(reviews, "get", "/namespaces", name="kube-system")
    assert not may(reviews, "get", "/namespaces", name="default")


@pytest.mark.parametrize(
    ("what", "verbs"),
    [
        ("/secrets", "get list watch create update patch delete"),
        ("backstay.dev/modeldeployments", "create update patch delete deletecollection approve abort pause skip"),
        ("/configmaps", "list watch update delete"),
        ("/pods", "create update patch delete"),
        ("/pods/exec", "create get"),
        ("/services/proxy", "get create"),
        ("/serviceaccounts", "create get impersonate"),
        ("/serviceaccounts/token", "create"),
        ("/namespaces", "list watch create delete"),
        ("/nodes", "get list"),
        ("apps/deployments", "update deletecollection"),
        ("apps/daemonsets", "create patch delete"),
        ("batch/jobs", "create"),
        ("gateway.networking.k8s.io/gateways", "create update patch delete"),
        ("argoproj.io/applications", "list create update delete"),
        ("argoproj.io/appprojects", "get patch"),
        ("rbac.authorization.k8s.io/clusterroles", "bind escalate create patch"),
        ("rbac.authorization.k8s.io/rolebindings", "create patch"),
        ("apiextensions.k8s.io/customresourcedefinitions", "get list watch create patch delete"),
        ("admissionregistration.k8s.io/validatingadmissionpolicies", "create patch delete"),
        ("admissionregistration.k8s.io/validatingadmissionpolicybindings", "create patch delete"),
    ],
)
def test_the_controller_may_not(reviews: client.AuthorizationV1Api, what: str, verbs: str) -> None:
    allowed = [verb for verb in verbs.split() if may(reviews, verb, what)]
    assert allowed == []


def test_the_controller_cannot_write_a_spec_through_the_status(installed: Cluster) -> None:
    change = json.dumps({"spec": {"serving": {"replicas": 9}}, "status": {"message": "hello"}})
    answer = installed.kubectl(
        *("patch", "mdep", "fraud-detector", "-n", NAMESPACE, f"--as={CONTROLLER}", "--subresource=status"),
        *("--type=merge", "-p", change),
    )
    succeed(answer)
    stored = json.loads(installed.kubectl("get", "mdep", "fraud-detector", "-n", NAMESPACE, "-o", "json").stdout)
    assert stored["spec"]["serving"]["replicas"] == 1
    assert stored["status"]["message"] == "hello"


def test_the_controller_may_have_an_application_refreshed(installed: Cluster) -> None:
    assert patch_application(installed, {"metadata": {"annotations": {REFRESH: "normal"}}}) == ""
    assert patch_application(installed, {"metadata": {"annotations": {REFRESH: None}}}) == ""


@pytest.mark.parametrize(
    "change",
    [
        {"spec": {"project": "other"}},
        {"spec": {"source": {"repoURL": "http://elsewhere.example.com/models.git"}}},
        {"operation": {"sync": {"prune": True}}},
        {"status": {"sync": {"status": "Synced"}}},
        {"metadata": {"annotations": {"example.com/note": "2"}}},
        {"metadata": {"annotations": {"example.com/note": None}}},
        {"metadata": {"annotations": {"example.com/other": "1"}}},
        {"metadata": {"annotations": None}},
        {"metadata": {"labels": {"team": "fraud"}}},
        {"metadata": {"finalizers": ["example.com/keep"]}},
        {"metadata": {"annotations": {REFRESH: "hard"}}, "operation": {"sync": {}}},
    ],
    ids=json.dumps,
)
def test_the_controller_may_change_nothing_else_of_an_application(installed: Cluster, change: object) -> None:
    refusal = patch_application(installed, change)
    assert f"Backstay may change nothing but the annotation {REFRESH} of an Application" in refusal
    assert "change Git instead" in refusal


def test_other_accounts_change_applications_as_before(installed: Cluster) -> None:
    change = json.dumps({"metadata": {"labels": {"team": "risk"}}})
    succeed(
        installed.kubectl(
            *("patch", "applications.argoproj.io", "fraud-detector", "-n", NAMESPACE, "--type=merge", "-p", change)
        )
    )


@pytest.mark.parametrize(
    ("word", "sentence"),
    [
        ("approve", "robin may not approve rollouts of ModelDeployment rights-tests/fraud-detector"),
        ("abort", "robin may not abort rollouts of ModelDeployment rights-tests/fraud-detector"),
        ("pause", "robin may not pause or resume rollouts of ModelDeployment rights-tests/fraud-detector"),
        ("skip", "robin may not skip steps of ModelDeployment rights-tests/fraud-detector"),
    ],
)
def test_people_act_on_rollouts_only_with_the_verb_for_it(installed: Cluster, word: str, sentence: str) -> None:
    annotation = f"backstay.dev/{word}"
    refusal = patch(installed, "robin", {annotation: "4a7d1ed414474e40"})
    assert sentence in refusal
    assert "ask for the ClusterRole backstay-approve in this namespace" in refusal
    assert patch(installed, "kim", {annotation: "4a7d1ed414474e40"}) == ""
    # Changing and taking away are acts too; what stays as it is bars no other edit.
    assert sentence in patch(installed, "robin", {annotation: "0000000000000000"})
    assert sentence in patch(installed, "robin", {annotation: None})
    assert patch(installed, "robin", {"example.com/note": word}) == ""
    assert patch(installed, "kim", {annotation: None}) == ""


def test_a_new_model_deployment_cannot_bring_an_approval_with_it(installed: Cluster) -> None:
    manifest = yaml.safe_load(MINIMAL.read_text())
    manifest["metadata"] |= {"name": "another", "annotations": {"backstay.dev/approve": "4a7d1ed414474e40/2"}}
    create = ("create", "--dry-run=server", "-n", NAMESPACE, "-f", "-")
    refused = installed.kubectl(*create, "--as=robin", stdin=json.dumps(manifest))
    assert "robin may not approve rollouts of ModelDeployment rights-tests/another" in refused.stderr
    succeed(installed.kubectl(*create, "--as=kim", stdin=json.dumps(manifest)))


def test_the_roles_of_people_join_those_of_kubernetes() -> None:
    documents = yaml.safe_load_all((ROOT / "operator" / "config" / "rbac" / "users.yaml").read_text())
    prefix = "rbac.authorization.k8s.io/aggregate-to-"
    joined = {
        role["metadata"]["name"]: {
            label.removeprefix(prefix) for label in role["metadata"]["labels"] if prefix in label
        }
        for role in documents
    }
    assert joined == {
        "backstay-view": {"view", "edit", "admin"},
        "backstay-edit": {"edit", "admin"},
        "backstay-approve": {"admin"},
    }
