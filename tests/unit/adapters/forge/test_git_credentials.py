import base64
import subprocess
from pathlib import Path

import pytest

from backstay.adapters.forge.credentials import Credentials
from backstay.adapters.git import command as gitcommand
from backstay.adapters.git.command import (
    CloneBroken,
    GitAbsent,
    GitError,
    GitProtected,
    GitRace,
    GitRefused,
    GitRunner,
    GitUnavailable,
)
from backstay.adapters.git_url import GitUrlError, normalise_url, parse_url
from backstay.adapters.secrets import CredentialError

TOKEN = "s3cr3t/t&ken with space"  # noqa: S105 - what must never turn up in an output


def add(folder: Path, name: str, url: str, *, username: str = "bot", password: str = TOKEN) -> None:
    for key, value in {"url": url, "username": username, "password": password}.items():
        if value:
            (folder / f"{name}.{key}").write_text(f"{value}\n")


@pytest.mark.parametrize(
    ("url", "identity"),
    [
        ("https://Example.COM/Team/models.git", "https://example.com/Team/models"),
        ("https://user:secret@example.com:443/Team/models.git/", "https://example.com/Team/models"),
        ("HTTP://example.com:80//Team/models", "http://example.com/Team/models"),
        ("http://gitea.forge:3000/models/models.git", "http://gitea.forge:3000/models/models"),
        ("git@example.com:team/models.git", "ssh://example.com/team/models"),
        ("ssh://git@example.com:22/team/models", "ssh://example.com/team/models"),
        ("ssh://git@[::1]:2222/team/models", "ssh://[::1]:2222/team/models"),
        ("file:///srv/models.git", "file:///srv/models"),
    ],
)
def test_one_repository_has_one_identity(url: str, identity: str) -> None:
    assert normalise_url(url) == identity


def test_git_is_given_no_password() -> None:
    assert parse_url("https://user:secret@example.com/a.git").connect == "https://example.com/a.git"
    assert parse_url("ssh://git:secret@example.com/a.git").connect == "ssh://git@example.com/a.git"
    assert parse_url("git@example.com:a.git").connect == "git@example.com:a.git"


@pytest.mark.parametrize(
    "url",
    [
        "/srv/models.git",
        "models",
        "ext::sh -c id",
        "ftp://example.com/a",
        "https:///a",
        "https://example.com/a?b",
        "https://example.com/team/../other/a.git",
        "https://example.com/team/%2e%2e/other/a.git",
        "https://example.com/a b",
        "https://example.com:port/a",
        "-oProxyCommand=id:a",
        "file://host/srv/a",
        "https://u:secret@example.com/a\n.git",
    ],
)
def test_other_urls_are_refused_without_their_password(url: str) -> None:
    with pytest.raises(GitUrlError) as refused:
        normalise_url(url)
    assert "secret" not in str(refused.value)


def test_the_longest_prefix_wins_on_whole_segments(tmp_path: Path) -> None:
    add(tmp_path, "host", "https://example.com")
    add(tmp_path, "team", "https://example.com/team/")
    add(tmp_path, "one", "https://Example.com/team/models.git")
    credentials = Credentials(tmp_path)
    chosen = {
        url: found.name if (found := credentials.find(url)) else ""
        for url in (
            "https://example.com/team/models",
            "https://example.com/team/models-private.git",
            "https://example.com/teammate/models",
            "http://example.com/team/models",
            "https://example.com.evil.test/team/models",
        )
    }
    assert list(chosen.values()) == ["one", "team", "host", "", ""]


def test_an_absent_folder_holds_no_credentials(tmp_path: Path) -> None:
    assert Credentials(tmp_path / "absent").find("https://example.com/a") is None


def test_a_credential_that_cannot_be_used_is_named(tmp_path: Path) -> None:
    add(tmp_path, "typo", "example.com")
    add(tmp_path, "empty", "https://example.com/team", password="")
    credentials = Credentials(tmp_path)
    with pytest.raises(CredentialError, match=r"has no password; add empty\.password to the Secret"):
        credentials.find("https://example.com/team/models")
    with pytest.raises(CredentialError, match="The Git credential typo is unusable"):
        credentials.find("https://example.com/other")


def test_git_gets_the_password_from_the_helper_alone_and_a_new_one_at_once(tmp_path: Path) -> None:
    folder = tmp_path / "it's a folder"
    folder.mkdir()
    add(folder, "forge", "https://example.com")
    credential = Credentials(folder).find("https://example.com/a")
    assert credential
    helper = credential.helper()
    assert TOKEN not in helper
    for password in (TOKEN, "rotated"):
        (folder / "forge.password").write_text(password)
        answer = subprocess.run(
            ["git", "-c", "credential.helper=", "-c", f"credential.helper={helper}", "credential", "fill"],
            input=b"protocol=https\nhost=example.com\n\n",
            capture_output=True,
            check=True,
        )
        assert answer.stdout.decode().splitlines()[2:] == ["username=bot", f"password={password}"]
    (folder / "forge.username").unlink()
    assert "username=%s" in credential.helper()
    assert credential.helper().count("cat") == 1


def test_texts_lose_every_form_of_a_secret(tmp_path: Path) -> None:
    add(tmp_path, "forge", "https://example.com")
    credential = Credentials(tmp_path).find("https://example.com/a")
    assert credential
    basic = base64.b64encode(f"bot:{TOKEN}".encode()).decode()
    text = (
        f"fatal: unable to access 'https://bot:{TOKEN}@example.com/a/': returned error: 403\n"
        f"remote: Authorization: Basic {basic}\nremote: s3cr3t%2Ft%26ken%20with%20space\n"
    )
    said = str(gitcommand.failure(parse_url("https://example.com/a"), text, credential.secrets()))
    assert "s3cr3t" not in said
    assert basic not in said
    assert "example.com/a" in said


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        (" ! [rejected]  main -> main (non-fast-forward)", GitRace),
        (" ! [rejected]  main -> main (fetch first)", GitRace),
        (" ! [rejected]  backstay/x -> backstay/x (stale info)", GitRace),
        (" ! [remote rejected] main -> main (cannot lock ref 'refs/heads/main': is at a but expected b)", GitRace),
        ("error: cannot lock ref 'refs/heads/main': reference already exists", GitRace),
        (" ! [remote rejected] main -> main (incorrect old value provided)", GitRace),
        (" ! [remote rejected] main -> main (failed to update ref)", GitRace),
        ("remote: error: No.\n! [remote rejected] main -> main (pre-receive hook declined)", GitProtected),
        ("! [remote rejected] main -> main (branch is currently checked out)", GitRefused),
        ("! [remote rejected] main -> main (unpacker error)", GitUnavailable),
        ("remote: error: GH006: Protected branch update failed for refs/heads/main.", GitProtected),
        ("remote: GitLab: You are not allowed to push code to protected branches on this project.", GitProtected),
        ("fatal: Authentication failed for 'https://example.com/a/'", GitRefused),
        ("fatal: could not read Username for 'https://example.com': terminal prompts disabled", GitRefused),
        ("fatal: unable to access 'https://example.com/a/': The requested URL returned error: 403", GitRefused),
        ("git@example.com: Permission denied (publickey).\nfatal: Could not read from remote repository.", GitRefused),
        ("remote: TF402455: Pushes to this branch are not permitted; you must use a pull request", GitProtected),
        ("! [remote rejected] main -> main (refusing to update; only through pull requests)", GitProtected),
        ("remote: You are not allowed to push code to this project.\nfatal: unable to access: 403", GitRefused),
        ("remote: Permission to a/b.git denied to bot.", GitRefused),
        ("fatal: unable to access 'https://x/': SSL certificate problem: self-signed certificate", GitRefused),
        ("remote: Internal Server Error\n! [remote rejected] main -> main (pre-receive hook declined)", GitUnavailable),
        ("fatal: unable to access 'https://x/': The requested URL returned error: 502", GitUnavailable),
        ("fatal: unable to access 'https://x/': The requested URL returned error: 429", GitUnavailable),
        ("fatal: unable to access 'https://x/': Could not resolve host: x", GitUnavailable),
        ("fatal: unable to access 'https://x/': Failed to connect to x port 443: Connection refused", GitUnavailable),
        ("error: RPC failed; curl 28 Operation too slow\nfatal: early EOF", GitUnavailable),
        ("fatal: the remote end hung up unexpectedly", GitUnavailable),
        ("fatal: repository 'https://example.com/a/' not found", GitAbsent),
        ("fatal: couldn't find remote ref refs/heads/x", GitAbsent),
        ("fatal: loose object 4084fae is corrupt", CloneBroken),
    ],
)
def test_failures_are_told_apart(text: str, kind: type[GitError]) -> None:
    assert type(gitcommand.failure(parse_url("https://example.com/a"), text, ())) is kind


def test_a_reason_is_one_short_line_of_what_matters() -> None:
    text = (
        "remote: \nremote: error:\nremote: error: Not allowed to push to protected branch main\nremote: error:\n"
        "To http://gitea.forge:3000/models/models.git\n"
        "!\tHEAD:refs/heads/main\t[remote rejected] (pre-receive hook declined)\n"
        "Done\nerror: failed to push some refs to 'http://gitea.forge:3000/models/models.git'\nhint: nothing\x1b[0m"
    )
    said = str(gitcommand.failure(parse_url("http://gitea.forge:3000/models/models.git"), text, ()))
    assert said.startswith(
        "http://gitea.forge:3000/models/models refused: Not allowed to push to protected branch main; "
        "main [remote rejected] (pre-receive hook declined); give the Git credential the right to push"
    )
    assert "\n" not in said
    assert "hint" not in said
    assert len(str(gitcommand.failure(parse_url("https://example.com/a"), "fatal: " + "x" * 9000, ()))) < 600


def test_a_command_that_hangs_is_killed_with_its_children(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gitcommand, "LOCAL_SECONDS", 0.5)
    runner = GitRunner(parse_url("https://example.com/a"), tmp_path, None)
    with pytest.raises(GitUnavailable, match=r"git -c for|did not finish within"):
        runner.local(tmp_path, "-c", "alias.hang=!sleep 60", "hang")
