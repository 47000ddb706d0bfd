"""Fetching from a server that speaks as much of MLflow's REST API as is used; tests/component has the real one."""

import json
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from backstay_serving.registry import fetch
from backstay_serving.settings import Folder, Registered, StartError

VERSION = Registered("fraud detector", "7")


@dataclass
class Registry:
    """What the server holds, and what it was asked with."""

    url: str = ""
    artifact_uri: str = "mlflow-artifacts:/1/models/m-0/artifacts"
    files: dict[str, bytes] = field(default_factory=dict)
    listings: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    authorizations: list[str] = field(default_factory=list)
    busy_answers: int = 0


def handler_of(registry: Registry) -> Callable[..., BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            registry.authorizations.append(self.headers.get("Authorization", ""))
            if registry.busy_answers:
                registry.busy_answers -= 1
                self._answer(503, b"")
                return
            url = urlsplit(self.path)
            query = parse_qs(url.query)
            prefix = "/api/2.0/mlflow-artifacts/artifacts"
            if url.path == "/api/2.0/mlflow/model-versions/get-download-uri":
                known = query == {"name": [VERSION.name], "version": [VERSION.version]}
                self._answer(200 if known else 404, json.dumps({"artifact_uri": registry.artifact_uri}).encode())
            elif url.path == prefix:
                self._answer(200, json.dumps({"files": registry.listings.get(query["path"][0], [])}).encode())
            else:
                self._answer(200, registry.files[url.path.removeprefix(f"{prefix}/1/models/m-0/artifacts/")])

        def _answer(self, status: int, body: bytes) -> None:
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002  the base class's name
            """Say nothing."""

    return Handler


@pytest.fixture
def registry() -> Iterator[Registry]:
    held = Registry(
        files={"MLmodel": b"flavors: {}", "code/a%20b.py": b"x = 1"},
        listings={
            "1/models/m-0/artifacts": [{"path": "MLmodel", "is_dir": False}, {"path": "code", "is_dir": True}],
            "1/models/m-0/artifacts/code": [{"path": "a b.py", "is_dir": False}],
        },
    )
    with ThreadingHTTPServer(("127.0.0.1", 0), handler_of(held)) as server:
        held.url = f"http://127.0.0.1:{server.server_address[1]}"
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield held
        server.shutdown()
        thread.join()


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
