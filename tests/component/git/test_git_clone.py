from __future__ import annotations

import shutil
import subprocess
import sys
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from backstay.adapters.git.command import GitAbsent, GitUnavailable

if TYPE_CHECKING:
    from pathlib import Path

    from tests.component.git.bare import Open, Remote

    from backstay.adapters.gitops.repository import Repository

pytestmark = pytest.mark.component

OVERLAY = "applications/fraud-detector/overlays/production"
FILE = f"{OVERLAY}/model-version.yaml"


def clone_of(folder: Path) -> Path:
    return folder / "work" / "clone"


def packs(folder: Path) -> int:
    return len(list(clone_of(folder).glob(".git/objects/pack/*.pack")))


def test_fetch_returns_the_newest_commit(remote: Remote, repository: Repository) -> None:
    assert repository.fetch() == remote.head()
    head = remote.commit({"README.md": "More\n"})
    assert repository.fetch() == head


def test_the_default_branch_is_found_and_followed_when_it_moves(remote: Remote, open_repository: Open) -> None:
    repository = open_repository(remote, branch="")
    assert repository.fetch() == remote.head()
    remote.git("branch", "-m", "main", "trunk")
    with pytest.raises(GitAbsent):
        repository.fetch()
    assert repository.fetch() == remote.git("rev-parse", "trunk")


@pytest.mark.parametrize("branch", ["absent", "v7"])
def test_a_branch_that_is_absent_or_a_tag_is_named(remote: Remote, open_repository: Open, branch: str) -> None:
    remote.git("tag", "v7", "main")
    with pytest.raises(GitAbsent, match=f"no such repository or branch.*refs/heads/{branch}"):
        open_repository(remote, branch=branch).fetch()


@pytest.mark.parametrize("branch", ["-x", "a..b", "a b", "x.lock", "a/", "HEAD~1", "a\nb"])
def test_what_cannot_be_a_branch_is_refused_at_once(remote: Remote, open_repository: Open, branch: str) -> None:
    with pytest.raises(ValueError, match="cannot be the name of a branch"):
        open_repository(remote, branch=branch)


def test_an_author_without_mail_is_refused(remote: Remote, open_repository: Open) -> None:
    with pytest.raises(ValueError, match="write it as Name <mail>"):
        open_repository(remote, author="Backstay")


def test_only_what_the_branch_holds_now_is_fetched_where_the_server_can_filter(
    remote: Remote, repository: Repository, tmp_path: Path
) -> None:
    remote.git("config", "uploadpack.allowFilter", "true")
    remote.git("config", "uploadpack.allowAnySHA1InWant", "true")
    repository.fetch()
    missing = remote.git("rev-list", "--objects", "--missing=print", "--all", cwd=clone_of(tmp_path))
    assert sum(line.startswith("?") for line in missing.splitlines()) == 1
    remote.commit({FILE: remote.text("8")})
    remote.commit({FILE: remote.text("9")})
    repository.fetch()
    located = repository.locate(OVERLAY, "fraud-detector")
    assert [version.identity.version for version in located.history] == ["9", "8", "7", "6"]
    missing = remote.git("rev-list", "--objects", "--missing=print", "--all", cwd=clone_of(tmp_path))
    assert "?" not in missing


@pytest.mark.parametrize(
    "damage",
    [
        lambda clone: shutil.rmtree(clone / ".git/objects"),
        lambda clone: shutil.rmtree(clone / ".git"),
        lambda clone: (clone / ".git/HEAD").write_text("nonsense"),
        lambda clone: (clone / ".git/config").write_text("[nonsense"),
        lambda clone: (clone / ".git/index").write_bytes(b"nonsense"),
        shutil.rmtree,
        lambda clone: [file.write_bytes(b"") for file in (clone / ".git/refs/backstay").iterdir()],
    ],
)
def test_a_broken_clone_is_made_again(remote: Remote, repository: Repository, tmp_path: Path, damage: object) -> None:
    repository.fetch()
    assert callable(damage)
    damage(clone_of(tmp_path))
    head = remote.commit({"README.md": "More\n"})
    assert repository.fetch() == head
    assert (clone_of(tmp_path) / "README.md").read_text() == "More\n"
    assert repository.locate(OVERLAY, "fraud-detector").identity.version == "7"


def test_a_clone_that_breaks_between_fetch_and_use_is_made_again(
    remote: Remote, repository: Repository, tmp_path: Path
) -> None:
    repository.fetch()
    shutil.rmtree(clone_of(tmp_path))
    assert repository.locate(OVERLAY, "fraud-detector").head == remote.head()


def test_a_half_made_clone_and_stale_locks_of_a_killed_process_are_cleared(
    remote: Remote, repository: Repository, open_repository: Open, tmp_path: Path
) -> None:
    repository.fetch()
    repository.close()
    (tmp_path / "work/making-x").mkdir()
    (tmp_path / "work/rendering-x").mkdir()
    for lock in ("index.lock", "HEAD.lock", "config.lock", "refs/backstay/head.lock", "packed-refs.lock"):
        (clone_of(tmp_path) / ".git" / lock).touch()
    head = remote.commit({"README.md": "More\n"})
    assert open_repository(remote).fetch() == head
    assert not (tmp_path / "work/making-x").exists()
    assert not (tmp_path / "work/rendering-x").exists()
    assert not list(clone_of(tmp_path).glob(".git/**/*.lock"))


def test_a_clone_of_another_repository_is_not_used(
    remote: Remote, repository: Repository, open_repository: Open, tmp_path: Path
) -> None:
    repository.fetch()
    repository.close()
    copy = replace(remote, bare=tmp_path / "copy.git")
    shutil.copytree(remote.bare, copy.bare)
    head = remote.head()
    remote.commit({"README.md": "More\n"})
    assert open_repository(copy).fetch() == head


def test_a_second_process_is_turned_away_until_the_first_ends(
    remote: Remote, repository: Repository, tmp_path: Path
) -> None:
    work = tmp_path / "work"
    script = (
        "import fcntl, os, sys\n"
        "lock = os.open(sys.argv[1], os.O_RDWR | os.O_CREAT)\n"
        "fcntl.flock(lock, fcntl.LOCK_EX)\n"
        "print('locked', flush=True)\n"
        "sys.stdin.read()\n"
    )
    work.mkdir()
    with subprocess.Popen(
        [sys.executable, "-c", script, str(work / "lock")], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as other:
        assert other.stdout
        assert other.stdout.readline() == b"locked\n"
        with pytest.raises(GitUnavailable, match="in use by another process"):
            repository.fetch()
        other.communicate()
    assert repository.fetch() == remote.head()


def test_the_environment_and_configuration_of_the_user_have_no_influence(
    remote: Remote, repository: Repository, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = tmp_path / "home"
    home.mkdir()
    (home / ".gitconfig").write_text(
        f'[core]\n\thooksPath = {home}\n[url "file:///nowhere/"]\n\tinsteadOf = file://{remote.bare.parent}/\n'
    )
    trace = tmp_path / "trace"
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("GIT_DIR", "/nowhere")
    monkeypatch.setenv("GIT_TRACE", str(trace))
    monkeypatch.setenv("GIT_CONFIG_COUNT", "1")
    monkeypatch.setenv("GIT_CONFIG_KEY_0", "core.bare")
    monkeypatch.setenv("GIT_CONFIG_VALUE_0", "true")
    assert repository.fetch() == remote.head()
    assert not trace.exists()


def test_hooks_in_the_clone_do_not_run(remote: Remote, repository: Repository, tmp_path: Path) -> None:
    repository.fetch()
    hook = clone_of(tmp_path) / ".git/hooks/post-checkout"
    hook.parent.mkdir(exist_ok=True)
    hook.write_text(f"#!/bin/sh\ntouch '{tmp_path}/ran'\n")
    hook.chmod(0o755)
    remote.commit({"README.md": "More\n"})
    repository.fetch()
    assert not (tmp_path / "ran").exists()


def test_many_fetches_do_not_pile_up_packs(remote: Remote, repository: Repository, tmp_path: Path) -> None:
    remote.git("config", "uploadpack.allowFilter", "true")
    repository.fetch()
    folder = clone_of(tmp_path) / ".git/objects/pack"
    pack = next(folder.glob("*.pack"))
    for number in range(70):
        for part in (pack, pack.with_suffix(".idx"), pack.with_suffix(".promisor")):
            shutil.copy(part, folder / f"pack-{number:040x}{part.suffix}")
    repository.fetch()
    assert packs(tmp_path) < 10
    assert repository.locate(OVERLAY, "fraud-detector").identity.version == "7"


def test_contains_survives_a_clone_that_breaks(remote: Remote, repository: Repository, tmp_path: Path) -> None:
    old, new = remote.head(), remote.commit({"README.md": "More\n"})
    repository.fetch()
    shutil.rmtree(clone_of(tmp_path))
    assert repository.contains(old, new)


def test_a_work_folder_that_cannot_be_written_is_named(remote: Remote, open_repository: Open, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(
        GitUnavailable, match=r"The work folder for file://.* cannot be used: (Not a directory|File exists)"
    ):
        open_repository(remote, "file").fetch()


def test_contains_follows_the_branch(remote: Remote, repository: Repository) -> None:
    old = remote.head()
    repository.fetch()
    new = remote.commit({"README.md": "More\n"})
    assert repository.contains(old, new)
    assert repository.contains(new, new)
    assert not repository.contains(new, old)
    assert not repository.contains(old, "f" * 40)
    assert not repository.contains("f" * 40, new)
    assert not repository.contains(old, "not a commit")


def test_locate_tells_who_set_the_version_and_what_was_there_before(remote: Remote, repository: Repository) -> None:
    set_by = remote.head()
    remote.commit({FILE: "nonsense: ["})
    remote.commit({FILE: remote.text("5")})
    remote.commit({FILE: remote.text("6")})
    seven = remote.commit({FILE: remote.text("7")})
    remote.commit({FILE: remote.text("7", extra="    promotedBy: Jo\n")})
    located = repository.locate(OVERLAY, "fraud-detector")
    assert (located.set_by, located.file, located.head) == (seven, FILE, remote.head())
    assert located.identity.promoted_by == "Jo"
    assert [version.identity.version for version in located.history] == ["7", "6", "5"]
    assert located.history[0].commit == seven != set_by


def test_locate_tells_who_last_changed_what_the_folder_is_rendered_from(remote: Remote, repository: Repository) -> None:
    overlay = "resources: [../../base]\npatches: [{path: model-version.yaml}]\n"
    remote.commit({f"{OVERLAY}/kustomization.yaml": overlay})
    base = remote.commit({"applications/fraud-detector/base/kustomization.yaml": "resources: []\n"})
    remote.commit({"applications/churn/notes.txt": "nothing that fraud-detector is made of\n"})
    assert repository.locate(OVERLAY, "fraud-detector").changed_by == base


def test_a_merge_is_what_brings_a_version_to_the_branch(remote: Remote, repository: Repository) -> None:
    remote.git("checkout", "--quiet", "-b", "bump", cwd=remote.person)
    (remote.person / FILE).write_text(remote.text("8"))
    remote.git("commit", "--quiet", "--all", "--message", "bump", cwd=remote.person)
    remote.git("checkout", "--quiet", "main", cwd=remote.person)
    remote.git("merge", "--quiet", "--no-ff", "--message", "merge", "bump", cwd=remote.person)
    remote.git("push", "--quiet", "origin", "main", cwd=remote.person)
    assert repository.locate(OVERLAY, "fraud-detector").set_by == remote.head()


def test_locate_returns_at_most_twenty_versions(remote: Remote, repository: Repository) -> None:
    for number in range(8, 32):
        (remote.person / FILE).write_text(remote.text(str(number)))
        remote.git("commit", "--quiet", "--all", "--message", f"version {number}", cwd=remote.person)
    remote.git("push", "--quiet", "origin", "main", cwd=remote.person)
    located = repository.locate(f"/{OVERLAY}/./", "fraud-detector")
    assert [version.identity.version for version in located.history] == [str(number) for number in range(31, 11, -1)]
