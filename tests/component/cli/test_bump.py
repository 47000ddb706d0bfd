"""``backstay bump`` on a real repository and a real registry."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
import yaml

from backstay_contract.digest import artifact_digest

if TYPE_CHECKING:
    from pathlib import Path

    from tests.component.cli.conftest import Backstay, GitOps, Registry

pytestmark = pytest.mark.component

CODE, DATA = "0123456789abcdef0123456789abcdef01234567", "sha256:" + "d" * 64


@pytest.fixture
def versions(registry: Registry, tmp_path: Path) -> list[str]:
    """Two versions, of which the second one has every fact."""
    return [
        registry.register(folder=tmp_path, metrics={"auc": 0.90}),
        registry.register(
            folder=tmp_path,
            metrics={"auc": 0.98},
            tags={"backstay.dev/data-checksum": DATA, "eval.ece": "0.03"},
            run_tags={"mlflow.source.git.commit": CODE},
            params={"feature_schema_version": "3"},
        ),
    ]


def test_staging_is_bumped_by_one_commit_with_every_fact(
    gitops: GitOps, backstay: Backstay, registry: Registry, versions: list[str], tmp_path: Path
) -> None:
    before = gitops.show("staging")
    result = backstay("bump", "fraud-detector", "--environment", "staging", "--version", versions[1])
    assert result.exit_code == 0, result.output
    run = registry.client.get_model_version("fraud-detector", versions[1]).run_id
    model = gitops.model("staging")
    promoted_at = model.pop("promotedAt")
    assert isinstance(promoted_at, str)
    assert model == {
        "name": "fraud-detector",
        "version": versions[1],
        "digest": artifact_digest(tmp_path / str(run)),
        "codeCommit": CODE,
        "dataChecksum": DATA,
        "runID": run,
        "featureSchemaVersion": "3",
        "promotedBy": "Robin Doe <robin@example.com>",
    }
    assert gitops.changed() == ["applications/fraud-detector/overlays/staging/model-version.yaml"]
    assert gitops.git("log", "-1", "--format=%an <%ae>", "main") == "Robin Doe <robin@example.com>"
    assert gitops.message().startswith(f"bump(fraud-detector): staging 1 -> {versions[1]}\n")
    assert "Backstay-Resource: fraud-staging/fraud-detector" in gitops.message()
    kept = [line for line in before.splitlines() if "version:" not in line]
    assert [line for line in kept if line not in gitops.show("staging").splitlines()] == []
    assert gitops.head()[:12] in result.stdout


def test_the_same_version_again_is_nothing_to_do(gitops: GitOps, backstay: Backstay, versions: list[str]) -> None:
    arguments = ("bump", "fraud-detector", "--environment", "staging", "--version", versions[1])
    assert backstay(*arguments).exit_code == 0
    commits = gitops.count()
    again = backstay(*arguments, "-o", "json")
    assert again.exit_code == 0
    assert json.loads(again.stdout)["outcome"] == "unchanged"
    assert gitops.count() == commits
    assert "nothing to do" in backstay(*arguments).stdout


def test_a_dry_run_shows_the_pull_request_of_production_and_writes_nothing(
    gitops: GitOps, backstay: Backstay, versions: list[str]
) -> None:
    head = gitops.head()
    result = backstay("bump", "fraud-detector", "-e", "production", "--version", versions[1], "--dry-run", "-o", "yaml")
    assert result.exit_code == 0, result.output
    shown = yaml.safe_load(result.stdout)
    assert shown["outcome"] == "dryRun"
    assert f'+    version: "{versions[1]}"' in shown["diff"]
    body = shown["pullRequest"]["body"]
    assert "| `auc` | 0.9 | 0.98 | +0.08 |" in body
    assert "| `eval.ece` | - | 0.03 |  |" in body
    assert "- [x] The artifacts are pinned by a digest, computed from them just now" in body
    assert f"/#/models/fraud-detector/versions/{versions[1]})" in body
    assert shown["pullRequest"]["labels"] == ["backstay", "bump", "production"]
    assert gitops.head() == head
    assert gitops.git("branch", "--list").split() == ["*", "main"]


@pytest.mark.parametrize(
    ("arguments", "code", "sentence"),
    [
        (("--version", "99", "-e", "staging"), 1, "has no version 99 of fraud-detector: register it, or name another"),
        (("--version", "1", "-e", "stagign"), 2, "has no environment 'stagign': there are production, staging"),
        (("--version", "2", "-e", "../staging"), 2, "has no environment '../staging'"),
    ],
)
@pytest.mark.usefixtures("versions")
def test_what_is_not_there_is_named(backstay: Backstay, arguments: tuple[str, ...], code: int, sentence: str) -> None:
    result = backstay("bump", "fraud-detector", *arguments)
    assert (result.exit_code, result.stdout) == (code, "")
    assert sentence in result.stderr
    assert len(result.stderr.splitlines()) == 1


@pytest.mark.usefixtures("versions")
def test_an_unknown_application_is_answered_with_those_that_there_are(backstay: Backstay) -> None:
    result = backstay("bump", "fraud", "-e", "staging", "--version", "2")
    assert result.exit_code == 2
    assert "there is no application 'fraud' in the repository: applications/ has fraud-detector" in result.stderr


@pytest.mark.usefixtures("versions")
def test_a_registry_that_does_not_answer_is_code_3(backstay: Backstay) -> None:
    result = backstay(
        "bump", "fraud-detector", "-e", "staging", "--version", "2", "--registry", "http://user:secret@127.0.0.1:9"
    )
    assert result.exit_code == 3
    assert "does not answer" in result.stderr
    assert "secret" not in result.output


@pytest.mark.usefixtures("versions")
def test_a_repository_that_is_not_there_is_code_2(backstay: Backstay, tmp_path: Path) -> None:
    result = backstay(
        "bump", "fraud-detector", "-e", "staging", "--version", "2", "--repository", f"file://{tmp_path}/none.git"
    )
    assert result.exit_code == 2, result.output


def test_changed_artifacts_are_refused(gitops: GitOps, backstay: Backstay, registry: Registry, tmp_path: Path) -> None:
    registry.register(folder=tmp_path)
    version = registry.register(folder=tmp_path, tags={"backstay.dev/digest": "sha256:" + "0" * 64})
    head = gitops.head()
    result = backstay("bump", "fraud-detector", "-e", "staging", "--version", version)
    assert result.exit_code == 1
    assert f"its tag says sha256:{'0' * 64}; find out who changed them" in result.stderr
    assert gitops.head() == head
    trusted = backstay("bump", "fraud-detector", "-e", "staging", "--version", version, "--trust-tag")
    assert trusted.exit_code == 0, trusted.output
    assert gitops.model("staging")["digest"] == f"sha256:{'0' * 64}"


def test_without_a_digest_nothing_is_pinned(gitops: GitOps, backstay: Backstay, versions: list[str]) -> None:
    result = backstay("bump", "fraud-detector", "-e", "staging", "--version", versions[1], "--no-digest")
    assert result.exit_code == 0, result.output
    assert "digest" not in gitops.model("staging")


@pytest.mark.usefixtures("gitops")
def test_a_version_that_is_not_ready_is_refused(backstay: Backstay, registry: Registry, tmp_path: Path) -> None:
    registry.register(folder=tmp_path)
    version = registry.register(folder=tmp_path)
    registry.spoil(version)
    result = backstay("bump", "fraud-detector", "-e", "staging", "--version", version)
    assert result.exit_code == 1
    assert "is FAILED_REGISTRATION in the registry, not READY" in result.stderr


def test_facts_that_the_api_server_would_refuse_are_refused_here(
    backstay: Backstay, registry: Registry, tmp_path: Path
) -> None:
    registry.register(folder=tmp_path)
    version = registry.register(folder=tmp_path, tags={"backstay.dev/data-checksum": "today's export"})
    result = backstay("bump", "fraud-detector", "-e", "staging", "--version", version)
    assert result.exit_code == 1
    assert 'dataChecksum is "today\'s export", where a version file takes algorithm:hex' in result.stderr


def test_a_rejected_version_is_refused(gitops: GitOps, backstay: Backstay, versions: list[str]) -> None:
    entry = f'    rejectedVersions:\n      - version: "{versions[1]}"\n        rollbackID: {"ab" * 8}\n'
    gitops.declare("staging", "1", entry)
    result = backstay("bump", "fraud-detector", "-e", "staging", "--version", versions[1])
    assert result.exit_code == 1
    assert f"was rejected in staging by rollback {'ab' * 8}; take another version, or lift" in result.stderr
    dry = backstay("bump", "fraud-detector", "-e", "staging", "--version", versions[1], "--dry-run")
    assert dry.exit_code == 1


def test_people_who_push_meanwhile_lose_nothing(gitops: GitOps, backstay: Backstay, versions: list[str]) -> None:
    gitops.commit({"README.md": "mine\n"})
    result = backstay("bump", "fraud-detector", "-e", "staging", "--version", versions[1], "--by", "the pipeline")
    assert result.exit_code == 0
    assert gitops.git("show", "main:README.md") == "mine"
    assert gitops.model("staging")["promotedBy"] == "the pipeline"


def test_it_works_from_anywhere_by_url_and_by_path(
    gitops: GitOps, backstay: Backstay, versions: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    outside = backstay("bump", "fraud-detector", "-e", "staging", "--version", versions[1])
    assert outside.exit_code == 2
    assert "is no checkout of a Git repository" in outside.stderr
    for repository in (f"file://{gitops.bare}", str(gitops.bare), str(gitops.person)):
        result = backstay(
            *("bump", "applications/fraud-detector", "-e", "staging", "--version", versions[1]),
            *("--repository", repository, "-o", "json"),
        )
        assert result.exit_code == 0, result.output
    assert gitops.model("staging")["version"] == versions[1]


def test_a_server_without_a_forge_takes_no_pull_request_and_says_so(
    gitops: GitOps, backstay: Backstay, versions: list[str]
) -> None:
    head = gitops.head()
    result = backstay("bump", "fraud-detector", "-e", "production", "--version", versions[1])
    assert result.exit_code == 2
    assert "it is not known what kind of forge file://" in result.stderr
    tokenless = backstay("bump", "fraud-detector", "-e", "production", "--version", versions[1], "--forge", "gitea")
    assert (tokenless.exit_code, "needs a token: set BACKSTAY_TOKEN" in tokenless.stderr) == (2, True)
    assert gitops.head() == head
    committed = backstay("bump", "fraud-detector", "-e", "production", "--version", versions[1], "--commit")
    assert committed.exit_code == 0, committed.output
