"""``backstay verify``: check a GitOps repository, and what a pull request changes in it."""

import shutil
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from backstay.adapters.policy.admission import POLICY_FILE, SETTINGS_FILE, Policy
from backstay.adapters.policy.crd_schema import Schema
from backstay.adapters.policy.gates import PolicyError
from backstay.adapters.registry.errors import RegistryUnavailableError
from backstay.adapters.registry.versions import RegisteredVersion
from backstay.adapters.shipped import NotShippedError
from backstay.cli import options, terminal
from backstay.cli.trouble import ANSWER_IS_NO, NO_ANSWER, refuse
from backstay.cli.verifying import kinds
from backstay.cli.verifying.argocd import undelivered
from backstay.cli.verifying.change import Change, ChangeError
from backstay.cli.verifying.comment import comment, difference
from backstay.cli.verifying.environments import Checked, Environment, check, environments
from backstay.cli.verifying.findings import Finding, Form, to_mend, told
from backstay.cli.verifying.posting import post
from backstay.cli.verifying.registry import Registries, asked_of
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
        wrong = set(self.policy.misconfigured())
        self.findings.extend(Finding(SETTINGS_FILE, 0, sentence) for sentence in wrong)
        for one in self.checked:
            self.findings.extend(found for found in one.findings if found.sentence not in wrong)
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
        place = asked_of(one)
        if self.registries is None or place is None or not version or not self.registries.may_ask(place[0]):
            return None
        try:
            found = self.registries.read(place[0], place[1], version)
        except RegistryUnavailableError:
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
    comment_on: Annotated[
        int | None, typer.Option(min=1, help="Write it as a comment on this pull request, one that is kept up to date.")
    ] = None,
    token_file: options.TokenFile = None,
    forge: options.Forge = None,
    forge_api: options.ForgeApi = "",
) -> None:
    """Check every environment of a repository, as a person or in a pull request.

    Every overlay builds with Kustomize; the ModelDeployment keeps the schema and its rules, and the promotion policy
    (`policies/promotion` of the repository, or the one that ships with this command); the version is not rejected
    here; no two environments take the same requests; the registry has the version, ready, with the same digest,
    code, data and run, and the tags that the policy asks for.

    With --base also: the change moves the version of one environment and nothing besides, lifts no rejection
    silently, and gives no version another digest. The registry is then asked about the versions that change, at an
    address that the base knows or that --registry gives.

    ```
    backstay verify
    backstay verify --base origin/main --output github --comment-on 12
    ```

    Exit codes: 0 all well, 1 something is to be mended, 2 bad input, 3 the registry does not answer.
    """
    root = folder.resolve()
    places = environments(root)
    if not places:
        refuse(f"{folder} has no applications/*/overlays/*: name a checkout of the GitOps repository")
    if shutil.which("kustomize") is None:
        refuse("kustomize is not on the PATH: install the version that your Argo CD has")
    if (comment_file or comment_on) and not base:
        refuse("a comment needs --base, to tell what changes")
    try:
        change = Change.since(root, base) if base else None
        run = _Run(root, _policy(root), None if offline else _registries(registry, change))
        run.check(places)
    except (ChangeError, PolicyError, NotShippedError) as problem:
        refuse(str(problem))
    run.findings.extend(undelivered(root, places))
    if change is not None:
        run.findings.extend(kinds.findings(change, run.checked, run.policy))
    touched = places if change is None else [one for one in places if one.version_file in change.files]
    run.ask_registries(touched)
    terminal.say(told(run.findings, [place.path for place in places], form))
    if change is not None and (comment_file or comment_on):
        text = _comment(run, change)
        if comment_file is not None:
            _write(comment_file, text)
        if comment_on is not None:
            post(root, comment_on, text, options.Target("", "", token_file, forge.value if forge else "", forge_api))
    _end(run)


def _end(run: _Run) -> None:
    if run.registries is None:
        terminal.warn("The registry was not asked.")
    if run.silent:
        terminal.warn(f"backstay: {run.silent}")
    if to_mend(run.findings):
        raise typer.Exit(ANSWER_IS_NO)
    if run.silent:
        raise typer.Exit(NO_ANSWER)


def _registries(uri: str, change: Change | None) -> Registries:
    """Ask the registry that is named, or those of the overlays; of a change's, only those that its base knew."""
    access = options.registry_access(uri)
    return Registries(access, uri) if change is None else Registries(access, uri, change.knew)


def _policy(root: Path) -> Policy:
    """Read the repository's own policy, or take the one that ships with the command."""
    policy, settings = root / POLICY_FILE, root / SETTINGS_FILE
    try:
        if policy.is_file() and settings.is_file():
            return Policy.of(policy.read_text(encoding="utf-8"), settings.read_text(encoding="utf-8"))
        shipped = Policy.shipped()
        if settings.is_file():
            return shipped.with_settings(settings.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as problem:
        raise PolicyError(f"{SETTINGS_FILE} or {POLICY_FILE} cannot be read ({problem}): restore them") from None
    return shipped


def _comment(run: _Run, change: Change) -> str:
    parts = []
    for one in run.checked:
        if one.environment.version_file in change.files:
            before = change.declared_before(one)
            running = run.registered(one, before.identity.version if before else "")
            new = run.registered(one, one.declared.identity.version if one.declared else "")
            parts.append(difference(one, before, running, new))
    return comment(parts, run.findings)


def _write(file: Path, text: str) -> None:
    try:
        file.write_text(text, encoding="utf-8")
    except OSError as problem:
        refuse(f"{file} cannot be written ({problem.strerror}): name another file for the comment")
