"""The API server, `backstay verify` and the controller say the same of the same object."""

import json
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from bad_changes import BAD
from models_repository import DIGEST, MODEL, OTHER, PRODUCTION, REJECTED, VERSION, Repository, verify

from backstay.adapters.policy.admission import Policy
from backstay.controller.services.promotion_policy import PromotionPolicy
from backstay.domain.resource import ModelDeployment

pytestmark = pytest.mark.component

ROOT = Path(__file__).parents[3]
NAMESPACE = f"{MODEL}-production"

# What the API server refuses in the very words of `backstay verify`: the rules of the schema and the policy's.
SAME_WORDS = (
    "a digest that is none",
    "a version that is none",
    "a time that is none",
    "weights that fall",
    "no full traffic",
    "a duration that is none",
    "too large a first step",
    "no comparison",
    "no digest, where one is asked for",
    "no lineage, where it is asked for",
    "nobody who answers for it",
    "a misspelt setting of the policy",
    "a setting that is no truth",
    "a limit that is no number",
)
# What it refuses in words of its own: types, unknown fields and what is missing.
OWN_WORDS = {
    "a number": "spec.model.version: Invalid value",
    "a text that is a number elsewhere": "spec.model.version: Invalid value",
    "an unknown field of the model": 'unknown field "spec.model.colour"',
    "an unknown setting": 'unknown field "spec.canary"',
    "an unknown word": 'Unsupported value: "mail"',
    "a registry that is gone": "spec.registry: Required value",
    "a version that does not arrive": "spec.model: Required value",
}


@pytest.fixture(scope="module")
def installed(bare_cluster: Any) -> Any:
    """Install CRD and policies as people do, and the namespaces of the model."""
    done = bare_cluster.kubectl("apply", "-k", str(ROOT))
    assert done.returncode == 0, done.stderr
    for environment in ("production", "staging"):
        bare_cluster.kubectl("create", "namespace", f"{MODEL}-{environment}")
    bare_cluster.kubectl("wait", "--for=condition=Established", "crd/modeldeployments.backstay.dev")
    return bare_cluster


def configure(cluster: Any, settings: str) -> None:
    """Let the settings of the policy be these, whatever was there before."""
    done = cluster.kubectl("replace", "--filename=-", stdin=settings)
    assert done.returncode == 0, done.stderr


def ask(cluster: Any, manifest: str) -> str:
    """Have the API server check a manifest: what it complains of, empty where it accepts."""
    done = cluster.kubectl(
        "apply", "--dry-run=server", "--validate=strict", f"--namespace={NAMESPACE}", "--filename=-", stdin=manifest
    )
    said = " ".join((done.stdout + done.stderr).split())
    return said if done.returncode else ""


def rendered(repository: Repository) -> str:
    return subprocess.run(
        ["kustomize", "build", str(repository.root / PRODUCTION)], check=True, capture_output=True, text=True
    ).stdout


def eventually(condition: Callable[[], bool]) -> bool:
    """Wait for the API server to take up a policy or its settings, which it does after a moment."""
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        if condition():
            return True
        time.sleep(0.1)
    return False


@pytest.mark.parametrize("case", [*SAME_WORDS, *OWN_WORDS])
def test_the_api_server_refuses_it_too(installed: Any, repository: Repository, case: str) -> None:
    edit, _, sentence = BAD[case]
    edit(repository)
    configure(installed, repository.read("policies/promotion/settings.yaml"))
    expected = OWN_WORDS.get(case, sentence)
    manifest = rendered(repository)
    assert eventually(lambda: expected in ask(installed, manifest)), ask(installed, manifest)
    assert verify(repository, "--offline")[0] == 1


def test_the_api_server_accepts_what_verify_lets_pass(installed: Any, repository: Repository) -> None:
    repository.model(version="2", digest=OTHER)
    configure(installed, repository.read("policies/promotion/settings.yaml"))
    manifest = rendered(repository)
    assert eventually(lambda: ask(installed, manifest) == ""), ask(installed, manifest)
    assert verify(repository, "--offline")[:2] == (0, [])


# A table of objects and settings, and how many things each is told to lack, by all three.
ALL_ASKED = {
    "namespaces": "-production$",
    "requireDigest": "true",
    "requireLineage": "true",
    "requirePromotedBy": "true",
    "largestFirstStep": "10",
    "requireComparison": "true",
}
COMPLETE = {
    "version": "2",
    "digest": DIGEST,
    "codeCommit": 40 * "c",
    "dataChecksum": "sha256:" + 64 * "d",
    "runID": "r1",
    "promotedBy": "Robin Doe <robin@example.com>",
}
LIMIT = {"name": "limit", "objective": {"metric": "errorRatio", "max": 0.05}}
LATENCY = {"name": "latency", "latency": {"series": "request_seconds"}}
TABLE: dict[str, tuple[dict[str, str], dict[str, Any], tuple[str, ...]]] = {
    "nothing is asked": ({}, {}, ()),
    "other namespaces are meant": (ALL_ASKED | {"namespaces": "^prod-"}, {}, ()),
    "all is asked and there": (ALL_ASKED, {"model": COMPLETE, "weights": [10, 100]}, ()),
    "all is asked and nothing there": (
        ALL_ASKED,
        {"weights": [11, 100], "signals": [LIMIT]},
        ("has no digest", "lacks its lineage", "nobody answers", "more than 10 %", "no signal compares"),
    ),
    "a part of the lineage": (
        {"namespaces": "-production$", "requireLineage": "true"},
        {"model": {"version": "2", "runID": "r1", "codeCommit": 40 * "c"}},
        ("lacks its lineage",),
    ),
    "no signals at all, which means the usual ones": (ALL_ASKED, {"model": COMPLETE, "weights": [5, 100]}, ()),
    "a comparison among limits": (
        ALL_ASKED,
        {"model": COMPLETE, "weights": [5, 100], "signals": [LIMIT, {"name": "e", "comparison": {"events": "errors"}}]},
        (),
    ),
    "the only step is all traffic": (
        {"namespaces": "-production$", "largestFirstStep": "25"},
        {"weights": [100]},
        ("more than 25 %",),
    ),
    "no limit": ({"namespaces": "-production$", "largestFirstStep": ""}, {"weights": [100]}, ()),
    "a pattern without an anchor": (
        {"namespaces": "prod", "requireDigest": "true"},
        {},
        ("has no digest, which fraud-detector-production asks for",),
    ),
    "everybody is meant": ({"namespaces": "", "requireDigest": "true"}, {}, ("has no digest",)),
    "asked of nobody": ({"requireDigest": "true"}, {}, ()),
    "a setting that nobody knows": ({"requireDigset": "true"}, {}, ("has no setting 'requireDigset'",)),
    "a setting that is no truth": (
        {"namespaces": "nobody", "requireDigest": "True"},
        {},
        ('requireDigest of the promotion policy is neither "true" nor "false"',),
    ),
    "a limit of zero": ({"largestFirstStep": "0"}, {}, ("write a whole number from 1 to 100",)),
    "what only verify reads": ({"requiredTags": "eval.approved=true", "oneEnvironmentAtATime": "true"}, {}, ()),
}


def body_of(parts: dict[str, Any]) -> dict[str, Any]:
    """Make an object that keeps the schema, as it is in Git."""
    document = yaml.safe_load((ROOT / "tests/component/good_specs/minimal.yaml").read_text())
    document["metadata"] = {"name": "agreed", "namespace": NAMESPACE}
    spec = document["spec"]
    spec["model"] = {"name": MODEL, "version": "2"} | parts.get("model", {})
    spec["rollout"]["steps"] = [{"weight": weight} for weight in parts.get("weights", [5, 100])]
    if "signals" in parts:
        spec["analysis"] = {"signals": parts["signals"]}
    result: dict[str, Any] = document
    return result


def stored(body: dict[str, Any]) -> ModelDeployment:
    """Read an object as the controller does."""
    return ModelDeployment.of({**body, "metadata": {**body["metadata"], "uid": "u", "generation": 1}})


def folder_of(place: Path, settings: dict[str, str]) -> Path:
    """Lay settings out as a mounted ConfigMap has them."""
    place.mkdir()
    for name, value in settings.items():
        (place / name).write_text(value)
    return place


@pytest.mark.parametrize("case", TABLE)
def test_all_three_say_the_same(installed: Any, tmp_path: Path, case: str) -> None:
    settings, parts, expected = TABLE[case]
    body = body_of(parts)
    told = Policy.shipped().configured(settings).violations(body)
    assert len(told) == len(expected), told
    assert all(part in sentence for part, sentence in zip(expected, told, strict=True)), told
    assert PromotionPolicy(folder_of(tmp_path / "settings", settings)).violations(stored(body)) == told
    manifest = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": "backstay-promotion", "namespace": "backstay-system"},
        "data": settings,
    }
    configure(installed, json.dumps(manifest))

    def same() -> bool:
        said = ask(installed, json.dumps(body))
        # The API server says the first thing only.
        return told[0] in said if told else said == ""

    assert eventually(same), (told, ask(installed, json.dumps(body)))


def test_what_declares_nothing_new_gets_through(installed: Any, repository: Repository) -> None:
    """Whoever could not abort a rollout because the policy was tightened meanwhile would have to watch it go on."""
    configure(installed, repository.read("policies/promotion/settings.yaml"))
    repository.model(digest=None, rejectedVersions=None)
    manifest = rendered(repository)
    assert eventually(lambda: ask(installed, manifest) == ""), ask(installed, manifest)
    assert installed.kubectl("apply", "--filename=-", stdin=manifest).returncode == 0
    place = ("mdep", MODEL, f"--namespace={NAMESPACE}")
    repository.policy(requireDigest="true")
    configure(installed, repository.read("policies/promotion/settings.yaml"))
    repository.model(version="2")
    assert eventually(lambda: "has no digest" in ask(installed, rendered(repository)))
    for change in (("annotate", *place, "backstay.dev/abort=r1"), ("label", *place, "team=risk")):
        done = installed.kubectl(*change)
        assert done.returncode == 0, done.stderr
    done = installed.kubectl("delete", *place)
    assert done.returncode == 0, done.stderr


def test_a_rollback_gets_through_whatever_the_policy_asks_for_by_now(installed: Any, repository: Repository) -> None:
    """What is stable already may be declared, or tightening the policy would make rollbacks impossible."""
    configure(installed, repository.read("policies/promotion/settings.yaml"))
    repository.model(digest=None, rejectedVersions=None)
    manifest = rendered(repository)
    assert eventually(lambda: ask(installed, manifest) == ""), ask(installed, manifest)
    assert installed.kubectl("apply", "--filename=-", stdin=manifest).returncode == 0
    place = ("mdep", MODEL, f"--namespace={NAMESPACE}")
    status = {"status": {"phase": "Stable", "weight": 100, "stable": {"version": "1", "revision": "r1"}}}
    done = installed.kubectl("patch", *place, "--subresource=status", "--type=merge", f"--patch={json.dumps(status)}")
    assert done.returncode == 0, done.stderr
    repository.policy(requireDigest="true")
    configure(installed, repository.read("policies/promotion/settings.yaml"))
    repository.model(version="2")
    assert eventually(lambda: "has no digest" in ask(installed, rendered(repository)))
    repository.model(version="1", rejectedVersions=[REJECTED])
    assert ask(installed, rendered(repository)) == ""
    assert VERSION in repository.git("status", "--porcelain")
    installed.kubectl("delete", *place)
