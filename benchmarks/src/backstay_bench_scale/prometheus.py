"""A stand-in for Prometheus that answers the controllers' own queries for any number of models, or fails to."""

import asyncio
import re
import time
import zlib
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from contextlib import asynccontextmanager
from enum import StrEnum
from typing import Any
from urllib.parse import urlsplit

from aiohttp import web

from backstay_bench_scale.contender import NEW, PROMETHEUS

_SHARE = re.compile(r'share_of_errors\{model="([^"]*)"\}')
_METRIC = re.compile(r"backstay_(requests|errors)_total")
_REVISIONS = re.compile(r'revision=~"([^"]*)"')
# Requests a second to each pod, and the shares that fail.
RATE = 20.0
USUAL, BROKEN = 0.01, 0.5


class Outage(StrEnum):
    """How Prometheus fails."""

    REFUSED = "connections refused"
    HANGING = "no answer"
    ERROR = "HTTP 500"
    EMPTY = "empty answers"
    HALF = "half of the series missing"


class Evidence:
    """Counters of pods that nobody runs: each grows from the pod's start, by the clock."""

    def __init__(self, pods: Callable[[], Iterable[Mapping[str, Any]]]) -> None:
        self._pods = pods
        self._born: dict[str, float] = {}
        # When the canary of a model began to fail, and when its first bad answer was told (Unix seconds).
        self.bad: dict[str, float] = {}
        self.told: dict[str, float] = {}
        # When each model was last asked about.
        self.asked: dict[str, float] = {}
        self.queries = 0
        self.bytes = 0
        self._canaries: dict[str, bool] = {}
        self._outage: Outage | None = None
        self._over = asyncio.Event()
        self._runner: web.AppRunner | None = None
        self._site: web.TCPSite | None = None

    def value(self, metric: str, pod: Mapping[str, Any], at: float) -> float | None:
        """Return a pod's counter at a time; None before it was there."""
        labels, uid = pod["metadata"]["labels"], pod["metadata"]["uid"]
        born = self._born.setdefault(uid, time.time())
        if at < born:
            return None
        if metric == "requests":
            return RATE * (at - born)
        failing = self.bad.get(labels["backstay.dev/name"], float("inf"))
        is_canary = self._canaries.get(uid)
        if is_canary is None:
            environment = {one["name"]: one.get("value") for one in pod["spec"]["containers"][0]["env"]}
            is_canary = self._canaries[uid] = environment["MODEL_VERSION"] == NEW
        began = max(failing, born)
        if not is_canary or at <= began:
            return USUAL * RATE * (at - born)
        self.told.setdefault(labels["backstay.dev/name"], time.time())
        return RATE * (USUAL * (began - born) + BROKEN * (at - began))

    async def query(self, request: web.Request) -> web.Response:
        """Answer an instant query."""
        form = await self._asked(request)
        at = float(str(form.get("time", time.time())))
        return self._answer("vector", str(form["query"]), [at])

    async def query_range(self, request: web.Request) -> web.Response:
        """Answer a range query."""
        form = await self._asked(request)
        start, end, step = (float(str(form[name])) for name in ("start", "end", "step"))
        times = [start + step * number for number in range(int((end - start) / step + 1e-6) + 1)]
        return self._answer("matrix", str(form["query"]), times)

    async def _asked(self, request: web.Request) -> dict[str, Any]:
        form = {**request.query, **await request.post()}
        if self._outage is Outage.REFUSED and request.transport is not None:
            # Nobody listens any more, but who was connected before still is.
            request.transport.abort()
        if self._outage is Outage.HANGING:
            await self._over.wait()
        if self._outage is Outage.ERROR:
            raise web.HTTPInternalServerError(text="it is broken")
        return form

    def _is_missing(self, pod: Mapping[str, Any], metric: str) -> bool:
        if self._outage is Outage.HALF:
            return bool(zlib.crc32(f"{pod['metadata']['uid']} {metric}".encode()) & 1)
        return self._outage is Outage.EMPTY

    @asynccontextmanager
    async def outage(self, kind: Outage) -> AsyncIterator[None]:
        """Fail in this way for as long as the context lasts."""
        self._outage = kind
        self._over.clear()
        if kind is Outage.REFUSED and self._site is not None:
            await self._site.stop()
        try:
            yield
        finally:
            self._outage = None
            self._over.set()
            if kind is Outage.REFUSED:
                await self._listen()

    async def _listen(self) -> None:
        if self._runner is not None:
            address = urlsplit(PROMETHEUS)
            self._site = web.TCPSite(self._runner, address.hostname, address.port)
            await self._site.start()

    def _answer(self, kind: str, query: str, times: list[float]) -> web.Response:
        share = _SHARE.search(query)
        if share is not None:
            return self._respond(kind, [{"metric": {}, "value": [times[0], str(self._share(share[1]))]}])
        if query.startswith("vector("):
            return self._respond(kind, [{"metric": {}, "value": [times[0], "1"]}])
        found, wanted = _METRIC.search(query), _REVISIONS.search(query)
        if found is None or wanted is None:
            raise web.HTTPBadRequest(text=f"unexpected query {query}")
        revisions = set(wanted[1].split("|"))
        result = []
        for pod in self._pods():
            labels = pod["metadata"].get("labels", {})
            if labels.get("backstay.dev/revision") not in revisions or self._is_missing(pod, found[1]):
                continue
            samples = [[at, f"{value:.3f}"] for at in times if (value := self.value(found[1], pod, at)) is not None]
            if samples:
                metric = {
                    "namespace": pod["metadata"]["namespace"],
                    "modeldeployment": labels["backstay.dev/name"],
                    "revision": labels["backstay.dev/revision"],
                    "track": labels["backstay.dev/track"],
                    "pod": pod["metadata"]["name"],
                }
                self.asked[labels["backstay.dev/name"]] = time.time()
                result.append(
                    {"metric": metric, **({"value": samples[0]} if kind == "vector" else {"values": samples})}
                )
        return self._respond(kind, result)

    def _share(self, model: str) -> float:
        """Return the share of a canary's requests that fail, as it is at once when it fails."""
        self.asked[model] = time.time()
        if self.bad.get(model, float("inf")) > time.time():
            return USUAL
        self.told.setdefault(model, time.time())
        return BROKEN

    def _respond(self, kind: str, result: list[dict[str, Any]]) -> web.Response:
        response = web.json_response({"status": "success", "data": {"resultType": kind, "result": result}})
        self.queries += 1
        self.bytes += len(response.body) if isinstance(response.body, bytes) else 0
        return response

    async def serve(self) -> web.AppRunner:
        """Listen on loopback."""
        app = web.Application(client_max_size=64 * 2**20)
        for path, handler in (("query", self.query), ("query_range", self.query_range)):
            app.router.add_route("*", f"/api/v1/{path}", handler)
        # Like Prometheus, it drops what nobody waits for any more.
        self._runner = web.AppRunner(app, access_log=None, handler_cancellation=True)
        await self._runner.setup()
        await self._listen()
        return self._runner
