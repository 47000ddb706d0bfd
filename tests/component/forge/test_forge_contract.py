"""One contract for all forges: Gitea itself, and GitHub and GitLab as their documentation describes them."""

import logging
import secrets
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol

import pytest
from servers import NAME, OWNER, GitHubServer, GitLabServer, Server, serving, sha

from backstay.adapters.forge import (
    AwaitingMerge,
    Forge,
    ForgeError,
    ForgeRefused,
    ForgeUnavailable,
    Merged,
    Proposal,
    PullRequestState,
    Report,
)
from backstay.adapters.forge.choose import forge_of
from backstay.adapters.forge.credentials import Credentials
from backstay_playground.gitea import Gitea

pytestmark = pytest.mark.component

BRANCH = "backstay/rollback-1"
MESSAGE = "rollback(fraud): production 3 -> 2\n\nVersion 3 failed.\n\nBackstay-Rollback-Id: 4a7d1ed414474e40\n"
PROPOSAL = Proposal(BRANCH, "main", "rollback(fraud): production 3 -> 2", "It failed.", ("backstay", "rollback"))


def credential(folder: Path, url: str, token: str, kind: str) -> Credentials:
    folder.mkdir(exist_ok=True)
    for key, value in {"url": url, "username": "backstay", "password": token, "forge": kind}.items():
        (folder / f"one.{key}").write_text(value)
    return Credentials(folder)


class Playing(Protocol):
    """A forge, and what a test does at its server."""

    forge: Forge
    token: str

    def commit(self, branch: str = BRANCH) -> str: ...
    def require_approval(self) -> None: ...
    def make_conflict(self) -> None: ...
    def close(self, number: int) -> None: ...
    def delete_branch(self, branch: str = BRANCH) -> None: ...
    def comments(self, number: int) -> list[str]: ...
    def issues(self) -> list[tuple[str, set[str]]]: ...
    def message(self, commit: str) -> str: ...


def _name(label: Any) -> str:
    return str(label["name"] if isinstance(label, dict) else label)


class Documented:
    """GitHub or GitLab."""

    def __init__(self, server: Server, forge: Forge) -> None:
        self.server, self.forge, self.token = server, forge, server.token

    def commit(self, branch: str = BRANCH) -> str:
        self.server.branches[branch] = sha()
        return self.server.branches[branch]

    def require_approval(self) -> None:
        self.server.approvals_missing = True

    def make_conflict(self) -> None:
        self.server.conflict = True

    def close(self, number: int) -> None:
        self.server.requests[number - 1].state = "closed"

    def delete_branch(self, branch: str = BRANCH) -> None:
        del self.server.branches[branch]

    def comments(self, number: int) -> list[str]:
        return [comment["body"] for comment in self.server.requests[number - 1].comments]

    def issues(self) -> list[tuple[str, set[str]]]:
        return [(one["title"], {_name(label) for label in one["labels"]}) for one in self.server.issues]

    def message(self, commit: str) -> str:
        assert self.server.branches["main"] == commit
        return self.server.messages[-1]


class Real:
    """Gitea."""

    def __init__(self, gitea: Gitea, repository: str, folder: Path, forge: Forge) -> None:
        self.gitea, self.repository, self.forge, self.token = gitea, repository, forge, gitea.token
        self.folder, self.path = folder, f"/repos/models/{repository}"

    def ask(self, method: str, path: str, body: Any = None) -> Any:
        answer = self.gitea.call(method, f"{self.path}{path}", body)
        assert not answer.is_error, answer.text
        return answer.json() if answer.content else None

    def commit(self, branch: str = BRANCH) -> str:
        self.git("fetch", "--quiet", "origin")
        known = self.git("branch", "--remotes", "--list", f"origin/{branch}")
        self.git("checkout", "--quiet", "-B", branch, f"origin/{branch}" if known else "origin/main")
        (self.folder / "model-version.yaml").write_text(f"version: {time.time_ns()}\n")
        self.git("commit", "--quiet", "--all", f"--message={MESSAGE}")
        self.git("push", "--quiet", "origin", branch)
        head = self.git("rev-parse", "HEAD").strip()
        end = time.monotonic() + 30
        while self.ask("GET", f"/branches/{branch.replace('/', '%2F')}")["commit"]["id"] != head:
            assert time.monotonic() < end
            time.sleep(0.1)
        return head

    def issues(self) -> list[tuple[str, set[str]]]:
        found = self.ask("GET", "/issues?type=issues&state=all")
        return [(one["title"], {_name(label) for label in one["labels"]}) for one in found]

    def git(self, *arguments: str) -> str:
        return self.gitea.git(*arguments, cwd=self.folder)

    def require_approval(self) -> None:
        rule = {"rule_name": "main", "enable_push": True, "required_approvals": 1, "block_admin_merge_override": True}
        self.ask("POST", "/branch_protections", rule)

    def make_conflict(self) -> None:
        self.git("checkout", "--quiet", "-B", "main", "origin/main")
        (self.folder / "model-version.yaml").write_text("version: other\n")
        self.git("commit", "--quiet", "--all", "--message=other")
        self.git("push", "--quiet", "origin", "main")

    def close(self, number: int) -> None:
        self.ask("PATCH", f"/pulls/{number}", {"state": "closed"})

    def delete_branch(self, branch: str = BRANCH) -> None:
        self.git("push", "--quiet", "origin", "--delete", branch)

    def comments(self, number: int) -> list[str]:
        return [comment["body"] for comment in self.ask("GET", f"/issues/{number}/comments")]

    def message(self, commit: str) -> str:
        return str(self.ask("GET", f"/git/commits/{commit}")["commit"]["message"])


@contextmanager
def at_gitea(gitea: Gitea, folder: Path) -> Iterator[Real]:
    name, work = f"forge-{secrets.token_hex(3)}", folder / "work"
    start = folder / "start"
    start.mkdir()
    (start / "model-version.yaml").write_text("version: 3\n")
    gitea.push_folder(start, repository=name, message="start")
    url = f"{gitea.url}/models/{name}.git"
    gitea.git("clone", "--quiet", url, str(work))
    made = Real(gitea, name, work, forge_of(url, credential(folder / "secret", gitea.url, gitea.token, "gitea")))
    end = time.monotonic() + 30
    while made.ask("GET", "")["empty"]:
        assert time.monotonic() < end
        time.sleep(0.1)
    yield made
    gitea.delete_repository(name)


@contextmanager
def at_documented(kind: str, folder: Path) -> Iterator[Documented]:
    made = {"github": GitHubServer, "gitlab": GitLabServer}[kind](f"secret-{secrets.token_hex(8)}")
    with serving(made) as server:
        url = f"{server.url}/{OWNER}/{NAME}.git"
        yield Documented(server, forge_of(url, credential(folder / "secret", server.url, server.token, kind)))
        assert server.wrong_use == []


@pytest.fixture(params=["gitea", "github", "gitlab"])
def playing(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Playing]:
    kind = str(request.param)
    made = at_gitea(request.getfixturevalue("gitea"), tmp_path) if kind == "gitea" else at_documented(kind, tmp_path)
    with made as found:
        yield found


def test_there_is_no_pull_request_at_first(playing: Playing) -> None:
    playing.commit()
    assert playing.forge.find(BRANCH) is None


def test_one_is_opened_and_found_again(playing: Playing) -> None:
    head = playing.commit()
    opened = playing.forge.open(PROPOSAL)
    assert (opened.branch, opened.base, opened.head, opened.state) == (BRANCH, "main", head, PullRequestState.OPEN)
    assert (opened.title, opened.body) == (PROPOSAL.title, PROPOSAL.body)
    assert set(opened.labels) == {"backstay", "rollback"}
    assert opened.url.endswith(f"/{opened.number}")
    assert playing.forge.find(BRANCH) == opened == playing.forge.get(opened.number)


def test_opening_again_brings_the_open_one_up_to_date(playing: Playing) -> None:
    playing.commit()
    first = playing.forge.open(PROPOSAL)
    again = playing.forge.open(Proposal(BRANCH, "main", "another title", "another body", ("backstay", "more")))
    assert (again.number, again.title, again.body) == (first.number, "another title", "another body")
    assert {"backstay", "more"} <= set(again.labels)


def test_a_closed_one_is_found_and_a_new_one_is_opened_beside_it(playing: Playing) -> None:
    playing.commit()
    first = playing.forge.open(PROPOSAL)
    playing.close(first.number)
    found = playing.forge.find(BRANCH)
    assert found is not None
    assert (found.number, found.state) == (first.number, PullRequestState.CLOSED)
    second = playing.forge.open(PROPOSAL)
    assert second.number != first.number
    newest = playing.forge.find(BRANCH)
    assert newest is not None
    assert newest.number == second.number


def test_it_is_merged_at_the_commit_that_was_named(playing: Playing) -> None:
    head = playing.commit()
    opened = playing.forge.open(PROPOSAL)
    merged = playing.forge.merge(opened.number, head=head, message=MESSAGE)
    assert isinstance(merged, Merged)
    assert MESSAGE.partition("\n")[0] in playing.message(merged.commit)
    found = playing.forge.find(BRANCH)
    assert found is not None
    assert (found.state, found.merge_commit) == (PullRequestState.MERGED, merged.commit)
    assert playing.forge.merge(opened.number, head=head, message=MESSAGE) == merged


def test_a_branch_that_has_moved_is_not_merged(playing: Playing) -> None:
    head = playing.commit()
    opened = playing.forge.open(PROPOSAL)
    playing.commit()
    answer = playing.forge.merge(opened.number, head=head, message=MESSAGE)
    assert answer == AwaitingMerge("its branch has moved on meanwhile")
    assert playing.forge.get(opened.number).state is PullRequestState.OPEN


def test_a_merge_that_needs_an_approval_says_so(playing: Playing) -> None:
    head = playing.commit()
    opened = playing.forge.open(PROPOSAL)
    playing.require_approval()
    answer = playing.forge.merge(opened.number, head=head, message=MESSAGE)
    assert isinstance(answer, AwaitingMerge)
    assert "approv" in answer.reason


def test_a_conflict_is_waited_for(playing: Playing) -> None:
    head = playing.commit()
    opened = playing.forge.open(PROPOSAL)
    playing.make_conflict()
    assert isinstance(playing.forge.merge(opened.number, head=head, message=MESSAGE), AwaitingMerge)
    assert playing.forge.get(opened.number).state is PullRequestState.OPEN


def test_it_is_closed_with_a_word_and_stays_so(playing: Playing) -> None:
    playing.commit()
    opened = playing.forge.open(PROPOSAL)
    assert playing.forge.close(opened.number, comment="Git says so already.").state is PullRequestState.CLOSED
    assert playing.forge.close(opened.number, comment="Again.").state is PullRequestState.CLOSED
    assert playing.comments(opened.number) == ["Git says so already."]


def test_it_is_found_when_its_branch_is_gone(playing: Playing) -> None:
    playing.commit()
    opened = playing.forge.open(PROPOSAL)
    playing.close(opened.number)
    playing.delete_branch()
    found = playing.forge.find(BRANCH)
    assert found is not None
    assert (found.number, found.branch) == (opened.number, BRANCH)


def test_a_comment_is_written_once_for_a_marker(playing: Playing) -> None:
    playing.commit()
    number = playing.forge.open(PROPOSAL).number
    for text in ("first", "first", "second"):
        playing.forge.comment(number, marker="backstay verify", body=text)
    playing.forge.comment(number, marker="other", body="another")
    assert playing.comments(number) == ["<!-- backstay verify -->\nsecond", "<!-- other -->\nanother"]


def test_an_issue_is_opened_once_for_a_marker(playing: Playing) -> None:
    report = Report("backstay-incident: 1", "Version 3 of fraud failed", "| when | what |", ("backstay", "incident"))
    first = playing.forge.report(report)
    assert playing.forge.report(report) == first
    other = playing.forge.report(replace(report, marker="backstay-incident: 2"))
    assert other != first
    assert playing.issues() == [("Version 3 of fraud failed", {"backstay", "incident"})] * 2


def test_a_branch_that_is_not_there_is_refused(playing: Playing) -> None:
    with pytest.raises(ForgeRefused, match="did not open a"):
        playing.forge.open(PROPOSAL)


@pytest.mark.parametrize("kind", ["github", "gitlab"])
def test_want_of_a_label_is_no_reason_to_fail(kind: str, tmp_path: Path) -> None:
    with at_documented(kind, tmp_path) as playing:
        playing.server.labels_refused = True
        playing.commit()
        assert playing.forge.open(PROPOSAL).labels == ()


@pytest.mark.parametrize("kind", ["github", "gitlab"])
def test_an_opening_and_a_merge_whose_answers_are_lost_are_found(kind: str, tmp_path: Path) -> None:
    with at_documented(kind, tmp_path) as playing:
        head = playing.commit()
        playing.server.answers_lost = 20
        with pytest.raises(ForgeUnavailable):
            playing.forge.open(PROPOSAL)
        playing.server.answers_lost = 0
        opened = playing.forge.open(PROPOSAL)
        assert len(playing.server.requests) == 1
        playing.server.answers_lost = 20
        with pytest.raises(ForgeUnavailable):
            playing.forge.merge(opened.number, head=head, message=MESSAGE)
        playing.server.answers_lost = 0
        assert isinstance(playing.forge.merge(opened.number, head=head, message=MESSAGE), Merged)
        assert len(playing.server.messages) == 1


# What goes wrong, alike for all three.


def forge_at(url: str, kind: str, folder: Path, token: str) -> Forge:
    return forge_of(f"{url}/{OWNER}/{NAME}.git", credential(folder / "secret", url, token, kind))


CALLS: list[Callable[[Forge], Any]] = [
    lambda forge: forge.find(BRANCH),
    lambda forge: forge.get(1),
    lambda forge: forge.open(PROPOSAL),
    lambda forge: forge.update(1, PROPOSAL),
    lambda forge: forge.merge(1, head=40 * "a", message=MESSAGE),
    lambda forge: forge.close(1, comment="no"),
    lambda forge: forge.comment(1, marker="m", body="b"),
]


class Broken(Server):
    """Answers everything with one status, and repeats what it was sent, token included."""

    def __init__(self, token: str, kind: str, status: int, said: str) -> None:
        super().__init__(token)
        self.token_header = {
            "github": ("Authorization", f"token {token}"),
            "gitea": ("Authorization", f"token {token}"),
            "gitlab": ("PRIVATE-TOKEN", token),
        }[kind]
        self.status, self.said = status, said

    def handle(self, method: str, path: str, query: dict[str, str], body: dict[str, Any]) -> tuple[int, Any]:
        del method, query, body
        return self.status, {"message": f"{self.said} {self.token} {path}"}


@pytest.mark.parametrize("kind", ["gitea", "github", "gitlab"])
@pytest.mark.parametrize(
    ("status", "said", "error"),
    [
        (401, "Bad credentials", ForgeRefused),
        (403, "no right", ForgeRefused),
        (403, "API rate limit exceeded", ForgeUnavailable),
        (404, "Not Found", ForgeRefused),
        (429, "Too Many Requests", ForgeUnavailable),
        (500, "oops", ForgeUnavailable),
        (503, "down", ForgeUnavailable),
    ],
)
def test_each_failure_is_a_sentence_of_the_right_kind_without_the_token(  # noqa: PLR0913, PLR0917 - a row of the table
    kind: str, status: int, said: str, error: type[ForgeError], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    token = f"secret-{secrets.token_hex(8)}"
    with serving(Broken(token, kind, status, said)) as server:
        forge = forge_at(server.url, kind, tmp_path, token)
        for call in CALLS:
            with pytest.raises(error) as caught:
                call(forge)
            assert f"status {status}" in str(caught.value)
            shown = [repr(caught.value), str(caught.value), repr(forge), repr(vars(forge).get("_place"))]
            assert token not in "".join(shown)
            assert caught.value.__cause__ is None
    assert token not in caplog.text


@pytest.mark.parametrize("kind", ["gitea", "github", "gitlab"])
def test_a_server_that_is_not_there_is_unavailable(kind: str, tmp_path: Path) -> None:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{one.getsockname()[1]}"
    forge = forge_at(url, kind, tmp_path, "secret")
    with pytest.raises(ForgeUnavailable, match="did not answer when asked to list"):
        forge.find(BRANCH)


@pytest.mark.parametrize("kind", ["gitea", "github", "gitlab"])
def test_a_token_that_is_changed_in_the_secret_is_used_by_the_next_forge(kind: str, tmp_path: Path) -> None:
    made = Broken("right", kind, 500, "")
    with serving(made) as server:
        wrong = forge_at(server.url, kind, tmp_path, "wrong")
        with pytest.raises(ForgeRefused, match="401"):
            wrong.find(BRANCH)
        with pytest.raises(ForgeUnavailable):
            forge_at(server.url, kind, tmp_path, "right").find(BRANCH)
