"""Rollbacks where nobody may push to the branch: by a pull request, of which there is exactly one."""

import time
from dataclasses import dataclass, replace
from typing import Any

import pytest

from backstay_playground.demo.stage import MODEL, Pace
from backstay_playground.demo.watcher import Seen

pytestmark = pytest.mark.e2e

PATIENCE = 120.0


@dataclass
class Failed:
    """Version 3, drained while its rollback has not reached Git yet."""

    delivery: Any
    drained_at: float

    @property
    def stage(self) -> Any:
        return self.delivery.stage

    @property
    def rollback(self) -> dict[str, Any]:
        found: dict[str, Any] = self.delivery.model()["status"]["rollback"]
        return found

    def awaiting_merge(self) -> Seen:
        seen: Seen = self.delivery.observer.model.wait(
            "the pull request is waited for",
            lambda body: any(c["reason"] == "AwaitingMerge" for c in body["status"].get("conditions", ())),
            timeout=PATIENCE,
            since=self.drained_at,
        )
        return seen

    def pulls(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self.stage.rollback_pulls(self.rollback["id"])
        return found

    def declared(self) -> str:
        text: str = self.stage.read(self.delivery.target.version_file).decode()
        return next(line.split('"')[1] for line in text.splitlines() if line.strip().startswith("version:"))

    def settled(self) -> dict[str, Any]:
        """Wait until Git and cluster agree again; return the rollback."""
        done = self.delivery.observer.wait_rolled_back("3", timeout=PATIENCE, since=self.drained_at)
        assert {condition["type"] for condition in done.body["status"]["conditions"]} == {"Ready"}
        self.delivery.wait_until_synced()
        found: dict[str, Any] = done.body["status"]["rollback"]
        return found


def bump_to_3(delivery: Any) -> float:
    """Let Git declare version 3; return when that began."""
    begun = time.time()
    delivery.stage.merge_bump(delivery.target, "3")
    delivery.stage.refresh(delivery.target)
    return begun


def wait_failed(delivery: Any, begun: float) -> Failed:
    """Wait until version 3 had traffic and has none any more."""
    observer = delivery.observer
    revision = observer.revision("3", since=begun, timeout=PATIENCE)
    on = observer.wait_weight(revision, timeout=PATIENCE, since=begun)
    off = observer.wait_drained(revision, timeout=PATIENCE, since=on.at)
    return Failed(delivery, off.at)


def assert_traffic_was_safe(failed: Failed, traffic: Any) -> None:
    answers = traffic.answers()
    assert [answer for answer in answers if not answer.version] == []
    assert {answer.version for answer in answers if answer.began > failed.drained_at + 1} == {"1"}


def test_a_protected_branch_gets_its_rollback_by_a_merged_pull_request(deliver: Any) -> None:
    delivery = deliver("1")
    traffic = delivery.traffic()
    with delivery.stage.protected_branch():
        failed = wait_failed(delivery, bump_to_3(delivery))
        rollback = failed.settled()
    (pull,) = failed.pulls()
    assert pull["merged"]
    assert pull["title"].startswith(f"rollback({MODEL}): {delivery.target.environment} 3 -> 1, ")
    assert {label["name"] for label in pull["labels"]} == {"backstay", "rollback"}
    assert failed.declared() == "1"
    with delivery.stage.clone() as clone:
        assert clone.trailers(rollback["commit"])["Backstay-Rollback-Id"] == [rollback["id"]]
        assert clone.rollbacks(f"{delivery.target.namespace}/{MODEL}")
    assert_traffic_was_safe(failed, traffic)


def test_a_pull_request_that_needs_an_approval_waits_with_traffic_on_the_good_version(
    deliver: Any, by_pull_request: Pace
) -> None:
    delivery = deliver("1", pace=by_pull_request)
    traffic = delivery.traffic()
    begun = bump_to_3(delivery)
    with delivery.stage.protected_branch(approvals=1):
        failed = wait_failed(delivery, begun)
        waiting = failed.awaiting_merge()
        message = waiting.body["status"]["message"]
        assert waiting.body["status"]["rollback"]["pullRequest"] in message
        assert "All traffic is on version 1, and Git still declares 3 until " in message

        def shown() -> bool:
            health = delivery.stage.application(delivery.target)["status"]["health"]["status"]
            return bool(health == "Degraded")

        delivery.wait_until("Argo CD shows that a person is needed", shown, timeout=PATIENCE)
        assert failed.declared() == "3"
        (pull,) = failed.pulls()
        assert pull["state"] == "open"
        delivery.stage.approve(pull)
        failed.settled()
    (pull,) = failed.pulls()
    assert pull["merged"]
    assert failed.declared() == "1"
    assert_traffic_was_safe(failed, traffic)


def test_a_newer_version_closes_the_pull_request_and_is_followed(deliver: Any, by_pull_request: Pace) -> None:
    delivery = deliver("1", pace=replace(by_pull_request, merge="manual"))
    traffic = delivery.traffic()
    failed = wait_failed(delivery, bump_to_3(delivery))
    failed.awaiting_merge()
    (opened,) = failed.pulls()
    delivery.observer.promote("2")
    delivery.wait_until("the pull request is closed", lambda: failed.pulls()[0]["state"] == "closed", timeout=PATIENCE)
    (closed,) = failed.pulls()
    assert (closed["number"], closed["merged"]) == (opened["number"], False)
    assert failed.declared() == "2"
    assert "3" not in {answer.version for answer in traffic.answers() if answer.began > failed.drained_at + 1}


def test_a_pull_request_that_a_person_closes_stays_closed_and_their_own_commit_settles_it(
    deliver: Any, by_pull_request: Pace
) -> None:
    delivery = deliver("1", pace=replace(by_pull_request, merge="manual"))
    traffic = delivery.traffic()
    failed = wait_failed(delivery, bump_to_3(delivery))
    waiting = failed.awaiting_merge()
    (opened,) = failed.pulls()
    delivery.stage.close_pull(opened["number"])
    refused = delivery.observer.model.wait(
        "the closing is told",
        lambda body: any(c["reason"] == "WriteBackRefused" for c in body["status"].get("conditions", ())),
        timeout=PATIENCE,
        since=waiting.at,
    )
    assert (
        "was closed without a merge: reopen it, or commit another version than 3" in refused.body["status"]["message"]
    )
    assert len(failed.pulls()) == 1
    delivery.stage.merge_bump(delivery.target, "1")
    delivery.stage.refresh(delivery.target)
    failed.settled()
    assert len(failed.pulls()) == 1
    assert_traffic_was_safe(failed, traffic)
