"""The kustomizations of a repository: which files they read, and what they say."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from backstay.adapters.gitops.kustomization import KustomizationError, inputs
from backstay.adapters.yaml_text.plain import PlainYamlError, read
from backstay.cli.verifying.findings import WrongError


def files(root: Path, folder: str) -> list[Path]:
    """List the files that building a folder reads, each before those it builds on; ``root`` is resolved.

    Raises:
        WrongError: Kustomize must not start on the folder, as by something from elsewhere in it.
    """
    try:
        return list(inputs(root, folder).files)
    except KustomizationError as wrong:
        raise WrongError(wrong.file, wrong.sentence, wrong.line) from None
    except OSError as problem:
        raise WrongError(folder, f"a file cannot be read ({problem.strerror}); correct its rights") from None


def kustomization(root: Path, file: Path) -> Mapping[str, Any]:
    """Read a kustomization.

    Raises:
        WrongError: it cannot be read, or holds something else.
    """
    where = file.relative_to(root).as_posix()
    try:
        said = [document.value for document in read(file)]
    except (PlainYamlError, OSError) as problem:
        line = problem.line if isinstance(problem, PlainYamlError) else 0
        raise WrongError(where, f"the kustomization {problem}", line) from None
    if len(said) != 1 or not isinstance(said[0], dict):
        raise WrongError(where, "the kustomization is not one document with fields; list base and patches")
    return said[0]
