"""Where a model version's artifacts are, and fetching them from there.

The location is set by the program that registers a version, and MLflow's client follows it to any host, with its
credentials. Here artifacts are fetched from the registry itself, and from elsewhere only where a URL prefix allows it.
"""

import re
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, unquote, urlsplit

from backstay.adapters.git_url import without_user
from backstay.adapters.registry.access import Connection, RegistryAccess, RegistryUrl, parse_registry_url
from backstay.adapters.registry.errors import RegistryUrlError
from backstay.adapters.secrets import covers

if TYPE_CHECKING:
    from mlflow.entities import Run

LOCATIONS_VARIABLE = "BACKSTAY_ARTIFACT_LOCATIONS"
_SERVED = frozenset({"mlflow-artifacts", "http", "https"})
_PROXY = "/api/2.0/mlflow-artifacts/artifacts"
_RUN = re.compile(r"runs:/(?P<run>[A-Za-z0-9._-]{1,64})(?P<path>/.*)?")
_CHUNK_BYTES = 1 << 20


class ArtifactLocationError(Exception):
    """Artifacts are where they may not be fetched from; the message is a part of a sentence, with the remedy."""


def allowed_locations(text: str) -> tuple[str, ...]:
    """Read URL prefixes, parted by spaces or commas, such as ``s3://models/ file:///srv/models``.

    Raises:
        ValueError: one of them is no prefix; the message is a sentence.
    """
    return tuple(_normalised_prefix(word) for word in re.split(r"[\s,]+", text) if word)


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
        allowed: normalised prefixes of other locations.
        into: an existing, empty folder.

    Raises:
        ArtifactLocationError: they are neither at the registry nor where a prefix allows it.
        MlflowException, OSError, CredentialError: the server or store gives no answer.
    """
    place, normal = _proxied(source, registry), _normalised(source)
    is_own = place is not None and place[0] == registry
    # MLflow's own client would send the credentials of the environment to any server that speaks HTTP.
    can_be_allowed = place is not None or normal.partition("://")[0] not in _SERVED
    if not (is_own or (can_be_allowed and any(covers(prefix, normal) for prefix in allowed))):
        shown = without_user(source)
        raise ArtifactLocationError(
            f"they are at {shown!r}, neither at the registry {registry.text} nor where {LOCATIONS_VARIABLE} allows it; "
            "register the version with artifacts that the registry serves, or add the start of that URL to the variable"
        )
    if place is not None:
        _download_proxied(*place, access, into)
        return into
    from mlflow.artifacts import download_artifacts  # noqa: PLC0415 - slow to import

    return Path(download_artifacts(artifact_uri=source, dst_path=str(into), tracking_uri=registry.text))


def _proxied(source: str, registry: RegistryUrl) -> tuple[RegistryUrl, str] | None:
    """Return the MLflow server that hands out artifacts, and their path in its store; None for any other location."""
    if not _is_plain(source):
        return None
    parts = urlsplit(source)
    if parts.scheme not in _SERVED or parts.query or parts.fragment or "@" in parts.netloc:
        return None
    try:
        if parts.scheme == "mlflow-artifacts":
            own = urlsplit(registry.text)
            server = parse_registry_url(f"{own.scheme}://{parts.netloc}{own.path}") if parts.netloc else registry
            path = parts.path
        else:
            base, found, path = source.partition(f"{_PROXY}/")
            if not found:
                return None
            server = parse_registry_url(base)
    except RegistryUrlError:
        return None
    # The registry's address may carry the user and password that it is asked with.
    return registry if server.text == registry.text else server, path.strip("/")


def _download_proxied(server: RegistryUrl, root: str, access: RegistryAccess, into: Path) -> None:
    # Not MLflow's own repository of such artifacts, which takes the credentials of the environment for any server.
    from mlflow.utils.request_utils import augmented_raise_for_status  # noqa: PLC0415 - slow to import
    from mlflow.utils.rest_utils import http_request  # noqa: PLC0415 - as above

    for path in _files(server, root, access):
        target = into / path
        target.parent.mkdir(parents=True, exist_ok=True)
        endpoint = f"{_PROXY}/{quote(f'{root}/{path}')}"
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
    answer = http_request_safe(access.credentials(server), _PROXY, "GET", params=parameters)
    entries: list[dict[str, Any]] = answer.json().get("files", [])
    for entry in entries:
        path = PurePosixPath(folder) / entry["path"]
        if path.is_absolute() or ".." in path.parts or "\0" in entry["path"]:
            raise ArtifactLocationError(f"{server.text} names an artifact {entry['path']!r} outside the model's folder")
        if entry["is_dir"]:
            yield from _files(server, root, access, str(path))
        else:
            yield str(path)


def _normalised_prefix(word: str) -> str:
    prefix = _normalised(word)
    scheme, _, place = prefix.partition("://")
    if not place or scheme in {"runs", "models"}:
        raise ValueError(
            f"{LOCATIONS_VARIABLE} has {without_user(word)!r}, which is no start of artifacts' URLs: write it with "
            "scheme and place, such as s3://models/ or file:///srv/models"
        )
    return prefix


def _normalised(location: str) -> str:
    """Return the form in which locations are compared; empty for one that two programs may read in two ways."""
    if not _is_plain(location):
        return ""
    if location.startswith("/"):
        location = f"file://{location}"
    parts = urlsplit(location)
    return f"{parts.scheme}://{parts.netloc.lower()}{parts.path}".rstrip("/") if parts.scheme else ""


def _is_plain(location: str) -> bool:
    """Tell whether a location has no step upwards, in whatever way it is written, and no host that may be misread."""
    decoded = unquote(unquote(location))
    try:
        urlsplit(location)
    except ValueError:
        return False
    steps = {".", ".."} & set(re.split(r"[/?#;]", decoded))
    return decoded.isprintable() and "\\" not in decoded and not steps
