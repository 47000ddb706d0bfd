"""What runs in the simulated cluster: Deployments get pods, pods get ready, and the gateway takes routes up."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

from backstay.adapters.kubernetes.client import DEPLOYMENT, HTTP_ROUTE, POD
from backstay_world.fields import Object
from backstay_world.objects import Change, Objects, Slot, slot_of

_DEPLOYED_AFTER = 0.05
_ACCEPTED_AFTER = 0.05
_CONTROLLERS = "kube-controller-manager"
_GATEWAY = "gateway-controller"


@dataclass(frozen=True, slots=True)
class Behaviour:
    """How the pods of a model version behave.

    ``errors`` is the share of requests that they answer with an error, ``ready_after`` are the seconds until a pod is
    ready. One that does not start never is.
    """

    errors: float = 0.0
    ready_after: float = 1.0
    starts: bool = True


def version_of(body: Object) -> str:
    """Read from a Deployment's or a pod's containers which version they serve."""
    spec = body["spec"].get("template", body)["spec"]
    env = spec["containers"][0].get("env", ())
    return next((str(entry["value"]) for entry in env if entry["name"] == "MODEL_VERSION"), "")


class Nodes:
    """Makes pods for Deployments and reports on both. A Deployment's template is taken as it is at a pod's start."""

    def __init__(
        self, objects: Objects, loop: asyncio.AbstractEventLoop, behaviour: Callable[[Object], Behaviour]
    ) -> None:
        self._objects = objects
        self._loop = loop
        self._behaviour = behaviour
        self._serial = 0
        objects.listeners.append(self._changed)

    def _changed(self, change: Change) -> None:
        if change.kind is not DEPLOYMENT or change.after is None:
            return
        meta, status = change.after["metadata"], change.after.get("status", {})
        if status.get("observedGeneration") != meta["generation"]:
            self._loop.call_later(_DEPLOYED_AFTER, self._deploy, slot_of(change.after))

    def _deploy(self, slot: Slot) -> None:
        body = self._objects.find(DEPLOYMENT, *slot)
        if body is None:
            return
        pods = self.pods(body)
        for pod in pods[body["spec"]["replicas"] :]:
            self._objects.delete(POD, slot_of(pod), _CONTROLLERS)
        for _ in range(body["spec"]["replicas"] - len(pods)):
            self._start(body)
        self._report(slot)

    def pods(self, deployment: Object) -> list[Object]:
        """List a Deployment's pods, the oldest first."""
        uid = deployment["metadata"]["uid"]
        every = self._objects.all(POD, namespace=deployment["metadata"]["namespace"])
        own = (pod for pod in every if pod["metadata"]["ownerReferences"][0]["uid"] == uid)
        return sorted(own, key=lambda pod: int(pod["metadata"]["name"].rpartition("-")[2]))

    def _start(self, deployment: Object) -> None:
        meta, template = deployment["metadata"], deployment["spec"]["template"]
        behaviour = self._behaviour(deployment)
        self._serial += 1
        owner = {
            "apiVersion": DEPLOYMENT.api_version,
            "kind": DEPLOYMENT.kind,
            "name": meta["name"],
            "uid": meta["uid"],
        }
        pod = self._objects.create(
            POD,
            {
                "metadata": {
                    "name": f"{meta['name']}-{self._serial}",
                    "namespace": meta["namespace"],
                    "labels": template["metadata"]["labels"],
                    "ownerReferences": [owner],
                },
                "spec": template["spec"],
                "status": {"phase": "Pending"},
            },
            _CONTROLLERS,
        )
        report = self._run if behaviour.starts else self._crash
        self._loop.call_later(behaviour.ready_after, report, slot_of(pod), slot_of(deployment))

    def _run(self, pod: Slot, deployment: Slot) -> None:
        self._tell(pod, deployment, "Running", {"ready": True, "restartCount": 0, "state": {"running": {}}})

    def _crash(self, pod: Slot, deployment: Slot) -> None:
        ended = {"terminated": {"exitCode": 1, "reason": "Error", "message": "no model"}}
        waits = {"waiting": {"reason": "CrashLoopBackOff"}}
        self._tell(pod, deployment, "Running", {"ready": False, "restartCount": 1, "state": waits, "lastState": ended})

    def _tell(self, pod: Slot, deployment: Slot, phase: str, container: Object) -> None:
        body = self._objects.find(POD, *pod)
        if body is None:
            return
        name = body["spec"]["containers"][0]["name"]
        status = {"phase": phase, "containerStatuses": [{"name": name, **container}]}
        self._objects.replace_status(POD, {"metadata": _named(pod), "status": status}, "kubelet")
        self._report(deployment)

    def kill(self, pod: Slot) -> None:
        """End a pod as if its node had died; its Deployment gets another one."""
        owner = self._objects.get(POD, *pod)["metadata"]["ownerReferences"][0]["name"]
        self._objects.delete(POD, pod, "kubelet")
        self._deploy((pod[0], owner))

    def _report(self, slot: Slot) -> None:
        body = self._objects.find(DEPLOYMENT, *slot)
        if body is None:
            return
        pods = self.pods(body)
        ready = sum(is_ready(pod) for pod in pods)
        status = {
            "observedGeneration": body["metadata"]["generation"],
            "replicas": len(pods),
            "readyReplicas": ready,
            "availableReplicas": ready,
        }
        if status != body.get("status"):
            self._objects.replace_status(DEPLOYMENT, {"metadata": _named(slot), "status": status}, _CONTROLLERS)


class Gateway:
    """Takes every new generation of a route up after a moment, and says so in its status."""

    def __init__(
        self,
        objects: Objects,
        loop: asyncio.AbstractEventLoop,
        *,
        taken: Callable[[Object], None],
        gone: Callable[[Slot], None],
    ) -> None:
        self._objects = objects
        self._loop = loop
        self._taken = taken
        self._gone = gone
        objects.listeners.append(self._changed)

    def _changed(self, change: Change) -> None:
        if change.kind is not HTTP_ROUTE:
            return
        if change.after is None:
            self._gone(slot_of(change.before or {}))
        elif not is_accepted(change.after):
            self._loop.call_later(_ACCEPTED_AFTER, self._accept, slot_of(change.after))

    def _accept(self, slot: Slot) -> None:
        body = self._objects.find(HTTP_ROUTE, *slot)
        if body is None or is_accepted(body):
            return
        accepted = {"type": "Accepted", "status": "True", "observedGeneration": body["metadata"]["generation"]}
        parents = [{"parentRef": ref, "conditions": [accepted]} for ref in body["spec"]["parentRefs"]]
        self._taken(body)
        self._objects.replace_status(HTTP_ROUTE, {"metadata": _named(slot), "status": {"parents": parents}}, _GATEWAY)


def is_ready(pod: Object) -> bool:
    """Tell whether a pod takes requests."""
    return any(container["ready"] for container in pod.get("status", {}).get("containerStatuses", ()))


def is_accepted(route: Object) -> bool:
    """Tell whether the gateway has taken this generation of a route up."""
    return any(
        condition["observedGeneration"] == route["metadata"]["generation"]
        for parent in route.get("status", {}).get("parents", ())
        for condition in parent["conditions"]
    )


def _named(slot: Slot) -> Object:
    return {"namespace": slot[0], "name": slot[1]}
