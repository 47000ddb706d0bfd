"""An environment's version file: one plain document that sets ``spec.model`` and nothing else."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from backstay.adapters.gitops.version_file import VersionFile, VersionFileError, read_version_file
from backstay.adapters.yaml_text.plain import Document, PlainYamlError, read
from backstay.cli.verifying.findings import WrongError
from backstay.domain.resource import GROUP, KIND

_FRAME = {"apiVersion", "kind", "metadata", "spec"}


def declared(root: Path, path: str) -> tuple[str, VersionFile, Mapping[str, Any]]:
    """Read the version file at a path: the ModelDeployment's name, what it declares, and ``spec.model`` as written.

    Raises:
        WrongError: it is no regular file, is not plain, or says more than the model.
    """
    file = root / path
    if file.is_symlink():
        raise WrongError(path, "the version file is a symbolic link; replace it by a regular file")
    if not file.is_file():
        raise WrongError(path, f"there is no version file; add one that sets spec.model of the {KIND}")
    try:
        documents = read(file)
    except PlainYamlError as problem:
        raise WrongError(path, f"the version file {problem}", problem.line) from None
    except OSError as problem:
        raise WrongError(path, f"the version file cannot be read ({problem.strerror}); correct its rights") from None
    document = _only(path, documents)
    name = str(document["metadata"].get("name") or "")
    _refuse_more(path, document)
    try:
        found = read_version_file(file.read_bytes(), name=name, file=path)
    except VersionFileError as error:
        raise WrongError(path, str(error).removeprefix(f"{path} ")) from None
    return name, found, document["spec"]["model"]


def _only(path: str, documents: list[Document]) -> Mapping[str, Any]:
    if len(documents) != 1 or not isinstance(documents[0].value, dict):
        raise WrongError(path, f"the version file holds {len(documents)} documents; keep exactly one {KIND}")
    document: dict[str, Any] = documents[0].value
    wrong = document.get("kind") != KIND or not str(document.get("apiVersion", "")).startswith(f"{GROUP}/")
    if wrong or not isinstance(document.get("spec"), dict) or not isinstance(document.get("metadata"), dict):
        raise WrongError(
            path, f"the version file is no patch of a {KIND}; write apiVersion, kind, metadata.name, spec.model"
        )
    return document


def _refuse_more(path: str, document: Mapping[str, Any]) -> None:
    other = [str(key) for key in document if key not in _FRAME]
    more = [f"spec.{key}" for key in document["spec"] if key != "model"]
    labelled = [f"metadata.{key}" for key in document["metadata"] if key != "name"]
    if other or more or labelled:
        what = ", ".join([*sorted(other), *more, *sorted(labelled)])
        raise WrongError(path, f"the version file sets {what} besides spec.model; move that to settings.yaml")
