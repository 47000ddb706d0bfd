"""Messages to a real HTTP server, which does not always take them."""

import asyncio
import json
import logging
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from backstay.controller.runtime import metrics
from backstay.controller.services.notifications import MOST_WAITING, Notifications
from backstay.domain.actions import Announce, Severity
from backstay.domain.resource import ModelDeployment

pytestmark = pytest.mark.component

HIDDEN = "t0ps3cret"
BACK = Announce("RollingBack", "Version 8 gets no more traffic: errors 9 % against 1 %", Severity.WARNING)
STABLE = Announce("Promoted", "Version 9 is stable")
STEP = Announce("StepEnded", "Version 9 goes on to 50 % of the traffic")


class Receiver:
    """A webhook: answers with the codes that it is given, in their order, and then with 200."""

    def __init__(self) -> None:
        self.answers: list[int] = []
        self.got: list[dict[str, Any]] = []
        self.answering = threading.Event()
        self.answering.set()
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                receiver.answering.wait(10)
                code = receiver.answers.pop(0) if receiver.answers else 200
                if code == 200:
                    receiver.got.append(body)
                self.send_response(code)
                self.end_headers()

            def log_message(self, *_: object) -> None:
                """Say nothing."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"json://user:{HIDDEN}@127.0.0.1:{self.server.server_address[1]}/?rto=0.3"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def stop(self) -> None:
        self.server.shutdown()
        self.server.server_close()


@pytest.fixture
def receivers(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Receiver, Receiver]]:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    started = Receiver(), Receiver()
    yield started
    for one in started:
        one.answering.set()
        one.stop()


@pytest.fixture
def receiver(receivers: tuple[Receiver, Receiver]) -> Receiver:
    return receivers[0]


def declared(namespace: str = "fraud-production") -> ModelDeployment:
    return ModelDeployment.of(
        {
            "metadata": {"name": "fraud-detector", "namespace": namespace, "uid": "u", "generation": 1},
            "spec": {
                "model": {"name": "fraud-detector", "version": "8"},
                "registry": {"uri": "http://127.0.0.1:9"},
                "serving": {"template": {"spec": {"containers": [{"name": "server", "image": "server:1"}]}}},
                "traffic": {"gatewayAPI": {"gateway": {"name": "models", "namespace": "gateways"}}},
                "rollout": {"steps": [{"weight": 100}]},
            },
        }
    )


async def until(condition: Callable[[], bool]) -> None:
    for _ in range(1000):
        if condition():
            return
        await asyncio.sleep(0.02)
    raise AssertionError("not within 20 s")


def outcomes(target: str, outcome: str) -> float:
    samples = [sample for metric in metrics.NOTIFICATIONS.collect() for sample in metric.samples]
    wanted = {"target": target, "outcome": outcome}
    return sum(sample.value for sample in samples if sample.labels == wanted and sample.name.endswith("_total"))


async def test_a_message_arrives_once_however_often_it_was_refused_before(
    receiver: Receiver, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    (tmp_path / "once.url").write_text(receiver.url)
    receiver.answers = [500, 429]
    told = Notifications(tmp_path, pauses=(0.05, 0.05, 0.05))
    told.tell(declared(), [BACK, STEP, STABLE])
    await until(lambda: len(receiver.got) == 2)
    await asyncio.sleep(0.3)
    await told.stop()
    assert [(body["title"], body["type"]) for body in receiver.got] == [
        ("fraud-production/fraud-detector: rolling back", "failure"),
        ("fraud-production/fraud-detector: promoted", "success"),
    ]
    assert receiver.got[0]["message"] == BACK.message
    assert HIDDEN not in caplog.text


async def test_a_target_that_hangs_holds_up_no_other_and_is_given_up(
    receivers: tuple[Receiver, Receiver], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    hanging, other = receivers
    hanging.answering.clear()
    (tmp_path / "hanging.url").write_text(hanging.url)
    (tmp_path / "there.url").write_text(other.url)
    told = Notifications(tmp_path, pauses=(0.05,))
    before, begun = outcomes("hanging", "failed"), time.monotonic()
    told.tell(declared(), [BACK])
    assert time.monotonic() - begun < 0.2
    await until(lambda: len(other.got) == 1)
    await until(lambda: outcomes("hanging", "failed") == before + 1)
    await told.stop()
    assert "hanging was not notified: fraud-production/fraud-detector: rolling back" in caplog.text
    assert HIDDEN not in caplog.text


async def test_the_secret_is_read_again_and_what_is_wrong_in_it_is_said_once(
    receiver: Receiver, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    told = Notifications(tmp_path)
    told.tell(declared(), [BACK])
    await asyncio.sleep(0.1)
    (tmp_path / "team.url").write_text(f"slcak://{HIDDEN}")
    for _ in range(2):
        told.tell(declared(), [BACK])
    await until(lambda: "apprise knows no such service" in caplog.text)
    await asyncio.sleep(0.1)
    (tmp_path / "team.url").write_text(receiver.url)
    (tmp_path / "team.namespaces").write_text("-production$")
    told.tell(declared("fraud-staging"), [STABLE])
    told.tell(declared(), [BACK])
    await until(lambda: bool(receiver.got))
    await told.stop()
    assert [body["title"] for body in receiver.got] == ["fraud-production/fraud-detector: rolling back"]
    assert caplog.text.count("team.url, address 1: apprise knows no such service") == 1
    assert HIDDEN not in caplog.text


async def test_the_oldest_of_too_many_is_dropped(receiver: Receiver, tmp_path: Path) -> None:
    (tmp_path / "flooded.url").write_text(receiver.url.replace("rto=0.3", "rto=20"))
    receiver.answering.clear()
    told = Notifications(tmp_path)
    news = [Announce("Promoted", f"Version {number} is stable") for number in range(MOST_WAITING + 3)]
    told.tell(declared(), news)
    # The first is on its way, and two too many wait.
    await until(lambda: outcomes("flooded", "dropped") == 2)
    receiver.answering.set()
    await until(lambda: len(receiver.got) == MOST_WAITING + 1)
    await told.stop()
    assert [body["message"] for body in receiver.got[:2]] == ["Version 0 is stable", "Version 3 is stable"]


async def test_without_a_secret_nothing_is_sent(tmp_path: Path) -> None:
    for folder in (None, tmp_path / "absent"):
        told = Notifications(folder)
        told.tell(declared(), [BACK])
        await told.stop()
