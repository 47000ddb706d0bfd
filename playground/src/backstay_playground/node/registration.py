"""The Node object: registered, kept Ready by heartbeats, and the labels that pods may ask for."""

import asyncio
import logging
import os
import platform
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from importlib.metadata import version

from backstay_playground.node.api import STRATEGIC_MERGE, UNREACHABLE, Api, ApiError, Json
from backstay_playground.node.states import now
from backstay_playground.node.status import with_times
from backstay_playground.processes import identify

logger = logging.getLogger(__name__)

_HEARTBEAT_SECONDS = 10.0
_RETRY_SECONDS = 1.0
_LEASE_SECONDS = 40
_MAX_PODS = "500"
_NOT_FOUND = 404
# Without the others, the controller manager calls them unknown once the node was away.
_CONDITIONS = {"Ready": "True", "MemoryPressure": "False", "DiskPressure": "False", "PIDPressure": "False"}
_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}
_LEASES = "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases"


class Registration:
    """Keeps the Node object and its Lease current.

    Args:
        api: The API server.
        name: The Node object's name.
        relabelled: Called when the Node's labels have changed.
    """

    def __init__(self, api: Api, name: str, relabelled: Callable[[], None]) -> None:
        self._api = api
        self._name = name
        self._relabelled = relabelled
        self.labels: Mapping[str, str] = {}
        self.registered = asyncio.Event()

    async def run(self) -> None:
        """Register, then report every ten seconds until cancelled."""
        while True:
            try:
                await self._beat()
            except (ApiError, *UNREACHABLE) as error:
                logger.warning("node %s: heartbeat failed: %s", self._name, str(error) or type(error).__name__)
                await asyncio.sleep(_RETRY_SECONDS)
            else:
                self.registered.set()
                await asyncio.sleep(_HEARTBEAT_SECONDS)

    async def _beat(self) -> None:
        try:
            node = await self._report()
        except ApiError as error:
            if error.status != _NOT_FOUND:
                raise
            await self._api.request("POST", "/api/v1/nodes", body=self._node())
            node = await self._report()
        if self.labels != node["metadata"]["labels"]:
            self.labels = node["metadata"]["labels"]
            self._relabelled()
        await self._renew(node["metadata"]["uid"])

    def _node(self) -> Json:
        machine = platform.machine()
        labels = {
            "kubernetes.io/hostname": self._name,
            "kubernetes.io/os": "linux",
            "kubernetes.io/arch": _ARCHITECTURES.get(machine, machine),
        }
        return {"apiVersion": "v1", "kind": "Node", "metadata": {"name": self._name, "labels": labels}}

    async def _report(self) -> Json:
        memory = f"{os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES') // 1024}Ki"
        amounts = {"cpu": str(os.cpu_count() or 1), "memory": memory, "pods": _MAX_PODS}
        status = {
            "capacity": amounts,
            "allocatable": amounts,
            "addresses": [{"type": "InternalIP", "address": "127.0.0.1"}, {"type": "Hostname", "address": self._name}],
            "conditions": await self._conditions(),
            "nodeInfo": {
                "architecture": _ARCHITECTURES.get(platform.machine(), platform.machine()),
                "bootID": identify(os.getpid()).boot,
                "containerRuntimeVersion": f"process://{version('backstay')}",
                "kernelVersion": platform.release(),
                "kubeProxyVersion": "",
                "kubeletVersion": f"v{version('backstay')}",
                "machineID": "",
                "operatingSystem": "linux",
                "osImage": platform.platform(),
                "systemUUID": "",
            },
        }
        path = f"/api/v1/nodes/{self._name}/status"
        return await self._api.patch(path, {"status": status}, content_type=STRATEGIC_MERGE)

    async def _conditions(self) -> list[Json]:
        node = await self._api.request("GET", f"/api/v1/nodes/{self._name}")
        wanted = [
            {"type": kind, "status": status, "reason": "ProcessNode", "message": "", "lastHeartbeatTime": now()}
            for kind, status in _CONDITIONS.items()
        ]
        return with_times(wanted, node["status"].get("conditions") or [], now=now())

    async def _renew(self, uid: str) -> None:
        owner = {"apiVersion": "v1", "kind": "Node", "name": self._name, "uid": uid}
        spec = {
            "holderIdentity": self._name,
            "leaseDurationSeconds": _LEASE_SECONDS,
            "renewTime": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ"),
        }
        try:
            await self._api.patch(f"{_LEASES}/{self._name}", {"spec": spec})
        except ApiError as error:
            if error.status != _NOT_FOUND:
                raise
            metadata = {"name": self._name, "ownerReferences": [owner]}
            lease = {"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": metadata, "spec": spec}
            await self._api.request("POST", _LEASES, body=lease)
