"""``backstay diff``: what differs between two versions of a model, or between what two environments run."""

import difflib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any

import typer
from rich.table import Table

from backstay.adapters.gitops.kustomization import KUSTOMIZATIONS
from backstay.adapters.gitops.render import RenderError, render
from backstay.adapters.gitops.version_file import VersionFileError
from backstay.adapters.messages.change import evaluation_rows
from backstay.adapters.messages.plain import one_line
from backstay.adapters.registry.versions import RegisteredVersion
from backstay.cli import options, terminal
from backstay.cli.git.bump import registered, registry_of
from backstay.cli.git.changing import Session, session
from backstay.cli.git.overlays import Overlay, overlay_of
from backstay.cli.git.results import show
from backstay.cli.trouble import ANSWER_IS_NO, refuse
from backstay.domain.resource import IDENTITY_FIELDS, ModelIdentity

_DEFAULT_SIDES = ("staging", "production")


@dataclass(frozen=True, slots=True)
class _Side:
    """One side of the comparison; ``known`` is None for a version that the registry does not have."""

    title: str
    identity: ModelIdentity
    known: RegisteredVersion | None
    rendered: str


def diff(  # noqa: PLR0913 - each is an option of the command
    application: options.Application,
    *,
    source: Annotated[str, typer.Option("--from", help="An environment (staging).")] = "",
    goal: Annotated[str, typer.Option("--to", help="The environment it is compared with (production).")] = "",
    environment: Annotated[
        str, typer.Option("--environment", "-e", help="Instead: what this environment runs, compared with --version.")
    ] = "",
    version: Annotated[str, typer.Option("--version", help="A version of the registry, with --environment.")] = "",
    exit_code: Annotated[bool, typer.Option("--exit-code", help="End with code 1 when the versions differ.")] = False,
    registry: options.RegistryUri = "",
    repository: options.RepositoryOption = "",
    branch: options.Branch = "",
    token_file: options.TokenFile = None,
    output: options.OutputOption = options.Output.TEXT,
) -> None:
    """Compare what two environments run, or what one runs with a version of the registry.

    Printed are what identifies the versions, their metrics and evaluation tags with the difference, their other tags,
    and, between environments, the difference of the rendered overlays.

    ```
    backstay diff fraud-detector
    backstay diff fraud-detector --environment production --version 8
    ```

    Exit codes: 0, or 1 with --exit-code when the versions differ; 1 refused, 2 bad input, 3 a server does not answer.
    """
    if bool(environment) != bool(version):
        refuse("--environment and --version go together: name both, or two environments with --from and --to")
    if environment and (source or goal):
        refuse("--environment compares with a version: leave out --from and --to")
    with session(options.Target(repository, branch, token_file, "", "")) as at:
        if environment:
            one, other = _with_version(at, application, environment, version, registry)
        else:
            names = (source or _DEFAULT_SIDES[0], goal or _DEFAULT_SIDES[1])
            one, other = (_environment(at, application, name, registry) for name in names)
        result = _compared(one, other)
    show(result, output, _worded)
    if exit_code and not result["same"]:
        raise typer.Exit(ANSWER_IS_NO)


def _environment(at: Session, application: str, environment: str, registry: str) -> _Side:
    overlay = overlay_of(at.repository, application, environment)
    identity = overlay.located.identity
    known = registered(registry_of(overlay, registry), overlay, identity)
    return _Side(environment, identity, known, _rendered(at, overlay))


def _with_version(at: Session, application: str, environment: str, version: str, registry: str) -> tuple[_Side, _Side]:
    overlay = overlay_of(at.repository, application, environment)
    models, identity = registry_of(overlay, registry), overlay.located.identity
    new = models.read(overlay.model, version)
    running = _Side(environment, identity, registered(models, overlay, identity), "")
    return running, _Side(f"version {version}", new.identity, new, "")


def _rendered(at: Session, overlay: Overlay) -> str:
    """Return an overlay's manifests, or the files of a folder that Kustomize does not build."""
    tree = at.repository.tree
    if any((tree / overlay.path / name).is_file() for name in KUSTOMIZATIONS):
        try:
            return render(tree, overlay.path, home=tree.parent)
        except RenderError as problem:
            raise VersionFileError(f"{overlay.environment} cannot be compared: {problem}") from None
    return overlay.content.decode(errors="replace")


def _compared(one: _Side, other: _Side) -> dict[str, Any]:
    identity = {
        theirs: [getattr(one.identity, ours), getattr(other.identity, ours)]
        for ours, theirs in IDENTITY_FIELDS.items()
        if getattr(one.identity, ours) or getattr(other.identity, ours)
    }
    metrics = {
        row.name: {"from": row.before, "to": row.after, "difference": row.difference}
        for row in evaluation_rows(one.known, other.known)
    }
    keys = ("version", "digest")
    return {
        "from": one.title,
        "to": other.title,
        "same": all(getattr(one.identity, key) == getattr(other.identity, key) for key in keys),
        "identity": identity,
        "metrics": metrics,
        "tags": dict(_tags(one.known, other.known)),
        "rendered": "".join(
            difflib.unified_diff(
                one.rendered.splitlines(keepends=True),
                other.rendered.splitlines(keepends=True),
                fromfile=one.title,
                tofile=other.title,
            )
        ),
    }


def _tags(one: RegisteredVersion | None, other: RegisteredVersion | None) -> Iterator[tuple[str, list[str]]]:
    before = dict(one.tags) if one else {}
    after = dict(other.tags) if other else {}
    shown = {name for side in (one, other) if side for name in side.evaluation}
    for name in sorted((before | after).keys() - shown):
        if before.get(name) != after.get(name):
            yield name, [before.get(name, ""), after.get(name, "")]


def _worded(result: Mapping[str, Any]) -> str:
    """Draw tables, with the difference of what is rendered below them."""
    sides = (result["from"], result["to"])
    tables = [_table("version", sides, [(name, *values) for name, values in result["identity"].items()])]
    if result["metrics"]:
        rows = [(name, row["from"], row["to"], row["difference"]) for name, row in result["metrics"].items()]
        tables.append(_table("evaluation", (*sides, "difference"), rows))
    if result["tags"]:
        tables.append(_table("tags", sides, [(name, *values) for name, values in result["tags"].items()]))
    return "\n\n".join([*map(terminal.drawn, tables), result["rendered"]]).rstrip("\n")


def _table(title: str, columns: tuple[str, ...], rows: Iterable[Sequence[str]]) -> Table:
    table = Table(title=title, title_justify="left", box=None, pad_edge=False)
    for column in ("", *columns):
        table.add_column(terminal.words(one_line(column)), overflow="fold")
    for row in rows:
        table.add_row(*(terminal.words(one_line(cell, 300)) for cell in row))
    return table
