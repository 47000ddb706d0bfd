"""A stable version that no longer serves, and a new version that could."""

from typing import Any

import pytest
from test_decide import World, bumped_to_2, canary_at_10, declared, revision, rolled_back

from backstay.domain.actions import Announce
from backstay.domain.observed import Backend, Route, Track
from backstay.domain.resource import PAUSE
from backstay.domain.status import Phase, Verdict

STABLE, BASELINE = Backend(revision("1")), Backend(revision("1"), Track.BASELINE)
CANARY = Backend(revision("2"))


def broken(world: World) -> World:
    """No pod of version 1 is ready, and none of them gets ready."""
    world.starts = False
    world.shows(STABLE, ready=0)
    if BASELINE in world.seen.workloads:
        world.shows(BASELINE, ready=0)
    return world


def fix_is_ready(**spec: Any) -> World:
    """Version 1 is broken, and the pod of version 2 is ready."""
    world = broken(bumped_to_2(**spec))
    world.turn()
    world.shows(CANARY, ready=1)
    world.turn()
    return world


def wait(world: World, seconds: int, *, every: int = 1) -> None:
    for _ in range(0, seconds, every):
        world.later(every)
        world.turn()


def test_a_ready_version_takes_all_traffic_when_the_stable_one_is_down_for_two_minutes() -> None:
    world = fix_is_ready()
    wait(world, 118)
    assert world.weight("2") == 0
    wait(world, 3)
    assert world.weights[CANARY] == 100
    (told,) = [event for event in world.did(Announce) if event.reason == "StableNotServing"]
    assert told.message == "No pod of version 1 has been ready for 120 s: version 2 takes all traffic"


def test_it_is_stable_after_the_last_steps_time_like_a_first_version() -> None:
    world = fix_is_ready()
    wait(world, 125)
    world.shows(CANARY, ready=4)
    wait(world, 70)
    assert world.status.phase is Phase.STABLE
    assert world.status.stable is not None
    assert world.status.stable.version == "2"


def test_the_time_is_the_users_choice() -> None:
    world = fix_is_ready(rollout={"rescueAfter": "10s"})
    wait(world, 12)
    assert world.weights[CANARY] == 100


def test_a_canary_with_a_share_takes_the_rest_too() -> None:
    world = broken(canary_at_10())
    wait(world, 110)
    assert world.weights[CANARY] == 10
    wait(world, 12)
    assert world.weights[CANARY] == 100


def test_as_long_as_a_pod_of_the_stable_version_is_ready_now_and_then_the_steps_hold() -> None:
    world = fix_is_ready()
    for _ in range(10):
        wait(world, 100, every=5)
        world.shows(STABLE, ready=1)
        world.turn()
        world.shows(STABLE, ready=0)
    assert world.weight("2") <= 10


def test_fresh_pods_of_the_stable_version_serve_in_its_place() -> None:
    world = fix_is_ready()
    world.shows(BASELINE, ready=1)
    wait(world, 300, every=10)
    assert world.weight("2") <= 10
    assert world.weights[BASELINE] >= 90


def test_a_stable_version_that_is_back_for_a_moment_takes_nothing_back() -> None:
    world = fix_is_ready()
    wait(world, 125)
    for _ in range(3):
        world.shows(STABLE, ready=4)
        wait(world, 100, every=5)
        assert world.weights[CANARY] == 100
        assert world.status.rollout is not None
        world.shows(STABLE, ready=0)
        world.turn()


def test_when_the_stable_version_is_back_for_as_long_the_version_takes_its_steps() -> None:
    world = fix_is_ready()
    wait(world, 125)
    world.starts = True
    wait(world, 125)
    assert world.status.rollout is not None
    assert world.status.rollout.rescued_at == 0
    assert world.weights[CANARY] <= 10
    assert world.weights[STABLE] >= 80
    assert [event for event in world.did(Announce) if event.reason == "StableServesAgain"]


def test_a_rejected_version_never_takes_over() -> None:
    world = rolled_back()
    world.desired = declared("2", generation=9)
    broken(world)
    world.shows(CANARY, ready=1)
    wait(world, 600, every=10)
    assert world.weight("2") == 0


@pytest.mark.parametrize(
    "spec",
    [{"annotations": {PAUSE: "2-2"}}, {"steps": [{"approval": {}}, {"weight": 10}, {"weight": 100}]}],
    ids=["paused", "approval"],
)
def test_a_version_that_a_person_holds_does_not_take_over(spec: dict[str, Any]) -> None:
    world = fix_is_ready(**spec)
    wait(world, 600, every=10)
    assert world.weight("2") == 0


def test_a_version_that_fails_its_limits_while_it_stands_in_is_rejected_and_serves_until_something_else_can() -> None:
    world = fix_is_ready()
    wait(world, 125)
    world.judged(Verdict.FAIL)
    world.turn(3)
    assert world.status.rollback is not None
    assert world.weights[CANARY] == 100
    world.starts = True
    world.turn(3)
    assert (world.weights[STABLE], world.weight("2")) == (100, 0)


def test_a_version_is_not_failed_for_pods_that_are_missing_while_it_stands_in() -> None:
    world = fix_is_ready()
    wait(world, 1300, every=10)
    assert world.status.rollback is None
    assert (world.status.phase, world.status.stalled) == (Phase.PENDING, "NotReady")
    assert world.weights[CANARY] == 100


def test_a_controller_that_forgot_the_rescue_decides_it_again() -> None:
    world = fix_is_ready()
    wait(world, 119)
    before = world.status
    wait(world, 2)
    world.status = before
    world.see(route=Route({STABLE: 100}, accepted=True))
    wait(world, 2)
    assert world.weights[CANARY] == 100
