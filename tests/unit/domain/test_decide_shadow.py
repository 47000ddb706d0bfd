"""A version in the shadow: it answers copies of requests, and no client sees an answer of it."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from test_decide import STEPS, World, bumped_to_2, revision

from backstay.domain.actions import Retire
from backstay.domain.observed import Backend, Track
from backstay.domain.resource import ABORT, APPROVE, PAUSE
from backstay.domain.status import Phase, RollbackState, Verdict

SHADOW: dict[str, Any] = {"shadow": {}, "minDuration": "30s", "minRequests": 50}
CANARY = Backend(revision("2"))
FRESH = Backend(revision("1"), Track.BASELINE)


def copies(world: World) -> Mapping[Backend, int]:
    assert world.seen.route is not None
    return world.seen.route.copies


def shadowed(*steps: dict[str, Any], **spec: Any) -> World:
    """Version 2 gets copies of the requests."""
    world = bumped_to_2(steps=[*(steps or (SHADOW,)), *STEPS], **spec)
    world.turn()
    world.judged(Verdict.NO_DATA, requests=0)
    world.see(set_by="abc123")
    world.turn(2)
    return world


def test_the_canary_and_fresh_pods_of_stable_get_the_same_copies_and_stable_gives_all_answers() -> None:
    world = shadowed()
    assert copies(world) == {CANARY: 100, FRESH: 100}
    assert (world.weight("1"), world.weight("2"), world.weights[FRESH], world.status.weight) == (100, 0, 0, 0)
    assert world.seen.ready(CANARY) == world.seen.ready(FRESH) == 4
    assert world.status.message.startswith(
        "Version 2 gets copies of 100 % of the requests: 0 of 30 s, 0 of 50 requests"
    )


def test_a_part_of_the_requests_needs_a_part_of_the_pods() -> None:
    world = shadowed({"shadow": {"percent": 20}, "minDuration": "30s"})
    assert copies(world) == {CANARY: 20, FRESH: 20}
    assert world.seen.ready(CANARY) == 1


def test_without_a_baseline_the_canary_alone_gets_copies() -> None:
    assert copies(shadowed(rollout={"baseline": {"enabled": False}})) == {CANARY: 100}


def test_nothing_is_copied_before_the_pods_are_ready() -> None:
    world = bumped_to_2(steps=[SHADOW, *STEPS])
    world.starts = False
    world.turn(3)
    assert copies(world) == {}


def test_the_step_waits_for_time_requests_and_the_verdict_and_then_gives_the_first_live_request() -> None:
    world = shadowed()
    world.judged(Verdict.NO_DATA, requests=60)
    world.later(31)
    world.turn()
    assert copies(world)
    world.judged(Verdict.INCONCLUSIVE, requests=49)
    world.turn()
    assert copies(world)
    world.judged(Verdict.INCONCLUSIVE, requests=50)
    world.turn(3)
    assert (copies(world), world.weight("2")) == ({}, 10)


def test_pods_are_given_up_only_when_their_copies_have_ended() -> None:
    world = shadowed()
    world.judged(Verdict.INCONCLUSIVE)
    world.later(31)
    world.turn()
    world.see(evidence=None)
    world.turn()
    assert (len(copies(world)), world.seen.ready(CANARY), world.seen.ready(FRESH)) == (2, 4, 4)
    world.judged(Verdict.INCONCLUSIVE)
    world.turn(2)
    assert (copies(world), world.weight("2"), world.seen.ready(CANARY), world.seen.ready(FRESH)) == ({}, 10, 1, 1)


def test_straight_to_full_traffic_it_takes_proof() -> None:
    world = bumped_to_2(steps=[SHADOW, {"weight": 100}])
    world.turn()
    world.judged(Verdict.INCONCLUSIVE)
    world.turn(2)
    world.later(31)
    world.turn(2)
    assert (bool(copies(world)), world.weight("2")) == (True, 0)
    world.judged(Verdict.PASS)
    world.turn(3)
    assert world.weight("2") == 100


def test_a_failure_in_the_shadow_is_rolled_back_like_any_other() -> None:
    world = shadowed()
    world.judged(Verdict.FAIL)
    world.turn(2)
    record = world.status.rollback
    assert record is not None
    assert (world.status.phase, record.state, copies(world)) == (Phase.ROLLING_BACK, RollbackState.COMMITTING, {})
    assert (world.weight("1"), world.weights[CANARY]) == (100, 0)
    assert world.seen.route is not None
    assert [mark.revision for mark in world.seen.route.marks] == [CANARY.revision]


def test_its_pods_go_only_when_no_copy_reaches_them_any_more() -> None:
    world = shadowed()
    world.see(quiet=frozenset({CANARY, FRESH}))
    world.desired = replace(world.desired, annotations={ABORT: f"{_rollout(world)}: no"})
    world.turn()
    assert (copies(world), CANARY in world.weights, world.did(Retire)) == ({}, True, [])
    world.turn(2)
    assert {action.backend for action in world.did(Retire)} == {CANARY, FRESH}


def test_pods_that_crash_get_no_copies_and_the_step_begins_anew() -> None:
    world = shadowed()
    world.pods(CANARY, 0)
    world.starts = False
    world.turn(2)
    assert (copies(world), world.weight("1")) == ({}, 100)
    assert "Waiting for pods of version 2: 0 of 4 ready" in world.status.message
    world.starts = True
    world.turn(2)
    assert copies(world) == {CANARY: 100, FRESH: 100}


def test_a_pause_and_an_approval_keep_the_copies() -> None:
    world = shadowed({"shadow": {}}, {"approval": {}})
    world.desired = replace(world.desired, annotations={PAUSE: _rollout(world)})
    world.turn()
    assert (world.status.message, len(copies(world))) == ("Version 2 is paused with copies of 100 % of the requests", 2)
    world.desired = replace(world.desired, annotations={})
    world.judged(Verdict.INCONCLUSIVE)
    world.turn(2)
    assert world.status.phase is Phase.AWAITING_APPROVAL
    assert copies(world) == {CANARY: 100, FRESH: 100}
    approved = {APPROVE: f"{_rollout(world)}/2"}
    world.desired = replace(world.desired, annotations=approved)
    world.turn(3)
    assert (copies(world), world.weight("2")) == ({}, 10)


def test_a_controller_that_died_after_the_routes_update_takes_no_copy_back() -> None:
    world = bumped_to_2(steps=[SHADOW, *STEPS])
    world.turn()
    world.judged(Verdict.NO_DATA, requests=0)
    before = world.status
    world.turn()
    assert copies(world)
    world.status = before
    world.see(evidence=None)
    world.turn()
    assert copies(world) == {CANARY: 100, FRESH: 100}
    assert world.status.rollout is not None


def test_the_first_version_of_all_has_nothing_to_shadow() -> None:
    world = bumped_to_2(steps=[SHADOW, *STEPS])
    world.status, world.seen = type(world.status)(), World(world.desired).seen
    world.turn(3)
    assert (copies(world), world.weight("2")) == ({}, 100)


def _rollout(world: World) -> str:
    assert world.status.rollout is not None
    return world.status.rollout.id
