from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from backstay.adapters.gitops.locate import VersionFileMissingError
from backstay.adapters.gitops.version_file import VersionFileError

if TYPE_CHECKING:
    from tests.component.git.bare import Remote

    from backstay.adapters.gitops.repository import Repository

pytestmark = pytest.mark.component

OVERLAY = "applications/fraud-detector/overlays/production"
FILE = f"{OVERLAY}/model-version.yaml"


def test_another_file_of_the_folder_serves_when_it_is_the_only_one(remote: Remote, repository: Repository) -> None:
    remote.commit(
        {
            FILE: None,
            f"{OVERLAY}/deployment.yml": remote.text("9"),
            f"{OVERLAY}/other.yaml": remote.text("1", name="other"),
            f"{OVERLAY}/broken.yaml": "a: [",
            f"{OVERLAY}/deeper/model-version.yaml": remote.text("1"),
            f"{OVERLAY}/notes.txt": remote.text("1"),
        }
    )
    located = repository.locate(OVERLAY, "fraud-detector")
    assert (located.file, located.identity.version) == (f"{OVERLAY}/deployment.yml", "9")


def test_the_root_folder_works_too(remote: Remote, repository: Repository) -> None:
    remote.commit({"model-version.yaml": remote.text("9")})
    assert repository.locate(".", "fraud-detector").file == "model-version.yaml"
    assert repository.locate("", "fraud-detector").identity.version == "9"


def test_several_files_are_ambiguous(remote: Remote, repository: Repository) -> None:
    remote.commit({FILE: None, f"{OVERLAY}/a.yaml": remote.text("7"), f"{OVERLAY}/b.yaml": remote.text("7")})
    with pytest.raises(
        VersionFileError, match=r"a\.yaml, .*b\.yaml all set spec\.model\.version.*keep it in model-version"
    ):
        repository.locate(OVERLAY, "fraud-detector")


def test_the_usual_file_must_be_about_the_model(remote: Remote, repository: Repository) -> None:
    remote.commit({f"{OVERLAY}/other.yaml": remote.text("1", name="other")})
    with pytest.raises(VersionFileError, match=r"model-version\.yaml holds no ModelDeployment named other"):
        repository.locate(OVERLAY, "other")


def test_a_submodule_is_no_file(remote: Remote, repository: Repository) -> None:
    remote.commit({FILE: None})
    remote.git("update-index", "--add", "--cacheinfo", f"160000,{remote.head()},{FILE}", cwd=remote.person)
    remote.git("commit", "--quiet", "--message", "submodule", cwd=remote.person)
    remote.git("push", "--quiet", "origin", "main", cwd=remote.person)
    with pytest.raises(VersionFileError, match="is not a file; replace it by a regular file"):
        repository.locate(OVERLAY, "fraud-detector")


def test_a_huge_file_is_not_even_read(remote: Remote, repository: Repository) -> None:
    remote.commit({FILE: "#" * 300_000})
    with pytest.raises(VersionFileError, match=r"model-version\.yaml has 300000 bytes; a version file has at most"):
        repository.locate(OVERLAY, "fraud-detector")


def test_nothing_there_is_told_apart(repository: Repository) -> None:
    with pytest.raises(VersionFileMissingError, match="applications/churn is not a folder"):
        repository.locate("applications/churn", "churn")
    with pytest.raises(VersionFileMissingError, match=r"The root folder has no model-version\.yaml"):
        repository.locate("/", "fraud-detector")
    with pytest.raises(VersionFileError, match="leads out of the repository"):
        repository.locate("applications/../..", "churn")
