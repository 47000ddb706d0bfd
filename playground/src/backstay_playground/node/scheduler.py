"""Binding: every pending pod goes to this one node, unless its nodeSelector says otherwise."""

import asyncio
import logging
from collections.abc import Callable, Mapping
from contextlib import suppress

from backstay_playground.node.api import STRATEGIC_MERGE, UNREACHABLE, Api, ApiError, Json, Key, key_of
from backstay_playground.node.states import now

logger = logging.getLogger(__name__)

_RETRY_SECONDS = 1.0
_NOT_FOUND = 404
_CONFLICT = 409


def is_pending(pod: Json) -> bool:
    """Tell whether a pod waits for a node from the default scheduler."""
    spec = pod["spec"]
    return (
        not spec.get("nodeName")
        and not spec.get("schedulingGates")
        and spec.get("schedulerName", "default-scheduler") == "default-scheduler"
        and "deletionTimestamp" not in pod["metadata"]
    )


def misfit(pod: Json, labels: Mapping[str, str]) -> str:
    """Return why a pod cannot run on a node with these labels; empty when it can."""
    wanted: dict[str, str] = pod["spec"].get("nodeSelector") or {}
    missing = [f"{name}={value}" for name, value in sorted(wanted.items()) if labels.get(name) != value]
    if not missing:
        return ""
    return f"0/1 nodes are available: the node does not match the pod's nodeSelector {', '.join(missing)}."


class Scheduler:
    """Binds pods to the node; `run` looks at the pending ones whenever `wake` was called.

    Args:
        api: The API server.
        node: The node's name.
        labels: Returns the node's labels.
        pods: Returns all pods.
    """

    def __init__(
        self, api: Api, *, node: str, labels: Callable[[], Mapping[str, str]], pods: Callable[[], Mapping[Key, Json]]
    ) -> None:
        self._api = api
        self._node = node
        self._labels = labels
        self._pods = pods
        self._stale = asyncio.Event()

    def wake(self) -> None:
        """Look at the pending pods again."""
        self._stale.set()

    async def run(self) -> None:
        """Bind pending pods until cancelled."""
        while True:
            self._stale.clear()
            pending = [pod for pod in self._pods().values() if is_pending(pod)]
            results = await asyncio.gather(*(self._place(pod) for pod in pending))
            with suppress(TimeoutError):
                async with asyncio.timeout(None if all(results) else _RETRY_SECONDS):
                    await self._stale.wait()

    async def _place(self, pod: Json) -> bool:
        """Bind one pod or report why not; False when the API server did not take it."""
        namespace, name = key_of(pod)
        path = f"/api/v1/namespaces/{namespace}/pods/{name}"
        try:
            if problem := misfit(pod, self._labels()):
                await self._refuse(pod, path, problem)
            else:
                target = {"apiVersion": "v1", "kind": "Node", "name": self._node}
                metadata = {"name": name, "uid": pod["metadata"]["uid"]}
                body = {"apiVersion": "v1", "kind": "Binding", "metadata": metadata, "target": target}
                await self._api.request("POST", f"{path}/binding", body=body)
        except ApiError as error:
            # Deleted or bound meanwhile: the watch will tell.
            if error.status not in {_NOT_FOUND, _CONFLICT}:
                logger.warning("%s/%s: cannot bind: %s", namespace, name, error)
                return False
        except UNREACHABLE:
            return False
        return True

    async def _refuse(self, pod: Json, path: str, problem: str) -> None:
        for known in pod.get("status", {}).get("conditions") or []:
            if known["type"] == "PodScheduled" and known.get("message") == problem:
                return
        condition = {
            "type": "PodScheduled",
            "status": "False",
            "reason": "Unschedulable",
            "message": problem,
            "lastTransitionTime": now(),
        }
        body = {"metadata": {"uid": pod["metadata"]["uid"]}, "status": {"conditions": [condition]}}
        await self._api.patch(f"{path}/status", body, content_type=STRATEGIC_MERGE)
