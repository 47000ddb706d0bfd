"""A stand-in for Prometheus that answers the controller's own queries for any number of models."""

import re
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from aiohttp import web

_METRIC = re.compile(r"backstay_(requests|errors)_total")
_REVISIONS = re.compile(r'revision=~"([^"]*)"')
# Requests a second to each pod, and the shares that fail.
RATE = 20.0
USUAL, BROKEN = 0.01, 0.5
# The version that is tried.
NEW = "2"


class Evidence:
    """Counters of pods that nobody runs: each grows from the pod's start, by the clock."""

    def __init__(self, pods: Callable[[], Iterable[Mapping[str, Any]]]) -> None:
        self._pods = pods
        self._born: dict[str, float] = {}
        # When the canary of a model began to fail, and when its first bad answer was told (Unix seconds).
        self.bad: dict[str, float] = {}
        self.told: dict[str, float] = {}
        self.queries = 0
        self.bytes = 0

    def value(self, metric: str, pod: Mapping[str, Any], at: float) -> float | None:
        """Return a pod's counter at a time; None before it was there."""
        labels, uid = pod["metadata"]["labels"], pod["metadata"]["uid"]
        born = self._born.setdefault(uid, time.time())
        if at < born:
            return None
        if metric == "requests":
            return RATE * (at - born)
        failing = self.bad.get(labels["backstay.dev/name"], float("inf"))
        environment = {one["name"]: one.get("value") for one in pod["spec"]["containers"][0]["env"]}
        is_canary = environment["MODEL_VERSION"] == NEW
        began = max(failing, born)
        if not is_canary or at <= began:
            return USUAL * RATE * (at - born)
        self.told.setdefault(labels["backstay.dev/name"], time.time())
        return RATE * (USUAL * (began - born) + BROKEN * (at - began))

    async def query(self, request: web.Request) -> web.Response:
        """Answer an instant query."""
        form = {**request.query, **await request.post()}
        at = float(str(form.get("time", time.time())))
        return self._answer("vector", str(form["query"]), [at])

    async def query_range(self, request: web.Request) -> web.Response:
        """Answer a range query."""
        form = {**request.query, **await request.post()}
        start, end, step = (float(str(form[name])) for name in ("start", "end", "step"))
        times = [start + step * number for number in range(int((end - start) / step + 1e-6) + 1)]
        return self._answer("matrix", str(form["query"]), times)

    def _answer(self, kind: str, query: str, times: list[float]) -> web.Response:
        found, wanted = _METRIC.search(query), _REVISIONS.search(query)
        if found is None or wanted is None:
            raise web.HTTPBadRequest(text=f"unexpected query {query}")
        revisions = set(wanted[1].split("|"))
        result = []
        for pod in self._pods():
            labels = pod["metadata"].get("labels", {})
            if labels.get("backstay.dev/revision") not in revisions:
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
                result.append(
                    {"metric": metric, **({"value": samples[0]} if kind == "vector" else {"values": samples})}
                )
        response = web.json_response({"status": "success", "data": {"resultType": kind, "result": result}})
        self.queries += 1
        self.bytes += len(response.body) if isinstance(response.body, bytes) else 0
        return response

    async def serve(self, port: int) -> web.AppRunner:
        """Listen on loopback."""
        app = web.Application(client_max_size=64 * 2**20)
        for path, handler in (("query", self.query), ("query_range", self.query_range)):
            app.router.add_route("*", f"/api/v1/{path}", handler)
        runner = web.AppRunner(app, access_log=None)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", port).start()
        return runner
