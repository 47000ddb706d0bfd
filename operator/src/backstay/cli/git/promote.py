"""``backstay promote``: let one environment run what another one has tried."""

import time
from typing import Annotated

import typer

from backstay.adapters.gitops.version_file import VersionFileError
from backstay.adapters.messages.change import ChangeKind, Evaluated, VersionChange
from backstay.adapters.registry.versions import ModelVersionError
from backstay.cli import options
from backstay.cli.git.bump import by_pull_request, declare, promoted, refuse_unfit_version, registered, registry_of
from backstay.cli.git.changing import Wish, bars, carry_out, described, guarded, proposal_branch, session
from backstay.cli.git.gathered import Gathered, gather
from backstay.cli.git.overlays import Overlay, overlay_of
from backstay.cli.git.results import changed, show
from backstay.cli.trouble import refuse


def promote(  # noqa: PLR0913 - each is an option of the command
    application: options.Application,
    *,
    source: Annotated[str, typer.Option("--from", help="The environment that has the version.")] = "staging",
    goal: Annotated[str, typer.Option("--to", help="The environment that gets it.")] = "production",
    cluster: Annotated[
        bool,
        typer.Option(
            "--cluster/--no-cluster", help="Ask the cluster of the current context what it saw, if it can be reached."
        ),
    ] = True,
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
    """Carry the version that one environment declares to another: a pull request, unless --commit is given.

    Everything that identifies the version is carried, never its rejections. The pull request tells what the first
    environment saw of it, and compares it with what the other one runs.

    ```
    backstay promote fraud-detector
    backstay promote fraud-detector --from dev --to staging --commit
    ```

    Exit codes: 0 done or nothing to do, 1 refused, 2 bad input, 3 a server does not answer.
    """
    target = options.Target(repository, branch, token_file, forge.value if forge else "", forge_api)
    if source == goal:
        refuse(f"--from and --to are both {goal}: name two environments")
    with session(target) as at:
        there, here = (overlay_of(at.repository, application, environment) for environment in (source, goal))
        _refuse_rejected_there(there)
        before, carried = here.located.identity, there.located.identity
        change = VersionChange(
            ChangeKind.PROMOTE,
            here.name,
            goal,
            before=before,
            after=promoted(at, carried, by),
            source=source,
            resource=here.resource,
        )
        if before.is_meant_by(carried):
            show(described(change) | {"outcome": "unchanged", "commit": here.located.head}, output, changed)
            return
        models = registry_of(here, registry)
        new = models.read(there.model, carried.version)
        if carried.digest and new.identity.digest and carried.digest != new.identity.digest:
            raise ModelVersionError(
                f"{source} declares version {carried.version} with the digest {carried.digest}, and the registry says "
                f"{new.identity.digest}: a version must never change; register what is right as a new one"
            )
        refuse_unfit_version(here, new)

        def known() -> Evaluated:
            seen = gather(there, carried, time.time()) if cluster else Gathered(unsaid="The cluster was not asked")
            return Evaluated(
                new,
                registered(models, here, before),
                gathered=seen.sentences,
                unsaid=seen.unsaid,
                proven=seen.stable,
            )

        wish = Wish(
            here,
            change,
            guarded(change, lambda content, file: declare(content, here, change.after, file), lifted=""),
            branch=proposal_branch(ChangeKind.PROMOTE, here.name, goal),
            pull_request=True if pull_request is None else by_pull_request(pull_request, goal),
        )
        result = carry_out(at, wish, known, dry_run=dry_run)
    show(result, output, changed)


def _refuse_rejected_there(there: Overlay) -> None:
    """Refuse what the first environment has rejected, unless it tries it again."""
    located = there.located
    entry = bars(located.rejected, located.identity, located.retry_of)
    if entry is not None:
        raise VersionFileError(
            f"{located.file} declares version {located.identity.version} and lists it among its rejectedVersions: "
            f"{there.environment} rejected it; bump {there.environment} to a version that works first"
        )
