"""Where a model version's artifacts are, and fetching them from there.

The location is set by the program that registers a version, and MLflow's client follows it to any host, with its
credentials. Here artifacts are fetched from the registry itself, and from elsewhere only where a URL prefix allows it.
"""

import re
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlsplit

from backstay.adapters.git_url import without_user
from backstay.adapters.registry.access import Connection, RegistryAccess, RegistryUrl, parse_registry_url
from backstay.adapters.registry.errors import RegistryUrlError
from backstay_contract.locations import PROXY, SERVED, Allowed, Proxied, locate, parse_prefixes, proxied

if TYPE_CHECKING:
    from mlflow.entities import Run

LOCATIONS_VARIABLE = "BACKSTAY_ARTIFACT_LOCATIONS"
_RUN = re.compile(r"runs:/(?P<run>[A-Za-z0-9._-]{1,64})(?P<path>/.*)?")
_CHUNK_BYTES = 1 << 20


class ArtifactLocationError(Exception):
    """Artifacts are where they may not be fetched from; the message is a part of a sentence, with the remedy."""


def allowed_locations(text: str) -> tuple[str, ...]:
    """Read URL prefixes, parted by spaces or commas, such as ``s3://models/ file:///srv/models``.

    Raises:
        ValueError: one of them is no prefix; the message is a sentence.
    """
    try:
        return parse_prefixes(text)
    except ValueError as error:
        raise ValueError(
            f"{LOCATIONS_VARIABLE} has {without_user(str(error))!r}, which is no start of artifacts' URLs: write it "
            "with scheme and place, such as s3://models/ or file:///srv/models"
        ) from None


def resolved(at: Connection, source: str) -> str:
    """Return a version's location, for one that is relative to a run the location that the run's server tells."""
    found = _RUN.fullmatch(source)
    if found is None:
        return source
    run, path = at.runs.get_run(found["run"]), (found["path"] or "").strip("/")
    name, _, rest = path.partition("/")
    model = _logged_model(at, run, name) if name and "'" not in name else ""
    root, path = (model, rest) if model else (str(run.info.artifact_uri), path)
    return f"{root.rstrip('/')}/{path}".rstrip("/")


def _logged_model(at: Connection, run: "Run", name: str) -> str:
    """Return the location of the model that a run has logged under a name; empty without one."""
    from mlflow.exceptions import MlflowException  # noqa: PLC0415 - slow to import

    token = None
    while True:
        try:
            page = at.runs.search_logged_models(
                [run.info.experiment_id], filter_string=f"name = '{name}'", page_token=token
            )
        except MlflowException as problem:
            # A server of MLflow 2, where models are artifacts of the run.
            if problem.error_code == "ENDPOINT_NOT_FOUND":
                return ""
            raise
        for model in page:
            if model.source_run_id == run.info.run_id:
                return str(model.artifact_location)
        token = page.token
        if not token:
            return ""


def download(
    source: str, registry: RegistryUrl, access: RegistryAccess, allowed: tuple[str, ...], *, into: Path
) -> Path:
    """Download artifacts and return the folder that holds them.

    An MLflow server other than the registry gets the credentials that are configured for its own address.

    Args:
        source: the location, as `resolved` returns it.
        registry: the server that knows the version.
        access: the credentials that there are.
        allowed: the prefixes of other locations, as `allowed_locations` returns them.
        into: an existing, empty folder.

    Raises:
        ArtifactLocationError: they are neither at the registry nor where a prefix allows it.
        MlflowException, OSError, CredentialError: the server or store gives no answer.
    """
    match locate(source, tracking_uri=registry.text, allowed=allowed):
        case Proxied(path=path):
            # The address of the registry may carry the user and password that it is asked with.
            _download_proxied(registry, path, access, into)
            return into
        case Allowed() if (other := _other_server(source, registry)) is not None:
            _download_proxied(*other, access, into)
            return into
        case Allowed() if urlsplit(source).scheme not in SERVED:
            from mlflow.artifacts import download_artifacts  # noqa: PLC0415 - slow to import

            return Path(download_artifacts(artifact_uri=source, dst_path=str(into), tracking_uri=registry.text))
        case _:
            # This includes allowed servers that are no MLflow: MLflow's client would send them the environment's
            # credentials.
            raise ArtifactLocationError(
                f"they are at {without_user(source)!r}, neither at the registry {registry.text} nor where "
                f"{LOCATIONS_VARIABLE} allows it; register the version with artifacts that the registry serves, or add "
                "the start of that URL to the variable"
            )


def _other_server(location: str, registry: RegistryUrl) -> tuple[RegistryUrl, str] | None:
    """Return the MLflow server that hands out artifacts, and their path in its store; None for any other location."""
    found = proxied(location, tracking_uri=registry.text)
    try:
        return (parse_registry_url(found.server), found.path) if found else None
    except RegistryUrlError:
        return None


def _download_proxied(server: RegistryUrl, root: str, access: RegistryAccess, into: Path) -> None:
    # Not MLflow's own repository of such artifacts, which takes the credentials of the environment for any server.
    from mlflow.utils.request_utils import augmented_raise_for_status  # noqa: PLC0415 - slow to import
    from mlflow.utils.rest_utils import http_request  # noqa: PLC0415 - as above

    for path in _files(server, root, access):
        target = into / path
        target.parent.mkdir(parents=True, exist_ok=True)
        endpoint = f"{PROXY}/{quote(f'{root}/{path}')}"
        with (
            http_request(access.credentials(server), endpoint, "GET", stream=True) as answer,
            target.open("wb") as file,
        ):
            augmented_raise_for_status(answer)
            for chunk in answer.iter_content(_CHUNK_BYTES):
                file.write(chunk)


def _files(server: RegistryUrl, root: str, access: RegistryAccess, folder: str = "") -> Iterator[str]:
    """Yield the path, relative to the root, of every file below a folder."""
    from mlflow.utils.rest_utils import http_request_safe  # noqa: PLC0415 - slow to import

    parameters = {"path": f"{root}/{folder}".rstrip("/")}
    answer = http_request_safe(access.credentials(server), PROXY, "GET", params=parameters)
    entries: list[dict[str, Any]] = answer.json().get("files", [])
    for entry in entries:
        path = PurePosixPath(folder) / entry["path"]
        if path.is_absolute() or ".." in path.parts or "\0" in entry["path"]:
            raise ArtifactLocationError(f"{server.text} names an artifact {entry['path']!r} outside the model's folder")
        if entry["is_dir"]:
            yield from _files(server, root, access, str(path))
        else:
            yield str(path)
