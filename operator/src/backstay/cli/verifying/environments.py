"""One environment of a GitOps repository: its files, and what comes out of them."""

import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from backstay.adapters.crd import Schema
from backstay.adapters.gitlocate import USUAL_NAME
from backstay.adapters.policy import Policy
from backstay.adapters.render import KUSTOMIZATIONS, RenderError, render
from backstay.adapters.versionfile import LARGEST_FILE, VersionFile, VersionFileError, read_version_file
from backstay.cli.verifying.findings import Finding
from backstay.domain.resource import GROUP, KIND, Rejection

_APPLICATIONS = "applications"
_FRAME = {"apiVersion", "kind", "metadata", "spec"}
_REMOTE = ("://", "git@", "?ref=", "github.com/")


class _Loader(yaml.CSafeLoader):
    """Reads YAML as the API server gets it: a time is a text."""


_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in known if tag != "tag:yaml.org,2002:timestamp"]
    for first, known in yaml.CSafeLoader.yaml_implicit_resolvers.items()
}


@dataclass(frozen=True, slots=True)
class Environment:
    """An overlay: ``path`` is its folder from the repository's root."""

    application: str
    name: str
    path: str

    @property
    def version_file(self) -> str:
        """The file that says which version."""
        return f"{self.path}/{USUAL_NAME}"


@dataclass(frozen=True, slots=True)
class Checked:
    """What an environment declares, as far as it could be read, and what is to be mended."""

    environment: Environment
    findings: tuple[Finding, ...]
    declared: VersionFile | None = None
    body: Mapping[str, Any] | None = None


def environments(root: Path) -> list[Environment]:
    """List the environments of a repository."""
    return [
        Environment(folder.parent.parent.name, folder.name, folder.relative_to(root).as_posix())
        for folder in sorted((root / _APPLICATIONS).glob("*/overlays/*"))
        if folder.is_dir()
    ]


def check(root: Path, environment: Environment, schema: Schema, policy: Policy) -> Checked:
    """Check one environment by itself: its files, what Kustomize makes of them, the schema, the policy."""
    declared = None
    try:
        name, declared = _declared(root, environment)
        body = _rendered(root, environment, name)
    except _WrongError as wrong:
        return Checked(environment, (wrong.finding,), declared)
    findings = [
        *_rejected(environment, declared),
        *(_at(environment, problem.sentence, problem.field) for problem in schema.problems(body)),
    ]
    if not findings:
        findings = [Finding(environment.version_file, 0, sentence) for sentence in policy.violations(body)]
    return Checked(environment, tuple(findings), declared, body)


class _WrongError(Exception):
    def __init__(self, file: str, sentence: str, line: int = 0) -> None:
        super().__init__(sentence)
        self.finding = Finding(file, line, sentence)


def _declared(root: Path, environment: Environment) -> tuple[str, VersionFile]:
    file, path = root / environment.version_file, environment.version_file
    if not (root / environment.path).resolve().is_relative_to(root.resolve()):
        raise _WrongError(environment.path, "the folder is a link out of the repository; put the files themselves here")
    if file.is_symlink():
        raise _WrongError(path, "the version file is a symbolic link; replace it by a regular file")
    if not file.is_file():
        raise _WrongError(path, f"there is no version file; add one that sets spec.model of the {KIND}")
    if file.stat().st_size > LARGEST_FILE:
        raise _WrongError(path, f"the version file has {file.stat().st_size} bytes; it has at most {LARGEST_FILE}")
    content = file.read_bytes()
    document = _document(path, content)
    name = str((document.get("metadata") or {}).get("name") or "")
    more = [key for key in (document.get("spec") or {}) if key != "model"]
    other = sorted({*document} - _FRAME) + [f"spec.{key}" for key in more]
    labelled = sorted({*(document.get("metadata") or {})} - {"name"})
    if other or labelled:
        what = ", ".join([*other, *(f"metadata.{key}" for key in labelled)])
        raise _WrongError(path, f"the version file sets {what} besides spec.model; move that to settings.yaml")
    try:
        return name, read_version_file(content, name=name, file=path)
    except VersionFileError as error:
        raise _WrongError(path, str(error).removeprefix(f"{path} ")) from None


def _document(path: str, content: bytes) -> Mapping[str, Any]:
    """Read the one document of a version file."""
    try:
        text = content.decode()
        nodes = [node for node in yaml.compose_all(text, Loader=_Loader) if node is not None]
        documents = [found for found in yaml.load_all(text, Loader=_Loader) if found is not None]
    except UnicodeDecodeError:
        raise _WrongError(path, "the version file is not UTF-8 text; save it as UTF-8") from None
    except (yaml.YAMLError, ValueError) as problem:
        mark = getattr(problem, "problem_mark", None)
        what = getattr(problem, "problem", None) or "it cannot be read"
        raise _WrongError(path, f"the version file is not YAML: {what}", mark.line + 1 if mark else 0) from None
    for node in nodes:
        for key in _doubles(node):
            sentence = f"{key.value} stands there twice; keep one of them"
            raise _WrongError(path, sentence, key.start_mark.line + 1)
    if len(documents) != 1 or not isinstance(documents[0], dict):
        raise _WrongError(path, f"the version file holds {len(documents)} documents; keep exactly one {KIND}")
    document: dict[str, Any] = documents[0]
    wrong = document.get("kind") != KIND or not str(document.get("apiVersion", "")).startswith(f"{GROUP}/")
    if wrong or not isinstance(document.get("spec"), dict) or not isinstance(document.get("metadata"), dict):
        raise _WrongError(
            path, f"the version file is no patch of a {KIND}; write apiVersion, kind, metadata.name, spec.model"
        )
    return document


def _doubles(node: yaml.Node) -> Iterator[yaml.Node]:
    """Go through keys that a mapping has twice: YAML readers silently take one of the values."""
    if isinstance(node, yaml.MappingNode):
        seen = set()
        for key, value in node.value:
            if key.value in seen:
                yield key
            seen.add(key.value)
            yield from _doubles(value)
    elif isinstance(node, yaml.SequenceNode):
        for entry in node.value:
            yield from _doubles(entry)


def _rendered(root: Path, environment: Environment, name: str) -> Mapping[str, Any]:
    kustomizations = [root / environment.path / each for each in KUSTOMIZATIONS]
    file = next((found for found in kustomizations if found.is_file()), None)
    if file is None:
        raise _WrongError(environment.path, "the folder has no kustomization.yaml; add one that lists base and patches")
    place = file.relative_to(root).as_posix()
    base = root / _APPLICATIONS / environment.application / "base"
    for each in (file, *(base / name for name in sorted(KUSTOMIZATIONS) if (base / name).is_file())):
        _refuse_remote(root, each)
    try:
        with tempfile.TemporaryDirectory(prefix="backstay-verify-") as home:
            text = render(root, environment.path, home=Path(home))
        documents = [found for found in yaml.load_all(text, Loader=_Loader) if found]
    except RenderError as error:
        raise _WrongError(place, str(error)) from None
    found = [body for body in documents if body.get("kind") == KIND]
    if len(found) != 1:
        raise _WrongError(place, f"Kustomize makes {len(found)} {KIND}s of this folder; an environment is exactly one")
    body: dict[str, Any] = found[0]
    if body["metadata"]["name"] != name:
        sentence = f"the {KIND} is called {body['metadata']['name']} in the end, and {name} in {USUAL_NAME}"
        raise _WrongError(place, f"{sentence}: use no namePrefix or nameSuffix, or rollbacks cannot find it")
    if not body["metadata"].get("namespace"):
        raise _WrongError(place, "the environment has no namespace; set namespace in the kustomization")
    said = _document(environment.version_file, (root / environment.version_file).read_bytes())["spec"]["model"]
    model = (body.get("spec") or {}).get("model")
    if not isinstance(model, dict) or any(model.get(key) != value for key, value in said.items()):
        raise _WrongError(place, f"what {USUAL_NAME} says does not arrive; list it last among the patches")
    return body


def _refuse_remote(root: Path, file: Path) -> None:
    """Refuse bases from elsewhere: what runs would change without a commit here."""
    place = file.relative_to(root).as_posix()
    try:
        said = yaml.load(file.read_bytes(), Loader=_Loader)  # noqa: S506 - a safe one
    except (yaml.YAMLError, ValueError):
        raise _WrongError(place, "the kustomization is not YAML; correct it") from None
    if not isinstance(said, dict):
        raise _WrongError(place, "the kustomization holds no fields; list base and patches")
    for key in ("resources", "bases", "components"):
        for entry in said.get(key) or ():
            if any(sign in str(entry) for sign in _REMOTE):
                raise _WrongError(
                    place, f"{entry} comes from elsewhere and may change without a commit here; copy it in"
                )
            if not (file.parent / str(entry)).resolve().is_relative_to(root.resolve()):
                raise _WrongError(place, f"{entry} lies outside of the repository; copy it in")


def _rejected(environment: Environment, declared: VersionFile) -> Iterator[Finding]:
    for entry in declared.rejected:
        bars = Rejection(entry.version, entry.digest).covers(declared.identity, "")
        if bars and not (declared.retry_of and entry.rollback_id == declared.retry_of):
            remedy = f"backstay retry {environment.application} --environment {environment.name}"
            yield Finding(
                environment.version_file,
                0,
                f"version {entry.version} was rejected here by rollback {entry.rollback_id or '(unnamed)'}; declare "
                f"another version, or lift the rejection by {remedy}",
            )


def _at(environment: Environment, sentence: str, field: str) -> Finding:
    """Name the file that a field of the result most likely comes from."""
    file = environment.version_file if field.startswith("spec.model") else environment.path
    return Finding(file, 0, sentence)
