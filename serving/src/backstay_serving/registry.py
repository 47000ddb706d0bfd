"""Fetching a model's artifacts.

A pod that starts should not pay for MLflow's client, which takes 1.5 s of processor time and 100 MB to import. What the
usual case needs of it, a tracking server that hands out the artifacts itself, is two calls of MLflow's REST API. Every
other store is left to MLflow's client in a process of its own, whose memory is given back when it ends.
"""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import quote

import requests
from requests.adapters import HTTPAdapter
from urllib3.util import Retry

from backstay_contract.locations import PROXY, Allowed, Forbidden, Proxied, locate
from backstay_serving.settings import Elsewhere, Folder, Registered, Source, StartError

_TIMEOUT = (5, 60)  # seconds to connect, and between two chunks of an answer
_RETRY = Retry(  # waits of 0.5, 1, 2, 4, 8, 8 s: an MLflow server that is being restarted is back by then
    total=6,
    backoff_factor=0.5,
    backoff_max=8,
    status_forcelist=(429, 502, 503, 504),
    allowed_methods=("GET",),
    raise_on_status=False,
)
_CHUNK_BYTES = 1 << 20
_NOT_FOUND = 404
_SERVERS = ("http://", "https://")
_ASKED_FOR = ("runs:", "models:")  # what the tracking server has to say the location of


def fetch(source: Source, *, tracking_uri: str, into: Path, allowed: tuple[str, ...] = ()) -> Path:
    """Bring a model's artifacts onto this machine.

    Args:
        source: which artifacts.
        tracking_uri: the MLflow server that knows the version, as in MLFLOW_TRACKING_URI.
        into: an existing folder that may be written to.
        allowed: where artifacts may be beside the tracking server: URL prefixes, see `backstay_contract.locations`.

    Returns:
        The folder that holds `MLmodel`. A model that is already on this machine is not copied.

    Raises:
        StartError: the model is not there or may not be fetched from where it is, or the server cannot be reached.
    """
    match source:
        case Folder():
            if not (source.path / "MLmodel").is_file():
                raise StartError(
                    f"{source.path} holds no file MLmodel: give the folder that MLflow logged the model to"
                )
            return source.path
        case Elsewhere() if not source.uri.startswith(_ASKED_FOR):
            return _with_mlflow(source.uri, tracking_uri=tracking_uri, into=into)
        case Elsewhere():
            what, uri = f"the model {source.uri}", source.uri
        case Registered():
            what, uri = f"version {source.version} of {source.name}", f"models:/{source.name}/{source.version}"
    tracking_uri = tracking_uri.rstrip("/") if tracking_uri.startswith(_SERVERS) else tracking_uri
    try:
        with _session() as session:
            if isinstance(source, Registered) and tracking_uri.startswith(_SERVERS):
                uri = _told(session, source, tracking_uri)
            if uri.startswith(_ASKED_FOR):
                uri = _resolved(uri, tracking_uri)
            return _located(session, uri, tracking_uri=tracking_uri, into=into, allowed=allowed, what=what)
    except requests.RequestException as error:
        raise StartError(
            f"Could not fetch {what} from MLflow at {tracking_uri}: {_cause(error)}; check MLFLOW_TRACKING_URI and "
            "that the server runs"
        ) from error


def _located(  # noqa: PLR0913  what is fetched, from where and to where
    session: requests.Session, uri: str, *, tracking_uri: str, into: Path, allowed: tuple[str, ...], what: str
) -> Path:
    """Fetch from the location that the tracking server has told, if that may be."""
    match locate(uri, tracking_uri=tracking_uri, allowed=allowed):
        case Proxied(path=path):
            proxy = _Proxy(session, f"{tracking_uri}{PROXY}", path)
            for file in proxy.files():
                proxy.download(file, into / file)
            if not (into / "MLmodel").is_file():
                raise StartError(f"{what[0].upper()}{what[1:]} has no file MLmodel at {uri}: register it again")
            return into
        case Allowed():
            return _with_mlflow(uri, tracking_uri=tracking_uri, into=into)
        case Forbidden():
            raise StartError(
                f"The artifacts of {what} are at {uri!r}, neither at the MLflow server {tracking_uri} nor where "
                "MODEL_ARTIFACT_LOCATIONS allows it: register the version with artifacts that this server hands out, "
                "or add the start of that URL to the variable"
            )


def _told(session: requests.Session, version: Registered, tracking_uri: str) -> str:
    """Ask the server where a version's artifacts are."""
    answer = session.get(
        f"{tracking_uri}/api/2.0/mlflow/model-versions/get-download-uri",
        params={"name": version.name, "version": version.version},
        timeout=_TIMEOUT,
    )
    if answer.status_code == _NOT_FOUND:
        raise StartError(
            f"MLflow at {tracking_uri} has no version {version.version} of {version.name}: register it, or correct "
            "spec.model in model-version.yaml"
        )
    answer.raise_for_status()
    return str(answer.json()["artifact_uri"])


class _Proxy:
    """The artifacts of one model as an MLflow server hands them out.

    Args:
        session: what to ask with.
        endpoint: the URL of the server's artifact API.
        root: the model's path in the server's artifact store.
    """

    def __init__(self, session: requests.Session, endpoint: str, root: str) -> None:
        self._session = session
        self._endpoint = endpoint
        self._root = root

    def files(self, folder: str = "") -> Iterator[str]:
        """Yield the path, relative to the root, of every file below a folder."""
        answer = self._session.get(
            self._endpoint, params={"path": f"{self._root}/{folder}".rstrip("/")}, timeout=_TIMEOUT
        )
        answer.raise_for_status()
        entries: list[dict[str, Any]] = answer.json().get("files", [])
        for entry in entries:
            path = PurePosixPath(folder) / entry["path"]
            if path.is_absolute() or ".." in path.parts:
                raise StartError(
                    f"The MLflow server names an artifact {entry['path']!r}, which leaves the model's folder"
                )
            if entry["is_dir"]:
                yield from self.files(str(path))
            else:
                yield str(path)

    def download(self, path: str, target: Path) -> None:
        """Write one file."""
        target.parent.mkdir(parents=True, exist_ok=True)
        url = f"{self._endpoint}/{quote(f'{self._root}/{path}')}"
        with self._session.get(url, stream=True, timeout=_TIMEOUT) as answer, target.open("wb") as file:
            answer.raise_for_status()
            for chunk in answer.iter_content(_CHUNK_BYTES):
                file.write(chunk)


def _session() -> requests.Session:
    """Return a session with the credentials and certificates that MLflow's client would take from the environment."""
    session = requests.Session()
    for scheme in ("http://", "https://"):
        session.mount(scheme, HTTPAdapter(max_retries=_RETRY))
    user, password = os.environ.get("MLFLOW_TRACKING_USERNAME"), os.environ.get("MLFLOW_TRACKING_PASSWORD")
    token = os.environ.get("MLFLOW_TRACKING_TOKEN")
    if user and password:
        session.auth = (user, password)
    elif token:
        session.headers["Authorization"] = f"Bearer {token}"
    authority = os.environ.get("MLFLOW_TRACKING_SERVER_CERT_PATH")
    if authority:
        session.verify = authority
    return session


def _with_mlflow(uri: str, *, tracking_uri: str, into: Path) -> Path:
    """Download with MLflow's client, in a process of its own."""
    command = ("mlflow", "artifacts", "download", "--artifact-uri", uri, "--dst-path", str(into))
    _run(command, tracking_uri=tracking_uri, problem=f"MLflow's client could not download {uri}")
    for found in (into, *sorted(path for path in into.iterdir() if path.is_dir())):
        if (found / "MLmodel").is_file():
            return found
    raise StartError(f"{uri} holds no file MLmodel: give the URI of a logged model")


def _resolved(uri: str, tracking_uri: str) -> str:
    """Have the tracking server asked, in a process of its own, which location a URI stands for."""
    problem = f"MLflow's client could not find {uri}"
    written = _run(("backstay_serving.resolve", uri), tracking_uri=tracking_uri, problem=problem)
    return (written.strip().splitlines() or [""])[-1]


def _run(command: tuple[str, ...], *, tracking_uri: str, problem: str) -> str:
    """Run a Python module and return what it wrote."""
    done = subprocess.run(
        [sys.executable, "-m", *command],
        env=os.environ | ({"MLFLOW_TRACKING_URI": tracking_uri} if tracking_uri else {}),
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        last = (done.stderr.strip().splitlines() or ["no reason given"])[-1]
        raise StartError(f"{problem}: {last}")
    return done.stdout


def _cause(error: requests.RequestException) -> str:
    """Return the innermost reason, which is the part that a person can act on."""
    reason: BaseException = error
    while (inner := getattr(reason, "reason", None) or reason.__cause__ or reason.__context__) is not None:
        if not isinstance(inner, BaseException):
            break
        reason = inner
    return str(reason).strip() or type(reason).__name__
