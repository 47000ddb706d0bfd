"""``backstay verify``: check a GitOps repository, and what a pull request changes in it."""

import shutil
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from backstay.adapters.crd import Schema
from backstay.adapters.modelversion import RegisteredVersion
from backstay.adapters.policy import PLACE, Policy, PolicyError
from backstay.adapters.registry import RegistryUnavailableError
from backstay.cli.trouble import ANSWER_IS_NO, NO_ANSWER, refuse
from backstay.cli.verifying import change as changes
from backstay.cli.verifying.change import Change, ChangeError
from backstay.cli.verifying.comment import comment, difference
from backstay.cli.verifying.environments import Checked, Environment, check, environments
from backstay.cli.verifying.findings import Finding, Form, told
from backstay.cli.verifying.registry import Registries
from backstay.cli.verifying.together import collisions

_AT_ONCE = 4


@dataclass
class _Run:
    """One verification in the making."""

    root: Path
    policy: Policy
    registries: Registries | None
    checked: list[Checked] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)
    silent: str = ""

    def check(self, places: Iterable[Environment]) -> None:
        schema = Schema.shipped()
        with ThreadPoolExecutor(max_workers=_AT_ONCE) as threads:
            self.checked = list(threads.map(partial(self._one, schema), places))
        for one in self.checked:
            self.findings.extend(one.findings)
        self.findings.extend(collisions(self.checked))

    def _one(self, schema: Schema, environment: Environment) -> Checked:
        return check(self.root, environment, schema, self.policy)

    def ask_registries(self, places: Iterable[Environment]) -> None:
        """Ask about the versions of some environments; a registry that is silent is told once."""
        wanted = set(places)
        for one in self.checked:
            if self.registries is None or one.environment not in wanted:
                continue
            try:
                self.findings.extend(self.registries.findings(one, self.policy))
            except RegistryUnavailableError as problem:
                self.silent = self.silent or str(problem)

    def registered(self, one: Checked, version: str) -> RegisteredVersion | None:
        """Return a version as the registry has it, for the comment; None where it does not say."""
        if self.registries is None or one.body is None or not version:
            return None
        spec = one.body["spec"]
        try:
            found = self.registries.read(spec["registry"]["uri"], spec["model"]["name"], version)
        except (RegistryUnavailableError, KeyError):
            return None
        return found if isinstance(found, RegisteredVersion) else None


def verify(  # noqa: PLR0913 - each is an option of the command
    folder: Annotated[Path, typer.Argument(help="A checkout of the GitOps repository.")] = Path(),
    *,
    base: Annotated[
        str, typer.Option(help="Check as well what changed since this branch or commit, such as origin/main.")
    ] = "",
    registry: Annotated[
        str, typer.Option(help="The registry's address from here, where that of the overlays is the cluster's.")
    ] = "",
    offline: Annotated[bool, typer.Option("--offline", help="Do not ask the registry.")] = False,
    form: Annotated[
        Form, typer.Option("-o", "--output", help="text, json, github (annotations) or gitlab (code quality).")
    ] = Form.TEXT,
    comment_file: Annotated[
        Path | None, typer.Option(help="Write the model diff for a comment on the pull request here; needs --base.")
    ] = None,
) -> None:
    """Check every environment of a repository, as a person or in a pull request.

    Every overlay builds with Kustomize; the ModelDeployment keeps the schema and its rules, and the promotion policy
    (`policies/promotion` of the repository, or the one that ships with this command); the version is not rejected
    here; no two environments take the same requests; the registry has the version, ready, with the same digest,
    code, data and run, and the tags that the policy asks for.

    With --base also: the change moves the version of one environment and nothing besides, lifts no rejection
    silently, and gives no version another digest. The registry is then asked about the versions that change.

    ```
    backstay verify
    backstay verify --base origin/main --output github --comment-file comment.md
    ```

    Exit codes: 0 all well, 1 something is to be mended, 2 bad input, 3 the registry does not answer.
    """
    root = folder.resolve()
    places = environments(root)
    if not places:
        refuse(f"{folder} has no applications/*/overlays/*: name a checkout of the GitOps repository")
    if shutil.which("kustomize") is None:
        refuse("kustomize is not on the PATH: install the version that your Argo CD has")
    if comment_file is not None and not base:
        refuse("--comment-file needs --base, to tell what changes")
    try:
        change = Change.since(root, base) if base else None
        run = _Run(root, _policy(root), None if offline else Registries(registry))
    except (ChangeError, PolicyError) as problem:
        refuse(str(problem))
    run.check(places)
    if change is not None:
        run.findings.extend(changes.findings(change, run.checked))
    touched = places if change is None else [one for one in places if one.version_file in change.files]
    run.ask_registries(touched)
    if change is not None and comment_file is not None:
        _write_comment(comment_file, run, change)
    typer.echo(told(run.findings, [place.path for place in places], form))
    _end(run)


def _end(run: _Run) -> None:
    if run.registries is None:
        typer.echo("The registry was not asked.", err=True)
    if run.silent:
        typer.echo(f"backstay: {run.silent}", err=True)
    if run.findings:
        raise typer.Exit(ANSWER_IS_NO)
    if run.silent:
        raise typer.Exit(NO_ANSWER)


def _policy(root: Path) -> Policy:
    """Read the repository's own policy, or take the one that ships with the command."""
    policy, settings = root / PLACE / "policy.yaml", root / PLACE / "settings.yaml"
    try:
        if policy.is_file() and settings.is_file():
            return Policy.of(policy.read_text(encoding="utf-8"), settings.read_text(encoding="utf-8"))
        shipped = Policy.shipped()
        if settings.is_file():
            return shipped.with_settings(settings.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as problem:
        raise PolicyError(f"{PLACE} cannot be read ({problem}): restore it") from None
    return shipped


def _write_comment(file: Path, run: _Run, change: Change) -> None:
    parts = []
    for one in run.checked:
        if one.environment.version_file in change.files:
            before = change.declared_before(one)
            running = run.registered(one, before.identity.version if before else "")
            new = run.registered(one, one.declared.identity.version if one.declared else "")
            parts.append(difference(one, before, running, new))
    try:
        file.write_text(comment(parts, sorted(set(run.findings))), encoding="utf-8")
    except OSError as problem:
        refuse(f"{file} cannot be written ({problem.strerror}): name another file for the comment")
