"""A Prometheus whose answers are not true, between the controller and the real one."""

import json
import random
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx

from backstay_playground.demo.controller import restart_controller
from backstay_playground.playground import Playground

_TARGET = "playground.backstay.dev/target"
_SEED = 7


@dataclass
class Lies:
    """How often an answer is untrue of a pod: the chance of each kind of lie, for each pod and answer.

    Attributes:
        resets: its counters begin at zero again, for good.
        gaps: it is missing.
        stale: it is as it was in the answer before.
        lies: how many have been told.
    """

    resets: float = 0.0
    gaps: float = 0.0
    stale: float = 0.0
    lies: int = 0
    _chance: random.Random = field(default_factory=lambda: random.Random(_SEED), repr=False)  # noqa: S311 - no secret
    _taken_off: dict[str, float] = field(default_factory=dict, repr=False)
    _before: dict[str, str] = field(default_factory=dict, repr=False)

    def tell(self, result: list[dict[str, Any]], query: str) -> list[dict[str, Any]]:
        """Change the series of one answer."""
        fates = {pod: self._fate() for pod in sorted({series["metric"].get("pod", "") for series in result})}
        told = []
        for series in result:
            name = json.dumps([query.partition("{")[0], series["metric"]], sort_keys=True)
            at, text = series["value"]
            match fates[series["metric"].get("pod", "")]:
                case "gap":
                    continue
                case "stale" if name in self._before:
                    told.append({**series, "value": [at, self._before[name]]})
                    continue
                case "reset":
                    self._taken_off[name] = float(text)
            value = str(float(text) - self._taken_off.get(name, 0.0))
            self._before[name] = value
            told.append({**series, "value": [at, value]})
        return told

    def _fate(self) -> str:
        drawn = self._chance.random()
        for fate, chance in (("reset", self.resets), ("gap", self.gaps), ("stale", self.stale)):
            if drawn < chance:
                self.lies += 1
                return fate
            drawn -= chance
        return "true"


@contextmanager
def lying_prometheus(playground: Playground, lies: Lies) -> Iterator[Lies]:
    """Let the controller get these answers for a while, from a new start on."""
    lock = threading.Lock()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            kept = {name: self.headers[name] for name in ("Content-Type", "Accept") if name in self.headers}
            answer = httpx.post(f"{playground.prometheus_url}{self.path}", content=body, headers=kept, trust_env=False)
            content = answer.content
            # What is read after an absence, of several times at once, is left as it is.
            if answer.is_success and "query_range" not in self.path:
                document = answer.json()
                with lock:
                    query = parse_qs(urlsplit(self.path).query or body.decode())["query"][0]
                    document["data"]["result"] = lies.tell(document["data"]["result"], query)
                content = json.dumps(document).encode()
            self.send_response(answer.status_code)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        _point(playground, f"127.0.0.1:{server.server_port}")
        # Its connection to the real one would stay.
        restart_controller(playground)
        yield lies
    finally:
        _point(playground, playground.prometheus_url.removeprefix("http://"))
        server.shutdown()
        server.server_close()
        thread.join()


def _point(playground: Playground, target: str) -> None:
    annotation = f"{_TARGET}={target}"
    playground.kubectl("annotate", "--overwrite", "service", "prometheus", "--namespace=monitoring", annotation)
