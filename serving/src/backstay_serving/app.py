"""The HTTP routes."""

import logging
from concurrent.futures import Executor
from dataclasses import dataclass, field
from http import HTTPStatus
from time import perf_counter

from prometheus_client.exposition import choose_encoder
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from backstay_serving.batching import Batcher
from backstay_serving.feedback import Accepted, Conflict, Misfit, Received, Repeated, Unknown, parse_feedback
from backstay_serving.metrics import ErrorKind, Metrics
from backstay_serving.outcome import Answered, ModelFailed, Outcome, Refused
from backstay_serving.payload import BadRequestError
from backstay_serving.records import Records, request_id_of
from backstay_serving.settings import Identity, ServerSettings
from backstay_serving.state import Draining, Endpoint, Failed, Holder, Loading, Ready

_LOG = logging.getLogger(__name__)
_RETRY_SECONDS = "1"


@dataclass(frozen=True)
class Overloaded:
    """As many predictions wait as may.

    Attributes:
        waiting: how many.
    """

    waiting: int


class _TooLargeError(Exception):
    """The body is larger than the server takes."""


@dataclass
class _Routes:
    """The handlers and what they share."""

    holder: Holder
    records: Records
    identity: Identity
    settings: ServerSettings
    batcher: Batcher
    waiting: int = field(default=0, init=False)

    @property
    def metrics(self) -> Metrics:
        """What is counted."""
        return self.records.metrics

    async def healthz(self, _: Request) -> Response:
        """Say that the process answers, whatever its model does."""
        return PlainTextResponse("ok\n")

    async def readyz(self, _: Request) -> Response:
        """Say whether traffic is welcome, and if not, why."""
        match self.holder.state:
            case Ready():
                return PlainTextResponse("ready\n")
            case Loading(stage):
                said = f"not ready: {stage}"
            case Draining():
                said = "not ready: stopping"
            case Failed(reason):
                said = f"not ready: {reason}"
        return PlainTextResponse(f"{said}\n", status_code=HTTPStatus.SERVICE_UNAVAILABLE)

    async def version(self, _: Request) -> Response:
        """Say which model this is; its digest and flavour are known once it is loaded."""
        facts = {"name": self.identity.name, "version": self.identity.version, "revision": self.identity.revision}
        match self.holder.state:
            case Ready(endpoint) | Draining(endpoint):
                facts |= {"digest": endpoint.digest, "flavor": endpoint.flavor}
            case Loading() | Failed():
                pass
        return JSONResponse(facts)

    async def scrape(self, request: Request) -> Response:
        """Hand the metrics to Prometheus, in the format it asks for."""
        self.records.catch_up()
        encode, content_type = choose_encoder(request.headers.get("accept", ""))
        return Response(encode(self.metrics.registry), headers={"Content-Type": content_type})

    async def feedback(self, request: Request) -> Response:
        """Take the labels of an earlier answer."""
        try:
            feedback = parse_feedback(
                await _read(request, self.settings.max_body_bytes), request.headers.get("content-type", "")
            )
        except _TooLargeError:
            return _error(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "The body is too large for the labels of one request")
        except ClientDisconnect:
            return Response(status_code=HTTPStatus.BAD_REQUEST)  # no one reads it: the caller has hung up
        except BadRequestError as error:
            return _error(error.status, str(error))
        return _receipt(self.records.labelled(feedback), feedback.request_id)

    async def invocations(self, request: Request) -> Response:
        """Predict, and count it."""
        started = perf_counter()
        request_id = request_id_of(request.headers.get("x-request-id", ""))
        try:
            response = await self._predict(request, request_id)
        except Exception:  # noqa: BLE001  a mistake of this server's own must be counted as a 5xx too
            self.metrics.errors["internal"].inc()
            _LOG.exception("A request failed in the server itself", extra={"kind": "internal"})
            response = _error(HTTPStatus.INTERNAL_SERVER_ERROR, "The model server failed; its log says why")
        finally:
            # In one go with the count of its error, so that no scrape sees more errors than requests.
            self.metrics.requests.inc()
            self.metrics.duration.observe(perf_counter() - started)
        response.headers["X-Request-Id"] = request_id
        return response

    async def _predict(self, request: Request, request_id: str) -> Response:
        match self.holder.state:
            case Ready(endpoint) | Draining(endpoint):
                pass
            case Loading() | Failed():
                return self._unavailable("not_ready", "The model is not loaded yet; try again")
        try:
            body = await _read(request, self.settings.max_body_bytes)
        except _TooLargeError:
            return _error(
                HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
                f"The body is larger than {self.settings.max_body_bytes} bytes; send fewer rows at a time",
            )
        except ClientDisconnect:
            return Response(status_code=HTTPStatus.BAD_REQUEST)  # no one reads it: the caller has hung up
        outcome = await self._ask(endpoint, body, request.headers.get("content-type", ""))
        return self._response(outcome, request_id)

    def _response(self, outcome: Outcome | Overloaded, request_id: str) -> Response:
        match outcome:
            case Answered():
                self.records.answered(request_id, outcome)
                return Response(outcome.body, media_type="application/json")
            case Refused():
                return _error(outcome.status, outcome.message)
            case ModelFailed():
                self.metrics.errors["prediction"].inc()
                _LOG.error(
                    "The model raised %s (%s)",
                    outcome.sentence(),
                    outcome.place,
                    extra={"kind": f"prediction {outcome.type}"},
                )
                return _error(HTTPStatus.INTERNAL_SERVER_ERROR, f"The model raised {outcome.sentence()}")
            case Overloaded(waiting):
                return self._unavailable("overloaded", f"{waiting} predictions are waiting already; try again")

    async def _ask(self, endpoint: Endpoint, body: bytes, content_type: str) -> Outcome | Overloaded:
        if self.waiting >= self.settings.max_waiting:
            return Overloaded(self.waiting)
        self.waiting += 1
        self.metrics.waiting.set(self.waiting)
        try:
            return await self.batcher.ask(endpoint, body, content_type)
        finally:
            self.waiting -= 1
            self.metrics.waiting.set(self.waiting)

    def _unavailable(self, kind: ErrorKind, message: str) -> Response:
        self.metrics.errors[kind].inc()
        response = _error(HTTPStatus.SERVICE_UNAVAILABLE, message)
        response.headers["Retry-After"] = _RETRY_SECONDS
        return response


def build_app(
    holder: Holder, records: Records, *, identity: Identity, settings: ServerSettings, executor: Executor
) -> Starlette:
    """Build the routes.

    Args:
        holder: the state that they read.
        records: what is kept of each answer.
        identity: what `/version` says.
        settings: the limits of a request.
        executor: where predictions run, one at a time.
    """
    batcher = Batcher(settings.batch, executor, joined=lambda _: records.metrics.calls.inc())
    routes = _Routes(holder=holder, records=records, identity=identity, settings=settings, batcher=batcher)
    return Starlette(
        routes=[
            Route("/invocations", routes.invocations, methods=["POST"]),
            Route("/feedback", routes.feedback, methods=["POST"]),
            Route("/healthz", routes.healthz),
            Route("/readyz", routes.readyz),
            Route("/version", routes.version),
            Route("/metrics", routes.scrape),
        ],
        exception_handlers={HTTPException: _unknown_route},
    )


async def _read(request: Request, limit: int) -> bytes:
    declared = request.headers.get("content-length", "0")
    if int(declared) > limit:
        raise _TooLargeError
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > limit:
            raise _TooLargeError
    return bytes(body)


async def _unknown_route(request: Request, error: Exception) -> Response:
    status = HTTPStatus(error.status_code) if isinstance(error, HTTPException) else HTTPStatus.NOT_FOUND
    headers = error.headers if isinstance(error, HTTPException) else None
    message = (
        f"{request.method} is not answered at {request.url.path}; POST to /invocations"
        if status == HTTPStatus.METHOD_NOT_ALLOWED
        else f"Nothing is at {request.url.path}; POST to /invocations"
    )
    return JSONResponse({"error_code": status.name, "message": message}, status_code=status, headers=headers)


def _receipt(received: Received, request_id: str) -> Response:
    match received:
        case Accepted():
            return JSONResponse({"id": request_id, "repeated": False}, status_code=HTTPStatus.ACCEPTED)
        case Repeated():
            return JSONResponse({"id": request_id, "repeated": True})
        case Unknown():
            return _error(
                HTTPStatus.NOT_FOUND,
                "This server remembers no answer with that id: another pod gave it, or its label window is over",
            )
        case Conflict():
            return _error(HTTPStatus.CONFLICT, "That answer was labelled otherwise before; the first labels stay")
        case Misfit(reason):
            return _error(HTTPStatus.BAD_REQUEST, reason)


def _error(status: HTTPStatus, message: str) -> Response:
    """Answer an error as MLflow's own server does: a code for programs and a sentence for people."""
    return JSONResponse({"error_code": status.name, "message": message}, status_code=status)
