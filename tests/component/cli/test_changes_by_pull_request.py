"""Changes by pull request, on a real Gitea."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.component.cli.conftest import Backstay, GitOps, Registry
    from typer.testing import Result

    from backstay_playground.gitea import Gitea

pytestmark = pytest.mark.component

REPOSITORY = "/repos/models/cli"
PROTECTED = {"rule_name": "main", "enable_push": False}


@pytest.fixture
def at_gitea(gitea: Gitea, gitops: GitOps, registry: Registry, tmp_path: Path) -> Iterator[Gitea]:
    """Put the repository on Gitea, and three versions into the registry; the checkout's origin is Gitea."""
    for auc in (0.90, 0.95, 0.98):
        registry.register(folder=tmp_path, metrics={"auc": auc})
    gitea.push_folder(gitops.person, repository="cli", message="the first version")
    end = time.monotonic() + 60
    while gitea.call("GET", REPOSITORY).json()["empty"]:  # until its queue has seen the push, it has no pull requests
        assert time.monotonic() < end
        time.sleep(0.1)
    gitops.git("remote", "set-url", "origin", f"{gitea.url}/models/cli.git", cwd=gitops.person)
    yield gitea
    gitea.delete_repository("cli")


def run(backstay: Backstay, gitea: Gitea, *arguments: str) -> Result:
    result = backstay(*arguments, "--forge", "gitea", "-o", "json", BACKSTAY_TOKEN=gitea.token)
    assert gitea.token not in result.output
    return result


def done(backstay: Backstay, gitea: Gitea, *arguments: str) -> dict[str, Any]:
    result = run(backstay, gitea, *arguments)
    assert result.exit_code == 0, result.output
    document: dict[str, Any] = json.loads(result.stdout)
    return document


def requests(gitea: Gitea, state: str = "all") -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = gitea.call("GET", f"{REPOSITORY}/pulls?state={state}").json()
    return found


def version(gitea: Gitea, environment: str, ref: str = "main") -> str:
    path = f"applications/fraud-detector/overlays/{environment}/model-version.yaml"
    text = gitea.call("GET", f"{REPOSITORY}/raw/{path}?ref={ref}").text
    return text.partition('version: "')[2].partition('"')[0]


def merge(gitea: Gitea, number: int, how: str = "merge") -> None:
    end = time.monotonic() + 60
    while True:
        answer = gitea.call("POST", f"{REPOSITORY}/pulls/{number}/merge", {"Do": how})
        if answer.status_code != 405 or time.monotonic() > end:  # it looks for conflicts first
            break
        time.sleep(0.1)
    assert answer.status_code == 200, answer.text


def test_production_gets_one_pull_request_that_a_newer_version_takes_over(backstay: Backstay, at_gitea: Gitea) -> None:
    first = done(backstay, at_gitea, "bump", "fraud-detector", "-e", "production", "--version", "2")
    assert first["pullRequest"]["opened"]
    (request,) = requests(at_gitea)
    assert request["title"] == "bump(fraud-detector): production 1 -> 2"
    assert {label["name"] for label in request["labels"]} == {"backstay", "bump", "production"}
    assert "| `auc` | 0.9 | 0.95 | +0.05 |" in request["body"]
    assert "- [ ] The evaluation below is good enough" in request["body"]
    assert first["pullRequest"]["url"] == request["html_url"]
    assert (version(at_gitea, "production"), version(at_gitea, "production", request["head"]["ref"])) == ("1", "2")

    ticked = request["body"].replace("- [ ] The evaluation", "- [x] The evaluation")
    at_gitea.call("PATCH", f"{REPOSITORY}/pulls/{request['number']}", {"body": ticked})
    again = done(backstay, at_gitea, "bump", "fraud-detector", "-e", "production", "--version", "2")
    assert not again["pullRequest"]["opened"]
    (same,) = requests(at_gitea)
    assert (same["head"]["sha"], "- [x] The evaluation" in same["body"]) == (request["head"]["sha"], True)

    newer = done(backstay, at_gitea, "bump", "fraud-detector", "-e", "production", "--version", "3")
    assert (newer["pullRequest"]["number"], newer["pullRequest"]["opened"]) == (request["number"], False)
    (taken,) = requests(at_gitea)
    assert taken["title"] == "bump(fraud-detector): production 1 -> 3"
    assert version(at_gitea, "production", taken["head"]["ref"]) == "3"
    merge(at_gitea, taken["number"])
    assert version(at_gitea, "production") == "3"
    settled = done(backstay, at_gitea, "bump", "fraud-detector", "-e", "production", "--version", "3")
    assert settled["outcome"] == "unchanged"
    back = done(backstay, at_gitea, "bump", "fraud-detector", "-e", "production", "--version", "2")
    assert back["pullRequest"]["opened"]
    assert len(requests(at_gitea)) == 2


def test_a_promotion_is_merged_by_squash_and_rolled_back_past_a_protected_branch(
    backstay: Backstay, at_gitea: Gitea
) -> None:
    assert (
        done(backstay, at_gitea, "bump", "fraud-detector", "-e", "staging", "--version", "2")["outcome"] == "committed"
    )
    promoted = done(backstay, at_gitea, "promote", "fraud-detector")
    assert promoted["pullRequest"]["branch"] == "backstay/promote-fraud-detector-production"
    merge(at_gitea, promoted["pullRequest"]["number"], "squash")
    assert version(at_gitea, "production") == "2"
    assert done(backstay, at_gitea, "promote", "fraud-detector")["outcome"] == "unchanged"

    assert at_gitea.call("POST", f"{REPOSITORY}/branch_protections", PROTECTED).status_code == 201
    forced = run(backstay, at_gitea, "rollback", "fraud-detector", "-e", "production", "--commit")
    assert (forced.exit_code, forced.stdout) == (1, "")
    rolled = done(backstay, at_gitea, "rollback", "fraud-detector", "-e", "production", "--reject")
    assert rolled["outcome"] == "pullRequest"
    assert version(at_gitea, "production") == "2"
    merge(at_gitea, rolled["pullRequest"]["number"])
    assert version(at_gitea, "production") == "1"
    twice = run(backstay, at_gitea, "rollback", "fraud-detector", "-e", "production")
    assert (twice.exit_code, "has gone back to version 1 already" in twice.stderr) == (1, True)
    retried = done(backstay, at_gitea, "retry", "fraud-detector", "-e", "production")
    merge(at_gitea, retried["pullRequest"]["number"], "rebase")
    assert version(at_gitea, "production") == "2"


def test_a_branch_of_somebody_else_is_left_alone(backstay: Backstay, at_gitea: Gitea, tmp_path: Path) -> None:
    work = str(tmp_path / "somebody")
    at_gitea.git("clone", "--quiet", f"{at_gitea.url}/models/cli.git", work)
    at_gitea.git("commit", "--quiet", "--allow-empty", "--message", "mine", cwd=Path(work))
    mine = at_gitea.git("rev-parse", "HEAD", cwd=Path(work))
    branch = "refs/heads/backstay/bump-fraud-detector-production"
    at_gitea.git("push", "--quiet", "origin", f"HEAD:{branch}", cwd=Path(work))
    result = run(backstay, at_gitea, "bump", "fraud-detector", "-e", "production", "--version", "2")
    assert result.exit_code == 1
    assert not requests(at_gitea)
    assert at_gitea.git("ls-remote", "origin", branch, cwd=Path(work)).split() == [mine.strip(), branch]


def test_a_token_that_may_not_is_refused_in_a_sentence(backstay: Backstay, at_gitea: Gitea) -> None:
    result = backstay(
        *("bump", "fraud-detector", "-e", "production", "--version", "2", "--forge", "gitea"), BACKSTAY_TOKEN="f" * 40
    )
    assert result.exit_code == 1
    assert len(result.stderr.splitlines()) == 1
    assert "f" * 40 not in result.output
    assert not requests(at_gitea)


def test_a_check_comments_once_and_keeps_the_comment_up_to_date(
    backstay: Backstay, at_gitea: Gitea, registry: Registry, tmp_path: Path
) -> None:
    opened = done(backstay, at_gitea, "bump", "fraud-detector", "-e", "production", "--version", "2")["pullRequest"]
    checkout = tmp_path / "runner"
    at_gitea.git("clone", "--quiet", f"{at_gitea.url}/models/cli.git", str(checkout))
    at_gitea.git("checkout", "--quiet", opened["branch"], cwd=checkout)
    options = ("--base", "origin/main", "--registry", registry.uri, "--forge", "gitea")

    def check(token: str) -> Result:
        return backstay("verify", str(checkout), *options, "--comment-on", str(opened["number"]), BACKSTAY_TOKEN=token)

    for _ in range(2):
        result = check(at_gitea.token)
        assert (result.exit_code, at_gitea.token in result.output) == (0, False), result.output
        (comment,) = at_gitea.call("GET", f"{REPOSITORY}/issues/{opened['number']}/comments").json()
        assert "Nothing to mend." in comment["body"]
        assert "| `version` | `1` | `2` |" in comment["body"]
        assert "| `auc` | 0.9 | 0.95 | +0.05 |" in comment["body"]
    settings = checkout / "applications/fraud-detector/overlays/production/settings.yaml"
    settings.write_text(settings.read_text().replace("weight: 5\n", "weight: 50\n", 1))
    result = check(at_gitea.token)
    assert result.exit_code == 1
    (comment,) = at_gitea.call("GET", f"{REPOSITORY}/issues/{opened['number']}/comments").json()
    assert "**To mend first:**" in comment["body"]
    settings.write_text(settings.read_text().replace("weight: 50\n", "weight: 5\n", 1))
    result = check("f" * 40)
    assert (result.exit_code, "f" * 40 in result.output) == (0, False), result.output
    assert f"there is no comment on pull request {opened['number']}: Gitea did not" in result.stderr
