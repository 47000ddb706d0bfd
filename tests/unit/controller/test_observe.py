"""What is read from live objects."""

from typing import Any

import pytest

from backstay.controller.observe import trouble


def _pod(**status: Any) -> dict[str, Any]:
    return {"status": {"containerStatuses": [{"name": "server", "ready": False, **status}]}}


@pytest.mark.parametrize(
    ("pod", "words"),
    [
        ({"status": {"phase": "Pending"}}, ""),
        (_pod(ready=True, state={"running": {}}, lastState={"terminated": {"exitCode": 1}}), ""),
        (_pod(state={"running": {}}), "container server runs, but its readiness probe fails"),
        (
            _pod(
                state={"waiting": {"reason": "CrashLoopBackOff", "message": "back-off 10s"}},
                lastState={"terminated": {"exitCode": 3, "message": "starting\nThe digest is wrong\n"}},
            ),
            "container server ended with code 3: The digest is wrong",
        ),
        (_pod(state={"terminated": {"exitCode": 137}}), "container server ended with code 137"),
        (
            _pod(state={"waiting": {"reason": "ImagePullBackOff", "message": "no such image"}}),
            "container server does not start: no such image",
        ),
        (
            _pod(state={"waiting": {"reason": "ContainerCreating"}}),
            "container server does not start: ContainerCreating",
        ),
    ],
)
def test_the_trouble_of_a_pod_is_told_in_its_own_words(pod: dict[str, Any], words: str) -> None:
    assert trouble(pod) == words
