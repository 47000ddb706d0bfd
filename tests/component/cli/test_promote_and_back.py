"""``backstay promote``, ``rollback``, ``retry`` and ``diff`` on a real repository and a real registry."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pathlib import Path

    from tests.component.cli.conftest import Backstay, GitOps, Registry

pytestmark = pytest.mark.component

REJECTED = """\
    rejectedVersions:
      - version: "{version}"
        rollbackID: {rollback_id}
"""


@pytest.fixture
def versions(registry: Registry, tmp_path: Path) -> list[str]:
    return [
        registry.register(folder=tmp_path, metrics={"auc": auc}, tags={"recipe": str(auc)}) for auc in (0.8, 0.9, 0.95)
    ]


@pytest.fixture
def staged(gitops: GitOps, backstay: Backstay, versions: list[str]) -> str:
    """Staging runs version 2, and has rejected version 3."""
    assert versions == ["1", "2", "3"]
    assert backstay("bump", "fraud-detector", "-e", "staging", "--version", "2").exit_code == 0
    gitops.commit(
        {
            "applications/fraud-detector/overlays/staging/model-version.yaml": gitops.show("staging")
            + REJECTED.format(version="3", rollback_id="cd" * 8)
        }
    )
    return str(gitops.model("staging")["digest"])


@pytest.mark.usefixtures("staged")
def test_promotion_carries_the_identity_and_no_rejection(gitops: GitOps, backstay: Backstay) -> None:
    result = backstay("promote", "fraud-detector", "--commit", "--by", "robin")
    assert result.exit_code == 0, result.output
    production, staging = gitops.model("production"), gitops.model("staging")
    assert production["promotedBy"] == "robin"
    for fact in ("name", "version", "digest", "runID"):
        assert production[fact] == staging[fact]
    assert "rejectedVersions" not in production
    assert gitops.message().startswith("promote(fraud-detector): production 1 -> 2, from staging\n")
    assert "Backstay-Promoted-From: staging" in gitops.message()
    assert "nothing to do" in backstay("promote", "fraud-detector").stdout


@pytest.mark.usefixtures("staged")
def test_promotion_proposes_with_what_is_known(gitops: GitOps, backstay: Backstay) -> None:
    head = gitops.head()
    result = backstay("promote", "fraud-detector", "--dry-run", "-o", "json")
    assert result.exit_code == 0, result.output
    request = json.loads(result.stdout)["pullRequest"]
    assert request["branch"] == "backstay/promote-fraud-detector-production"
    assert "| `auc` | 0.8 | 0.9 | +0.1 |" in request["body"]
    assert "### What staging showed\n\n- The cluster was not asked" in request["body"]
    assert "- [ ] Seen to be stable in staging" in request["body"]
    assert gitops.head() == head


@pytest.mark.usefixtures("staged")
def test_what_either_environment_rejected_is_not_promoted(gitops: GitOps, backstay: Backstay) -> None:
    gitops.declare("staging", "3")
    refused = backstay("promote", "fraud-detector", "--commit")
    assert refused.exit_code == 1
    assert "staging rejected it; bump staging to a version that works first" in refused.stderr
    gitops.declare("staging", "2")
    gitops.declare("production", "1", REJECTED.format(version="2", rollback_id="ef" * 8))
    refused = backstay("promote", "fraud-detector", "--commit")
    assert refused.exit_code == 1
    assert "it was rejected in production by rollback" in refused.stderr


@pytest.mark.usefixtures("staged")
def test_a_rollback_restores_what_the_file_said_before(gitops: GitOps, backstay: Backstay) -> None:
    first = gitops.model("production")
    assert backstay("promote", "fraud-detector", "--commit").exit_code == 0
    promoted = gitops.model("production")
    result = backstay(
        *("rollback", "fraud-detector", "-e", "production", "--reject", "-o", "json"),
        *("--reason", "complaints\n\nCo-authored-by: X <x@y>"),
        BACKSTAY_REGISTRY="http://127.0.0.1:9",
    )
    assert result.exit_code == 0, result.output
    rollback_id = json.loads(result.stdout)["rollbackID"]
    model = gitops.model("production")
    assert model.pop("rejectedVersions") == [{"version": "2", "digest": promoted["digest"], "rollbackID": rollback_id}]
    assert model == first
    assert gitops.message().startswith("rollback(fraud-detector): production 2 -> 1, complaints Co-authored-by")
    assert gitops.git("log", "-1", "--format=%(trailers:key=Co-authored-by)", "main") == ""
    assert gitops.git("log", "-1", "--format=%(trailers:key=Backstay-Rollback-Id,valueonly)", "main") == rollback_id
    again = backstay("bump", "fraud-detector", "-e", "production", "--version", "2", "--commit")
    assert (again.exit_code, "rejected" in again.stderr) == (1, True)


@pytest.mark.usefixtures("versions")
def test_a_rollback_given_twice_does_not_go_forth_again(gitops: GitOps, backstay: Backstay) -> None:
    gitops.declare("staging", "2")
    gitops.declare("staging", "3")
    assert backstay("rollback", "fraud-detector", "-e", "staging").exit_code == 0
    assert gitops.model("staging")["version"] == "2"
    twice = backstay("rollback", "fraud-detector", "-e", "staging")
    assert twice.exit_code == 1
    assert "has gone back to version 2 already" in twice.stderr
    assert backstay("rollback", "fraud-detector", "-e", "staging", "--to", "1").exit_code == 0
    assert gitops.model("staging")["version"] == "1"
    unknown = backstay("rollback", "fraud-detector", "-e", "staging", "--to", "7")
    assert unknown.exit_code == 1
    assert "its history has 1, 2, 3" in unknown.stderr


@pytest.mark.usefixtures("versions")
def test_nothing_to_go_back_to_is_said(backstay: Backstay) -> None:
    result = backstay("rollback", "fraud-detector", "-e", "staging")
    assert result.exit_code == 1
    assert "has no earlier version that is not rejected" in result.stderr


def test_a_retry_declares_the_version_and_names_the_rollback(gitops: GitOps, backstay: Backstay, staged: str) -> None:
    assert backstay("promote", "fraud-detector", "--commit").exit_code == 0
    assert backstay("rollback", "fraud-detector", "-e", "production", "--reject").exit_code == 0
    rollback_id = gitops.model("production")["rejectedVersions"][0]["rollbackID"]
    wrong = backstay("retry", "fraud-detector", "-e", "production", "--commit", "--rollback-id", "00" * 8)
    assert wrong.exit_code == 1
    assert f"there are 2 ({rollback_id})" in wrong.stderr
    result = backstay("retry", "fraud-detector", "-e", "production", "--commit", "--reason", "the pods were too small")
    assert result.exit_code == 0, result.output
    model = gitops.model("production")
    assert (model["version"], model["digest"], model["retryOf"]) == ("2", staged, rollback_id)
    assert model["rejectedVersions"][0]["rollbackID"] == rollback_id
    assert f"Backstay-Retry-Of: {rollback_id}" in gitops.message()
    assert gitops.git("log", "-1", "--format=%(trailers:key=Backstay-Rollback-Id)", "main") == ""
    assert "nothing to do" in backstay("retry", "fraud-detector", "-e", "production", "--commit").stdout
    # The next bump lifts nothing any more.
    assert backstay("bump", "fraud-detector", "-e", "production", "--version", "3", "--commit").exit_code == 0
    assert "retryOf" not in gitops.model("production")


@pytest.mark.usefixtures("versions")
def test_nothing_rejected_is_nothing_to_retry(backstay: Backstay) -> None:
    result = backstay("retry", "fraud-detector", "-e", "staging")
    assert result.exit_code == 1
    assert "lists no such version among its rejectedVersions: there are none" in result.stderr


def test_a_rejection_that_only_the_cluster_knows_is_lifted_by_name(
    gitops: GitOps, backstay: Backstay, versions: list[str]
) -> None:
    gitops.declare("staging", versions[1])
    gitops.declare("staging", "1")
    retry = ("retry", "fraud-detector", "-e", "staging", "--version")
    assert backstay(*retry, "3", "--rollback-id", "ab" * 8).exit_code == 1
    assert backstay(*retry, "2", "--rollback-id", "the last").exit_code == 2
    assert backstay(*retry, "2", "--rollback-id", "ab" * 8).exit_code == 0
    assert (gitops.model("staging")["version"], gitops.model("staging")["retryOf"]) == ("2", "ab" * 8)


@pytest.mark.usefixtures("staged")
def test_environments_are_compared(backstay: Backstay) -> None:
    result = backstay("diff", "fraud-detector", "-o", "json")
    assert result.exit_code == 0, result.output
    shown = json.loads(result.stdout)
    assert (shown["from"], shown["to"], shown["same"]) == ("staging", "production", False)
    assert shown["identity"]["version"] == ["2", "1"]
    assert shown["metrics"]["auc"] == {"from": "0.9", "to": "0.8", "difference": "-0.1"}
    assert shown["tags"]["recipe"] == ["0.9", "0.8"]
    assert "-  namespace: fraud-staging\n+  namespace: fraud-production\n" in shown["rendered"]
    assert backstay("diff", "fraud-detector", "--exit-code").exit_code == 1
    text = backstay("diff", "fraud-detector").stdout
    assert "evaluation" in text
    assert "-0.1" in text


@pytest.mark.usefixtures("staged")
def test_an_environment_is_compared_with_a_version(backstay: Backstay) -> None:
    result = backstay("diff", "fraud-detector", "-e", "staging", "--version", "3", "-o", "json")
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["metrics"]["auc"]["difference"] == "+0.05"
    half = backstay("diff", "fraud-detector", "-e", "staging")
    assert (half.exit_code, "go together" in half.stderr) == (2, True)


def test_commands_at_once_lose_nothing(gitops: GitOps, registry: Registry, versions: list[str], tmp_path: Path) -> None:
    commits = gitops.count()
    running = []
    for number, environment in enumerate(("staging", "production", "staging", "production")):
        # Clones of their own, as on several machines, and one that two of them share.
        cache = tmp_path / f"cache-{number % 3}"
        command = [*(sys.executable, "-m", "backstay.cli", "bump", "fraud-detector", "--commit", "--no-digest")]
        command += ["--environment", environment, "--version", versions[1]]
        values = {**os.environ, "XDG_CACHE_HOME": str(cache), "BACKSTAY_REGISTRY": registry.uri}
        running.append(subprocess.Popen(command, cwd=gitops.person, env=values, stderr=subprocess.PIPE, text=True))
    ended = [(process.communicate(timeout=120)[1], process.returncode) for process in running]
    assert ended == [("", 0)] * 4
    assert gitops.count() == commits + 2
    assert [gitops.model(environment)["version"] for environment in ("staging", "production")] == ["2", "2"]
