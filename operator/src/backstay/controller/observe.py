"""From snapshots to what ``decide`` reads."""

from collections.abc import Iterable
from dataclasses import replace

from backstay.adapters.kubernetes import CONTROLLER_REVISION, DEPLOYMENT, Object
from backstay.adapters.manifests import backend_of, covers, others
from backstay.adapters.traffic import TrafficProvider
from backstay.controller.store import Children
from backstay.domain.observed import Backend, Route, Workload
from backstay.domain.resource import ModelDeployment, Plan, plan_of

_LONGEST_WORDS = 300


def workloads(children: Children) -> dict[Backend, Workload]:
    """Read the pods' state from the Deployments."""
    found = {}
    for body in children.of(DEPLOYMENT):
        backend = backend_of(body["metadata"])
        if backend is not None and "deletionTimestamp" not in body["metadata"]:
            found[backend] = _workload(body)
    return found


def _workload(body: Object) -> Workload:
    status = body.get("status", {})
    current = status.get("observedGeneration", 0) >= body["metadata"].get("generation", 0)
    unschedulable = next(
        (
            condition.get("message", "")
            for condition in status.get("conditions", ())
            if condition["type"] == "ReplicaFailure" and condition["status"] == "True"
        ),
        "",
    )
    return Workload(
        replicas=body["spec"].get("replicas", 1) if current else 0,
        ready=status.get("readyReplicas", 0),
        unschedulable=unschedulable,
    )


def unschedulable(pod: Object) -> str:
    """Say why a pod cannot be placed, in the scheduler's words; empty where it can."""
    for condition in pod.get("status", {}).get("conditions", ()):
        if condition["type"] == "PodScheduled" and condition["status"] == "False":
            return str(condition.get("message") or condition.get("reason", "it cannot be scheduled"))
    return ""


def trouble(pod: Object) -> str:
    """Say in a few words why a pod's containers are not ready; empty where they are."""
    status = pod.get("status", {})
    for container in (*status.get("initContainerStatuses", ()), *status.get("containerStatuses", ())):
        if container.get("ready"):
            continue
        state = container.get("state", {})
        ended = state.get("terminated") or container.get("lastState", {}).get("terminated")
        if ended:
            last = (ended.get("message") or "").strip().splitlines()[-1:]
            said = "".join(f": {_cut(line)}" for line in last)
            return f"container {container['name']} ended with code {ended['exitCode']}{said}"
        if "waiting" in state:
            said = state["waiting"].get("message") or state["waiting"].get("reason", "it waits")
            return f"container {container['name']} does not start: {_cut(said)}"
        if "running" in state:
            return f"container {container['name']} runs, but its readiness probe fails"
    return ""


def _cut(text: str) -> str:
    return text if len(text) <= _LONGEST_WORDS else f"{text[: _LONGEST_WORDS - 3]}..."


def plans(children: Children) -> dict[str, Plan]:
    """Read the plans that are kept."""
    kept = {}
    for body in children.of(CONTROLLER_REVISION):
        plan = plan_of(body["data"])
        kept[plan.revision] = plan
    return kept


def route(children: Children, provider: TrafficProvider, desired: ModelDeployment) -> Route | None:
    """Read the route, and whether it is still the one that the spec asks for, with nothing put beside that."""
    live = children.get(provider.kind, desired.key.name)
    if live is None or "deletionTimestamp" in live["metadata"]:
        return None
    found = provider.read(live)
    spec = provider.build(desired, found.weights, found.copies, ())["spec"]
    return replace(found, as_declared=covers(spec, live["spec"]) and not others(live["metadata"]))


def older_rival(desired: ModelDeployment, rivals: Iterable[ModelDeployment]) -> str:
    """Name the oldest of those that take some of the same requests, if it is older than this one, or nothing."""
    first = min((desired, *rivals), key=lambda one: (one.created_at, str(one.key)))
    return "" if first is desired else str(first.key)
