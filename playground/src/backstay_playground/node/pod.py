"""One pod on this node, from binding to final deletion."""

import asyncio
import logging
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from backstay_playground.node import status
from backstay_playground.node.actions import Means, Target
from backstay_playground.node.addresses import Addresses
from backstay_playground.node.api import UNREACHABLE, Api, ApiError, Json
from backstay_playground.node.container import Container
from backstay_playground.node.environment import ConfigError
from backstay_playground.node.launch import Place, Surroundings, log_file, prepare
from backstay_playground.node.namespace import wrap
from backstay_playground.node.process import Launch, Ledger, Owner, Process, adopt, start
from backstay_playground.node.states import now
from backstay_playground.node.volumes import Volumes
from backstay_playground.node.warm import WarmStart
from backstay_playground.processes import Identity

logger = logging.getLogger(__name__)

_RETRY_SECONDS = 0.5
_DEFAULT_GRACE = 30


@dataclass(frozen=True)
class Facilities:
    """What the node shares among its pods.

    Args:
        api: The API server.
        surroundings: What every container gets.
        folder: Where each pod has a folder.
        addresses: The pods' addresses.
        ledger: The record of running processes.
        means: What probes and hooks are performed with.
        warm: What starts Python programs without importing everything again.
    """

    api: Api
    surroundings: Surroundings
    folder: Path
    addresses: Addresses
    ledger: Ledger
    means: Means
    warm: WarmStart


class Pod:
    """A pod that is bound to this node; `life.Life` lets it live.

    Args:
        pod: The object as it was first seen.
        facilities: What the node offers.
    """

    def __init__(self, pod: Json, facilities: Facilities) -> None:
        self.object = pod
        self.uid: str = pod["metadata"]["uid"]
        self.namespace: str = pod["metadata"]["namespace"]
        self.name: str = pod["metadata"]["name"]
        self.node = facilities
        known = pod.get("status", {}).get("podIP", "")
        self.address: str = known or facilities.addresses.allocate()
        facilities.addresses.take(self.address)
        self.folder: Path = facilities.folder / self.uid
        self._volumes = Volumes(self.folder / "volumes", api=facilities.api, objects=facilities.surroundings.objects)
        policy = pod["spec"].get("restartPolicy", "Always")
        again = "OnFailure" if policy == "Always" else policy
        self.inits = [self._container(each, again) for each in pod["spec"].get("initContainers") or []]
        self.containers = [self._container(each, policy) for each in pod["spec"]["containers"]]
        self.news = asyncio.Event()
        self.volumes_stale = asyncio.Event()
        self.stopping = asyncio.Event()
        self.gone = asyncio.Event()
        self._note_deletion()

    def _container(self, spec: Json, policy: str) -> Container:
        owner = Owner(self.uid, self.namespace, self.name, spec["name"])
        return Container(spec, self, owner=owner, policy=policy, ledger=self.node.ledger, means=self.node.means)

    def resume(self, found: Mapping[str, Identity]) -> None:
        """Take over processes of an earlier node (container name -> process) and what it reported."""
        reported = self.object.get("status", {})
        entries = [*(reported.get("initContainerStatuses") or []), *(reported.get("containerStatuses") or [])]
        statuses: dict[str, Json] = {each["name"]: each for each in entries}
        for container in self.everyone:
            entry = statuses.get(container.name, {})
            if container.name in found:
                with suppress(ProcessLookupError):
                    container.adopt(entry, adopt(found[container.name]))
                    logger.info("%s/%s %s: adopted", self.namespace, self.name, container.name)
                    continue
            container.remember(entry)

    # -- what others see

    @property
    def everyone(self) -> tuple[Container, ...]:
        """Return init containers and containers."""
        return (*self.inits, *self.containers)

    @property
    def labels(self) -> Mapping[str, str]:
        """Return the pod's labels."""
        labels: Mapping[str, str] = self.object["metadata"].get("labels") or {}
        return labels

    @property
    def terminating(self) -> bool:
        """Tell whether the pod is being deleted."""
        return self.stopping.is_set()

    @property
    def ready(self) -> bool:
        """Tell whether the pod takes new connections."""
        return bool(self._conditions()[-1]["status"] == "True")

    def port(self, name: str) -> int:
        """Return the number of a named container port; 0 when there is none."""
        for container in self.containers:
            for port in container.spec.get("ports") or []:
                if port.get("name") == name:
                    return int(port["containerPort"])
        return 0

    def _conditions(self) -> list[Json]:
        return status.conditions(self.object, self.inits, self.containers, terminating=self.terminating)

    # -- what containers need from their pod

    @property
    def grace(self) -> float:
        """Return the seconds that containers have to end."""
        asked = self.object["metadata"].get("deletionGracePeriodSeconds")
        return float(
            asked if asked is not None else self.object["spec"].get("terminationGracePeriodSeconds", _DEFAULT_GRACE)
        )

    def launch(self, container: Json) -> Launch:
        """Work out how to start a container; raises ConfigError."""
        place = Place(self.address, self.home, self._mounts(container))
        return prepare(container, self.object, place=place, node=self.node.surroundings)

    def start(self, launch: Launch) -> Process:
        """Start a container's process, warm where that is possible; raises OSError."""
        return self.node.warm.start(launch) or start(launch)

    def target(self, container: Json, process: Process) -> Target:
        """Return what probes and hooks of a running container address."""
        mounts = self._mounts(container)
        ports = {port["name"]: port["containerPort"] for port in container.get("ports") or [] if "name" in port}
        return Target(self.address, ports, lambda command: wrap(command, mounts=mounts), process.environment())

    def log(self, container: Json) -> Path:
        """Return the file with a container's output."""
        return log_file(self.node.surroundings.logs, self.object, container["name"])

    def changed(self) -> None:
        """Take note that a container's state changed."""
        self.news.set()

    @property
    def home(self) -> Path:
        """Return the home folder of the containers."""
        return self.folder / "home"

    def _mounts(self, container: Json) -> dict[str, Path]:
        return {"/etc/hosts": self.node.surroundings.hosts, **self._volumes.mounts(container)}

    # -- what the node tells the pod

    def update(self, pod: Json) -> None:
        """Take note of the object as the server has it now."""
        if int(pod["metadata"]["resourceVersion"]) < int(self.object["metadata"]["resourceVersion"]):
            return
        if any(pod["metadata"].get(part) != self.object["metadata"].get(part) for part in ("labels", "annotations")):
            self.volumes_stale.set()
        self.object = pod
        self._note_deletion()
        self.news.set()

    def _note_deletion(self) -> None:
        if "deletionTimestamp" in self.object["metadata"]:
            self.stopping.set()

    def forget(self) -> None:
        """Take note that the object is gone: what still runs is killed."""
        self.gone.set()
        self.stopping.set()

    def refresh_volumes(self) -> None:
        """Take note that a ConfigMap or Secret changed."""
        self.volumes_stale.set()

    @property
    def path(self) -> str:
        """Return the object's path in the API."""
        return f"/api/v1/namespaces/{self.namespace}/pods/{self.name}"

    async def sync_volumes(self) -> None:
        """Make the volumes current, however often that has to be tried."""
        while True:
            try:
                await self._volumes.sync(self.object, address=self.address)
            except (ConfigError, ApiError, *UNREACHABLE) as error:
                problem = str(error) or type(error).__name__
                for container in self.everyone:
                    container.hold_up(problem)
                await asyncio.sleep(_RETRY_SECONDS)
            else:
                return

    @property
    def renew_at(self) -> float:
        """Return when the volumes need to be made current at the latest, in seconds since the epoch."""
        return self._volumes.renew_at

    # -- reports

    def wanted_status(self) -> Json:
        """Return what the node reports, as the status of a strategic merge patch."""
        reported = self.object.get("status", {})
        return {
            "phase": status.phase(self.inits, self.containers),
            "conditions": status.with_times(self._conditions(), reported.get("conditions") or [], now=now()),
            "hostIP": "127.0.0.1",
            "podIP": self.address,
            "podIPs": [{"ip": self.address}],
            "startTime": reported.get("startTime") or now(),
            "initContainerStatuses": [status.container_status(each) for each in self.inits],
            "containerStatuses": [status.container_status(each) for each in self.containers],
        }

    def summary(self) -> Json:
        """Return what people want to know about the pod."""
        return {
            "namespace": self.namespace,
            "name": self.name,
            "uid": self.uid,
            "ip": self.address,
            "phase": status.phase(self.inits, self.containers),
            "ready": self.ready,
            "terminating": self.terminating,
            "containers": [
                {**status.container_status(each), "log": str(self.log(each.spec))} for each in self.everyone
            ],
        }
