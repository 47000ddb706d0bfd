"""``backstay rollback``: a person takes a version out of an environment, by one commit."""

import hashlib
import re
from typing import Annotated

import typer

from backstay.adapters.git_url import normalise_url
from backstay.adapters.gitops.version_file import VersionFileError, restore
from backstay.adapters.messages.change import ChangeKind, Evaluated, VersionChange
from backstay.adapters.messages.rollback_commit import ID_TRAILER
from backstay.adapters.registry.errors import RegistryUnavailableError
from backstay.adapters.registry.versions import ModelRegistry, RegisteredVersion
from backstay.cli import options
from backstay.cli.git.bump import registered
from backstay.cli.git.changing import Session, Wish, bars, carry_out, described, guarded, proposal_branch, session
from backstay.cli.git.overlays import Overlay, overlay_of
from backstay.cli.git.results import changed, show
from backstay.domain.resource import ModelIdentity, Rejection

# What a commit says that went back: one of ours or of the controller's, or the merge of such a pull request.
_ROLLBACK = re.compile(
    rf"^Backstay-Change: {ChangeKind.ROLLBACK}$|^{ID_TRAILER}: |\bbackstay/{ChangeKind.ROLLBACK}-", re.MULTILINE
)


def rollback(  # noqa: PLR0913 - each is an option of the command
    application: options.Application,
    *,
    environment: options.Environment,
    to: Annotated[str, typer.Option("--to", help="The version to go back to; the one before if not given.")] = "",
    reason: Annotated[str, typer.Option("--reason", help="Why; it stands in the commit.")] = "",
    reject: Annotated[
        bool, typer.Option("--reject", help="Also reject the version, so that no automation applies it again.")
    ] = False,
    registry: options.RegistryUri = "",
    pull_request: options.PullRequest = None,
    dry_run: options.DryRun = False,
    repository: options.RepositoryOption = "",
    branch: options.Branch = "",
    token_file: options.TokenFile = None,
    forge: options.Forge = None,
    forge_api: options.ForgeApi = "",
    output: options.OutputOption = options.Output.TEXT,
) -> None:
    """Go back to an earlier version: one commit on the branch, or a pull request where the branch is protected.

    The version is taken from the history of the version file, with everything that identified it then. Versions that
    are rejected are passed over.

    ```
    backstay rollback fraud-detector --environment production --reason "complaints from support" --reject
    backstay rollback fraud-detector --environment production --to 6
    ```

    Exit codes: 0 done or nothing to do, 1 refused, 2 bad input, 3 a server does not answer.
    """
    target = options.Target(repository, branch, token_file, forge.value if forge else "", forge_api)
    with session(target) as at:
        overlay = overlay_of(at.repository, application, environment)
        if not to:
            _refuse_second(at, overlay)
        before, after = overlay.located.identity, _earlier(overlay, to)
        rollback_id = _rollback_id(at, overlay) if reject else ""
        change = VersionChange(
            ChangeKind.ROLLBACK,
            overlay.name,
            environment,
            before=before,
            after=after,
            reason=reason,
            rollback_id=rollback_id,
            resource=overlay.resource,
        )
        if (after.version, after.digest) == (before.version, before.digest):
            show(described(change) | {"outcome": "unchanged", "commit": overlay.located.head}, output, changed)
            return
        rejection = Rejection(before.version, before.digest, rollback_id) if reject else None

        def write(content: bytes, file: str) -> bytes:
            return restore(content, name=overlay.name, identity=after, reject=rejection, drop_retry=True, file=file)

        wish = Wish(
            overlay,
            change,
            guarded(change, write),
            branch=proposal_branch(ChangeKind.ROLLBACK, overlay.application, environment),
            pull_request=pull_request,
        )
        result = carry_out(at, wish, lambda: evaluated(overlay, registry, before, after), dry_run=dry_run)
    show(result | ({"rollbackID": rollback_id} if reject else {}), output, changed)


def _earlier(overlay: Overlay, wanted: str) -> ModelIdentity:
    """Return a version of the file's history: the one that is named, or the last one that is not rejected."""
    located = overlay.located
    first, *earlier = [entry.identity for entry in located.history]
    if wanted:
        found = next((one for one in (first, *earlier) if one.version == wanted), None)
        if found is None:
            listed = ", ".join(dict.fromkeys(one.version for one in (first, *earlier)))
            raise VersionFileError(
                f"{located.file} has not declared version {wanted} lately: its history has {listed}; "
                "backstay bump declares any version of the registry"
            )
        entry = bars(located.rejected, found, "")
        if entry is not None and found.version != first.version:
            raise VersionFileError(
                f"{located.file} lists version {wanted} among its rejectedVersions: take another one, or lift the "
                "rejection with backstay retry"
            )
        return found
    found = next((one for one in earlier if bars(located.rejected, one, "") is None), None)
    if found is None:
        raise VersionFileError(
            f"{located.file} has no earlier version that is not rejected: bump {overlay.environment} to one that works"
        )
    return found


def _refuse_second(at: Session, overlay: Overlay) -> None:
    """Refuse to take the version before a rollback for the one to go back to: that one was left for a reason."""
    located = overlay.located
    if _ROLLBACK.search(at.repository.message(located.set_by)):
        raise VersionFileError(
            f"{overlay.environment} has gone back to version {located.identity.version} already, by commit "
            f"{located.set_by[:12]}: name the version to go back to further with --to"
        )


def _rollback_id(at: Session, overlay: Overlay) -> str:
    """Name the rejection; the same for the same version brought by the same commit."""
    identity, located = overlay.located.identity, overlay.located
    parts = (normalise_url(at.place.url), overlay.path, identity.version, identity.digest, located.set_by)
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:16]


def evaluated(overlay: Overlay, uri: str, before: ModelIdentity, after: ModelIdentity) -> Evaluated:
    """Read both versions for a pull request; a rollback does not wait for a registry."""

    def read(identity: ModelIdentity) -> RegisteredVersion | None:
        try:
            return registered(ModelRegistry(uri or overlay.registry, options.registry_access(uri)), overlay, identity)
        except RegistryUnavailableError:
            return None

    return Evaluated(read(after), read(before)) if uri or overlay.registry else Evaluated(None, None)
