"""What stands in for a cluster's nodes and gateway: pods get ready at once, and every route is accepted."""

import asyncio
import itertools
import logging
from contextlib import suppress
from typing import Any

from backstay_playground.node.api import (
    STRATEGIC_MERGE,
    UNREACHABLE,
    Absent,
    Api,
    ApiError,
    Change,
    Informer,
    Present,
    key_of,
)
from backstay_playground.node.registration import Registration
from backstay_playground.node.states import now

_LOG = logging.getLogger(__name__)
_NODE = "scale"
# How many requests to the API server are under way at once.
_AT_ONCE = 64


class ReadyNode:
    """Binds every pod, says that it is ready, and lets it go when it is deleted."""

    def __init__(self, api: Api) -> None:
        self._api = api
        self.pods = Informer(api, "/api/v1/pods")
        self._registration = Registration(api, _NODE, lambda: None)
        self._addresses = itertools.count(1)
        self._slots = asyncio.Semaphore(_AT_ONCE)
        self._busy: set[str] = set()
        self._group: asyncio.TaskGroup | None = None

    async def run(self) -> None:
        """Be the node until cancelled."""
        async with asyncio.TaskGroup() as group:
            self._group = group
            group.create_task(self._registration.run())
            group.create_task(self.pods.run())
            await self._registration.registered.wait()
            self.pods.listen(self._on_pod)

    def _on_pod(self, change: Change) -> None:
        pod, uid = change.object, change.object["metadata"]["uid"]
        if isinstance(change, Absent) or uid in self._busy or self._group is None:
            return
        if "deletionTimestamp" in pod["metadata"]:
            self._do(pod, self._let_go(pod))
        elif not pod["spec"].get("nodeName"):
            self._do(pod, self._start(pod))

    def _do(self, pod: dict[str, Any], work: Any) -> None:
        uid = pod["metadata"]["uid"]

        async def once() -> None:
            async with self._slots:
                try:
                    await work
                except (ApiError, *UNREACHABLE) as problem:
                    _LOG.info("a pod: %s", problem)
                finally:
                    self._busy.discard(uid)
            # What happened to it meanwhile has been passed over.
            known = self.pods.store.get(key_of(pod))
            if known is not None and known["metadata"]["uid"] == uid and "deletionTimestamp" in known["metadata"]:
                self._on_pod(Present(known))

        self._busy.add(uid)
        if self._group is not None:
            self._group.create_task(once())

    async def _start(self, pod: dict[str, Any]) -> None:
        namespace, name = key_of(pod)
        path = f"/api/v1/namespaces/{namespace}/pods/{name}"
        target = {"apiVersion": "v1", "kind": "Node", "name": _NODE}
        with suppress(ApiError):
            await self._api.request(
                "POST",
                f"{path}/binding",
                body={"apiVersion": "v1", "kind": "Binding", "metadata": {"name": name}, "target": target},
            )
        number, at = next(self._addresses), now()
        address = f"10.{number >> 16 & 255}.{number >> 8 & 255}.{number & 255}"
        conditions = [
            {"type": kind, "status": "True", "lastTransitionTime": at}
            for kind in ("PodScheduled", "Initialized", "ContainersReady", "Ready")
        ]
        status = {
            "phase": "Running",
            "podIP": address,
            "podIPs": [{"ip": address}],
            "startTime": at,
            "conditions": conditions,
        }
        await self._api.patch(f"{path}/status", {"status": status}, content_type=STRATEGIC_MERGE)

    async def _let_go(self, pod: dict[str, Any]) -> None:
        namespace, name = key_of(pod)
        await self._api.request("DELETE", f"/api/v1/namespaces/{namespace}/pods/{name}?gracePeriodSeconds=0")


class AcceptingGateway:
    """Accepts every HTTPRoute, each generation of it."""

    def __init__(self, api: Api) -> None:
        self._api = api
        self.routes = Informer(api, "/apis/gateway.networking.k8s.io/v1/httproutes")
        self._slots = asyncio.Semaphore(_AT_ONCE)
        self._group: asyncio.TaskGroup | None = None

    async def run(self) -> None:
        """Be the gateway until cancelled."""
        async with asyncio.TaskGroup() as group:
            self._group = group
            self.routes.listen(self._on_route)
            group.create_task(self.routes.run())

    def _on_route(self, change: Change) -> None:
        if not isinstance(change, Absent) and self._group is not None and not _accepted(change.object):
            self._group.create_task(self._accept(change.object))

    async def _accept(self, route: dict[str, Any]) -> None:
        namespace, name = key_of(route)
        condition = {
            "type": "Accepted",
            "status": "True",
            "reason": "Accepted",
            "message": "",
            "observedGeneration": route["metadata"]["generation"],
            "lastTransitionTime": now(),
        }
        parents = [
            {"parentRef": parent, "controllerName": "backstay.dev/scale", "conditions": [condition]}
            for parent in route["spec"]["parentRefs"]
        ]
        path = f"{self.routes.path.replace('/httproutes', '')}/namespaces/{namespace}/httproutes/{name}/status"
        async with self._slots:
            with suppress(ApiError, *UNREACHABLE):
                await self._api.patch(path, {"status": {"parents": parents}})


def _accepted(route: dict[str, Any]) -> bool:
    return any(
        condition["type"] == "Accepted" and condition.get("observedGeneration") == route["metadata"]["generation"]
        for parent in route.get("status", {}).get("parents", ())
        for condition in parent["conditions"]
    )
