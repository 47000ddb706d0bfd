"""The digest of a model's artifacts, and what its two users make of it: the controller and the model server."""

import hashlib
from pathlib import Path

import pytest

from backstay.adapters.registry.versions import ModelVersionError, version_digest
from backstay_contract.digest import artifact_digest
from backstay_serving.endpoint import open_endpoint
from backstay_serving.settings import AnyDigest, Folder, Identity, ModelSettings, ModelsOwnDecision, StartError


def sha(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "artifacts"
    (folder / "code").mkdir(parents=True)
    (folder / "MLmodel").write_bytes(b"flavors: {}\n")
    (folder / "code" / "features.py").write_bytes(b"")
    return folder


def test_the_digest_is_what_its_description_says(folder: Path) -> None:
    lines = f"MLmodel\0{sha(b'flavors: {}' + chr(10).encode())}\ncode/features.py\0{sha(b'')}\n"
    assert artifact_digest(folder) == f"sha256:{sha(lines.encode())}"


def test_the_digest_never_changes_between_releases(folder: Path) -> None:
    # Digests are written into Git: another one for the same files would take every deployed model down.
    assert artifact_digest(folder) == "sha256:541d1b058b5c1235099230e84ed0f251ee873e53a49bc7b67106e819bd15c660"


@pytest.mark.parametrize(
    "change",
    [
        lambda folder: (folder / "MLmodel").write_bytes(b"flavors: {} \n"),
        lambda folder: (folder / "code" / "features.py").rename(folder / "features.py"),
        lambda folder: (folder / "extra").write_bytes(b""),
        lambda folder: (folder / "code" / "features.py").unlink(),
        lambda folder: (folder / "code" / "registered_model_meta").write_bytes(b""),
    ],
)
def test_every_change_of_a_file_changes_it(folder: Path, change: object) -> None:
    before = artifact_digest(folder)
    assert callable(change)
    change(folder)
    assert artifact_digest(folder) != before


def test_what_is_no_content_does_not_count(folder: Path) -> None:
    before = artifact_digest(folder)
    (folder / "empty").mkdir()
    (folder / "MLmodel").chmod(0o600)
    (folder / "registered_model_meta").write_text("model_name: fraud-detector\n")
    assert artifact_digest(folder) == before


def test_a_link_is_refused(folder: Path) -> None:
    (folder / "model.pkl").symlink_to("/etc/hostname")
    with pytest.raises(ValueError, match=r"model\.pkl in .* is not a regular file"):
        artifact_digest(folder)


def test_a_folder_without_files_has_no_digest(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="holds no files"):
        artifact_digest(tmp_path)


@pytest.mark.parametrize(
    ("name", "target"),
    [
        ("registered_model_meta", "MLmodel"),
        ("registered_model_meta", "code"),
        ("registered_model_meta", "missing"),
        ("code/model.pkl", "../MLmodel"),
    ],
)
def test_the_controller_and_the_model_server_refuse_the_same_links(
    folder: Path, tmp_path: Path, name: str, target: str
) -> None:
    (folder / name).symlink_to(target)
    with pytest.raises(ModelVersionError, match=rf"^{name} in version 7 is not a regular file"):
        version_digest(folder, "version 7")
    settings = ModelSettings(
        source=Folder(folder),
        identity=Identity("fraud", "7", "1"),
        digest=AnyDigest(),
        decision=ModelsOwnDecision(),
        tracking_uri="",
        download_folder=tmp_path,
    )
    with pytest.raises(StartError, match=rf"^{name} in .* is not a regular file"):
        open_endpoint(settings, tmp_path, lambda _: None)
