"""What `backstay verify` asks the registry, how it tells what it found, and the workflows that run it."""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from models_repository import BASE, DIGEST, MODEL, OTHER, OVERLAYS, STAGING, VERSION, Repository, verify
from typer.testing import CliRunner

from backstay.cli.__main__ import app

pytestmark = pytest.mark.component

ROOT = Path(__file__).parents[3]


# What the registry has to say.


@pytest.fixture
def registered(registry: Any, tmp_path: Path) -> Callable[..., str]:
    """Register a version, and return its number."""

    def register(**said: Any) -> str:
        made: str = registry.register(folder=tmp_path / "artifacts", **said)
        return made

    return register


def tell(repository: Repository, registry: Any, sentence: str) -> None:
    code, findings, output = verify(repository, f"--registry={registry.uri}")
    assert code == 1, output
    assert [one["file"] for one in findings if sentence in one["sentence"]] == [VERSION], findings


def test_a_version_that_the_registry_does_not_have_is_refused(repository: Repository, registry: Any) -> None:
    repository.model(version="77", digest=OTHER)
    tell(repository, registry, f"has no version 77 of {MODEL}: register it, or name another")


def test_a_version_that_is_not_ready_is_refused(
    repository: Repository, registry: Any, registered: Callable[..., str]
) -> None:
    version = registered()
    registry.spoil(version)
    repository.model(version=version + "", digest=OTHER)
    repository.git("commit", "--quiet", "--all", "--message=x")
    tell(repository, registry, "FAILED_REGISTRATION in the registry; wait until it is READY")


def test_a_digest_that_the_registry_contradicts_is_refused(
    repository: Repository, registry: Any, registered: Callable[..., str]
) -> None:
    registered()
    version = registered(tags={"backstay.dev/digest": DIGEST})
    repository.model(version=version, digest=OTHER)
    tell(repository, registry, f"digest is {OTHER}, and the registry has {DIGEST} of version {version}")


def test_lineage_that_the_registry_contradicts_is_refused(
    repository: Repository, registry: Any, registered: Callable[..., str]
) -> None:
    registered()
    version = registered(run_tags={"mlflow.source.git.commit": 40 * "a"})
    repository.model(version=version, digest=OTHER, codeCommit=40 * "b")
    tell(repository, registry, f"codeCommit is {40 * 'b'}, and the registry has {40 * 'a'}")


def test_an_unapproved_version_is_refused_where_approval_is_asked_for(
    repository: Repository, registry: Any, registered: Callable[..., str]
) -> None:
    registered()
    version = registered(tags={"eval.approved": "false"})
    repository.policy(requiredTags="eval.approved=true")
    repository.before()
    repository.model(version=version, digest=OTHER)
    tell(repository, registry, "has eval.approved = 'false', and the policy asks for 'true'; have it evaluated first")
    repository.model(f"{STAGING}/model-version.yaml", version=version, digest=OTHER)
    repository.git("checkout", "--quiet", "--", VERSION)
    code, findings, output = verify(repository, f"--registry={registry.uri}")
    assert (code, findings) == (0, []), output


def test_a_version_as_the_registry_has_it_passes_and_is_told_in_a_comment(
    repository: Repository, registry: Any, registered: Callable[..., str], tmp_path: Path
) -> None:
    registered(metrics={"auc": 0.91})
    version = registered(metrics={"auc": 0.93}, tags={"backstay.dev/digest": OTHER, "eval.approved": "true"})
    repository.model(version=version, digest=OTHER)
    code, findings, output = verify(
        repository, f"--registry={registry.uri}", f"--comment-file={tmp_path / 'comment.md'}"
    )
    assert (code, findings) == (0, []), output
    comment = (tmp_path / "comment.md").read_text()
    assert "### fraud-detector in production" in comment
    assert "| `version` | `1` | `2` |" in comment
    assert "+0.02" in comment


def test_a_registry_that_does_not_answer_is_neither_yes_nor_no(repository: Repository) -> None:
    repository.model(version="2", digest=OTHER)
    code, findings, output = verify(repository)
    assert (code, findings) == (3, [])
    assert "does not answer for version 2 of fraud-detector" in output


def test_the_address_of_a_registry_that_a_change_brings_is_not_asked(
    repository: Repository, registry: Any, registered: Callable[..., str]
) -> None:
    """Whoever opens a pull request would otherwise name the server that the runner shows its MLflow token to."""
    registered()
    version = registered(tags={"backstay.dev/digest": OTHER})
    repository.edit(f"{BASE}/modeldeployment.yaml", "http://127.0.0.1:9", registry.uri)
    new = f"{OVERLAYS}/preview"
    for name in ("kustomization.yaml", "settings.yaml", "model-version.yaml"):
        repository.write(f"{new}/{name}", repository.read(f"{STAGING}/{name}").replace("staging", "preview"))
    repository.model(f"{new}/model-version.yaml", version=version, digest=OTHER)
    code, findings, output = verify(repository)
    assert code == 1, output
    sentence = (
        f"the registry {registry.uri} is new with this change and was not asked; name it by --registry to trust it"
    )
    assert [(one["file"], one["sentence"]) for one in findings] == [(f"{new}/model-version.yaml", sentence)]
    assert verify(repository, f"--registry={registry.uri}")[:2] == (0, [])
    repository.before()
    repository.model(f"{new}/model-version.yaml", promotedBy="Robin Doe <robin@example.com>")
    assert verify(repository)[:2] == (0, [])


def test_a_digest_that_the_registry_does_not_know_is_told(
    repository: Repository, registry: Any, registered: Callable[..., str]
) -> None:
    registered()
    repository.model(version=registered(), digest=OTHER)
    arguments = ["verify", str(repository.root), "--base=main", f"--registry={registry.uri}"]
    done = CliRunner().invoke(app, arguments)
    assert done.exit_code == 0, done.output
    assert (
        "note: the registry does not say the digest of version 2 of fraud-detector, so it was not compared"
        in done.stdout
    )


# How it is told, and what cannot be checked at all.


def test_findings_become_annotations(repository: Repository) -> None:
    repository.edit(VERSION, "    version: '1'\n", "    version: '1'\n    version: '2'\n")
    done = CliRunner().invoke(app, ["verify", str(repository.root), "--offline", "--output=github"])
    line = next(n for n, text in enumerate(repository.read(VERSION).splitlines(), start=1) if "version: '2'" in text)
    sentence = "the version file says version twice; keep one of them"
    assert f"::error file={VERSION},line={line}::{sentence}" in done.stdout.splitlines()
    assert f"  line {line}: {sentence}" in done.stdout.splitlines()
    done = CliRunner().invoke(app, ["verify", str(repository.root), "--offline", "--output=gitlab"])
    (entry,) = json.loads(done.stdout)
    assert entry["location"] == {"path": VERSION, "lines": {"begin": line}}
    assert entry["severity"] == "blocker"


def test_notes_are_told_apart_from_what_is_wrong(repository: Repository) -> None:
    repository.model(version="2", digest=OTHER)
    repository.write("notes.md", "notes\n")
    arguments = ["verify", str(repository.root), "--base=main", "--offline"]
    done = CliRunner().invoke(app, [*arguments, "--output=github"])
    assert (done.exit_code, done.stdout.partition(",")[0]) == (0, "::notice file=notes.md")
    done = CliRunner().invoke(app, [*arguments, "--output=gitlab"])
    assert [entry["severity"] for entry in json.loads(done.stdout)] == ["info"]
    done = CliRunner().invoke(app, arguments)
    assert "  note: beside the version the change touches notes.md" in done.stdout
    assert done.stdout.splitlines()[-1] == "2 environments checked, 0 things to mend"


def test_what_a_pull_request_says_is_no_command_to_a_runner(repository: Repository) -> None:
    """Runners take lines that begin with two colons, even after spaces, for commands."""
    repository.model(version="a\n::add-mask::x\n::error::y")
    done = CliRunner().invoke(app, ["verify", str(repository.root), "--offline", "--output=github"])
    assert done.exit_code == 1
    commands = [line for line in done.stdout.splitlines() if line.strip().startswith("::")]
    assert len(commands) == 1
    assert commands[0].startswith(f"::error file={VERSION},line=")


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        (["--base=nowhere"], "the base nowhere cannot be told"),
        (["--base=--output=x"], "cannot be a base"),
        (["--comment-file=x.md"], "a comment needs --base"),
        (["--comment-on=1"], "a comment needs --base"),
    ],
)
def test_bad_input_ends_with_2_and_a_sentence(repository: Repository, options: list[str], complaint: str) -> None:
    done = CliRunner().invoke(app, ["verify", str(repository.root), "--offline", *options])
    assert done.exit_code == 2, done.output
    assert complaint in done.stderr


def test_a_folder_without_applications_is_refused(tmp_path: Path) -> None:
    done = CliRunner().invoke(app, ["verify", str(tmp_path)])
    assert done.exit_code == 2
    assert "has no applications/*/overlays/*: name a checkout of the GitOps repository" in done.stderr


CONFIG_MAP = "kind: ConfigMap\ndata: "


@pytest.mark.parametrize(
    ("file", "text", "complaint"),
    [
        (
            "settings.yaml",
            CONFIG_MAP + "{largestFirstStep: 25}",
            "largestFirstStep in policies/promotion/settings.yaml is no text",
        ),
        ("settings.yaml", CONFIG_MAP + '{namespaces: "("}', "is no pattern: write an RE2 expression"),
        ("settings.yaml", "[]", "is no ConfigMap with data: restore it"),
        ("settings.yaml", "kind: Secret\ndata: {}", "is no ConfigMap with data: restore it"),
        ("settings.yaml", 2000 * "[", "is no ConfigMap with data: restore it"),
        ("policy.yaml", "kind: ConfigMap", "is no ValidatingAdmissionPolicy"),
        (
            "policy.yaml",
            "kind: ValidatingAdmissionPolicy\nspec: {validations: [{expression: '1 +', messageExpression: '1'}]}",
            "policies/promotion/policy.yaml cannot be evaluated: '1 +' is not CEL",
        ),
    ],
)
def test_a_broken_policy_is_refused(repository: Repository, file: str, text: str, complaint: str) -> None:
    repository.write(f"policies/promotion/{file}", text)
    done = CliRunner().invoke(app, ["verify", str(repository.root), "--offline"])
    assert done.exit_code == 2, done.output
    assert complaint in done.stderr


# The workflows.

FILES = sorted((ROOT / "pipelines" / "checks").glob("*.yaml"))


def scripts(value: Any) -> Iterator[str]:
    """Go through what a runner gives to a shell: `run` of GitHub and Gitea, `script` of GitLab."""
    if isinstance(value, dict):
        for key, entry in value.items():
            if key in {"run", "script"}:
                yield from entry if isinstance(entry, list) else [entry]
            else:
                yield from scripts(entry)
    if isinstance(value, list):
        for entry in value:
            yield from scripts(entry)


def test_there_is_a_workflow_for_each_forge() -> None:
    assert [file.stem for file in FILES] == ["gitea", "github", "gitlab"]


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_a_workflow_checks_a_change_against_the_registry(
    file: Path, repository: Repository, registry: Any, registered: Callable[..., str]
) -> None:
    """The very command of the workflow, in a shell with what a runner sets; without a token to comment."""
    registered()
    version = registered(tags={"backstay.dev/digest": OTHER})
    (command,) = [script for script in scripts(yaml.safe_load(file.read_text())) if "backstay verify" in script]
    assert "${{" not in command
    repository.git("remote", "add", "origin", "https://git.example.com/models/gitops.git")
    base = repository.git("rev-parse", "main").strip()
    environment = {
        **{name: value for name, value in os.environ.items() if not name.endswith("_TOKEN")},
        "BASE": base,
        "CI_MERGE_REQUEST_DIFF_BASE_SHA": base,
        "NUMBER": "12",
        "CI_MERGE_REQUEST_IID": "12",
        "MLFLOW_TRACKING_URI": registry.uri,
        "GIT_CONFIG_GLOBAL": os.devnull,
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
    }

    def run() -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["bash", "-euc", command],
            cwd=repository.root,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
        )

    repository.model(version=version, digest=OTHER)
    repository.commit()
    done = run()
    assert done.returncode == 0, done.stdout + done.stderr
    assert "there is no comment on pull request 12: There is no credential for https://git.example.com" in done.stderr
    repository.model(version="77", digest=OTHER)
    repository.commit()
    done = run()
    report = repository.root / "quality.json"
    said = report.read_text() if report.exists() else done.stdout
    assert done.returncode == 1, done.stderr
    assert f"has no version 77 of {MODEL}: register it, or name another" in said


@pytest.mark.parametrize("name", ["github", "gitea"])
def test_only_the_check_sees_tokens(name: str) -> None:
    workflow = yaml.safe_load((ROOT / "pipelines" / "checks" / f"{name}.yaml").read_text())
    (job,) = workflow["jobs"].values()
    with_tokens = [step["run"] for step in job["steps"] if "TOKEN" in json.dumps(step)]
    assert len(with_tokens) == 1
    assert with_tokens[0].startswith("backstay verify ")
    assert "env" not in workflow
    assert "env" not in job
