"""Fetching from a server that speaks as much of MLflow's REST API as is used; tests/component has the real one."""

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from backstay_serving.registry import fetch
from backstay_serving.settings import Elsewhere, Folder, Registered, StartError, parse_artifact_locations

VERSION = Registered("fraud detector", "7")
API = "/api/2.0/mlflow"
PROXY = f"{API}-artifacts/artifacts"


@dataclass
class Registry:
    """What the server holds, and what it was asked with."""

    url: str = ""
    artifact_uri: str = "mlflow-artifacts:/1/models/m-0/artifacts"
    files: dict[str, bytes] = field(default_factory=dict)
    listings: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    authorizations: list[str] = field(default_factory=list)
    run_artifacts: str = ""
    logged_model: str = ""
    redirect_to: str = ""
    busy_answers: int = 0


def documents(registry: Registry, query: dict[str, list[str]]) -> dict[str, dict[str, Any]]:
    """Return what the server says, by path."""
    version = {"name": VERSION.name, "version": VERSION.version}
    model = {"name": VERSION.name, "aliases": [{"alias": "champion", "version": VERSION.version}]}
    run = {"info": {"run_id": "r1", "artifact_uri": registry.run_artifacts}, "data": {}}
    info = {"model_id": "m-1", "experiment_id": "1", "name": "logged", "source_run_id": "r1"}
    logged = [{"info": info | {"artifact_uri": registry.logged_model}}] if registry.logged_model else []
    known: dict[str, dict[str, Any]] = {
        f"{API}/runs/get": {"run": run},
        f"{API}/logged-models/search": {"models": logged},
        f"{API}/registered-models/get": {"registered_model": model},
        f"{API}/registered-models/alias": {"model_version": version},
        PROXY: {"files": registry.listings.get(query.get("path", [""])[0], [])},
    }
    if query == {"name": [VERSION.name], "version": [VERSION.version]}:
        known[f"{API}/model-versions/get-download-uri"] = {"artifact_uri": registry.artifact_uri}
    return known


def handler_of(registry: Registry) -> Callable[..., BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            registry.authorizations.append(self.headers.get("Authorization", ""))
            if registry.redirect_to:
                self.send_response(302)
                self.send_header("Location", f"{registry.redirect_to}{self.path}")
                self.end_headers()
                return
            if registry.busy_answers:
                registry.busy_answers -= 1
                self._answer(503, b"")
                return
            url = urlsplit(self.path)
            query = parse_qs(url.query)
            document = documents(registry, query).get(url.path)
            if document is not None:
                self._answer(200, json.dumps(document).encode())
            elif url.path == f"{API}/model-versions/get-download-uri":
                self._answer(404, b"")
            else:
                self._answer(200, registry.files[url.path.removeprefix(f"{PROXY}/1/models/m-0/artifacts/")])

        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            self.do_GET()

        def _answer(self, status: int, body: bytes) -> None:
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002  the base class's name
            """Say nothing."""

    return Handler


@contextmanager
def running(held: Registry, address: str = "127.0.0.1") -> Iterator[Registry]:
    with ThreadingHTTPServer((address, 0), handler_of(held)) as server:
        held.url = f"http://{address}:{server.server_address[1]}"
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield held
        server.shutdown()
        thread.join()


@pytest.fixture
def registry() -> Iterator[Registry]:
    held = Registry(
        files={"MLmodel": b"flavors: {}", "code/a%20b.py": b"x = 1"},
        listings={
            "1/models/m-0/artifacts": [{"path": "MLmodel", "is_dir": False}, {"path": "code", "is_dir": True}],
            "1/models/m-0/artifacts/code": [{"path": "a b.py", "is_dir": False}],
        },
    )
    with running(held) as server:
        yield server


@pytest.fixture
def evil(registry: Registry) -> Iterator[Registry]:
    """Run a server that has the same to offer, at another host."""
    with running(Registry(files=registry.files, listings=registry.listings), "127.0.0.2") as server:
        yield server


def test_a_version_is_fetched_with_its_folders(registry: Registry, tmp_path: Path) -> None:
    assert fetch(VERSION, tracking_uri=f"{registry.url}/", into=tmp_path) == tmp_path
    assert (tmp_path / "MLmodel").read_bytes() == b"flavors: {}"
    assert (tmp_path / "code" / "a b.py").read_bytes() == b"x = 1"


def test_a_registry_that_is_busy_for_a_moment_is_asked_again(registry: Registry, tmp_path: Path) -> None:
    registry.busy_answers = 1
    fetch(VERSION, tracking_uri=registry.url, into=tmp_path)
    assert (tmp_path / "MLmodel").exists()


@pytest.mark.parametrize(
    ("environment", "authorization"),
    [
        ({}, ""),
        ({"MLFLOW_TRACKING_TOKEN": "t0ken"}, "Bearer t0ken"),
        ({"MLFLOW_TRACKING_USERNAME": "me", "MLFLOW_TRACKING_PASSWORD": "pw"}, "Basic bWU6cHc="),
    ],
)
def test_credentials_are_those_of_mlflows_client(
    registry: Registry,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    environment: dict[str, str],
    authorization: str,
) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    fetch(VERSION, tracking_uri=registry.url, into=tmp_path)
    assert set(registry.authorizations) == {authorization}


def test_a_version_that_does_not_exist_is_named(registry: Registry, tmp_path: Path) -> None:
    with pytest.raises(StartError, match="has no version 8 of fraud detector: register it, or correct"):
        fetch(Registered("fraud detector", "8"), tracking_uri=registry.url, into=tmp_path)


@pytest.mark.parametrize("path", ["../escape", "/etc/escape"])
def test_a_file_that_leaves_the_folder_is_refused(registry: Registry, tmp_path: Path, path: str) -> None:
    registry.listings["1/models/m-0/artifacts"].append({"path": path, "is_dir": False})
    with pytest.raises(StartError, match="which leaves the model's folder"):
        fetch(VERSION, tracking_uri=registry.url, into=tmp_path)


def test_a_version_without_a_model_is_refused(registry: Registry, tmp_path: Path) -> None:
    registry.listings["1/models/m-0/artifacts"] = []
    with pytest.raises(StartError, match="has no file MLmodel at mlflow-artifacts:/1/models/m-0/artifacts"):
        fetch(VERSION, tracking_uri=registry.url, into=tmp_path)


def test_a_folder_is_used_where_it_is(tmp_path: Path) -> None:
    (tmp_path / "MLmodel").touch()
    assert fetch(Folder(tmp_path), tracking_uri="", into=tmp_path / "unused") == tmp_path


@pytest.mark.parametrize(
    "location",
    [
        "mlflow-artifacts://{host}/1/models/m-0/artifacts",
        "{url}/api/2.0/mlflow-artifacts/artifacts/1/models/m-0/artifacts",
    ],
)
def test_other_ways_to_write_the_tracking_server_are_fetched(registry: Registry, tmp_path: Path, location: str) -> None:
    registry.artifact_uri = location.format(url=registry.url, host=registry.url.removeprefix("http://"))
    assert fetch(VERSION, tracking_uri=registry.url, into=tmp_path) == tmp_path


@pytest.mark.parametrize(
    "location",
    [
        "mlflow-artifacts://{evil}/1/models/m-0/artifacts",
        "mlflow-artifacts://{host}@{evil}/1/models/m-0/artifacts",
        "http://{evil}/api/2.0/mlflow-artifacts/artifacts/1/models/m-0/artifacts",
        "http://{host}@{evil}/api/2.0/mlflow-artifacts/artifacts/1/models/m-0/artifacts",
        "http://{evil}\\@{host}/api/2.0/mlflow-artifacts/artifacts/1/models/m-0/artifacts",
        "https://{host}/api/2.0/mlflow-artifacts/artifacts/1/models/m-0/artifacts",
        "file:///etc/ssl",
        "/etc/ssl",
        "etc/ssl",
        "s3://models/1",
        "ftp://{evil}/1",
        "mlflow-artifacts:/1/../../../2.0/mlflow/model",
        "mlflow-artifacts:/1/%2e%2e/model",
        "s3://allowed/team-a/../team-b",
        "s3://allowed/team-ab",
        "s3://allowed.evil/team-a",
        "",
    ],
)
def test_artifacts_at_another_place_are_not_fetched(
    registry: Registry, evil: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, location: str
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_TOKEN", "t0ken")
    registry.artifact_uri = location.format(
        evil=evil.url.removeprefix("http://"), host=registry.url.removeprefix("http://")
    )
    allowed = parse_artifact_locations("s3://allowed/team-a")
    with pytest.raises(
        StartError,
        match=r"^The artifacts of version 7 of fraud detector are at '.*', neither at the MLflow server .* nor where "
        "MODEL_ARTIFACT_LOCATIONS allows it: register the version with artifacts",
    ):
        fetch(VERSION, tracking_uri=registry.url, into=tmp_path, allowed=allowed)
    assert evil.authorizations == []
    assert len(registry.authorizations) == 1


def test_a_run_or_an_alias_that_leads_to_another_place_is_not_fetched(
    registry: Registry, evil: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_TOKEN", "t0ken")
    registry.run_artifacts = f"mlflow-artifacts://{evil.url.removeprefix('http://')}/1"
    registry.artifact_uri = "runs:/r1/models/m-0/artifacts"
    for source in (VERSION, Elsewhere("runs:/r1/models/m-0/artifacts")):
        with pytest.raises(StartError, match="nor where MODEL_ARTIFACT_LOCATIONS allows it"):
            fetch(source, tracking_uri=registry.url, into=tmp_path)
    registry.logged_model, registry.run_artifacts = registry.run_artifacts, "mlflow-artifacts:/1"
    with pytest.raises(StartError, match="nor where MODEL_ARTIFACT_LOCATIONS allows it"):
        fetch(Elsewhere("runs:/r1/logged"), tracking_uri=registry.url, into=tmp_path)
    registry.artifact_uri = registry.logged_model
    with pytest.raises(StartError, match=r"^The artifacts of the model models:/fraud detector@champion are at"):
        fetch(Elsewhere("models:/fraud detector@champion"), tracking_uri=registry.url, into=tmp_path)
    assert evil.authorizations == []


def test_a_run_and_an_alias_of_the_tracking_server_are_fetched(registry: Registry, tmp_path: Path) -> None:
    registry.run_artifacts, registry.logged_model = "mlflow-artifacts:/1", "mlflow-artifacts:/1/models/m-0"
    for number, uri in enumerate(("runs:/r1/logged/artifacts", "models:/fraud detector@champion")):
        into = tmp_path / str(number)
        into.mkdir()
        fetch(Elsewhere(uri), tracking_uri=registry.url, into=into)
        assert (into / "code" / "a b.py").read_bytes() == b"x = 1"


def test_a_place_that_the_deployer_names_is_fetched_from(registry: Registry, tmp_path: Path) -> None:
    model = tmp_path / "models" / "7"
    model.mkdir(parents=True)
    (model / "MLmodel").write_text("flavors: {}")
    registry.artifact_uri = f"file://{model}"
    into = tmp_path / "into"
    into.mkdir()
    allowed = parse_artifact_locations(f"s3://other, file://{tmp_path}/models/")
    assert (fetch(VERSION, tracking_uri=registry.url, into=into, allowed=allowed) / "MLmodel").is_file()


def test_credentials_do_not_follow_to_another_host(
    registry: Registry, evil: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_TOKEN", "t0ken")
    registry.redirect_to = evil.url
    fetch(VERSION, tracking_uri=registry.url, into=tmp_path)
    assert set(registry.authorizations) == {"Bearer t0ken"}
    assert set(evil.authorizations) == {""}


@pytest.mark.parametrize("text", ["s3:", "s3://", "models", "runs:/r1", "models:/a/1", "file:///", "s3://a/../b"])
def test_what_is_no_prefix_of_locations_is_named(text: str) -> None:
    with pytest.raises(StartError, match=r"^MODEL_ARTIFACT_LOCATIONS has '.*', but its prefixes have a scheme and"):
        parse_artifact_locations(text)
