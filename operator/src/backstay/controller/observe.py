"""From snapshots to what ``decide`` reads."""

from collections.abc import Iterable
from dataclasses import replace

from backstay.adapters.kubernetes import CONTROLLER_REVISION, DEPLOYMENT, SERVICE, Object
from backstay.adapters.manifests import REVISION, backend_of, covers, others
from backstay.adapters.traffic import TrafficProvider
from backstay.controller.store import Children
from backstay.domain.observed import Backend, Blocked, Route, Workload
from backstay.domain.resource import ModelDeployment, Plan, plan_of

_LONGEST_WORDS = 300
# The image cannot be fetched at the moment, in the words of the kubelet. A wrong image name is the template's fault.
_PULLS = frozenset({"ErrImagePull", "ImagePullBackOff", "RegistryUnavailable", "ImageInspectError"})
# The kubelet prepares what the containers need: image, volumes, network.
_PREPARED = frozenset({"ContainerCreating", "PodInitializing"})
# The node lost sight of the container: it says nothing of the program in it.
_UNKNOWN_ENDS = frozenset({"ContainerStatusUnknown", "Unknown"})


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
    refusal = next(
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
        blocked=Blocked("Unschedulable", _cut(refusal)) if refusal else None,
    )


def with_pods(workload: Workload, pods: Iterable[Object]) -> Workload:
    """Add to a workload what its pods tell."""
    found = workload
    for pod in pods:
        count, end = _ends(pod)
        found = replace(
            found,
            blocked=blocked(pod) or found.blocked,
            trouble=trouble(pod) or found.trouble,
            restarts=found.restarts + count,
            ended=end or found.ended,
        )
    return found


def blocked(pod: Object) -> Blocked | None:
    """Say what in the cluster keeps a pod from starting; None where its own programs have run, or are at fault."""
    status = pod.get("status", {})
    for condition in status.get("conditions", ()):
        if condition["type"] == "PodScheduled" and condition["status"] == "False":
            message = condition.get("message") or condition.get("reason", "it cannot be scheduled")
            return Blocked("Unschedulable", _cut(str(message)))
    containers = _containers(status)
    waiting = [container.get("state", {}).get("waiting", {}) for container in containers]
    pull = next((entry for entry in waiting if entry.get("reason") in _PULLS), None)
    if pull is not None:
        return Blocked("ImagePull", _cut(pull.get("message") or pull["reason"]))
    idle = all(entry.get("reason") in _PREPARED for entry in waiting) and not any(map(_has_ended, containers))
    if idle and status.get("phase", "Pending") == "Pending":
        return Blocked("ContainersNotCreated", "the node has not created the containers: see the events of its pods")
    return None


def _ends(pod: Object) -> tuple[int, str]:
    """Count how often the containers of a pod have ended by themselves, and say how one of them did."""
    status = pod.get("status", {})
    if "deletionTimestamp" in pod["metadata"] or status.get("phase") == "Failed":
        # It is being removed, or its node evicted it.
        return 0, ""
    count, said = 0, ""
    for container in status.get("containerStatuses", ()):
        end = _last_end(container)
        if end is None or end.get("reason") in _UNKNOWN_ENDS:
            continue
        count += container.get("restartCount", 0) + ("running" not in container.get("state", {}))
        reason = f" ({end['reason']})" if end.get("reason") else ""
        said = f"container {container['name']} ended with code {end['exitCode']}{reason}"
    return count, said


def _containers(status: Object) -> list[Object]:
    return [*status.get("initContainerStatuses", ()), *status.get("containerStatuses", ())]


def _last_end(container: Object) -> Object | None:
    found: Object | None = container.get("state", {}).get("terminated") or container.get("lastState", {}).get(
        "terminated"
    )
    return found


def _has_ended(container: Object) -> bool:
    return _last_end(container) is not None


def trouble(pod: Object) -> str:
    """Say in a few words why a pod's containers are not ready; empty where they are."""
    status = pod.get("status", {})
    for container in _containers(status):
        if container.get("ready"):
            continue
        state, ended = container.get("state", {}), _last_end(container)
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


def served(children: Children, desired: ModelDeployment) -> str:
    """Read which revision the stable Service selects; empty where there is none."""
    service = children.get(SERVICE, desired.key.name)
    return str(service["spec"].get("selector", {}).get(REVISION, "")) if service is not None else ""


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
