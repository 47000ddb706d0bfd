"""``backstay retry``: lift the rejection of a version, so that it may try again."""

import re
from dataclasses import replace
from typing import Annotated

import typer

from backstay.adapters.gitops.version_file import VersionFileError, restore
from backstay.adapters.gitops.version_file import retry as lift
from backstay.adapters.messages.change import ChangeKind, VersionChange
from backstay.adapters.messages.rollback_commit import ID_TRAILER
from backstay.cli import options
from backstay.cli.git.bump import by_pull_request, promoted
from backstay.cli.git.changing import Wish, carry_out, described, guarded, proposal_branch, session
from backstay.cli.git.overlays import Overlay, overlay_of
from backstay.cli.git.results import changed, show
from backstay.cli.git.rollback import evaluated
from backstay.cli.trouble import refuse
from backstay.domain.resource import ModelIdentity, Rejection

_ID = re.compile(r"[0-9a-f]{8,64}")


def retry(  # noqa: PLR0913 - each is an option of the command
    application: options.Application,
    *,
    environment: options.Environment,
    version: Annotated[str, typer.Option("--version", help="The rejected version; the last one if not given.")] = "",
    rollback_id: Annotated[
        str, typer.Option("--rollback-id", help="The rollback that rejected it, as its commit's trailer names it.")
    ] = "",
    reason: Annotated[str, typer.Option("--reason", help="Why it is worth another try; it stands in the commit.")] = "",
    registry: options.RegistryUri = "",
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
    """Try a rejected version again: a commit, or for *production* a pull request.

    The version file declares the version as it did before it was rejected, and names the rollback in *retryOf*. The
    rejection itself stays where it is. The version takes all steps anew.

    ```
    backstay retry fraud-detector --environment staging
    backstay retry fraud-detector --environment production --rollback-id 4a7d1ed414474e40
    ```

    Exit codes: 0 done or nothing to do, 1 refused, 2 bad input, 3 a server does not answer.
    """
    target = options.Target(repository, branch, token_file, forge.value if forge else "", forge_api)
    with session(target) as at:
        overlay = overlay_of(at.repository, application, environment)
        rejection = _rejection(overlay, version, rollback_id)
        before, located = overlay.located.identity, overlay.located
        after = _identity(overlay, rejection)
        # What an entry without a digest bars is any digest of the version, so the one in the file may stay.
        if not rejection.covers(before, ""):
            after = promoted(at, after, by)
        change = VersionChange(
            ChangeKind.RETRY,
            overlay.name,
            environment,
            before=before,
            after=after,
            reason=reason,
            rollback_id=rejection.rollback_id,
            resource=overlay.resource,
        )
        if rejection.covers(before, "") and located.retry_of == rejection.rollback_id:
            show(described(change) | {"outcome": "unchanged", "commit": located.head}, output, changed)
            return

        def write(content: bytes, file: str) -> bytes:
            declared = restore(content, name=overlay.name, identity=after, reject=None, drop_retry=True, file=file)
            return lift(declared, name=overlay.name, rollback_id=rejection.rollback_id, file=file)

        wish = Wish(
            overlay,
            change,
            guarded(change, write, lifted=rejection.rollback_id),
            branch=proposal_branch(ChangeKind.RETRY, overlay.application, environment),
            pull_request=by_pull_request(pull_request, environment),
        )
        result = carry_out(at, wish, lambda: evaluated(overlay, registry, before, after), dry_run=dry_run)
    show(result | {"retryOf": rejection.rollback_id}, output, changed)


def _rejection(overlay: Overlay, version: str, rollback_id: str) -> Rejection:
    """Return the rejection that is meant, which names a rollback."""
    located = overlay.located
    meant = [
        entry for entry in located.rejected if version in {"", entry.version} and rollback_id in {"", entry.rollback_id}
    ]
    if rollback_id and not _ID.fullmatch(rollback_id):
        refuse(
            f"--rollback-id {rollback_id} is none: write the 8 to 64 hex digits of the commit's trailer {ID_TRAILER}"
        )
    if not meant and version and rollback_id and any(one.identity.version == version for one in located.history):
        # The file does not know of it (any more), but the cluster may.
        return Rejection(version, "", rollback_id)
    if not meant:
        listed = ", ".join(f"{entry.version} ({entry.rollback_id or 'no id'})" for entry in located.rejected) or "none"
        raise VersionFileError(
            f"{located.file} lists no such version among its rejectedVersions: there are {listed}; name version and "
            "rollback with --version and --rollback-id where only the cluster knows of it; what is not rejected is "
            "declared with backstay bump"
        )
    chosen = meant[-1]
    if not chosen.rollback_id:
        raise VersionFileError(
            f"{located.file} rejects version {chosen.version} without a rollbackID, so nothing can name it: "
            "take the entry out of rejectedVersions by a commit of your own, then use backstay bump"
        )
    others = [one for one in meant if one.version == chosen.version and one.rollback_id != chosen.rollback_id]
    if others:
        raise VersionFileError(
            f"{located.file} rejects version {chosen.version} more than once: leave only the entry of rollback "
            f"{chosen.rollback_id} in rejectedVersions, because any other one bars it as before"
        )
    return chosen


def _identity(overlay: Overlay, rejection: Rejection) -> ModelIdentity:
    """Return what the file declared of the version before it was rejected."""
    history = [entry.identity for entry in overlay.located.history]
    found = next((one for one in history if rejection.covers(one, "")), None)
    if found is not None:
        return found
    name = overlay.located.identity.name
    return replace(ModelIdentity(name, rejection.version), digest=rejection.digest)
