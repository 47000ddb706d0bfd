"""Arguments and options that the commands which change Git have in common."""

import os
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from backstay.adapters.registry.access import RegistryAccess
from backstay.adapters.registry.artifacts import LOCATIONS_VARIABLE

_REGISTRY_VARIABLE = "BACKSTAY_REGISTRY"


class Output(StrEnum):
    """How a result is printed."""

    TEXT = "text"
    JSON = "json"
    YAML = "yaml"


class ForgeKind(StrEnum):
    """Which API a server speaks."""

    GITEA = "gitea"
    GITHUB = "github"
    GITLAB = "gitlab"


Application = Annotated[
    str, typer.Argument(metavar="APPLICATION", help="A folder under applications/, or its path in the repository.")
]
Environment = Annotated[str, typer.Option("--environment", "-e", help="The overlay's folder, such as staging.")]
RepositoryOption = Annotated[
    str,
    typer.Option(
        "--repository",
        help="A URL or a local checkout, whose origin is meant; the checkout of this folder if not given.",
    ),
]
Branch = Annotated[
    str, typer.Option("--branch", help="The branch to change; the repository's default branch if not given.")
]
TokenFile = Annotated[
    Path | None,
    typer.Option(
        "--token-file",
        help="A file with the token for Git and forge. Else: BACKSTAY_TOKEN, then GITHUB_TOKEN, GITLAB_TOKEN or "
        "GITEA_TOKEN by forge, then git's credential helpers.",
    ),
]
Forge = Annotated[
    ForgeKind | None, typer.Option("--forge", help="What the server is; known for github.com and gitlab.com.")
]
ForgeApi = Annotated[
    str, typer.Option("--forge-api", help="Base URL of the forge's API, where it is not the usual one.")
]
PullRequest = Annotated[
    bool | None,
    typer.Option(
        "--pull-request/--commit",
        help="Open a pull request, or commit to the branch; if neither is given, see above.",
        show_default=False,
    ),
]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Print what would be written, and write nothing.")]
By = Annotated[str, typer.Option("--by", help="Who promotes; git's user.name and user.email if not given.")]
RegistryUri = Annotated[
    str,
    typer.Option(
        "--registry",
        envvar=[_REGISTRY_VARIABLE, "MLFLOW_TRACKING_URI"],
        help="The MLflow server as it is reached from here; the overlay's spec.registry.uri if not given.",
    ),
]
ArtifactLocations = Annotated[
    str,
    typer.Option(
        "--artifact-locations",
        envvar=LOCATIONS_VARIABLE,
        help="Where artifacts may be beside the registry: URL prefixes such as s3://models/, parted by spaces.",
    ),
]
OutputOption = Annotated[Output, typer.Option("-o", "--output", help="text, json or yaml.")]


@dataclass(frozen=True, slots=True)
class Target:
    """Where a command works: the options that say so."""

    repository: str
    branch: str
    token_file: Path | None
    forge: str
    forge_api: str


def registry_access(named: str) -> RegistryAccess:
    """Return the credentials for registries; MLflow's own variables are for the servers that were named outside Git.

    Args:
        named: what an option says of the registry's address; empty where it says nothing.
    """
    return RegistryAccess.from_environment(*filter(None, (named, os.environ.get(_REGISTRY_VARIABLE, ""))))
