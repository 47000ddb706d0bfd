"""What `backstay verify` says of changes, bad and good, in a repository as `backstay init` makes it."""

from pathlib import Path

import pytest
from bad_changes import BAD, KUSTOMIZATION, both_environments
from good_changes import GOOD, environment_taken_away
from hostile import ATTACKS
from models_repository import MODEL, OTHER, PRODUCTION, SETTINGS, Repository, noted, verify

pytestmark = pytest.mark.component


@pytest.mark.parametrize("case", BAD)
def test_a_bad_change_is_refused_with_what_mends_it(repository: Repository, case: str) -> None:
    edit, file, sentence = BAD[case]
    edit(repository)
    code, findings, output = verify(repository, "--offline")
    assert code == 1, output
    assert file in {one["file"] for one in findings if sentence in one["sentence"]}, findings


def test_the_tables_are_long_enough_to_matter() -> None:
    assert len(BAD) >= 30
    assert len(GOOD) >= 10


@pytest.mark.parametrize("case", GOOD)
def test_a_good_change_passes(repository: Repository, case: str) -> None:
    GOOD[case](repository)
    code, findings, output = verify(repository, "--offline")
    assert (code, findings) == (0, []), output


def test_committed_and_uncommitted_changes_count_alike(repository: Repository) -> None:
    repository.model(version="3", digest=OTHER)
    before = verify(repository, "--offline")
    repository.commit()
    assert verify(repository, "--offline") == before


@pytest.mark.parametrize("attack", ATTACKS)
def test_a_pull_request_runs_no_command(repository: Repository, tmp_path: Path, attack: str) -> None:
    files = ATTACKS[attack](tmp_path / "witness")
    for path, text in files.items():
        if path:
            repository.write(f"{PRODUCTION}/{path}", text)
    repository.write(KUSTOMIZATION, repository.read(KUSTOMIZATION) + files[""])
    code, findings, output = verify(repository, "--offline")
    assert not (tmp_path / "witness").exists()
    assert code == 1, output
    assert [one["file"] for one in findings if one["line"]] == [KUSTOMIZATION]


# What is told, and allowed.


def test_files_of_another_kind_are_named(repository: Repository) -> None:
    repository.model(version="2", digest=OTHER)
    repository.write("docs/notes.md", "notes\n")
    (note,) = noted(repository)
    assert note["file"] == "docs/notes.md"
    assert note["sentence"] == "beside the version the change touches docs/notes.md, which is a change of another kind"


def test_an_environment_taken_away_is_named(repository: Repository) -> None:
    environment_taken_away(repository)
    (note,) = noted(repository)
    assert note["sentence"] == f"{MODEL} is no longer served in staging: Argo CD deletes what is there"


def test_a_retry_that_nothing_in_git_knows_is_named(repository: Repository) -> None:
    repository.model(version="2", digest=OTHER, retryOf=16 * "d")
    (note,) = noted(repository)
    assert "names rollback dddddddddddddddd, which neither rejectedVersions nor the history knows" in note["sentence"]
    quoted = f"notes\n\nBackstay-Rollback-Id: {16 * 'd'}\n\nWhat is that?"
    repository.git("commit", "--quiet", "--allow-empty", "--message", quoted)
    assert noted(repository) == [note]
    repository.git("commit", "--quiet", "--allow-empty", "--message", f"rollback\n\nBackstay-Rollback-Id: {16 * 'd'}")
    assert noted(repository) == []


def test_a_finding_names_the_line_that_is_wrong(repository: Repository) -> None:
    repository.edit(SETTINGS, "minRequests: 5000", "minRequests: -5")
    _, (finding,), _ = verify(repository, "--offline")
    lines = repository.read(SETTINGS).splitlines()
    assert (finding["file"], lines[finding["line"] - 1].strip()) == (SETTINGS, "minRequests: -5")
    assert finding["sentence"] == "spec.rollout.steps[1].minRequests is -5: write 0 or more"


def test_a_repository_may_be_a_folder_of_a_larger_one(repository: Repository) -> None:
    inner = Repository(repository.root / "models")
    repository.git("rm", "-r", "--quiet", "--cached", ".")
    inner.root.mkdir()
    for path in list(repository.root.iterdir()):
        if path.name not in {".git", "models"}:
            path.rename(inner.root / path.name)
    repository.before()
    inner.model(version="2", digest=OTHER)
    assert verify(inner, "--offline")[:2] == (0, [])
    both_environments(inner)
    code, findings, _ = verify(inner, "--offline")
    assert (code, "several environments at once" in findings[0]["sentence"]) == (1, True)
