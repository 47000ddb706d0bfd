from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from tests.component.git.bare import FILE, OVERLAY, PROTECTED, Open, Remote, once

from backstay.adapters.gitops.changes import Change, Unchanged
from backstay.adapters.gitops.outcomes import AlreadyDone, Committed, Missing, Refused, Unavailable
from backstay.adapters.gitops.version_file import VersionFile, VersionFileError, restore

if TYPE_CHECKING:
    from backstay.adapters.gitops.repository import Repository

pytestmark = pytest.mark.component


def bump(remote: Remote, version: str = "8", **changes: Any) -> Change:
    def edit(content: bytes, declared: VersionFile, file: str) -> bytes:
        identity = replace(declared.identity, version=version, digest=remote.identity(version).digest)
        return restore(content, name="fraud-detector", identity=identity, reject=None, drop_retry=True, file=file)

    change = Change(OVERLAY, "fraud-detector", edit, f"bump(fraud-detector): production to {version}", "id-1")
    return replace(change, **changes)


def test_a_change_is_one_commit_with_its_message_and_marks(remote: Remote, repository: Repository) -> None:
    before = remote.head()
    outcome = repository.change(bump(remote))
    assert isinstance(outcome, Committed)
    assert outcome.commit == remote.head()
    assert remote.git("rev-parse", "main^") == before
    assert remote.show() == remote.text("8").encode()
    assert remote.git("log", "-1", "--format=%B") == (
        f"bump(fraud-detector): production to 8\n\nBackstay-Change-Id: id-1\nBackstay-Path: {OVERLAY} fraud-detector"
    )


def test_a_change_is_made_once(remote: Remote, repository: Repository) -> None:
    outcome = repository.change(bump(remote))
    assert isinstance(outcome, Committed)
    remote.commit({FILE: remote.text("9")}, "a person")
    assert repository.change(bump(remote)) == AlreadyDone(outcome.commit)


@pytest.mark.parametrize(
    ("message", "files"),
    [
        ("notes\n\nBackstay-Change-Id: id-1\n\nWhat is that?", {FILE: Remote.text("7").replace("# Which", "# What")}),
        ("notes\n\nBackstay-Change-Id: id-1", {"README.md": "Other\n"}),
    ],
)
def test_a_commit_that_only_names_the_change_has_not_made_it(
    remote: Remote, repository: Repository, message: str, files: dict[str, str]
) -> None:
    remote.commit(files, message)
    assert isinstance(repository.change(bump(remote)), Committed)
    assert repository.change(bump(remote)) == AlreadyDone(remote.head())


def test_what_is_there_already_is_no_commit(remote: Remote, repository: Repository) -> None:
    assert repository.change(bump(remote, "7")) == Unchanged(remote.head())


def test_a_change_without_an_id_may_be_made_again(remote: Remote, repository: Repository) -> None:
    assert isinstance(repository.change(bump(remote, change_id="")), Committed)
    remote.commit({FILE: remote.text("7")}, "a person")
    assert isinstance(repository.change(bump(remote, change_id="")), Committed)
    assert remote.trailer("Backstay-Change-Id") == []


def test_trailers_of_the_message_stay_together_with_ours(remote: Remote, repository: Repository) -> None:
    repository.change(
        bump(remote, message="bump: 8\n\nWhy: because.\nMore text.\n\nCo-authored-by: Jo <jo@localhost>\n")
    )
    assert remote.git("log", "-1", "--format=%(trailers:only)") == (
        f"Co-authored-by: Jo <jo@localhost>\nBackstay-Change-Id: id-1\nBackstay-Path: {OVERLAY} fraud-detector"
    )


def test_a_change_that_loses_a_race_is_made_of_the_newer_file(remote: Remote, open_repository: Open) -> None:
    other = remote.text("7", extra="    retryOf: abc\n").replace("# Which", "# Still which")
    race = once(lambda: remote.commit({FILE: other}, "a person"), "before:push")
    outcome = open_repository(remote, checkpoint=race).change(bump(remote))
    assert isinstance(outcome, Committed)
    assert remote.show().startswith(b"# Still which")
    assert remote.git("log", "-2", "--format=%s").splitlines() == ["bump(fraud-detector): production to 8", "a person"]


def test_an_edit_refuses_with_a_sentence_that_names_the_file(remote: Remote, repository: Repository) -> None:
    def edit(_: bytes, declared: VersionFile, file: str) -> bytes:
        raise VersionFileError(f"{file} rejects version {declared.identity.version}; retry it instead")

    head = remote.head()
    assert repository.change(bump(remote, edit=edit)) == Refused(
        f"fraud-detector was not changed in Git: {FILE} rejects version 7; retry it instead"
    )
    broken = repository.change(bump(remote, edit=lambda *_: b"kind: ["))
    assert isinstance(broken, Refused)
    assert "not valid YAML" in broken.reason
    assert remote.head() == head


def test_a_folder_that_is_gone_is_missing(remote: Remote, repository: Repository) -> None:
    assert isinstance(repository.change(bump(remote, path="nowhere")), Missing)
    assert isinstance(repository.change(bump(remote, path="../nowhere")), Refused)


def test_a_protected_branch_is_told_apart(remote: Remote, repository: Repository) -> None:
    remote.hook("pre-receive", PROTECTED)
    outcome = repository.change(bump(remote))
    assert isinstance(outcome, Refused)
    assert outcome.protected


def test_a_server_that_fails_is_worth_another_try(remote: Remote, repository: Repository) -> None:
    repository.fetch()
    away = remote.bare.rename(remote.bare.with_name("away"))
    assert isinstance(repository.change(bump(remote)), Missing | Unavailable)
    away.rename(remote.bare)
    assert isinstance(repository.change(bump(remote)), Committed)


@pytest.mark.parametrize("wrong", [{"change_id": "a\nb"}, {"change_id": "a" * 129}, {"message": " \n"}])
def test_a_change_that_makes_no_sense_is_refused_at_once(remote: Remote, wrong: dict[str, str]) -> None:
    with pytest.raises(ValueError, match=r"use letters and digits|say what it does"):
        bump(remote, **wrong)
