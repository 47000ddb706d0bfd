"""People are told of a rollback, once, however often the controller is started again."""

import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from backstay_playground.demo.stage import MODEL, Pace

pytestmark = pytest.mark.e2e

SYSTEM = "--namespace=backstay-system"
TARGETS = "backstay-notifications"


@contextmanager
def webhook() -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """Listen on this machine; gives the address and what arrives."""
    got: list[dict[str, Any]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            got.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"json://127.0.0.1:{server.server_address[1]}", got
    finally:
        server.shutdown()
        server.server_close()


def test_a_rollback_is_told_once(deliver: Any, fast: Pace) -> None:
    delivery = deliver("2", pace=fast)
    traffic = delivery.traffic()
    with webhook() as (url, got):
        address = f"--from-literal=team.url={url}"
        namespaces = f"--from-literal=team.namespaces=^{delivery.target.namespace}$"
        delivery.kubectl("create", "secret", "generic", TARGETS, SYSTEM, address, namespaces)
        try:
            rollback = delivery.observer.roll_back("3", traffic)
            delivery.wait_until("both messages are there", lambda: len(got) >= 2, timeout=30)
            delivery.kubectl("delete", "pods", SYSTEM, "--selector=app.kubernetes.io/name=backstay", "--wait=true")
            delivery.kubectl("rollout", "status", "deployment/backstay-controller", SYSTEM, "--timeout=90s")
            # Time for a repetition, which must not come.
            time.sleep(5)
        finally:
            delivery.kubectl("delete", "secret", TARGETS, SYSTEM)
    what = f"{delivery.target.namespace}/{MODEL}"
    assert [(message["title"], message["type"]) for message in got] == [
        (f"{what}: rolling back", "failure"),
        (f"{what}: rolled back", "success"),
    ]
    assert got[0]["message"] == f"Version 3 gets no more traffic: {rollback.reason}"
