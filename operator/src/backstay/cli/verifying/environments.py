"""One environment of a GitOps repository: its files, and what comes out of them."""

import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from backstay.adapters.gitops.locate import USUAL_NAME
from backstay.adapters.gitops.render import RenderError, render
from backstay.adapters.gitops.version_file import VersionFile
from backstay.adapters.policy.admission import Policy
from backstay.adapters.policy.crd_schema import Schema
from backstay.adapters.yaml_text.plain import PlainYamlError, values
from backstay.cli.verifying.declared import declared as read_declared
from backstay.cli.verifying.findings import Finding, WrongError
from backstay.cli.verifying.kustomizations import files as read_files
from backstay.cli.verifying.places import place_of
from backstay.domain.resource import KIND, Rejection

APPLICATIONS = "applications"


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
    """What an environment declares, as far as it could be read, and what is to be mended.

    ``files`` are those that its building reads, each before those it builds on; ``sound`` tells whether the result
    keeps the schema.
    """

    environment: Environment
    findings: tuple[Finding, ...]
    declared: VersionFile | None = None
    body: Mapping[str, Any] | None = None
    files: tuple[Path, ...] = ()
    sound: bool = False


def environments(root: Path) -> list[Environment]:
    """List the environments of a repository."""
    return [
        Environment(folder.parent.parent.name, folder.name, folder.relative_to(root).as_posix())
        for folder in sorted((root / APPLICATIONS).glob("*/overlays/*"))
        if folder.is_dir()
    ]


def check(root: Path, environment: Environment, schema: Schema, policy: Policy) -> Checked:
    """Check one environment by itself: its files, what Kustomize makes of them, the schema, the policy."""
    declared, files = None, []
    try:
        _refuse_link(root, environment)
        name, declared, said = read_declared(root, environment.version_file)
        files = read_files(root, environment.path)
        body = _rendered(root, environment, name, files)
        _refuse_others(root, environment, said, body, files)
    except WrongError as wrong:
        return Checked(environment, (wrong.finding,), declared, files=tuple(files))
    overlay_first = _overlay_first(root, environment, files)
    broken = [
        Finding(*place_of(root, overlay_first, problem.field), problem.sentence) for problem in schema.problems(body)
    ]
    findings = [*_rejected(root, environment, declared), *broken]
    if not findings:
        findings = [_in_version_file(root, environment, sentence) for sentence in policy.violations(body)]
    return Checked(environment, tuple(findings), declared, body, tuple(files), sound=not broken)


def _refuse_link(root: Path, environment: Environment) -> None:
    if not (root / environment.path).resolve().is_relative_to(root):
        raise WrongError(environment.path, "the folder is a link out of the repository; put the files themselves here")


def _overlay_first(root: Path, environment: Environment, files: list[Path]) -> list[Path]:
    """Put the version file before the others, and leave the kustomizations out: they set no field."""
    version = (root / environment.version_file).resolve()
    return [version, *(file for file in files if file != version and file.name != "kustomization.yaml")]


def _rendered(root: Path, environment: Environment, name: str, files: list[Path]) -> Mapping[str, Any]:
    place = files[0].relative_to(root).as_posix()
    try:
        with tempfile.TemporaryDirectory(prefix="backstay-verify-") as home:
            text = render(root, environment.path, home=Path(home))
        documents = [found for found in values(text.encode()) if isinstance(found, dict)]
    except RenderError as error:
        raise WrongError(place, str(error)) from None
    except PlainYamlError as problem:
        raise WrongError(place, f"a manifest that Kustomize makes of this folder {problem}") from None
    found = [body for body in documents if body.get("kind") == KIND]
    if len(found) != 1:
        raise WrongError(place, f"Kustomize makes {len(found)} {KIND}s of this folder; an environment is exactly one")
    body: dict[str, Any] = found[0]
    if body["metadata"]["name"] != name:
        sentence = f"the {KIND} is called {body['metadata']['name']} in the end, and {name} in {USUAL_NAME}"
        raise WrongError(place, f"{sentence}: use no namePrefix or nameSuffix, or rollbacks cannot find it")
    if not body["metadata"].get("namespace"):
        raise WrongError(place, "the environment has no namespace; set namespace in the kustomization")
    return body


def _refuse_others(
    root: Path, environment: Environment, said: Mapping[str, Any], body: Mapping[str, Any], files: list[Path]
) -> None:
    """Refuse a model that other files have a say in: a rollback edits the version file alone."""
    spec = body.get("spec") if isinstance(body.get("spec"), dict) else {}
    model = spec.get("model") if isinstance(spec, dict) else None
    arrived = model if isinstance(model, dict) else {}
    version = (root / environment.version_file).resolve()
    for key in (key for key, value in said.items() if value is not None and arrived.get(key) != value):
        if key in arrived and not (isinstance(said[key], str) and isinstance(arrived[key], str)):
            # YAML 1.1 and 1.2 differ in what is a number, and Kustomize takes either's.
            sentence = f"spec.model.{key} holds a text that others read as a number; put it in quotes"
            where, line = place_of(root, [version], f"spec.model.{key}")
            raise WrongError(where, sentence, line)
        place = files[0].relative_to(root).as_posix()
        raise WrongError(place, f"what {USUAL_NAME} says does not arrive; list it last among the patches")
    foreign = sorted(set(arrived) - set(said))
    if foreign:
        where, line = place_of(root, [file for file in files if file != version], f"spec.model.{foreign[0]}")
        sentence = (
            f"spec.model.{foreign[0]} is set outside of {USUAL_NAME}; move it there, or rollbacks leave it behind"
        )
        raise WrongError(where, sentence, line)
    for file in files:
        if file.name == USUAL_NAME and file != version:
            where = file.relative_to(root).as_posix()
            raise WrongError(where, f"a version file belongs into an overlay; move it to {environment.version_file}")


def _rejected(root: Path, environment: Environment, declared: VersionFile) -> Iterator[Finding]:
    for entry in declared.rejected:
        bars = Rejection(entry.version, entry.digest).covers(declared.identity, "")
        if bars and not (declared.retry_of and entry.rollback_id == declared.retry_of):
            remedy = f"backstay retry {environment.application} --environment {environment.name}"
            yield _in_version_file(
                root,
                environment,
                f"version {entry.version} was rejected here by rollback {entry.rollback_id or '(unnamed)'}; declare "
                f"another version, or lift the rejection by {remedy}",
            )


def _in_version_file(root: Path, environment: Environment, sentence: str) -> Finding:
    return Finding(*place_of(root, [(root / environment.version_file).resolve()], "spec.model.version"), sentence)
