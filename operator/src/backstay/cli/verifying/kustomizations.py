"""Which files Kustomize reads for a folder, and that all of them are in the repository.

What comes from elsewhere would change what runs without a commit here. Kustomize takes whatever is no file for an
address and fetches it, so what is not there is refused before Kustomize is started.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from backstay.adapters.render import KUSTOMIZATIONS
from backstay.cli.verifying.findings import WrongError
from backstay.cli.verifying.plainyaml import PlainYamlError, read

_LISTS = (
    *("resources", "bases", "components", "crds", "configurations", "patchesStrategicMerge"),
    *("generators", "transformers", "validators"),
)
_WITH_PATH = ("patches", "patchesJson6902", "replacements")
_WITH_FILES = ("configMapGenerator", "secretGenerator")
_OTHERS_TOOLS = ("helmCharts", "helmChartInflationGenerator", "helmGlobals")
_REMOTE = ("://", "git@", "?ref=", "//")


def files(root: Path, folder: str) -> list[Path]:
    """List the files that building a folder reads, each before those it builds on; ``root`` is resolved.

    Raises:
        WrongError: a kustomization cannot be read, names something from elsewhere, or something that is not there.
    """
    found: dict[Path, None] = {}
    pending = [(root / folder).resolve()]
    while pending:
        place = pending.pop(0)
        file = next((place / name for name in sorted(KUSTOMIZATIONS) if (place / name).is_file()), None)
        if file is None:
            where = place.relative_to(root).as_posix()
            raise WrongError(where, "the folder has no kustomization.yaml; add one that lists base and patches")
        if file in found:
            continue
        found[file] = None
        for text in _named(root, file):
            path = _inside(root, file, text)
            if path.is_dir():
                pending.append(path)
            else:
                found[path] = None
    return list(found)


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


def _named(root: Path, file: Path) -> Iterator[str]:
    """Go through what a kustomization names: files, folders and addresses; what is written in place is left out."""
    said = kustomization(root, file)
    for key in _OTHERS_TOOLS:
        if key in said:
            where = file.relative_to(root).as_posix()
            raise WrongError(where, f"{key} has charts fetched from elsewhere; render them, and commit the manifests")
    openapi = said.get("openapi")
    texts = [text for key in _LISTS for text in _listed(said.get(key))]
    texts += [entry.get("path") for key in _WITH_PATH for entry in _listed(said.get(key)) if isinstance(entry, dict)]
    texts += [openapi.get("path")] if isinstance(openapi, dict) else []
    for entry in (entry for key in _WITH_FILES for entry in _listed(said.get(key)) if isinstance(entry, dict)):
        texts += [str(text).partition("=")[2] or text for text in _listed(entry.get("files"))]
        texts += [*_listed(entry.get("envs")), entry.get("env")]
    yield from (text for text in texts if isinstance(text, str) and text and "\n" not in text.strip())


def _inside(root: Path, file: Path, text: str) -> Path:
    where = file.relative_to(root).as_posix()
    path = (file.parent / text).resolve() if len(text) < 1024 and "\0" not in text else root / "?"  # noqa: PLR2004 - no path is that long
    if not path.is_relative_to(root):
        raise WrongError(where, f"{text} lies outside of the repository; copy it in")
    if not path.exists():
        if any(sign in text for sign in _REMOTE):
            raise WrongError(where, f"{text} comes from elsewhere and may change without a commit here; copy it in")
        raise WrongError(where, f"{text} is not there; correct the path so that the folder renders")
    return path


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []
