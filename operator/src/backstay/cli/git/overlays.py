"""Find an application's environments in a GitOps repository, and what an environment's overlay says."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from backstay.adapters.gitops.kustomization import KUSTOMIZATIONS
from backstay.adapters.gitops.locate import USUAL_NAME, Located
from backstay.adapters.gitops.render import RenderError, render, sources
from backstay.adapters.gitops.repository import Repository
from backstay.adapters.gitops.version_file import VersionFileError
from backstay.adapters.yaml_text.plain import PlainYamlError, read, values
from backstay.cli.trouble import refuse
from backstay.domain.resource import KIND

_APPLICATIONS = "applications"
_SUFFIXES = (".yaml", ".yml")


@dataclass(frozen=True, slots=True)
class Overlay:
    """An environment of an application, at the newest commit of the branch.

    ``application`` is the folder's name and ``name`` the ModelDeployment's; ``namespace`` and ``registry`` are empty
    where no file says them. ``model`` is the registered model. ``content`` are the version file's bytes.
    """

    application: str
    environment: str
    path: str
    name: str
    namespace: str
    model: str
    registry: str
    located: Located
    content: bytes

    @property
    def resource(self) -> str:
        """What trailers call the ModelDeployment."""
        return f"{self.namespace}/{self.name}" if self.namespace else self.name


def overlay_of(repository: Repository, application: str, environment: str) -> Overlay:
    """Read an environment's overlay from the commit fetched last.

    Raises:
        VersionFileError: the version file cannot be used.
        GitError: the repository cannot be read.
    """
    tree = repository.tree
    folder = _folder(tree, application)
    path = f"{folder}/overlays/{environment}"
    if "/" in environment or environment in {"", ".", ".."} or not _inside(tree, path, folder=True):
        known = ", ".join(_names(tree / folder / "overlays")) or "none"
        refuse(f"{folder} has no environment {environment!r}: there are {known}")
    name = _name(tree, path)
    located = repository.locate(path, name)
    declared = _declared(tree, path, name)
    spec = declared.get("spec") or {}
    return Overlay(
        application=folder.rsplit("/", 1)[-1],
        environment=environment,
        path=path,
        name=name,
        namespace=str((declared.get("metadata") or {}).get("namespace") or ""),
        model=located.identity.name or str((spec.get("model") or {}).get("name") or name),
        registry=str((spec.get("registry") or {}).get("uri") or ""),
        located=located,
        content=(tree / located.file).read_bytes(),
    )


def _folder(tree: Path, application: str) -> str:
    parts = [part for part in application.split("/") if part not in {"", "."}]
    folder = "/".join(parts) if len(parts) > 1 else f"{_APPLICATIONS}/{''.join(parts)}"
    if not parts or ".." in parts or not _inside(tree, f"{folder}/overlays", folder=True):
        known = ", ".join(
            name for name in _names(tree / _APPLICATIONS) if (tree / _APPLICATIONS / name / "overlays").is_dir()
        )
        refuse(
            f"there is no application {application!r} in the repository: {_APPLICATIONS}/ has {known or 'none'}, "
            "each a folder with overlays/; a path from the root of the repository works too"
        )
    return folder


def _names(folder: Path) -> list[str]:
    return sorted(each.name for each in folder.iterdir() if each.is_dir()) if folder.is_dir() else []


def _inside(tree: Path, path: str, *, folder: bool) -> bool:
    """Tell whether a path of the work tree is there, and no link leads out of the tree."""
    place = (tree / path).resolve()
    return place.is_relative_to(tree.resolve()) and (place.is_dir() if folder else place.is_file())


def _name(tree: Path, path: str) -> str:
    """Return the name of the ModelDeployment whose version the overlay sets."""
    usual = f"{path}/{USUAL_NAME}"
    if _inside(tree, usual, folder=False):
        _refuse_broken(tree, usual)
    files = [usual] if _inside(tree, usual, folder=False) else _files(tree, path)
    found = {
        str(document["metadata"]["name"])
        for file in files
        for document in _documents(tree, file)
        if "version" in (((document.get("spec") or {}).get("model")) or {})
    }
    if len(found) != 1:
        many = f"several ({', '.join(sorted(found))})" if found else "no"
        raise VersionFileError(
            f"{path} has {many} {KIND} whose spec.model.version it sets; keep exactly one, in {USUAL_NAME}"
        )
    return found.pop()


def _refuse_broken(tree: Path, file: str) -> None:
    try:
        read(tree / file)
    except PlainYamlError as problem:
        where = f" (line {problem.line})" if problem.line else ""
        raise VersionFileError(f"{file}{where} {problem}") from None


def _files(tree: Path, path: str) -> list[str]:
    names = sorted(each.name for each in (tree / path).iterdir() if each.suffix in _SUFFIXES)
    return [f"{path}/{name}" for name in names if _inside(tree, f"{path}/{name}", folder=False)]


def _documents(tree: Path, file: str) -> Iterator[Mapping[str, Any]]:
    """Go through a file's ModelDeployments; what cannot be read has none."""
    try:
        documents = read(tree / file)
    except (PlainYamlError, OSError):
        return
    for document in documents:
        if isinstance(document.value, dict) and _is_deployment(document.value):
            yield document.value


def _is_deployment(document: Mapping[str, Any]) -> bool:
    """Tell a ModelDeployment, whose parts that are looked at have the shape that they should have."""
    if document.get("kind") != KIND:
        return False
    meta, spec = document.get("metadata"), document.get("spec")
    blocks = [spec.get(name) for name in ("model", "registry")] if isinstance(spec, dict) else [0]
    return (
        isinstance(meta, dict) and "name" in meta and all(block is None or isinstance(block, dict) for block in blocks)
    )


def _declared(tree: Path, path: str, name: str) -> Mapping[str, Any]:
    """Return the ModelDeployment as Kustomize renders it; else what the files say that it would read."""
    if any((tree / path / each).is_file() for each in KUSTOMIZATIONS):
        try:
            rendered = values(render(tree, path, home=tree.parent).encode())
        except (RenderError, PlainYamlError):
            pass  # it is told where a change is refused for it; reading needs less
        else:
            for document in rendered:
                if isinstance(document, dict) and _is_deployment(document) and document["metadata"]["name"] == name:
                    return document
    return _pieced(tree, path, name)


def _pieced(tree: Path, path: str, name: str) -> Mapping[str, Any]:
    files = _files(tree, path)
    for source in sorted(sources(tree, path) - {path}):
        if _inside(tree, source, folder=True):
            files += _files(tree, source)
        elif source not in files and source.endswith(_SUFFIXES):
            files.append(source)
    meta: dict[str, Any] = {}
    spec: dict[str, Any] = {}
    for file in files:
        for document in _documents(tree, file):
            if document["metadata"]["name"] == name:
                meta = {**document["metadata"], **meta}
                spec = {**document["spec"], **spec}
    meta.setdefault("namespace", _namespace(tree / path))
    return {"metadata": meta, "spec": spec}


def _namespace(folder: Path) -> str:
    for each in KUSTOMIZATIONS:
        if (folder / each).is_file():
            try:
                said = values((folder / each).read_bytes())
            except PlainYamlError:
                return ""
            return str(said[0].get("namespace") or "") if said and isinstance(said[0], dict) else ""
    return ""
