"""The server as a process: how it starts, refuses, and stops, with a real MLflow server and the example model."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import httpx
import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = [pytest.mark.component, pytest.mark.timeout(600)]

TRAIN = Path(__file__).parents[3] / "pipelines" / "fraud_detector" / "train.py"
DEADLINE = 180.0  # seconds; MLflow alone takes a minute to start on a busy machine


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
        return port


def wait_for(url: str, process: subprocess.Popen[str]) -> None:
    """Wait until a URL answers 200."""
    until = time.monotonic() + DEADLINE
    while time.monotonic() < until:
        assert process.poll() is None, f"the process ended with {process.returncode} before {url} answered"
        try:
            if httpx.get(url).status_code == httpx.codes.OK:
                return
        except httpx.TransportError:
            pass
        threading.Event().wait(0.05)
    pytest.fail(f"{url} did not answer 200 within {DEADLINE:g} s")


def stop(process: subprocess.Popen[str]) -> None:
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()


@dataclass(frozen=True)
class Registry:
    """An MLflow server with the three versions.

    Attributes:
        url: its address.
        versions: what train.py printed.
        payloads: one request body a row.
    """

    url: str
    versions: list[dict[str, str]]
    payloads: list[str]


def train(url: str, *arguments: str) -> Any:
    done = subprocess.run(
        [sys.executable, str(TRAIN), "--tracking-uri", url, *arguments], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Registry]:
    folder = tmp_path_factory.mktemp("mlflow")
    url = f"http://127.0.0.1:{free_port()}"
    command = [sys.executable, "-m", "mlflow", "server", "--host=127.0.0.1", f"--port={url.rsplit(':', 1)[1]}"]
    options = [
        "--workers=1",
        f"--backend-store-uri=sqlite:///{folder}/db",
        f"--artifacts-destination={folder}/artifacts",
    ]
    with (folder / "log").open("w") as log:
        server = subprocess.Popen(
            [*command, *options],
            stdout=log,
            stderr=log,
            text=True,
            start_new_session=True,
            env=os.environ | {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "MLFLOW_DISABLE_TELEMETRY": "true"},
        )
    try:
        wait_for(f"{url}/health", server)
        payloads = folder / "payloads.jsonl"
        versions = train(url, "--payloads", str(payloads))
        yield Registry(url=url, versions=versions, payloads=payloads.read_text().splitlines())
    finally:
        stop(server)


@dataclass(frozen=True)
class Server:
    """A model server as a process."""

    process: subprocess.Popen[str]
    url: str

    def ended(self) -> tuple[int, str]:
        """Wait for its end; return the exit code and the last line it wrote."""
        _, errors = self.process.communicate(timeout=DEADLINE)
        return self.process.returncode, errors.strip().splitlines()[-1]


@contextmanager
def started(registry: Registry, version: str, **environment: str) -> Iterator[Server]:
    with (
        TemporaryDirectory() as downloads,
        _started(registry, version, MODEL_CACHE_DIR=downloads, **environment) as server,
    ):
        yield server


@contextmanager
def _started(registry: Registry, version: str, **environment: str) -> Iterator[Server]:
    port = free_port()
    given = {
        "MODEL_NAME": "fraud-detector",
        "MODEL_VERSION": version,
        "MODEL_URI": f"models:/fraud-detector/{version}",
        "MODEL_REVISION": "0123456789",
        "MLFLOW_TRACKING_URI": registry.url,
        "SERVING_THRESHOLD": "0.5",
        "POD_IP": "127.0.0.1",
        "PORT": str(port),
        "DRAIN_SECONDS": "0",
    }
    process = subprocess.Popen(
        [sys.executable, "-m", "backstay_serving"],
        env=os.environ | given | environment,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        yield Server(process=process, url=f"http://127.0.0.1:{port}")
    finally:
        if process.poll() is None:
            stop(process)
        assert process.stderr is not None
        process.stderr.close()


def digest_of(registry: Registry, version: str) -> str:
    return next(known["digest"] for known in registry.versions if known["version"] == version)


def send(client: httpx.Client, body: str) -> httpx.Response:
    return client.post("/invocations", content=body, headers={"Content-Type": "application/json"})


def test_training_twice_registers_once(registry: Registry) -> None:
    assert [version["version"] for version in registry.versions] == ["1", "2", "3"]
    assert len({version["digest"] for version in registry.versions}) == 3
    assert train(registry.url) == registry.versions


@pytest.mark.parametrize(("version", "most_failures", "least_failures"), [("1", 0, 0), ("2", 0, 0), ("3", 0.5, 0.3)])
def test_every_version_serves_from_the_registry_and_is_what_its_digest_says(
    registry: Registry, version: str, most_failures: float, least_failures: float
) -> None:
    with started(registry, version, MODEL_DIGEST=digest_of(registry, version)) as server:
        wait_for(f"{server.url}/readyz", server.process)
        with httpx.Client(base_url=server.url) as client:
            answers = [send(client, body) for body in registry.payloads]
            facts = client.get("/version").json()
            metrics = client.get("/metrics").text
        assert {answer.status_code for answer in answers} <= {200, 500}
        assert all(answer.headers["x-model-version"] == version for answer in answers)
        failures = sum(answer.status_code == 500 for answer in answers)
        assert least_failures <= failures / len(answers) <= most_failures
        assert facts["digest"] == digest_of(registry, version)
        labels = f'model="fraud-detector",version="{version}"'
        assert f"backstay_requests_total{{{labels}}} {len(answers)}.0" in metrics
        assert f'backstay_errors_total{{kind="prediction",{labels}}} {failures}.0' in metrics
        assert f"backstay_prediction_count{{{labels}}} {len(answers) - failures}.0" in metrics


def test_other_artifacts_than_the_ones_meant_are_never_served(registry: Registry) -> None:
    wrong = digest_of(registry, "2")
    with started(registry, "1", MODEL_DIGEST=wrong) as server:
        code, said = server.ended()
    assert code == 3
    assert said.startswith("backstay-serving: The artifacts of fraud-detector version 1 have the digest sha256:")
    assert f"but {wrong} was asked for" in said


def test_a_version_that_is_not_registered_is_said_in_one_sentence(registry: Registry) -> None:
    with started(registry, "99") as server:
        code, said = server.ended()
    assert code == 3
    assert said == (
        f"backstay-serving: MLflow at {registry.url} has no version 99 of fraud-detector: register it, or correct "
        "spec.model in model-version.yaml"
    )


@pytest.mark.parametrize(
    ("variable", "value", "sentence"),
    [
        ("SERVING_THRESHOLD", "half", "SERVING_THRESHOLD is 'half', but a threshold is a number from 0 to 1"),
        ("MODEL_DIGEST", "sha256:0", "MODEL_DIGEST is 'sha256:0', but a digest is `sha256:` and 64 hexadecimal digits"),
        ("POD_IP", "192.0.2.1", "Cannot listen on 192.0.2.1 port"),
    ],
)
def test_wrong_settings_are_refused_in_one_sentence(
    registry: Registry, variable: str, value: str, sentence: str
) -> None:
    with started(registry, "1", **{variable: value}) as server:
        code, said = server.ended()
    assert code == 2
    assert said.startswith(f"backstay-serving: {sentence}")


def test_a_store_that_only_mlflows_client_reads_works_too(registry: Registry) -> None:
    run = registry.versions[0]["run_id"]
    with started(registry, "1", MODEL_URI=f"runs:/{run}/logistic-regression") as server:
        wait_for(f"{server.url}/readyz", server.process)
        facts = httpx.get(f"{server.url}/version").json()
        assert facts["digest"] == digest_of(registry, "1")


def test_sigterm_loses_no_request(registry: Registry) -> None:
    """Callers with kept-alive connections go on until they are told to close; then they stop, as a gateway does."""
    with started(registry, "1", DRAIN_SECONDS="2") as server:
        wait_for(f"{server.url}/readyz", server.process)
        answers: list[httpx.Response] = []
        lost: list[Exception] = []
        under_way = threading.Semaphore(0)

        def call() -> None:
            with httpx.Client(base_url=server.url) as client:
                while True:
                    try:
                        answer = send(client, registry.payloads[0])
                    except httpx.HTTPError as error:
                        lost.append(error)
                        return
                    answers.append(answer)
                    under_way.release()
                    if answer.headers.get("connection") == "close":
                        return

        callers = [threading.Thread(target=call) for _ in range(4)]
        for caller in callers:
            caller.start()
        for _ in range(40):
            assert under_way.acquire(timeout=DEADLINE)
        server.process.send_signal(signal.SIGTERM)
        for caller in callers:
            caller.join(timeout=DEADLINE)
        readiness = httpx.get(f"{server.url}/readyz")
        assert (readiness.status_code, readiness.text) == (503, "not ready: stopping\n")
        with httpx.Client(base_url=server.url) as late:
            assert send(late, registry.payloads[0]).status_code == 200
        code, _ = server.ended()
    assert lost == []
    assert code == 0
    assert {answer.status_code for answer in answers} == {200}
    assert sum(answer.headers.get("connection") == "close" for answer in answers) == len(callers)


def test_a_server_told_to_stop_while_loading_goes_at_once_and_tidies_up(registry: Registry, tmp_path: Path) -> None:
    with _started(registry, "1", DRAIN_SECONDS="30", MODEL_CACHE_DIR=str(tmp_path)) as server:
        wait_for(f"{server.url}/healthz", server.process)
        server.process.send_signal(signal.SIGTERM)
        assert server.process.wait(timeout=DEADLINE / 10) == 0
    assert list(tmp_path.iterdir()) == []
