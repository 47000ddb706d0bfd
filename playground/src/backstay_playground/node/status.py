"""What the node reports about a pod: container statuses, conditions and phase. Pure functions."""

from collections.abc import Iterable, Sequence
from typing import assert_never

from backstay_playground.node.api import Json
from backstay_playground.node.container import Container
from backstay_playground.node.states import FirstRun, Running, State, Terminated, Waiting


def _state(state: State) -> Json:
    match state:
        case Waiting(reason, message):
            return {"waiting": {"reason": reason, **({"message": message} if message else {})}}
        case Running(since):
            return {"running": {"startedAt": since}}
        case Terminated():
            return {"terminated": _terminated(state)}
        case _:
            assert_never(state)


def _terminated(state: Terminated) -> Json:
    message = {"message": state.message} if state.message else {}
    return {
        "exitCode": state.exit_code,
        "reason": state.reason,
        "startedAt": state.started_at,
        "finishedAt": state.finished_at,
        **message,
    }


def container_status(container: Container) -> Json:
    """Return one entry of status.containerStatuses."""
    pid = f"process://{container.state.process.identity.pid}" if isinstance(container.state, Running) else ""
    last = {} if isinstance(container.last, FirstRun) else {"terminated": _terminated(container.last)}
    return {
        "name": container.name,
        "image": container.spec.get("image", ""),
        "imageID": "",
        "containerID": pid,
        "ready": container.ready,
        "started": container.started,
        "restartCount": container.restarts,
        "state": _state(container.state),
        "lastState": last,
    }


def initialized(inits: Iterable[Container]) -> bool:
    """Tell whether every init container has succeeded."""
    return all(isinstance(each.state, Terminated) and each.state.exit_code == 0 for each in inits)


def phase(inits: Sequence[Container], containers: Sequence[Container]) -> str:
    """Return the pod's phase."""
    if any(each.done and not initialized([each]) for each in inits):
        return "Failed"
    if all(each.done for each in containers):
        return "Succeeded" if initialized(containers) else "Failed"
    if any(isinstance(each.state, Waiting) and isinstance(each.last, FirstRun) for each in containers):
        return "Pending"
    return "Running"


def _condition(kind: str, *, holds: bool, reason: str, message: str = "") -> Json:
    if holds:
        return {"type": kind, "status": "True", "reason": "", "message": ""}
    return {"type": kind, "status": "False", "reason": reason, "message": message}


def conditions(
    pod: Json, inits: Sequence[Container], containers: Sequence[Container], *, terminating: bool
) -> list[Json]:
    """Return the node's conditions, without times."""
    pending = [each.name for each in inits if not initialized([each])]
    unready = [each.name for each in containers if not each.ready]
    over = phase(inits, containers) in {"Succeeded", "Failed"}
    ready = not unready and not pending
    reason, message = "ContainersNotReady", f"containers with unready status: [{' '.join(unready)}]"
    if over:
        reason, message = "PodCompleted", ""
    gates = _open_gates(pod)
    why, text = (reason, message) if not ready else ("ReadinessGatesNotReady", f"not true: {', '.join(gates)}")
    if terminating:
        why, text = "Terminating", "the pod is being deleted"
    incomplete = f"containers with incomplete status: [{' '.join(pending)}]"
    return [
        _condition("PodScheduled", holds=True, reason=""),
        _condition("Initialized", holds=not pending, reason="ContainersNotInitialized", message=incomplete),
        _condition("ContainersReady", holds=ready, reason=reason, message=message),
        _condition("Ready", holds=ready and not gates and not terminating, reason=why, message=text),
    ]


def _open_gates(pod: Json) -> list[str]:
    true = {each["type"] for each in pod.get("status", {}).get("conditions") or [] if each["status"] == "True"}
    gates = [gate["conditionType"] for gate in pod["spec"].get("readinessGates") or []]
    return [gate for gate in gates if gate not in true]


def with_times(current: Iterable[Json], known: Iterable[Json], *, now: str) -> list[Json]:
    """Give each condition the time of its last change of status: the known one while the status stays."""
    before = {each["type"]: each for each in known}
    timed = []
    for condition in current:
        old = before.get(condition["type"], {})
        kept = old.get("lastTransitionTime") if old.get("status") == condition["status"] else now
        timed.append({**condition, "lastTransitionTime": kept or now})
    return timed


def is_status_reported(wanted: Json, reported: Json) -> bool:
    """Tell whether the server has this status already; conditions of other authors do not matter."""
    known = {each["type"]: each for each in reported.get("conditions") or []}
    matching = [known.get(each["type"], {}) for each in wanted["conditions"]]
    return is_reported(wanted, {**reported, "conditions": matching})


def is_reported(wanted: object, reported: object) -> bool:
    """Tell whether what the server has holds everything wanted; an empty text or mapping counts as left out."""
    if isinstance(wanted, dict):
        other = reported if isinstance(reported, dict) else {}
        return all(is_reported(value, other.get(name)) for name, value in wanted.items())
    if isinstance(wanted, list):
        if not isinstance(reported, list):
            return not wanted
        return len(wanted) == len(reported) and all(map(is_reported, wanted, reported))
    return wanted == reported or (wanted == "" and reported is None)
