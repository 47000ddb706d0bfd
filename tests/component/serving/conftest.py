"""A small real model, saved by MLflow, and servers of it."""

import socket
import threading
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pandas as pd
import pytest
import uvloop
from sklearn.linear_model import LinearRegression, LogisticRegression

from backstay_serving.app import build_app
from backstay_serving.endpoint import open_endpoint
from backstay_serving.feedback import FeedbackSettings
from backstay_serving.metrics import Metrics, make_metrics
from backstay_serving.predictionlog import LogSettings, NoLog
from backstay_serving.server import DrainingServer, PoliteClose, http_config, open_records
from backstay_serving.settings import (
    AnyDigest,
    BatchSettings,
    Folder,
    Identity,
    ModelSettings,
    ModelsOwnDecision,
    ServerSettings,
    Threshold,
)
from backstay_serving.state import Endpoint, Holder, Loading, Ready

IDENTITY = Identity(name="fraud-detector", version="7", revision="0123456789")
ROWS = pd.DataFrame({"amount": [1.0, 2.0, 8.0, 9.0], "hour": [3.0, 1.0, 2.0, 4.0]})
LABELS = np.array([0, 0, 1, 1])

Save = Callable[..., Path]
OpenModel = Callable[..., Endpoint]


@pytest.fixture(scope="session")
def save(tmp_path_factory: pytest.TempPathFactory) -> Save:
    """Save an estimator as MLflow does, and return its artifact folder."""
    import mlflow.sklearn  # noqa: PLC0415  slow to import, and most tests need no model
    from mlflow.models import infer_signature  # noqa: PLC0415  as above

    def save_model(estimator: Any, *, rows: pd.DataFrame = ROWS, **options: Any) -> Path:
        folder = tmp_path_factory.mktemp("model") / "artifacts"
        settings = {
            "signature": infer_signature(rows, LABELS),
            "input_example": rows.head(2),
            "pip_requirements": ["scikit-learn"],
            "serialization_format": "skops",
        }
        with warnings.catch_warnings(action="ignore"):  # MLflow's own, about pandas
            mlflow.sklearn.save_model(estimator, folder, **(settings | options))
        return folder

    return save_model


@pytest.fixture(scope="session")
def classifier(save: Save) -> Path:
    """The folder of a classifier of two columns, whose positive class is 1."""
    return save(LogisticRegression().fit(ROWS, LABELS))


@pytest.fixture(scope="session")
def regressor(save: Save) -> Path:
    """The folder of a regressor of two columns."""
    return save(LinearRegression().fit(ROWS, LABELS * 100.0))


def settings_of(folder: Path, decision: Threshold | ModelsOwnDecision) -> ModelSettings:
    """Return the settings that serve a folder."""
    return ModelSettings(
        source=Folder(folder),
        identity=IDENTITY,
        digest=AnyDigest(),
        decision=decision,
        tracking_uri="",
        download_folder=folder,
    )


@pytest.fixture
def open_model(tmp_path: Path) -> OpenModel:
    """Load an artifact folder, as the server does."""

    def load(folder: Path, decision: Threshold | ModelsOwnDecision = ModelsOwnDecision()) -> Endpoint:  # noqa: B008  immutable
        return open_endpoint(settings_of(folder, decision), tmp_path, lambda _: None)

    return load


@dataclass(frozen=True)
class Running:
    """A server that answers on loopback.

    Attributes:
        client: keeps connections alive, as a gateway does.
        holder: the server's state.
        metrics: what it counts.
        server: to stop it with.
        thread: ends when the server has.
    """

    client: httpx.Client
    holder: Holder
    metrics: Metrics
    server: DrainingServer
    thread: threading.Thread

    def metric(self, name: str, **labels: str) -> float:
        """Return a sample's value; it has to exist."""
        value = self.metrics.registry.get_sample_value(name, {"model": "fraud-detector", "version": "7"} | labels)
        assert value is not None, name
        return value

    def post(self, document: Any) -> httpx.Response:
        """Send a JSON document to `/invocations`."""
        return self.client.post("/invocations", json=document)


Serve = Callable[..., AbstractContextManager[Running]]


@pytest.fixture
def serve() -> Serve:
    """Serve an endpoint on a free port, on a thread."""
    return _serve


@contextmanager
def _serve(  # noqa: PLR0913  what tests vary
    endpoint: Endpoint | None = None,
    *,
    drain_seconds: float = 0.0,
    max_body_bytes: int = 10_000,
    max_waiting: int = 256,
    batch: BatchSettings = BatchSettings(1, 0.0, max_bytes=10_000),  # noqa: B008  immutable
    log: LogSettings | NoLog = NoLog(),  # noqa: B008  immutable
    feedback: FeedbackSettings = FeedbackSettings(window_seconds=60, max_predictions=100),  # noqa: B008  as above
) -> Iterator[Running]:
    limits = ServerSettings(
        host="127.0.0.1",
        port=0,
        drain_seconds=drain_seconds,
        max_body_bytes=max_body_bytes,
        max_waiting=max_waiting,
        batch=batch,
    )
    holder = Holder(Loading("fetching the artifacts") if endpoint is None else Ready(endpoint))
    metrics = make_metrics(IDENTITY, score_edges=())
    if endpoint is not None:
        metrics.distributions.adopt(endpoint.profile)
    with ThreadPoolExecutor(max_workers=1) as executor, socket.create_server(("127.0.0.1", 0)) as listener:
        records = open_records(IDENTITY, metrics, log, feedback)
        app = build_app(holder, records, identity=IDENTITY, settings=limits, executor=executor)
        server = DrainingServer(http_config(PoliteClose(app, holder), IDENTITY), holder, drain_seconds)

        def run() -> None:
            loop = uvloop.new_event_loop()
            try:
                loop.run_until_complete(server.serve(sockets=[listener]))
            finally:
                loop.close()

        thread = threading.Thread(target=run)
        thread.start()
        try:
            with httpx.Client(base_url=f"http://127.0.0.1:{listener.getsockname()[1]}") as client:
                yield Running(client=client, holder=holder, metrics=metrics, server=server, thread=thread)
        finally:
            server.should_exit = True
            thread.join(timeout=10)
            records.close()
            assert not thread.is_alive()
