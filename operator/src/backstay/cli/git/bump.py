"""``backstay bump``: let an environment declare a version of the registry."""

from dataclasses import replace
from typing import Annotated

import typer

from backstay.adapters.gitops.version_file import VersionFileError, restore
from backstay.adapters.messages.change import ChangeKind, Evaluated, VersionChange
from backstay.adapters.registry.artifacts import allowed_locations
from backstay.adapters.registry.versions import READY, ModelRegistry, ModelVersionError, RegisteredVersion, unfit
from backstay.cli import options
from backstay.cli.git.changing import (
    Session,
    Wish,
    bars,
    carry_out,
    described,
    guarded,
    now,
    proposal_branch,
    refuse_rejected,
    session,
)
from backstay.cli.git.overlays import Overlay, overlay_of
from backstay.cli.git.results import changed, show
from backstay.cli.trouble import refuse
from backstay.domain.resource import ModelIdentity


def bump(  # noqa: PLR0913 - each is an option of the command
    application: options.Application,
    *,
    environment: options.Environment,
    version: Annotated[str, typer.Option("--version", help="The version in the registry, such as 8.")],
    digest: Annotated[
        bool, typer.Option("--digest/--no-digest", help="Pin the artifacts by their digest, or pin nothing.")
    ] = True,
    trust_tag: Annotated[
        bool,
        typer.Option("--trust-tag", help="Take the digest from the registry's tag, without fetching the artifacts."),
    ] = False,
    registry: options.RegistryUri = "",
    artifact_locations: options.ArtifactLocations = "",
    by: options.By = "",
    pull_request: options.PullRequest = None,
    dry_run: options.DryRun = False,
    repository: options.RepositoryOption = "",
    branch: options.Branch = "",
    token_file: options.TokenFile = None,
    forge: options.Forge = None,
    forge_api: options.ForgeApi = "",
    output: options.OutputOption = options.Output.TEXT,
) -> None:
    """Let an environment run a version: a commit, or for *production* a pull request.

    The version file gets digest, code commit, data checksum, training run and feature schema from the registry, and who
    promoted it when. The artifacts are fetched and hashed; where the registry's tag says another digest, nothing is
    changed.

    ```
    backstay bump fraud-detector --environment staging --version 8
    backstay bump fraud-detector --environment production --version 8 --dry-run
    ```

    Exit codes: 0 done or nothing to do, 1 refused, 2 bad input, 3 a server does not answer.
    """
    target = options.Target(repository, branch, token_file, forge.value if forge else "", forge_api)
    try:
        allowed = allowed_locations(artifact_locations)
    except ValueError as problem:
        refuse(str(problem))
    with session(target) as at:
        overlay = overlay_of(at.repository, application, environment)
        models = registry_of(overlay, registry)
        new = models.read(overlay.model, version)
        before = overlay.located.identity
        after = promoted(at, new.identity, by)
        change = VersionChange(
            ChangeKind.BUMP, overlay.name, environment, before=before, after=after, resource=overlay.resource
        )
        if before.version == after.version:
            _refuse_other_digest(overlay, new)
            show(described(change) | {"outcome": "unchanged", "commit": overlay.located.head}, output, changed)
            return
        refuse_unfit_version(overlay, new)
        pinned = _digest(models, new, allowed, trust_tag=trust_tag) if digest else ""
        change = replace(change, after=replace(after, digest=pinned))
        wish = Wish(
            overlay,
            change,
            guarded(change, lambda content, file: declare(content, overlay, change.after, file), lifted=""),
            branch=proposal_branch(ChangeKind.BUMP, overlay.application, environment),
            pull_request=by_pull_request(pull_request, environment),
        )
        checked = digest and not (trust_tag and new.identity.digest)
        result = carry_out(
            at,
            wish,
            lambda: Evaluated(new, registered(models, overlay, before), digest_checked=checked),
            dry_run=dry_run,
        )
    show(result, output, changed)


def registry_of(overlay: Overlay, uri: str) -> ModelRegistry:
    """Return the registry that an option names, or else the overlay."""
    if not (uri or overlay.registry):
        refuse(f"{overlay.path} says no spec.registry.uri: name the MLflow server with --registry")
    return ModelRegistry(uri or overlay.registry, options.registry_access(uri))


def registered(models: ModelRegistry, overlay: Overlay, identity: ModelIdentity) -> RegisteredVersion | None:
    """Read what the registry has of a version that is declared; None where it has it no more.

    Raises:
        RegistryUnavailableError: the registry gives no answer.
    """
    try:
        return models.read(identity.name or overlay.model, identity.version)
    except ModelVersionError:
        return None


def refuse_unfit_version(overlay: Overlay, new: RegisteredVersion) -> None:
    """Refuse a version that is not ready, or that this environment has rejected.

    Raises:
        ModelVersionError, VersionFileError: it must not be declared.
    """
    identity, located = new.identity, overlay.located
    if new.status != READY:
        note = f" ({new.note})" if new.note else ""
        raise ModelVersionError(
            f"Version {identity.version} of {identity.name} is {new.status}{note} in the registry, not {READY}: "
            "wait for it, or register it again"
        )
    entry = bars(located.rejected, identity, "")
    if entry is not None:
        raise VersionFileError(refuse_rejected(located.file, overlay.environment, identity, entry))


def promoted(at: Session, identity: ModelIdentity, by: str) -> ModelIdentity:
    """Return a version's facts with who brings it where it goes, and when."""
    after = replace(identity, promoted_by=by or at.place.author, promoted_at=now())
    problem = unfit(after)
    if problem:
        refuse(problem)
    return after


def declare(content: bytes, overlay: Overlay, identity: ModelIdentity, file: str) -> bytes:
    """Write a version into a version file; one that leaves the model's name to its base goes on doing so."""
    named = overlay.located.identity.name or (identity.name if identity.name != overlay.model else "")
    return restore(
        content,
        name=overlay.name,
        identity=replace(identity, name=named and identity.name),
        reject=None,
        drop_retry=True,
        file=file,
    )


def by_pull_request(asked: bool | None, environment: str) -> bool | None:  # noqa: FBT001 - an option's value
    """Return how a change is brought to Git: in production by pull request, unless something else is asked for."""
    return True if asked is None and environment == "production" else asked


def _digest(models: ModelRegistry, new: RegisteredVersion, allowed: tuple[str, ...], *, trust_tag: bool) -> str:
    tagged, identity = new.identity.digest, new.identity
    if tagged and trust_tag:
        return tagged
    computed = models.digest(identity.name, identity.version, allowed)
    if tagged and computed != tagged:
        raise ModelVersionError(
            f"Version {identity.version} of {identity.name} is not what was registered: its artifacts have the digest "
            f"{computed}, and its tag says {tagged}; find out who changed them, and register a new version"
        )
    return computed


def _refuse_other_digest(overlay: Overlay, new: RegisteredVersion) -> None:
    declared, tagged = overlay.located.identity.digest, new.identity.digest
    if declared and tagged and declared != tagged:
        raise ModelVersionError(
            f"{overlay.located.file} declares version {new.identity.version} with the digest {declared}, and the "
            f"registry says {tagged}: a version must never change; register what is right as a new one"
        )
