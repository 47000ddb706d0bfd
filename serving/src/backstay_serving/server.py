"""The process: it answers at once, loads the model beside, and stops without losing a request."""

import asyncio
import contextlib
import logging
import math
import os
import signal
import socket
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from types import FrameType
from urllib.parse import quote

import uvicorn
import uvloop
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from backstay_serving.app import build_app
from backstay_serving.feedback import FeedbackSettings, Memory
from backstay_serving.metrics import Metrics, make_metrics
from backstay_serving.predictionlog import LogCounts, LogSettings, NoLog, PredictionLog
from backstay_serving.records import Records
from backstay_serving.settings import Identity, ModelSettings, ServerSettings, StartError
from backstay_serving.state import Draining, Failed, Holder, Loading, Ready, State

_LOG = logging.getLogger(__name__)

# Longer than gateways keep idle connections (Envoy: one hour), so that the gateway and never the server closes one: a
# server that closes first may do so while a request is on its way.
_KEEP_ALIVE_SECONDS = 3900
_FINISH_SECONDS = 20  # for requests in flight when the drain ends; kubelet's own grace is 30 s
_BACKLOG = 2048
_HEADER_SAFE = " !#$&'()*+,/:;=?@[]~"


@dataclass(frozen=True)
class Stopped:
    """The server was told to stop, and did."""


@dataclass(frozen=True)
class Refused:
    """The server ended because its model is not to be served.

    Attributes:
        reason: one sentence.
    """

    reason: str


class PoliteClose:
    """ASGI middleware: once the server is stopping, every answer asks its caller to open a new connection elsewhere."""

    def __init__(self, app: ASGIApp, holder: Holder) -> None:
        self._app = app
        self._holder = holder

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, and add the header to its answer."""

        async def send_politely(message: Message) -> None:
            if message["type"] == "http.response.start" and isinstance(self._holder.state, Draining):
                message["headers"] = [*message.get("headers", []), (b"connection", b"close")]
            await send(message)

        await self._app(scope, receive, send_politely)


class DrainingServer(uvicorn.Server):
    """A uvicorn server that keeps answering for a while after SIGTERM.

    A pod's address leaves the routes some time after the pod is told to stop. Until then requests still arrive, and a
    server that closes its port at the signal loses them.

    Args:
        config: uvicorn's.
        holder: the state, which becomes `Draining` at the signal.
        drain_seconds: from the signal to the closing of the port.
    """

    def __init__(self, config: uvicorn.Config, holder: Holder, drain_seconds: float) -> None:
        super().__init__(config)
        self._holder = holder
        self._drain_seconds = drain_seconds
        self._stop_at = math.inf

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:  # noqa: ARG002  uvicorn's signature
        """Begin to drain at the first SIGTERM; stop at once at the second, at Ctrl-C, and before the model is ready."""
        match self._holder.state:
            case Ready(endpoint) if sig == signal.SIGTERM:
                _LOG.info("Stopping: draining for %g s", self._drain_seconds)
                self._holder.state = Draining(endpoint)
                self._stop_at = time.monotonic() + self._drain_seconds
            case _:
                # Not uvicorn's own handler: it raises the signal again at the end, and nothing would be tidied up.
                self.force_exit = self.should_exit
                self.should_exit = True

    async def on_tick(self, counter: int) -> bool:
        """Say whether to close the port; uvicorn asks ten times a second."""
        if time.monotonic() >= self._stop_at:
            self.should_exit = True
        return await super().on_tick(counter)


def serve(
    model: ModelSettings,
    server: ServerSettings,
    *,
    score_edges: tuple[float, ...],
    log: LogSettings | NoLog,
    feedback: FeedbackSettings,
) -> Stopped | Refused:
    """Serve a model until a signal says to stop.

    Args:
        model: which model.
        server: how to answer.
        score_edges: upper edges of the prediction histogram; empty for those of the model's profile, or the usual.
        log: whether and how predictions are logged.
        feedback: how long predictions wait for their labels.

    Returns:
        `Refused` where the model could not be served.

    Raises:
        StartError: the address cannot be listened on, or the download folder or the log cannot be written to.
    """
    with (
        open_workspace(model.download_folder) as workspace,
        _listen(server) as listener,
        asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner,
    ):
        records = open_records(model.identity, make_metrics(model.identity, score_edges), log, feedback)
        try:
            return runner.run(_serve(model, server, records, workspace=Path(workspace), listener=listener))
        finally:
            records.close()


def open_records(identity: Identity, metrics: Metrics, log: LogSettings | NoLog, feedback: FeedbackSettings) -> Records:
    """Open what answers are recorded in.

    Raises:
        StartError: the prediction log cannot be written to.
    """
    match log:
        case NoLog():
            return Records(metrics=metrics, log=log, memory=Memory(feedback))
        case LogSettings():
            counts = LogCounts(
                written=metrics.logged.inc, dropped=lambda reason, lines: metrics.unlogged[reason].inc(lines)
            )
            return Records(metrics=metrics, log=PredictionLog(log, identity, counts), memory=Memory(feedback))


async def _serve(
    model: ModelSettings,
    settings: ServerSettings,
    records: Records,
    *,
    workspace: Path,
    listener: socket.socket,
) -> Stopped | Refused:
    holder = Holder(Loading("starting"))
    with ThreadPoolExecutor(max_workers=1, thread_name_prefix="predict") as executor:
        app = build_app(holder, records, identity=model.identity, settings=settings, executor=executor)
        server = DrainingServer(http_config(PoliteClose(app, holder), model.identity), holder, settings.drain_seconds)
        loop = asyncio.get_running_loop()

        def move(state: State) -> None:
            if isinstance(state, Ready):
                records.metrics.distributions.adopt(state.endpoint.profile)
            holder.state = state
            if isinstance(state, Failed):
                server.should_exit = True

        def load() -> None:
            state = _load(model, workspace, lambda stage: _post(loop, lambda: move(Loading(stage))))
            _post(loop, lambda: move(state))

        # A daemon, so that a server told to stop need not wait for a registry that does not answer.
        threading.Thread(target=load, name="load", daemon=True).start()
        await server.serve(sockets=[listener])
    match holder.state:
        case Failed(reason):
            return Refused(reason)
        case _:
            return Stopped()


def _load(model: ModelSettings, workspace: Path, report: Callable[[str], None]) -> Ready | Failed:
    """Load the model, and make of whatever goes wrong the sentence that the server ends with."""
    started = time.monotonic()
    try:
        # Imports pandas and scikit-learn; /healthz answers meanwhile.
        from backstay_serving.endpoint import open_endpoint  # noqa: PLC0415

        endpoint = open_endpoint(model, workspace, report)
    except StartError as error:
        return Failed(str(error))
    except (Exception, SystemExit) as error:  # noqa: BLE001  the thread's end must reach the loop, whatever it is
        _LOG.exception("Loading stopped at something unforeseen")
        return Failed(f"The model could not be loaded: {type(error).__name__}: {error}")
    _LOG.info(
        "Ready: %s version %s, %s, loaded in %.1f s",
        model.identity.name,
        model.identity.version,
        endpoint.digest,
        time.monotonic() - started,
    )
    return Ready(endpoint)


def _post(loop: asyncio.AbstractEventLoop, act: Callable[[], None]) -> None:
    """Do something on the event loop's thread; nothing where the server has stopped meanwhile."""
    with contextlib.suppress(RuntimeError):
        loop.call_soon_threadsafe(act)


def open_workspace(parent: Path) -> TemporaryDirectory[str]:
    """Make a folder for downloads, which is removed at the end.

    Raises:
        StartError: the parent cannot be written to.
    """
    try:
        return TemporaryDirectory(prefix="backstay-serving-", dir=parent)
    except OSError as error:
        raise StartError(
            f"Cannot write to {parent}: {os.strerror(error.errno or 0)}; mount a volume there or set MODEL_CACHE_DIR"
        ) from error


def _listen(settings: ServerSettings) -> socket.socket:
    try:
        return socket.create_server((settings.host, settings.port), backlog=_BACKLOG)
    except OSError as error:
        reason = os.strerror(error.errno or 0)
        raise StartError(
            f"Cannot listen on {settings.host} port {settings.port}: {reason}; free it, or set POD_IP and PORT"
        ) from error


def http_config(app: ASGIApp, identity: Identity) -> uvicorn.Config:
    """Return uvicorn's configuration: the headers of every answer, and time for callers and for requests in flight."""
    facts = {"X-Model-Name": identity.name, "X-Model-Version": identity.version, "X-Model-Revision": identity.revision}
    return uvicorn.Config(
        app,
        # uvicorn adds these to every answer, also to those it gives by itself to what is no HTTP.
        headers=[(name, quote(value, safe=_HEADER_SAFE)) for name, value in facts.items() if value],
        server_header=False,
        lifespan="off",
        ws="none",
        access_log=False,
        log_config=None,
        timeout_keep_alive=_KEEP_ALIVE_SECONDS,
        timeout_graceful_shutdown=_FINISH_SECONDS,
    )
