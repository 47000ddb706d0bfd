"""What a model's pods tell: what keeps them from starting, why they are not ready, how often they ended."""

import re
from collections.abc import Iterable
from dataclasses import replace

from backstay.adapters.kubernetes.client import Object
from backstay.adapters.messages.plain import one_line
from backstay.domain.observed import Blocked, Workload

_LONGEST_WORDS = 300
# The image cannot be fetched at the moment, in the words of the kubelet. A wrong image name is the template's fault.
_PULLS = frozenset({"ErrImagePull", "ImagePullBackOff", "RegistryUnavailable", "ImageInspectError"})
# The kubelet prepares what the containers need: image, volumes, network.
_PREPARED = frozenset({"ContainerCreating", "PodInitializing"})
# The node lost sight of the container: it says nothing of the program in it.
_UNKNOWN_ENDS = frozenset({"ContainerStatusUnknown", "Unknown"})
_REASON = re.compile("[A-Za-z]{1,64}")
_PLAIN_REASONS = frozenset({"Completed", "Error"})


def with_pods(workload: Workload, pods: Iterable[Object]) -> Workload:
    """Add to a workload what its pods tell."""
    found = workload
    for pod in pods:
        count, words, left = _ends(pod)
        found = replace(
            found,
            blocked=blocked(pod) or found.blocked,
            trouble=trouble(pod) or found.trouble,
            said=said(pod) or left or found.said,
            restarts=found.restarts + count,
            ended=words or found.ended,
        )
    return found


def blocked(pod: Object) -> Blocked | None:
    """Say what in the cluster keeps a pod from starting; None where its own programs have run, or are at fault."""
    status = pod.get("status", {})
    for condition in status.get("conditions", ()):
        if condition["type"] == "PodScheduled" and condition["status"] == "False":
            message = condition.get("message") or condition.get("reason", "it cannot be scheduled")
            return Blocked("Unschedulable", one_line(str(message), _LONGEST_WORDS))
    containers = _containers(status)
    waiting = [container.get("state", {}).get("waiting", {}) for container in containers]
    pull = next((entry for entry in waiting if entry.get("reason") in _PULLS), None)
    if pull is not None:
        return Blocked("ImagePull", one_line(pull.get("message") or pull["reason"], _LONGEST_WORDS))
    idle = all(entry.get("reason") in _PREPARED for entry in waiting) and not any(map(_ended, containers))
    if idle and status.get("phase", "Pending") == "Pending":
        return Blocked("ContainersNotCreated", "the node has not created the containers: see the events of its pods")
    return None


def _ends(pod: Object) -> tuple[int, str, str]:
    """Count how often the containers of a pod have ended by themselves, and say how one did, and what it left."""
    status = pod.get("status", {})
    if "deletionTimestamp" in pod["metadata"] or status.get("phase") == "Failed":
        # It is being removed, or its node evicted it.
        return 0, "", ""
    count, words, left = 0, "", ""
    for container in status.get("containerStatuses", ()):
        end = _ended(container)
        if not end or end.get("reason") in _UNKNOWN_ENDS:
            continue
        count += container.get("restartCount", 0) + ("running" not in container.get("state", {}))
        words, left = _ended_with(container["name"], end), _last_line(end)
    return count, words, left


def _containers(status: Object) -> list[Object]:
    return [*status.get("initContainerStatuses", ()), *status.get("containerStatuses", ())]


def trouble(pod: Object) -> str:
    """Say in our own words why a pod's containers are not ready; empty where they are.

    It goes into Git, so it holds nothing that a container or an image source can choose; see `said` for that.
    """
    container = _unready(pod)
    if container is None:
        return ""
    name, state, ended = container["name"], container.get("state", {}), _ended(container)
    if ended:
        return _ended_with(name, ended)
    if "waiting" in state:
        return f"container {name} does not start{_because(state['waiting'])}"
    return f"container {name} runs, but its readiness probe fails"


def said(pod: Object) -> str:
    """Return the last line that the container of `trouble` left, or why the kubelet does not start it.

    A container and an image source may write anything there: it is for people at the cluster, and never for Git.
    """
    container = _unready(pod)
    if container is None:
        return ""
    ended = _ended(container)
    if ended:
        return _last_line(ended)
    return one_line(container["state"].get("waiting", {}).get("message") or "", _LONGEST_WORDS)


def _last_line(end: Object) -> str:
    lines = (end.get("message") or "").strip().splitlines()
    return one_line("".join(lines[-1:]), _LONGEST_WORDS)


def _unready(pod: Object) -> Object | None:
    """Find the first container that is not ready and has come far enough for a reason."""
    return next(
        (
            one
            for one in _containers(pod.get("status", {}))
            if not one.get("ready") and (one.get("state") or _ended(one))
        ),
        None,
    )


def _ended(container: Object) -> Object:
    found: Object = container.get("state", {}).get("terminated") or container.get("lastState", {}).get("terminated")
    return found or {}


def _ended_with(name: str, end: Object) -> str:
    return f"container {name} ended with code {end['exitCode']}{_because(end)}"


def _because(state: Object) -> str:
    """Name the kubelet's reason, which is one word such as OOMKilled, where it tells more than that it failed."""
    reason = str(state.get("reason") or "")
    return f", reason {reason}" if _REASON.fullmatch(reason) and reason not in _PLAIN_REASONS else ""
