"""The server as a process under what callers do to it: masses of nonsense, too much at once, a stop amid traffic."""

from __future__ import annotations

import json
import os
import random
import signal
import socket
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

import httpx
import psutil
import pytest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

pytestmark = [pytest.mark.component, pytest.mark.timeout(300)]

DEADLINE = 60.0
GOOD = json.dumps({"dataframe_records": [{"amount": 9.0, "hour": 2.0}]}).encode()
JSON = {"Content-Type": "application/json"}
MALFORMED = 10_000


@dataclass(frozen=True)
class Server:
    process: subprocess.Popen[bytes]
    url: str
    log: Path

    def metric(self, sample: str) -> float:
        """Return a sample's value, given by its name or by its name and first label."""
        lines = httpx.get(f"{self.url}/metrics").text.splitlines()
        return sum(float(line.rsplit(" ", 1)[1]) for line in lines if line.startswith(sample))


Start: TypeAlias = "Callable[..., AbstractContextManager[Server]]"


@pytest.fixture
def started(classifier: Path, tmp_path: Path) -> Start:
    """Start a server of the classifier with environment variables, and stop it in the end."""

    @contextmanager
    def start(**environment: str) -> Iterator[Server]:
        with socket.create_server(("127.0.0.1", 0)) as listener:
            port = listener.getsockname()[1]
        given = {
            "MODEL_URI": str(classifier),
            "MODEL_NAME": "fraud-detector",
            "MODEL_VERSION": "7",
            "MODEL_CACHE_DIR": str(tmp_path),
            "POD_IP": "127.0.0.1",
            "PORT": str(port),
        }
        log = tmp_path / "stderr"
        with log.open("wb") as stderr:
            process = subprocess.Popen(
                [sys.executable, "-m", "backstay_serving"], env=os.environ | given | environment, stderr=stderr
            )
        try:
            url = f"http://127.0.0.1:{port}"
            _wait_until_ready(url, process)
            yield Server(process=process, url=url, log=log)
        finally:
            if process.poll() is None:
                process.kill()
            process.wait()

    return start


def _wait_until_ready(url: str, process: subprocess.Popen[bytes]) -> None:
    until = time.monotonic() + DEADLINE
    while time.monotonic() < until:
        assert process.poll() is None
        try:
            if httpx.get(f"{url}/readyz").status_code == httpx.codes.OK:
                return
        except httpx.TransportError:
            pass
        threading.Event().wait(0.05)
    pytest.fail("the server did not become ready")


def _nonsense(chance: random.Random) -> tuple[str, bytes, dict[str, str]]:
    """Return path, body and headers of a request that is a caller's mistake."""
    noise = chance.randbytes(chance.randrange(1, 200))
    cut = GOOD[: chance.randrange(len(GOOD))]
    wrong: list[object] = [
        [],
        {},
        {"inputs": []},
        {"instances": [[1]]},
        {"instances": [[[1, 2]]]},
        {"dataframe_records": [{"amount": "dear", "hour": 1}]},
        {"dataframe_records": [{"amount": 1}]},
        {"dataframe_records": [{"amount": [1], "hour": {}}]},
        {"dataframe_records": [1]},
        {"dataframe_split": {"columns": ["amount", "amount"], "data": [[1, 2]]}},
        {"dataframe_split": {"columns": ["amount", "hour"], "data": [[1]]}},
        {"dataframe_split": {"columns": [1], "data": None}},
        {"dataframe_records": [{"amount": 10**400, "hour": 1}]},
        {"inputs": {"amount": [1, 2], "hour": [1]}},
        {"inputs": [[1.0, 2.0]], "params": {"unheard": 1}},
        {"inputs": [[1.0, 2.0]], "params": [1]},
        {"inputs": [[1.0, 2.0]], "more": 1},
    ]
    bodies = [
        ("/invocations", noise + b"\xff", JSON),
        ("/invocations", cut, JSON),
        ("/invocations", json.dumps(chance.choice(wrong)).encode(), JSON),
        ("/invocations", b"[" * 100_000, JSON),
        ("/invocations", b'{"inputs": [[' + b"1" * 5000 + b", 1]]}", JSON),
        ("/invocations", b"amount,hour\n1,2,3\n", {"Content-Type": "text/csv"}),
        ("/invocations", b'amount,hour\n"1,2', {"Content-Type": "text/csv"}),
        ("/invocations", noise + b"\xff", {"Content-Type": "text/csv"}),
        ("/invocations", GOOD, {"Content-Type": "application/x-" + "y" * chance.randrange(1, 50)}),
        ("/invocations", GOOD, {"Content-Type": "application/json; charset=latin-1"}),
        ("/invocations", GOOD + b" " * 150_000, JSON),
        ("/feedback", cut, JSON),
        ("/feedback", json.dumps({"id": f"{chance.random()}", "label": 1}).encode(), JSON),
        ("/feedback", noise, {}),
        (f"/{chance.random()}", GOOD, JSON),
    ]
    return chance.choice(bodies)


def test_ten_thousand_malformed_requests_cost_nothing(started: Start) -> None:
    chance = random.Random(7)  # noqa: S311  the same nonsense at every run
    statuses: set[int] = set()

    def send(client: httpx.Client, times: int) -> None:
        for _ in range(times):
            path, body, headers = _nonsense(chance)
            answer = client.post(path, content=body, headers=headers)
            statuses.add(answer.status_code)
            assert 400 <= answer.status_code < 500, (answer.status_code, answer.text, body[:200])
            assert set(answer.json()) == {"error_code", "message"}

    with (
        started(MAX_BODY_BYTES="120000", FEEDBACK_MAX_PREDICTIONS="1000") as server,
        httpx.Client(base_url=server.url, timeout=DEADLINE) as client,
    ):
        process = psutil.Process(server.process.pid)
        send(client, 500)  # what Python and the allocator take once
        memory, files = process.memory_info().rss, process.num_fds()
        send(client, MALFORMED)
        assert process.memory_info().rss < memory * 1.05
        assert process.num_fds() == files
        assert server.metric("backstay_errors_total") == 0
        assert client.post("/invocations", content=GOOD, headers=JSON).json()["predictions"] == [1]
        assert "Traceback" not in server.log.read_text()
    assert {400, 404, 413, 415} <= statuses


def test_too_much_at_once_is_answered_503_and_counted_and_nothing_else_breaks(
    started: Start,
) -> None:
    many = json.dumps({"instances": [[9.0, 2.0]] * 20_000}).encode()
    with started(MAX_WAITING="2") as server, ThreadPoolExecutor(12) as callers:

        def call(_: int) -> httpx.Response:
            return httpx.post(f"{server.url}/invocations", content=many, headers=JSON, timeout=DEADLINE)

        answers = list(callers.map(call, range(48)))
        refused = [answer for answer in answers if answer.status_code == 503]
        assert {answer.status_code for answer in answers} == {200, 503}
        assert {answer.headers["retry-after"] for answer in refused} == {"1"}
        assert server.metric('backstay_errors_total{kind="overloaded"') == len(refused)
        assert server.metric("backstay_requests_total") == len(answers)
        assert httpx.get(f"{server.url}/readyz").status_code == 200


def test_a_stop_amid_traffic_loses_no_answer_and_no_line_of_the_log(started: Start, tmp_path: Path) -> None:
    """Four callers go from the server that stops to the next one, as a gateway does in a rolling update."""
    answered: list[str] = []
    lost: list[BaseException] = []
    under_way = threading.Semaphore(0)
    logs = [tmp_path / "first.jsonl", tmp_path / "second.jsonl"]

    def call(first: str, second: str) -> None:
        url, left = first, 50
        client = httpx.Client(timeout=DEADLINE)
        while left:
            try:
                answer = client.post(f"{url}/invocations", content=GOOD, headers=JSON)
                assert answer.status_code == 200
            except (httpx.HTTPError, AssertionError) as error:
                lost.append(error)
                break
            answered.append(answer.headers["x-request-id"])
            under_way.release()
            left -= url == second
            if answer.headers.get("connection") == "close":
                url = second
        client.close()

    with (
        started(DRAIN_SECONDS="2", PREDICTION_LOG=str(logs[0])) as first,
        started(DRAIN_SECONDS="0", PREDICTION_LOG=str(logs[1])) as second,
    ):
        callers = [threading.Thread(target=call, args=(first.url, second.url)) for _ in range(4)]
        for caller in callers:
            caller.start()
        for _ in range(100):
            assert under_way.acquire(timeout=DEADLINE)
        first.process.send_signal(signal.SIGTERM)
        for caller in callers:
            caller.join(timeout=DEADLINE)
        assert first.process.wait(timeout=DEADLINE) == 0
        second.process.send_signal(signal.SIGTERM)
        assert second.process.wait(timeout=DEADLINE) == 0
    assert lost == []
    logged = [json.loads(line)["id"] for log in logs for line in log.read_text().splitlines()]
    assert sorted(logged) == sorted(answered)
    assert len(answered) >= 300
