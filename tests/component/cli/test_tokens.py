"""Where the command takes a token from, whom it gives it to, and that nobody else sees it."""

from __future__ import annotations

import tempfile
from typing import TYPE_CHECKING

import pytest
from tests.component.git.test_git_http import TOKEN, Forge

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.component.cli.conftest import Backstay, GitOps, Registry

pytestmark = pytest.mark.component

BUMP = ("bump", "fraud-detector", "-e", "staging", "--version", "2", "--no-digest")


@pytest.fixture(autouse=True)
def _versions(registry: Registry, tmp_path: Path) -> None:
    for _ in range(2):
        registry.register(folder=tmp_path)


@pytest.fixture
def server(gitops: GitOps) -> Iterator[Forge]:
    """The repository behind a server that asks for a password."""
    gitops.git("config", "http.receivepack", "true")
    forge = Forge(gitops.bare.parent)
    forge.thread.start()
    gitops.git("remote", "set-url", "origin", f"{forge.url}/server.git", cwd=gitops.person)
    yield forge
    forge.server.shutdown()
    forge.thread.join()
    forge.server.server_close()


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where temporary folders are made."""
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    return folder


def _unseen(gitops: GitOps, server: Forge, temporary: Path, output: str) -> None:
    assert f"bot:{TOKEN}" in server.passwords
    assert TOKEN not in output
    # A process's arguments come before its environment, which anybody but its owner cannot read.
    assert not [line for line in server.processes if TOKEN in line.partition("('")[0]]
    assert not list(temporary.iterdir())
    cache = gitops.bare.parent / "cache"
    kept = [file for file in cache.rglob("*") if file.is_file() and TOKEN.encode() in file.read_bytes()]
    assert not kept


def test_from_a_file(gitops: GitOps, backstay: Backstay, server: Forge, temporary: Path, tmp_path: Path) -> None:
    (tmp_path / "token").write_text(f"{TOKEN}\n")
    result = backstay(*BUMP, "--token-file", str(tmp_path / "token"), BACKSTAY_USERNAME="bot")
    assert result.exit_code == 0, result.output
    assert gitops.model("staging")["version"] == "2"
    _unseen(gitops, server, temporary, result.output)
    assert not [line for line in server.processes if TOKEN in line]


def test_from_the_environment(gitops: GitOps, backstay: Backstay, server: Forge, temporary: Path) -> None:
    result = backstay(*BUMP, BACKSTAY_TOKEN=TOKEN, BACKSTAY_USERNAME="bot")
    assert result.exit_code == 0, result.output
    _unseen(gitops, server, temporary, result.output)


def test_from_the_variable_of_the_forge(gitops: GitOps, backstay: Backstay, server: Forge, temporary: Path) -> None:
    result = backstay(*BUMP, "--forge", "gitea", GITEA_TOKEN=TOKEN, BACKSTAY_USERNAME="bot")
    assert result.exit_code == 0, result.output
    _unseen(gitops, server, temporary, result.output)


def test_from_gits_own_helper(
    gitops: GitOps, backstay: Backstay, server: Forge, temporary: Path, tmp_path: Path
) -> None:
    stored = tmp_path / "home" / "stored"
    stored.write_text(f"{server.url.replace('://', f'://bot:{TOKEN}@')}\n")
    gitops.git("config", "--global", "credential.helper", f"store --file={stored}")
    result = backstay(*BUMP)
    assert result.exit_code == 0, result.output
    _unseen(gitops, server, temporary, result.output)


def test_from_the_remote_that_holds_it(gitops: GitOps, backstay: Backstay, server: Forge, temporary: Path) -> None:
    url = server.url.replace("://", f"://bot:{TOKEN}@")
    gitops.git("remote", "set-url", "origin", f"{url}/server.git", cwd=gitops.person)
    result = backstay(*BUMP)
    assert result.exit_code == 0, result.output
    _unseen(gitops, server, temporary, result.output)


@pytest.mark.usefixtures("gitops")
def test_a_wrong_token_is_refused_and_not_told(backstay: Backstay, server: Forge, temporary: Path) -> None:
    server.password = "another"  # noqa: S105 - not the one that is given
    result = backstay(*BUMP, BACKSTAY_TOKEN=TOKEN, BACKSTAY_USERNAME="bot")
    assert result.exit_code == 1
    assert TOKEN not in result.output
    assert not list(temporary.iterdir())


@pytest.mark.usefixtures("gitops")
def test_a_token_of_another_forge_is_not_given_away(backstay: Backstay, server: Forge) -> None:
    result = backstay(*BUMP, GITHUB_TOKEN=TOKEN, GITLAB_TOKEN=TOKEN, GITEA_TOKEN=TOKEN)
    assert result.exit_code == 1
    assert not server.passwords


@pytest.mark.parametrize("content", ["", "two\nlines", "with \x07 bell"])
def test_a_file_that_holds_no_token_is_refused(backstay: Backstay, tmp_path: Path, content: str) -> None:
    (tmp_path / "token").write_text(content)
    result = backstay(*BUMP, "--token-file", str(tmp_path / "token"))
    assert result.exit_code == 2
    assert "does not hold one line with a token" in result.stderr
    missing = backstay(*BUMP, "--token-file", str(tmp_path / "none"))
    assert (missing.exit_code, "cannot be read (No such file" in missing.stderr) == (2, True)
