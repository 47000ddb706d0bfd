"""What is read from live objects."""

from typing import Any

import pytest

from backstay.controller.pods import blocked, said, trouble, with_pods
from backstay.domain.observed import Blocked, Workload


def _pod(**status: Any) -> dict[str, Any]:
    return {"status": {"containerStatuses": [{"name": "server", "ready": False, **status}]}}


@pytest.mark.parametrize(
    ("pod", "ours", "theirs"),
    [
        ({"status": {"phase": "Pending"}}, "", ""),
        (_pod(ready=True, state={"running": {}}, lastState={"terminated": {"exitCode": 1}}), "", ""),
        (_pod(state={"running": {}}), "container server runs, but its readiness probe fails", ""),
        (
            _pod(
                state={"waiting": {"reason": "CrashLoopBackOff", "message": "back-off 10s"}},
                lastState={"terminated": {"exitCode": 3, "message": "starting\nThe digest\tis \x1b[31mwrong\n"}},
            ),
            "container server ended with code 3",
            "The digest is [31mwrong",
        ),
        (
            _pod(state={"terminated": {"exitCode": 1, "reason": "Error", "message": "x" * 400}}),
            "container server ended with code 1",
            "x" * 297 + "...",
        ),
        (
            _pod(state={"terminated": {"exitCode": 137, "reason": "OOMKilled"}}),
            "container server ended with code 137, reason OOMKilled",
            "",
        ),
        (
            _pod(state={"waiting": {"reason": "ImagePullBackOff", "message": "no such\nimage"}}),
            "container server does not start, reason ImagePullBackOff",
            "no such image",
        ),
        (
            _pod(state={"waiting": {"reason": "ContainerCreating"}}),
            "container server does not start, reason ContainerCreating",
            "",
        ),
        (_pod(state={"waiting": {"reason": "Fixes: #1"}}), "container server does not start", ""),
    ],
)
def test_the_words_of_a_container_are_kept_apart_from_ours(pod: dict[str, Any], ours: str, theirs: str) -> None:
    assert (trouble(pod), said(pod)) == (ours, theirs)


RUNNING: dict[str, Any] = {"running": {}}
CRASHED = {"terminated": {"exitCode": 139, "reason": "Error", "message": "loading\nsegmentation fault\n"}}
BACK_OFF = {"waiting": {"reason": "CrashLoopBackOff"}}
CREATING: dict[str, Any] = {"waiting": {"reason": "ContainerCreating"}}


def _status(*containers: dict[str, Any], inits: tuple[dict[str, Any], ...] = (), **status: Any) -> dict[str, Any]:
    found = {
        "containerStatuses": [{"name": f"server{n}", **c} for n, c in enumerate(containers)],
        "initContainerStatuses": [{"name": f"init{n}", **c} for n, c in enumerate(inits)],
    }
    return {"metadata": {"name": "pod"}, "status": {**found, **status}}


UNPLACED = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "no node fits"}


@pytest.mark.parametrize(
    ("pod", "reason"),
    [
        (_status(conditions=[UNPLACED], phase="Pending"), "Unschedulable"),
        (_status({"state": {"waiting": {"reason": "ErrImagePull", "message": "refused"}}}), "ImagePull"),
        (_status({"state": {"waiting": {"reason": "ImagePullBackOff"}}}), "ImagePull"),
        (_status({"state": RUNNING}, {"state": {"waiting": {"reason": "ImagePullBackOff"}}}), "ImagePull"),
        (_status({"state": CREATING}, phase="Pending"), "ContainersNotCreated"),
        (_status(phase="Pending"), "ContainersNotCreated"),
        (
            _status(
                {"state": {"waiting": {"reason": "PodInitializing"}}}, inits=({"state": CREATING},), phase="Pending"
            ),
            "ContainersNotCreated",
        ),
    ],
)
def test_what_keeps_a_pod_from_starting_is_the_clusters(pod: dict[str, Any], reason: str) -> None:
    found = blocked(pod)
    assert found is not None
    assert found.reason == reason
    assert found.message


@pytest.mark.parametrize(
    "pod",
    [
        _status({"state": RUNNING}, phase="Running"),
        _status({"state": BACK_OFF, "lastState": CRASHED}, phase="Running"),
        _status({"state": {"waiting": {"reason": "PodInitializing"}}}, inits=({"state": RUNNING},), phase="Pending"),
        _status(
            {"state": {"waiting": {"reason": "PodInitializing"}}},
            inits=({"state": BACK_OFF, "lastState": CRASHED},),
            phase="Pending",
        ),
        _status({"state": {"waiting": {"reason": "CreateContainerConfigError"}}}, phase="Pending"),
        _status({"state": {"waiting": {"reason": "InvalidImageName"}}}, phase="Pending"),
    ],
)
def test_what_a_pods_own_programs_or_template_do_is_not(pod: dict[str, Any]) -> None:
    assert blocked(pod) is None


@pytest.mark.parametrize(
    ("pod", "ends"),
    [
        (_status({"state": RUNNING, "restartCount": 0}), 0),
        (_status({"state": CRASHED, "restartCount": 0}), 1),
        (_status({"state": BACK_OFF, "lastState": CRASHED, "restartCount": 1}), 2),
        (_status({"state": RUNNING, "lastState": CRASHED, "restartCount": 2}), 2),
        (_status({"state": RUNNING, "restartCount": 1, "lastState": CRASHED}, {"state": CRASHED}), 2),
        (
            _status(
                {
                    "state": RUNNING,
                    "restartCount": 1,
                    "lastState": {"terminated": {"exitCode": 137, "reason": "ContainerStatusUnknown"}},
                }
            ),
            0,
        ),
        (_status({"state": CRASHED}, phase="Failed", reason="Evicted"), 0),
        ({**_status({"state": CRASHED}), "metadata": {"deletionTimestamp": "2026-01-01T00:00:00Z"}}, 0),
    ],
)
def test_containers_that_ended_by_themselves_are_counted(pod: dict[str, Any], ends: int) -> None:
    found = with_pods(Workload(1, 0), [pod])
    assert found.restarts == ends
    assert bool(found.ended) == bool(ends)
    assert found.ended in {
        "",
        "container server0 ended with code 139",
        "container server1 ended with code 139",
    }


def test_the_pods_of_a_backend_are_told_of_together() -> None:
    pods = [
        _status({"state": BACK_OFF, "lastState": CRASHED, "restartCount": 1, "ready": False}),
        _status({"state": RUNNING, "lastState": CRASHED, "restartCount": 1, "ready": True}),
        _status(conditions=[UNPLACED]),
    ]
    found = with_pods(Workload(3, 1), pods)
    assert (found.replicas, found.ready, found.restarts) == (3, 1, 3)
    assert found.blocked == Blocked("Unschedulable", "no node fits")
    assert found.trouble == "container server0 ended with code 139"
    assert found.said == "segmentation fault"
