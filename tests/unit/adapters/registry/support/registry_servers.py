"""Servers that speak as much of MLflow's REST API as is used, and write down what they were asked with."""

import json
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

_API = "/api/2.0/mlflow"
_PROXY = "/api/2.0/mlflow-artifacts/artifacts"


@dataclass
class Server:
    """What a server answers, and the path and Authorization of each request that reached it."""

    url: str = ""
    source: str = "mlflow-artifacts:/1/model"
    run_artifacts: str = "mlflow-artifacts:/1"
    logged_model: str = ""
    status: int = 200
    redirect_to: str = ""
    requests: list[tuple[str, str]] = field(default_factory=list)

    @property
    def authorizations(self) -> set[str]:
        return {authorization for _, authorization in self.requests}

    def answer(self, path: str, query: dict[str, list[str]]) -> bytes:
        """Answer as an MLflow server with one version, whose only file is MLmodel."""
        version = {"name": "fraud", "version": "7", "run_id": "r1", "status": "READY"}
        run = {"info": {"run_id": "r1", "artifact_uri": self.run_artifacts, "experiment_id": "1"}, "data": {}}
        info = {"model_id": "m-1", "experiment_id": "1", "name": "logged", "source_run_id": "r1"}
        logged = [{"info": info | {"artifact_uri": self.logged_model}}] if self.logged_model else []
        documents: dict[str, Any] = {
            f"{_API}/registered-models/get": {
                "registered_model": {"name": "fraud", "aliases": [{"alias": "stable", "version": "7"}]}
            },
            f"{_API}/model-versions/get": {"model_version": version},
            f"{_API}/model-versions/get-download-uri": {"artifact_uri": self.source},
            f"{_API}/runs/get": {"run": run},
            f"{_API}/logged-models/search": {"models": logged},
            _PROXY: {"files": [{"path": "MLmodel", "is_dir": False}] if query.get("path") == ["1/model"] else []},
        }
        return b"flavors: {}" if path.startswith(f"{_PROXY}/") else json.dumps(documents.get(path, {})).encode()


def _handler(server: Server) -> Callable[..., BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            url = urlsplit(self.path)
            server.requests.append((url.path, self.headers.get("Authorization", "")))
            body = server.answer(url.path, parse_qs(url.query)) if server.status == 200 else b"not here"
            self.send_response(302 if server.redirect_to else server.status)
            if server.redirect_to:
                self.send_header("Location", f"{server.redirect_to}{self.path}")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            self.do_GET()

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base class's name
            """Say nothing."""

    return Handler


@contextmanager
def running(address: str = "127.0.0.1") -> Iterator[Server]:
    """Run a server on a free port of a loopback address."""
    held = Server()
    with ThreadingHTTPServer((address, 0), _handler(held)) as server:
        held.url = f"http://{address}:{server.server_address[1]}"
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield held
        finally:
            server.shutdown()
            thread.join()


def folder(where: Path, keys: Mapping[str, str]) -> Path:
    """Make a folder as the Secret is mounted."""
    where.mkdir()
    for key, text in keys.items():
        (where / key).write_text(text)
    return where
