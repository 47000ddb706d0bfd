"""A version that has served in one environment long enough is proposed to the next by one pull request."""

from dataclasses import replace
from typing import Any

import pytest

from backstay_playground.demo.stage import MODEL, REPOSITORY, Pace

pytestmark = pytest.mark.e2e

PATIENCE = 120.0


def pulls(delivery: Any, environment: str) -> list[dict[str, Any]]:
    answer = delivery.stage.playground.gitea.call("GET", f"/repos/models/{REPOSITORY}/pulls?state=all&limit=50")
    branch = f"backstay/promote-{MODEL}-{environment}"
    return [pull for pull in answer.json() if pull["head"]["label"] == branch]


def wait_promotion(delivery: Any, state: str, version: str) -> dict[str, Any]:
    seen = delivery.observer.model.wait(
        f"the promotion of version {version} is {state}",
        lambda body: (
            body.get("status", {}).get("promotion", {}).get("state") == state
            and body["status"]["promotion"]["version"] == version
        ),
        timeout=PATIENCE,
    )
    found: dict[str, Any] = seen.body["status"]["promotion"]
    return found


def test_a_version_goes_on_by_one_pull_request_which_a_newer_one_replaces(deliver: Any, fast: Pace) -> None:
    production = deliver("1", name="next")
    environment = production.target.environment
    pace = replace(fast, promotion={"to": f"../{environment}", "after": "2s"})
    staging = deliver("1", name="first", pace=pace)
    # It declares version 1 already, so there is nothing to carry on.
    wait_promotion(staging, "Done", "1")
    assert pulls(production, environment) == []

    traffic = staging.traffic()
    staging.observer.promote("2")
    opened = wait_promotion(staging, "Open", "2")
    (pull,) = pulls(production, environment)
    assert opened["pullRequest"].endswith(f"/pulls/{pull['number']}")
    assert pull["title"] == f"promote({MODEL}): {environment} 1 -> 2, from {staging.target.environment}"
    assert "has been stable there since" in pull["body"]
    assert "Its rollout ended Promoted: " in pull["body"]
    assert {"backstay", "promote"} <= {label["name"] for label in pull["labels"]}

    # Back to version 1: the proposal of version 2 has no reason any more.
    staging.stage.merge_bump(staging.target, "1")
    staging.stage.refresh(staging.target)
    production.wait_until(
        "the pull request is closed", lambda: pulls(production, environment)[0]["state"] == "closed", timeout=PATIENCE
    )
    traffic.stop()
    (pull,) = pulls(production, environment)
    assert not pull["merged"]
    # A mark in a closed one would say that a person closed it.
    production.wait_until(
        "its mark is gone", lambda: "backstay-promotion:" not in pulls(production, environment)[0]["body"]
    )
    staging.wait_until(
        "version 1 has nothing to carry on",
        lambda: staging.model()["status"].get("promotion", {}).get("version") == "1",
    )


def test_a_merged_promotion_is_done(deliver: Any, fast: Pace) -> None:
    production = deliver("1", name="goal")
    environment = production.target.environment
    staging = deliver("2", name="start", pace=replace(fast, promotion={"to": f"../{environment}", "after": "1s"}))
    wait_promotion(staging, "Open", "2")
    (pull,) = pulls(production, environment)
    traffic = production.traffic()
    production.stage.merge_pull(pull["number"], "let it go on")
    production.stage.refresh(production.target)
    production.observer.wait_stable("2", timeout=PATIENCE)
    traffic.stop()
    wait_promotion(staging, "Done", "2")
    assert len(pulls(production, environment)) == 1
