"""The simulated API server as the controller's HTTP client sees it: paths, verbs, statuses, watches, and faults."""

import asyncio
import json
import marshal
import re
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any, TypeAlias
from urllib.parse import parse_qsl, unquote, urlsplit

from backstay.adapters.kubernetes.client import ACCESS_REVIEW, TIMEOUT, Kind
from backstay_world.fields import Object
from backstay_world.objects import NATURES, Change, Objects, RefusalError, Slot, selects

_VERSION_PATH = re.compile(r"/api/[^/]+|/apis/[^/]+/[^/]+")
LATENCY = 0.004
"""How long a request takes, in seconds."""

Seen: TypeAlias = Callable[[Kind, str | None, Object], None]
"""Takes what a watch shows: kind, type of event (None for what was there before), object."""


@dataclass(frozen=True, slots=True)
class Request:
    """One request to the API server."""

    method: str
    kind: Kind
    slot: Slot
    sub: str
    query: Mapping[str, str]
    content: str
    body: Any

    @property
    def writes(self) -> bool:
        """Whether it may change anything."""
        return self.method != "GET" and self.kind is not ACCESS_REVIEW

    def of(self, method: str, kind: Kind, sub: str = "") -> bool:
        """Tell whether it is of this method, kind and subresource."""
        return (self.method, self.kind, self.sub) == (method, kind, sub)


@dataclass(frozen=True, slots=True)
class Answer:
    """What the client reads."""

    status: int
    text: bytes

    async def read(self) -> bytes:
        """Return the body."""
        return self.text


@dataclass(slots=True)
class Fault:
    """What goes wrong with some requests, for so many ``times``.

    ``delay`` seconds pass before the server acts. With ``status`` it refuses instead of acting; where the answer is
    ``lost`` the client hears nothing after it has acted, and where the server is ``away`` it does not act either. One
    that ``strays`` comes to the server so many seconds later, when the client has given up long ago.
    """

    meets: Callable[[Request], bool]
    times: int = 1
    delay: float = 0.0
    status: int = 0
    lost: bool = False
    away: bool = False
    strays: float = 0.0


@dataclass(slots=True)
class Watch:
    """One watch of a kind: events in their order, each so many seconds after it happened; it may be cut."""

    kind: Kind
    labels: str
    seen: Seen
    lag: float
    loop: asyncio.AbstractEventLoop
    waiting: "deque[tuple[float, str | None, Object]]" = field(default_factory=deque)
    ended: bool = False

    def take(self, change: Change) -> None:
        """Note a change that the watch is about."""
        was = change.before is not None and selects(self.labels, change.before)
        is_now = change.after is not None and selects(self.labels, change.after)
        if is_now and change.after is not None:
            self.show("MODIFIED" if was else "ADDED", change.after)
        elif was and change.before is not None:
            gone = change.after or change.before
            self.show("DELETED", gone)

    def show(self, event: str | None, body: Object) -> None:
        """Deliver an event, after those before it."""
        self.waiting.append((self.loop.time() + self.lag, event, body))
        if len(self.waiting) == 1:
            self.loop.call_at(self.waiting[0][0], self._deliver)

    def _deliver(self) -> None:
        while self.waiting and self.waiting[0][0] <= self.loop.time() and not self.ended:
            _, event, body = self.waiting.popleft()
            self.seen(self.kind, event, marshal.loads(marshal.dumps(body)))  # noqa: S302 - our own copy
        if self.waiting and not self.ended:
            self.loop.call_at(self.waiting[0][0], self._deliver)


class ApiServer:
    """Answers requests on the objects of a cluster, with the faults that a test asks for."""

    def __init__(self, objects: Objects, loop: asyncio.AbstractEventLoop) -> None:
        self.objects = objects
        self._loop = loop
        self.faults: list[Fault] = []
        self.watches: list[Watch] = []
        self.missing: set[Kind] = set()
        self.requests = 0
        objects.listeners.append(self._tell)

    def watch(self, kind: Kind, seen: Seen, *, labels: str = "", lag: float = LATENCY) -> Watch:
        """Begin a watch, with what there is already."""
        watch = Watch(kind, labels, seen, lag, self._loop)
        self.watches.append(watch)
        for body in self.objects.all(kind, labels=labels):
            watch.show(None, body)
        return watch

    def unwatch(self, watch: Watch) -> None:
        """End a watch."""
        watch.ended = True
        self.watches.remove(watch)

    def _tell(self, change: Change) -> None:
        for watch in self.watches:
            if watch.kind is change.kind:
                watch.take(change)

    def fault_of(self, request: Request) -> Fault | None:
        """Take the next fault that a request meets."""
        fault = next((fault for fault in self.faults if fault.meets(request)), None)
        if fault is not None:
            fault.times -= 1
            if fault.times == 0:
                self.faults.remove(fault)
        return fault

    def answer(self, request: Request) -> Answer:
        """Act on a request."""
        self.requests += 1
        try:
            return _answer(self._act(request), HTTPStatus.OK)
        except RefusalError as refusal:
            return refused(refusal)

    def _act(self, request: Request) -> Object:
        kind, slot, objects = request.kind, request.slot, self.objects
        if kind in self.missing:
            raise RefusalError(HTTPStatus.NOT_FOUND, "NotFound", "the server could not find the requested resource")
        if kind is ACCESS_REVIEW:
            return {**request.body, "status": {"allowed": True}}
        if request.method == "GET":
            return objects.get(kind, *slot) if slot[1] else self._list(request)
        if request.method == "DELETE":
            objects.delete(kind, slot, _manager(request))
            return {"kind": "Status", "status": "Success"}
        return self._write(request)

    def _write(self, request: Request) -> Object:
        kind, objects, manager = request.kind, self.objects, _manager(request)
        match request.method:
            case "POST":
                return objects.create(kind, request.body, manager)
            case "PUT" if request.sub == "status":
                return objects.replace_status(kind, request.body, manager)
            case "PUT":
                return objects.replace(kind, request.body, manager)
            case "PATCH" if request.content.startswith("application/apply-patch"):
                return objects.apply(kind, request.body, manager)
            case "PATCH":
                return objects.patch(kind, request.slot, lambda body: patched(body, request.body), manager)
        raise RefusalError(HTTPStatus.METHOD_NOT_ALLOWED, "MethodNotAllowed", request.method)

    def _list(self, request: Request) -> Object:
        """List a page of objects; the mark of the next page is where it begins."""
        namespace, query = request.slot[0] or None, request.query
        found = self.objects.all(request.kind, namespace=namespace, labels=query.get("labelSelector", ""))
        begin, limit = int(query.get("continue", 0)), int(query.get("limit", 0)) or len(found)
        meta = {"resourceVersion": str(self.objects.version)}
        if begin + limit < len(found):
            meta["continue"] = str(begin + limit)
        return {"kind": "List", "metadata": meta, "items": found[begin : begin + limit]}

    def kinds_at(self, path: str) -> Answer:
        """Answer which kinds there are in a group and version."""
        kinds = [kind for kind in NATURES if kind.version_path == path and kind not in self.missing]
        if not kinds:
            return refused(RefusalError(HTTPStatus.NOT_FOUND, "NotFound", "not found"))
        return _answer({"resources": [{"name": kind.plural} for kind in kinds]}, HTTPStatus.OK)


class Client:
    """Stands in for the official client: serialises nothing but JSON, and is one controller's only way to the server.

    Args:
        server: the API server.
        alive: raises once the controller that holds this client is dead.
        told: is told of each request when it reaches the server (``before``) and when it was acted on (``after``).
    """

    def __init__(
        self,
        server: ApiServer,
        alive: Callable[[], None] = lambda: None,
        told: Callable[[str, Request], None] = lambda *_: None,
    ) -> None:
        self._server = server
        self._alive = alive
        self._told = told
        self.edit: Callable[[Request], Request] = lambda request: request

    async def param_serialize(
        self, method: str, path: str, *, header_params: Mapping[str, str], auth_settings: list[str]
    ) -> tuple[str, str, Mapping[str, str], None, None]:
        """Return what `call_api` takes."""
        del auth_settings
        return method, path, header_params, None, None

    async def call_api(
        self, method: str, url: str, *, header_params: Mapping[str, str], body: Any, _request_timeout: float
    ) -> Answer:
        """Send a request."""
        del _request_timeout
        self._alive()
        parts = urlsplit(url)
        if method == "GET" and _VERSION_PATH.fullmatch(parts.path):
            return self._server.kinds_at(parts.path)
        sent = json.loads(json.dumps(body))
        request = self.edit(_request(method, parts.path, dict(parse_qsl(parts.query)), header_params, sent))
        fault = self._server.fault_of(request)
        if fault is not None and fault.strays:
            asyncio.get_running_loop().call_later(fault.strays, self._server.answer, request)
        if fault is not None and (fault.away or fault.strays):
            await asyncio.sleep(TIMEOUT)
            raise TimeoutError
        await asyncio.sleep(LATENCY + (fault.delay if fault is not None else 0.0))
        self._alive()
        if fault is not None and fault.status:
            return refused(RefusalError(HTTPStatus(fault.status), "Injected", "injected by the test", request.slot[1]))
        self._told("before", request)
        answer = self._server.answer(request)
        self._told("after", request)
        if fault is not None and fault.lost:
            await asyncio.sleep(TIMEOUT)
            raise TimeoutError
        return answer

    async def close(self) -> None:
        """End; there are no connections."""


def _manager(request: Request) -> str:
    return request.query.get("fieldManager", "unknown")


def patched(body: Object, patch: Any) -> Object:
    """Apply a JSON patch of replacements, or a merge patch."""
    if not isinstance(patch, list):
        merged: Object = _merge(body, patch)
        return merged
    for step in patch:
        if step["op"] != "replace" or step["path"].count("/") != 1:
            raise RefusalError(HTTPStatus.BAD_REQUEST, "BadRequest", f"{step} is not simulated")
        body = {**body, step["path"][1:]: step["value"]}
    return body


def _merge(value: Any, patch: Any) -> Any:
    if not isinstance(patch, dict):
        return patch
    base = value if isinstance(value, dict) else {}
    left = {name: inner for name, inner in base.items() if name not in patch or patch[name] is not None}
    return left | {name: _merge(base.get(name), inner) for name, inner in patch.items() if inner is not None}


def _request(method: str, path: str, query: Mapping[str, str], headers: Mapping[str, str], body: Any) -> Request:
    kinds = [ACCESS_REVIEW, *NATURES]
    kind = next(
        (k for k in kinds if path.startswith(f"{k.version_path}/") and k.plural in path.split("/")),
        None,
    )
    if kind is None:
        raise ValueError(f"{method} {path} is of no kind that is simulated")
    rest = path.removeprefix(f"{kind.version_path}/").split("/")
    namespace = unquote(rest[1]) if rest[0] == "namespaces" and kind.plural != "namespaces" else ""
    named = rest[rest.index(kind.plural) + 1 :]
    name, sub = (*(unquote(part) for part in named), "", "")[:2]
    return Request(method, kind, (namespace, name), sub, query, headers["Content-Type"], body)


def refused(refusal: RefusalError) -> Answer:
    """Word a refusal as the API server does."""
    details = {"name": refusal.name} if refusal.name else {}
    document = {"kind": "Status", "status": "Failure", "reason": refusal.reason, "message": str(refusal)}
    return _answer({**document, "details": details}, refusal.status)


def _answer(body: Object, status: HTTPStatus) -> Answer:
    return Answer(status, json.dumps(body).encode())
