"""The main job: a good version goes live, a bad one goes back to Git."""

from typing import Any

from backstay_playground.demo.traffic import tally


def test_a_good_version_is_promoted_without_a_lost_request(deliver: Any) -> None:
    delivery = deliver("1")
    traffic = delivery.traffic()
    promotion = delivery.observer.promote("2")
    traffic.stop()
    seen = tally(traffic.answers())
    assert promotion.weights == [20, 50, 100]
    assert (seen.lost, set(seen.answers)) == (0, {"1", "2"})
    assert all(outcome["error"] == 0 for outcome in seen.answers.values())
