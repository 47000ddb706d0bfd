"""A new version in the shadow: it answers copies of the requests, and clients see nothing of it, whatever it does."""

import time
from http import HTTPStatus
from typing import Any

import httpx
import pytest

from backstay_playground.demo.stage import MODEL, Pace
from backstay_playground.demo.traffic import Traffic, tally

pytestmark = pytest.mark.e2e

PATIENCE = 120.0


def shadowed(seconds: int, requests: int = 0) -> Pace:
    """A shadow, and live requests after it."""
    return Pace(
        steps=(
            {"shadow": {}, "minDuration": f"{seconds}s", "minRequests": requests},
            {"weight": 50, "minDuration": "2s"},
            {"weight": 100, "minDuration": "1s"},
        ),
        interval="1s",
        warmup="1s",
        warm_for="5s",
    )


def in_the_shadow(delivery: Any, version: str) -> tuple[str, float]:
    """Bump to a version and wait until it gets copies; return its revision, and when that was."""
    begun = time.time()
    delivery.stage.merge_bump(delivery.target, version)
    delivery.stage.refresh(delivery.target)
    revision = delivery.observer.revision(version, since=begun, timeout=PATIENCE)
    seen = delivery.observer.route.wait(
        f"revision {revision} gets copies", lambda body: f"{MODEL}-{revision}" in copied(body), timeout=PATIENCE
    )
    return revision, seen.at


def copied(route: dict[str, Any]) -> set[str]:
    """List the Services that get copies."""
    filters = [one for rule in route["spec"]["rules"] for one in rule.get("filters", ())]
    return {one["requestMirror"]["backendRef"]["name"] for one in filters}


def knows(delivery: Any, revision: str, traffic: Traffic) -> bool:
    """Send the true label of a request that a client was answered a moment ago to the version in the shadow."""
    answer = next(one for one in reversed(traffic.answers()) if one.request_id and one.ended < time.time() - 0.5)
    label = {"id": answer.request_id, "label": delivery.stage.labels[answer.body]}
    (name,) = delivery.pods(revision)
    pod = delivery.get("pod", name.removeprefix("pod/"))
    port = pod["spec"]["containers"][0]["ports"][0]["containerPort"]
    told = httpx.post(f"http://{pod['status']['podIP']}:{port}/feedback", json=label, trust_env=False)
    return told.status_code == HTTPStatus.ACCEPTED


def test_a_bad_version_is_taken_back_before_it_has_answered_any_client(deliver: Any) -> None:
    delivery = deliver("2", pace=shadowed(90))
    traffic = delivery.traffic()
    revision, since = in_the_shadow(delivery, "3")
    done = delivery.observer.wait_rolled_back("3", timeout=PATIENCE, since=since)
    traffic.stop()
    record = done.body["status"]["rollback"]
    assert record["to"] == "2"
    assert record["reason"].startswith("errors ")
    assert delivery.observer.weights_of(revision) == []
    counted = tally(traffic.answers())
    assert set(counted.answers) == {"2"}
    assert (counted.answers["2"]["error"], counted.lost) == (0, 0)
    route = delivery.get("httproute", MODEL)
    assert copied(route) == set()
    delivery.wait_until("its pods are gone", lambda: delivery.pods(revision) == [])


def test_a_good_version_goes_on_from_the_shadow_to_live_requests(deliver: Any) -> None:
    delivery = deliver("1", pace=shadowed(4, requests=60))
    traffic = delivery.traffic()
    revision, since = in_the_shadow(delivery, "2")
    delivery.wait_until("a client's request is known by its id", lambda: knows(delivery, revision, traffic), timeout=3)
    first = delivery.observer.wait_weight(revision, timeout=PATIENCE, since=since).at
    delivery.observer.wait_stable("2", timeout=PATIENCE, since=since)
    traffic.stop()
    states = [state.body.get("status", {}).get("message", "") for state in delivery.observer.model.states(since=since)]
    assert any("gets copies of 100 % of the requests" in message for message in states)
    assert delivery.observer.weights_of(revision) == [50, 100]
    before = tally(answer for answer in traffic.answers() if answer.ended < first)
    assert set(before.answers) == {"1"}
    assert traffic.lost() == []


def test_a_shadow_that_crashes_again_and_again_changes_nothing_for_clients(deliver: Any) -> None:
    delivery = deliver("1", pace=shadowed(90))
    traffic = delivery.traffic()
    revision, since = in_the_shadow(delivery, "2")
    for _ in range(5):
        for pod in delivery.pods(revision):
            namespace = f"--namespace={delivery.target.namespace}"
            delivery.kubectl("delete", pod, namespace, "--force", "--grace-period=0", "--ignore-not-found")
        # Clients go on asking while pods are away, and come and get copies again.
        time.sleep(2)
    traffic.stop()
    counted = tally(traffic.answers(since=since))
    assert counted.requests > 0
    assert (set(counted.answers), counted.answers["1"]["error"], counted.lost) == ({"1"}, 0, 0)
    assert delivery.model()["status"].get("rollback", {}) == {}
