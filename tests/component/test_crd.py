"""What the API server says to ModelDeployments, good and bad, once `kubectl apply -k .` has run."""

import json
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import pytest
import yaml
from kubernetes import client, config
from tenacity import Retrying, retry_if_exception_type, stop_after_delay, wait_fixed

from backstay.adapters.policy.crd_schema import Schema
from backstay.adapters.yaml_text.plain import documents

pytestmark = pytest.mark.component

ROOT = Path(__file__).parents[2]
BAD = sorted((Path(__file__).parent / "bad_specs").glob("*.yaml"))
GOOD = sorted((Path(__file__).parent / "good_specs").glob("*.yaml"))
MINIMAL = Path(__file__).parent / "good_specs" / "minimal.yaml"
CRD = yaml.safe_load((ROOT / "operator" / "config" / "crd" / "modeldeployments.yaml").read_text())
SCHEMA: dict[str, Any] = CRD["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
NAMESPACE = "crd-tests"


class Cluster(Protocol):
    """What these tests need of the fixture `bare_cluster`."""

    kubeconfig: Path

    def kubectl(self, *args: str, stdin: str | None = None) -> subprocess.CompletedProcess[str]: ...


def eventually() -> Retrying:
    """Repeat until no assertion fails: the API server takes new rights and policies up after a moment."""
    return Retrying(
        stop=stop_after_delay(30), wait=wait_fixed(0.1), retry=retry_if_exception_type(AssertionError), reraise=True
    )


@pytest.fixture(scope="module")
def applied(bare_cluster: Cluster) -> Iterator[str]:
    """Install everything in one go and return what kubectl said."""
    answer = bare_cluster.kubectl("apply", "-k", str(ROOT))
    assert answer.returncode == 0, answer.stderr
    established = bare_cluster.kubectl("wait", "--for=condition=Established", f"crd/{CRD['metadata']['name']}")
    assert established.returncode == 0, established.stderr
    bare_cluster.kubectl("create", "namespace", NAMESPACE)
    for attempt in eventually():
        with attempt:
            listed = bare_cluster.kubectl("get", "modeldeployments", "-n", NAMESPACE)
            assert listed.returncode == 0, listed.stderr
    yield answer.stdout + answer.stderr
    bare_cluster.kubectl("delete", "deployment", "-n", "backstay-system", "backstay-controller", "--wait=false")
    bare_cluster.kubectl("delete", "modeldeployments", "-n", NAMESPACE, "--all", "--wait=false")


@pytest.fixture(scope="module")
def api(bare_cluster: Cluster, applied: str) -> Iterator[client.ApiClient]:
    assert applied
    with config.new_client_from_config(str(bare_cluster.kubeconfig)) as connection:
        yield connection


@dataclass(frozen=True)
class Answer:
    """What the API server said: one sentence, empty when it accepts, and the fields it complained of."""

    sentence: str
    fields: list[str]


def ask(api: client.ApiClient, manifest: str) -> Answer:
    """Have the API server check a ModelDeployment."""
    try:
        client.CustomObjectsApi(api).create_namespaced_custom_object(
            "backstay.dev",
            "v1alpha1",
            NAMESPACE,
            "modeldeployments",
            yaml.safe_load(manifest),
            dry_run="All",
            field_validation="Strict",
        )
    except client.ApiException as refused:
        status = json.loads(refused.body or "{}")
        causes = status.get("details", {}).get("causes", [])
        # With "<nil>" the API server adds that it did not look further.
        return Answer(status["message"], [cause["field"] for cause in causes if cause["field"] != "<nil>"])
    return Answer("", [])


def test_one_apply_installs_everything_on_a_bare_cluster(bare_cluster: Cluster, applied: str) -> None:
    assert "Warning" not in applied
    for kind, name in (
        ("crd", "modeldeployments.backstay.dev"),
        ("deployment/backstay-controller", "--namespace=backstay-system"),
        ("configmap/backstay-config", "--namespace=backstay-system"),
        ("validatingadmissionpolicybinding", "backstay-people"),
        ("validatingadmissionpolicybinding", "backstay-argocd-refresh-only"),
    ):
        found = bare_cluster.kubectl("get", kind, name)
        assert found.returncode == 0, found.stderr


@pytest.mark.usefixtures("applied")
def test_a_second_apply_changes_nothing_and_the_pod_is_restricted(bare_cluster: Cluster) -> None:
    again = bare_cluster.kubectl("apply", "--dry-run=server", "-k", str(ROOT))
    assert again.returncode == 0, again.stderr
    # The namespace warns of pods that the restricted policy would refuse.
    assert again.stderr == ""
    assert [line for line in again.stdout.splitlines() if "unchanged" not in line] == []


@pytest.mark.parametrize("path", BAD, ids=lambda path: path.stem)
def test_a_bad_spec_is_refused_with_a_sentence_that_helps(api: client.ApiClient, path: Path) -> None:
    text = path.read_text()
    first, _, _ = text.partition("\n")
    expected = first.removeprefix("# expect: ")
    assert expected != first, f"{path.name} must start with '# expect: <part of the sentence>'"
    answer = ask(api, text)
    assert expected in answer.sentence
    assert len(answer.fields) <= 1, "each file shows one mistake"


@pytest.mark.parametrize("path", GOOD, ids=lambda path: path.stem)
def test_a_good_spec_is_accepted(api: client.ApiClient, path: Path) -> None:
    assert ask(api, path.read_text()) == Answer("", [])


@pytest.mark.parametrize("path", [*BAD, *GOOD], ids=lambda path: path.stem)
def test_the_schema_says_the_same_without_an_api_server(api: client.ApiClient, path: Path) -> None:
    answer, found = ask(api, path.read_text()), Schema.shipped().problems(as_it_arrives(path))
    assert len(found) == (1 if answer.sentence else 0), found
    if answer.fields:
        assert [problem.field for problem in found] == answer.fields
    # Rules have one wording; of types, bounds and what is missing the API server speaks in its own.
    assert all(problem.sentence in " ".join(answer.sentence.split()) for problem in found if problem.rule)


def as_it_arrives(path: Path) -> dict[str, Any]:
    """Read a spec as the API server gets it: a time without quotes is a text."""
    (document,) = documents(path.read_bytes())
    body: dict[str, Any] = document.value
    return body


def test_every_rule_of_the_schema_is_kept_by_one_spec_and_broken_by_another() -> None:
    """Without an API server, too; a rule that could not be evaluated would count as broken everywhere."""
    schema = Schema.shipped()
    broken = {problem.rule for path in BAD for problem in schema.problems(as_it_arrives(path))}
    kept = {rule for path in GOOD for rule in schema.kept(as_it_arrives(path))}
    assert len(schema.rules()) > 40
    assert (schema.rules() - broken, schema.rules() - kept) == (set(), set())


def test_there_are_enough_specs_to_matter() -> None:
    assert len(BAD) >= 30
    assert len(GOOD) >= 6


@pytest.mark.usefixtures("applied")
def test_defaults_are_filled_in(bare_cluster: Cluster) -> None:
    answer = bare_cluster.kubectl("create", "--dry-run=server", "-n", NAMESPACE, "-o", "json", "-f", str(MINIMAL))
    spec = json.loads(answer.stdout)["spec"]
    written = yaml.safe_load(MINIMAL.read_text())["spec"]
    assert spec["model"] == written["model"]
    assert spec["serving"] == written["serving"] | {"replicas": 1, "port": 8080}
    assert spec["traffic"]["gatewayAPI"] == written["traffic"]["gatewayAPI"] | {"pathPrefix": "/"}
    assert spec["rollout"] == {
        "steps": [{"weight": 100, "minDuration": "0s", "minRequests": 0}],
        "baseline": {"enabled": True, "warmup": "3m"},
        "deadline": "12h",
        "progressDeadline": "10m",
        "rescueAfter": "2m",
        "maxRestarts": 0,
        "onInconclusive": "hold",
    }
    assert spec["analysis"] == {
        "interval": "15s",
        "alpha": 0.05,
        "profile": "backstay",
        "signals": [{"name": "errors", "weight": 1, "comparison": {"events": "errors", "tolerance": 1}}],
    }
    assert spec["rollback"] == {"writeBack": "commit", "merge": "automatic", "incident": "none", "warmFor": "24h"}


@pytest.mark.usefixtures("applied")
def test_defaults_of_an_objective_are_filled_in(bare_cluster: Cluster) -> None:
    manifest = yaml.safe_load(MINIMAL.read_text())
    objective = {"metric": "errorRatio", "max": 0.05}
    manifest["spec"]["analysis"] = {"signals": [{"name": "limit", "objective": objective}]}
    answer = bare_cluster.kubectl(
        "create", "--dry-run=server", "-n", NAMESPACE, "-o", "json", "-f", "-", stdin=json.dumps(manifest)
    )
    (signal,) = json.loads(answer.stdout)["spec"]["analysis"]["signals"]
    assert signal == {
        "name": "limit",
        "weight": 1,
        "objective": objective | {"window": "1m", "minRequests": 20, "violations": 1},
    }


def fields(schema: dict[str, Any], path: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Walk over a schema's fields, those of lists included."""
    for name, field in schema.get("properties", {}).items():
        yield f"{path}.{name}", field
        yield from fields(field, f"{path}.{name}")
        if "items" in field:
            yield from fields(field["items"], f"{path}.{name}[]")


def test_kubectl_explain_has_a_text_for_every_field() -> None:
    silent = [
        path
        for part in ("spec", "status")
        for path, field in fields(SCHEMA["properties"][part], part)
        if not field.get("description") and not path.startswith("status.conditions[]")
    ]
    assert silent == []


@pytest.mark.usefixtures("applied")
def test_the_crd_is_small_and_its_names_work(bare_cluster: Cluster) -> None:
    assert len(json.dumps(CRD)) < 200_000
    for name in ("mdep", "backstay", "all"):
        answer = bare_cluster.kubectl("get", name, "-n", NAMESPACE)
        assert answer.returncode == 0, answer.stderr
    explained = bare_cluster.kubectl("explain", "mdep.spec.rollout.steps")
    assert "ends when its minDuration and" in " ".join(explained.stdout.split())


def test_columns_of_kubectl_get(bare_cluster: Cluster, applied: str) -> None:
    assert applied
    manifest = yaml.safe_load(MINIMAL.read_text())
    manifest["metadata"]["name"] = "columns"
    created = bare_cluster.kubectl("apply", "-n", NAMESPACE, "-f", "-", stdin=json.dumps(manifest))
    assert created.returncode == 0, created.stderr
    status = {
        "observedGeneration": 1,
        "phase": "RollingBack",
        "message": "Version 7 failed",
        "stable": {"revision": "0123456789", "version": "6", "since": "2026-03-01T09:30:00Z"},
        "rollout": {"id": "4a7d1ed414474e40", "anything": {"else": 1}},
        "step": "2/4",
        "weight": 0,
        "verdict": "Fail",
        "analysis": {"tick": 12, "evidence": [1.5]},
        "rollback": {"id": "4a7d1ed414474e40", "commit": "1f0c6b2", "evidence": ["errors"]},
        "rejected": [{"version": "7", "revision": "abcdef0123"}],
        "history": [{"version": "7", "outcome": "Failed"}],
        "conditions": [
            {
                "type": "Ready",
                "status": "False",
                "reason": "RollingBack",
                "message": "Version 7 failed",
                "lastTransitionTime": "2026-03-01T09:30:00Z",
            }
        ],
    }
    patched = bare_cluster.kubectl(
        *("patch", "mdep", "columns", "-n", NAMESPACE, "--subresource=status", "--type=merge"),
        *("-p", json.dumps({"status": status})),
    )
    assert patched.returncode == 0, patched.stderr
    stored = json.loads(bare_cluster.kubectl("get", "mdep", "columns", "-n", NAMESPACE, "-o", "json").stdout)
    assert stored["status"] == status
    header, row = bare_cluster.kubectl("get", "mdep", "columns", "-n", NAMESPACE).stdout.splitlines()
    assert header.split() == ["NAME", "VERSION", "STABLE", "PHASE", "STEP", "WEIGHT", "VERDICT", "AGE"]
    assert row.split()[:-1] == ["columns", "7", "6", "RollingBack", "2/4", "0", "Fail"]
    header, row = bare_cluster.kubectl("get", "mdep", "columns", "-n", NAMESPACE, "-o", "wide").stdout.splitlines()
    assert header.split()[-2:] == ["MESSAGE", "COMMIT"]
    assert row.split()[-4:] == ["Version", "7", "failed", "1f0c6b2"]


@pytest.mark.parametrize(
    ("status", "complaint"),
    [
        ({"phase": "Sleeping"}, 'supported values: "Pending", "Starting"'),
        ({"verdict": "Maybe"}, 'supported values: "Pass", "Fail", "Inconclusive", "NoData", "Unavailable"'),
        ({"history": [{}] * 6}, "must have at most 5 items"),
    ],
)
@pytest.mark.usefixtures("applied")
def test_a_status_outside_the_contract_is_refused(
    bare_cluster: Cluster, status: dict[str, Any], complaint: str
) -> None:
    manifest = yaml.safe_load(MINIMAL.read_text())
    manifest["metadata"]["name"] = "contract"
    bare_cluster.kubectl("apply", "-n", NAMESPACE, "-f", "-", stdin=json.dumps(manifest))
    patched = bare_cluster.kubectl(
        *("patch", "mdep", "contract", "-n", NAMESPACE, "--subresource=status", "--type=merge", "--dry-run=server"),
        *("-p", json.dumps({"status": status})),
    )
    assert complaint in patched.stderr
