"""The controller is killed before and after every write, and at any moment: what comes of a rollout stays the same."""

import random
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from kubernetes import client, config
from urllib3.exceptions import HTTPError

from backstay.controller.runtime.faults import WRITES
from backstay_playground.demo.controller import kill_controller, wait_for_controller
from backstay_playground.demo.registry import stable_version
from backstay_playground.demo.stage import MODEL, Pace, Stage
from backstay_playground.demo.traffic import tally
from backstay_playground.errors import PlaygroundError
from backstay_playground.install import DEPLOYMENT, NAMESPACE
from backstay_playground.playground import Playground

pytestmark = pytest.mark.e2e

STEPS = [20, 50, 100]
LEAST_KILLS = 3
# What a promotion never does, and what a rollback never does, with the reason.
NOT_IN_A_PROMOTION = {
    "rollback-tag": "nothing is rolled back",
    "restore": "nobody meddles with what the controller made",
    "old-plan": "no earlier rollout has left a plan of the new version",
    "refresh": "Argo CD is asked to look at Git only for a commit of ours",
    "push": "a promotion writes nothing to Git",
    "pull-request": "a promotion writes nothing to Git",
    "merge": "a promotion writes nothing to Git",
}
NOT_IN_A_ROLLBACK = {
    "restore": "nobody meddles with what the controller made",
    "old-plan": "no earlier rollout has left a plan of the new version",
    "config": "the stable version stays the same",
    "stable-service": "the stable version stays the same",
    "alias": "the registry's alias stays on the stable version",
    "pull-request": "the branch takes commits",
    "merge": "the branch takes commits",
}
# From this back-off on (seconds) the pod is replaced, so that the test does not wait for the node.
LONGEST_BACK_OFF = 1.0


@dataclass(frozen=True)
class Faults:
    """The folder in which a file named like a point makes the controller die there."""

    folder: Path

    def arm(self, writes: Iterable[str] = WRITES) -> None:
        for point in points(writes):
            (self.folder / point).touch()

    def left(self) -> set[str]:
        return {file.name for file in self.folder.iterdir()}

    def wait_until_left(self, expected: set[str], *, passed_by: set[str] | None = None, timeout: float) -> None:
        """Wait until the controller has died everywhere but at the expected points; `timeout` in seconds.

        It need not have died at the points in `passed_by`.
        """
        deadline = time.monotonic() + timeout
        while self.left() - expected - (passed_by or set()) and time.monotonic() < deadline:
            time.sleep(0.25)
        assert self.left() - (passed_by or set()) == expected

    def disarm(self) -> None:
        for file in self.folder.iterdir():
            file.unlink(missing_ok=True)


@pytest.fixture(scope="module")
def environment(stage: Stage, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Faults]:
    """Let the controller look for faults, for all tests here."""
    faults = Faults(tmp_path_factory.mktemp("faults"))
    _set_environment(stage.playground, f"BACKSTAY_FAULTS={faults.folder}")
    yield faults
    _set_environment(stage.playground, "BACKSTAY_FAULTS-")


@pytest.fixture
def faults(environment: Faults) -> Iterator[Faults]:
    yield environment
    environment.disarm()


def _set_environment(playground: Playground, assignment: str) -> None:
    playground.kubectl("set", "env", f"--namespace={NAMESPACE}", f"deployment/{DEPLOYMENT}", assignment)
    wait_for_controller(playground)


@contextmanager
def impatient(playground: Playground) -> Iterator[None]:
    """Replace the controller's pod whenever its back-off has grown; so it both restarts in place and starts afresh."""
    api = client.CoreV1Api(config.new_client_from_config(str(playground.kubeconfig)))
    stop = threading.Event()

    def replace_the_waiting() -> None:
        pods: list[Any] = api.list_namespaced_pod(NAMESPACE).items
        for pod in pods:
            if any(_back_off(container) >= LONGEST_BACK_OFF for container in pod.status.container_statuses or ()):
                api.delete_namespaced_pod(pod.metadata.name, NAMESPACE, grace_period_seconds=0)

    def watch() -> None:
        while not stop.wait(0.25):
            # A pod may be gone by itself, and a busy API server late: the next look is soon.
            with suppress(client.ApiException, HTTPError):
                replace_the_waiting()

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def _back_off(container: Any) -> float:
    """Read the seconds out of ``back-off 0.5s restarting failed container=...``."""
    waiting = container.state.waiting
    if waiting is None or waiting.reason != "CrashLoopBackOff":
        return 0.0
    return float(waiting.message.split()[1].removesuffix("s"))


def points(writes: Iterable[str]) -> set[str]:
    return {f"{side}:{write}" for write in writes for side in ("before", "after")}


def wait_until_settled(delivery: Any) -> None:
    """Wait for what is written last of all that makes a version the stable one."""
    where = (f"--namespace={delivery.target.namespace}", "--ignore-not-found", "--output=name")
    written = (f"service/{MODEL}", f"configmap/{MODEL}-model-config")
    delivery.wait_until(
        "the stable version's Service and facts are there",
        lambda: set(delivery.kubectl("get", *written, *where).split()) == set(written),
    )


def stable_revision(delivery: Any) -> str:
    return str(delivery.model()["status"]["stable"]["revision"])


def test_a_promotion_survives_a_kill_at_every_write(deliver: Any, faults: Faults) -> None:
    delivery = deliver("1")
    former = stable_revision(delivery)
    traffic = delivery.traffic()
    with impatient(delivery.stage.playground):
        faults.arm()
        promotion = delivery.observer.promote("2", timeout=400)
        delivery.wait_until("version 1 is gone", lambda: not delivery.pods(former), timeout=200)
        faults.wait_until_left(points(NOT_IN_A_PROMOTION), timeout=60)
    traffic.stop()
    assert promotion.weights == STEPS
    assert stable_version(delivery.stage.playground, delivery.target) == "2"
    assert traffic.lost() == []
    assert {answer.version for answer in traffic.answers() if answer.status >= 400} == set()


def test_a_rollback_survives_a_kill_at_every_write(deliver: Any, faults: Faults) -> None:
    delivery = deliver("1")
    traffic = delivery.traffic()
    wait_until_settled(delivery)
    with impatient(delivery.stage.playground):
        faults.arm()
        rollback = delivery.observer.roll_back("3", traffic, timeout=400)
        # A kill elsewhere may fall into a push, which then is there, and is not made again.
        faults.wait_until_left(points(NOT_IN_A_ROLLBACK), passed_by={"after:push"}, timeout=200)
    wait_for_controller(delivery.stage.playground)
    delivery.wait_until_synced()
    traffic.stop()
    with delivery.stage.clone() as clone:
        commits = clone.rollbacks(f"{delivery.target.namespace}/{MODEL}")
        assert commits == [rollback.commit]
        assert len(clone.trailers(rollback.commit)["Backstay-Rollback-Id"]) == 1
    assert [a for a in traffic.answers(since=rollback.drained_at + 1) if a.version == "3"] == []
    assert traffic.lost() == []
    assert tally(traffic.answers()).answers["1"]["error"] == 0
    assert stable_version(delivery.stage.playground, delivery.target) == "1"


def test_a_rollback_by_pull_request_survives_a_kill_at_every_write_to_git_and_forge(
    deliver: Any, faults: Faults, by_pull_request: Pace
) -> None:
    delivery = deliver("1", pace=by_pull_request)
    stage, traffic = delivery.stage, delivery.traffic()
    wait_until_settled(delivery)
    with impatient(stage.playground), stage.protected_branch():
        # These alone, which come one after the other: no kill elsewhere can fall into one of them.
        faults.arm(("push", "pull-request", "merge"))
        rollback = delivery.observer.roll_back("3", traffic, timeout=400)
        faults.wait_until_left(set(), timeout=60)
    wait_for_controller(stage.playground)
    delivery.wait_until_synced()
    traffic.stop()
    (pull,) = stage.rollback_pulls(delivery.model()["status"]["rollback"]["id"])
    assert pull["merged"]
    with stage.clone() as clone:
        # The commit of the pull request and, where the forge makes one, the merge of it.
        assert rollback.commit in clone.rollbacks(f"{delivery.target.namespace}/{MODEL}")
    assert [a for a in traffic.answers(since=rollback.drained_at + 1) if a.version == "3"] == []
    assert traffic.lost() == []


def test_a_promotion_survives_kills_at_random_moments(deliver: Any) -> None:
    delivery = deliver("1")
    playground = delivery.stage.playground
    traffic = delivery.traffic()
    stop, kills = threading.Event(), 0
    chance = random.Random(20260921)  # noqa: S311 - moments, no secrets

    def kill_now_and_then() -> None:
        nonlocal kills
        while not stop.wait(chance.uniform(0.5, 5.0)):
            try:
                kill_controller(playground)
                kills += 1
            except PlaygroundError:
                # It has not come back from the last one yet.
                continue

    killer = threading.Thread(target=kill_now_and_then, daemon=True)
    with impatient(playground):
        killer.start()
        try:
            promotion = delivery.observer.promote("2", timeout=400)
        finally:
            stop.set()
            killer.join()
        wait_for_controller(playground)
    traffic.stop()
    assert kills >= LEAST_KILLS
    assert promotion.weights == STEPS
    assert stable_version(playground, delivery.target) == "2"
    assert traffic.lost() == []
    assert {answer.version for answer in traffic.answers() if answer.status >= 400} == set()
