"""A version that answers fast, surely and without errors, and wrongly: only labels that come later show it."""

import asyncio
import json
import threading
from contextlib import suppress
from typing import Any, Self

import aiohttp
import pytest

from backstay_playground.demo.stage import MODEL, REPOSITORY, Pace
from backstay_playground.demo.traffic import Answer, tally

pytestmark = pytest.mark.e2e

ERRORS = {"name": "errors", "comparison": {"events": "errors"}}
WRONG = {"name": "wrong", "comparison": {"events": "wrongPredictions"}}
WINDOW = 3
PACE = Pace(
    steps=({"weight": 30, "minDuration": "5s"}, {"weight": 50, "minDuration": "90s"}, {"weight": 100}),
    interval="1s",
    warmup="1s",
    warm_for="5s",
    signals=(ERRORS, WRONG),
    config=(("feedbackWindowSeconds", str(WINDOW)),),
    incident="issue",
)


class Labeller:
    """Says of every answer a moment later what was true, as a back office would: to the pod that gave the answer."""

    def __init__(self, delivery: Any, traffic: Any) -> None:
        self._delivery = delivery
        self._traffic = traffic
        self._stop = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run()), daemon=True)
        self.accepted = 0

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join(timeout=30)

    async def _run(self) -> None:
        told = 0
        async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=2)) as session:
            while not self._stop.is_set():
                pods = await asyncio.to_thread(self._pods)
                answers = self._traffic.answers()
                fresh, told = answers[told:], len(answers)
                await asyncio.gather(*(self._tell(session, pods, one) for one in fresh if one.request_id))
                await asyncio.sleep(0.5)

    def _pods(self) -> list[str]:
        found = [pod for pod in self._delivery.get("pods")["items"] if pod["status"].get("podIP")]
        return [f"http://{pod['status']['podIP']}:{_port(pod)}/feedback" for pod in found]

    async def _tell(self, session: aiohttp.ClientSession, pods: list[str], answer: Answer) -> None:
        label = self._delivery.stage.labels[answer.body]
        for pod in pods:
            with suppress(aiohttp.ClientError, TimeoutError):
                async with session.post(pod, json={"id": answer.request_id, "label": label}) as response:
                    if response.status == 202:
                        self.accepted += 1
                        return


def _port(pod: dict[str, Any]) -> int:
    return int(pod["spec"]["containers"][0]["ports"][0]["containerPort"])


def test_a_version_that_is_only_wrong_is_rolled_back_for_labels_that_came_later(deliver: Any) -> None:
    delivery = deliver("2", pace=PACE)
    traffic = delivery.traffic(rate=30)
    with Labeller(delivery, traffic) as labeller:
        rollback = delivery.observer.roll_back("6", traffic, timeout=180)
    traffic.stop()
    assert labeller.accepted > 0
    assert rollback.good == "2"
    assert rollback.reason.startswith("wrong ")
    assert [v for v, outcome in tally(traffic.answers()).answers.items() if outcome["error"]] == []
    assert traffic.lost() == []
    issue = delivery.observer.model.wait(
        "the rollback is on record at the forge",
        lambda body: body.get("status", {}).get("rollback", {}).get("incident"),
        timeout=60,
    ).body["status"]["rollback"]["incident"]
    number = issue.rsplit("/", 1)[1]
    told = delivery.stage.playground.gitea.call("GET", f"/repos/models/{REPOSITORY}/issues/{number}").json()
    assert told["title"].startswith(f"Version 6 of {MODEL} failed in {delivery.target.environment}: wrong ")
    assert rollback.commit in told["body"]
    assert rollback.bad_commit in told["body"]
    with delivery.stage.clone() as clone:
        trailers = clone.trailers(rollback.commit)
    assert any("signal=wrong" in line for line in trailers["Backstay-Evidence"]), json.dumps(trailers)
