"""Carrying a version on to the next environment, as scenarios."""

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_decide import NOW, World, declared, serving_1

from backstay.domain.actions import Announce, ProposePromotion, WithdrawPromotion
from backstay.domain.observed import (
    PromotionAnswer,
    PromotionAsked,
    PromotionClosed,
    PromotionDone,
    PromotionPending,
    PromotionRefused,
    PromotionWithdrawn,
)
from backstay.domain.status import Phase, PromotionState, Verdict

URL = "https://git.example.com/models/gitops/pulls/9"
WISH: dict[str, Any] = {"promotion": {"to": "../production", "after": "1h"}}
HOUR = 3600.0


def stable_for(seconds: float, **spec: Any) -> World:
    world = serving_1(**(spec or WISH))
    assert world.status.stable is not None
    world.now = world.status.stable.since + seconds
    world.turn()
    return world


def asked() -> World:
    world = stable_for(HOUR)
    world.see(promotion=PromotionAsked(URL))
    world.turn(2)
    return world


def state(world: World) -> PromotionState | None:
    return world.status.promotion.state if world.status.promotion else None


def announced(world: World) -> list[str]:
    return [action.reason for action in world.done if isinstance(action, Announce)]


def test_nothing_is_asked_for_before_the_version_has_served_for_long_enough() -> None:
    world = stable_for(HOUR - 10)
    assert not world.did(ProposePromotion)
    assert world.status.promotion is None
    assert world.last is not None
    assert world.last.requeue_after is not None
    assert world.last.requeue_after <= 10


def test_a_version_that_has_served_for_long_enough_is_proposed() -> None:
    world = stable_for(HOUR)
    (action,) = world.did(ProposePromotion)
    assert (action.model.version, action.promotion.to) == ("1", "../production")
    assert state(world) is PromotionState.DUE


def test_without_the_wish_nothing_happens() -> None:
    world = serving_1()
    world.later(10 * HOUR)
    world.turn(3)
    assert not world.did(ProposePromotion)


def test_an_open_pull_request_is_announced_once_and_looked_at_now_and_then() -> None:
    world = asked()
    world.later(HOUR)
    world.turn(3)
    assert state(world) is PromotionState.OPEN
    assert announced(world).count("PromotionProposed") == 1
    assert world.last is not None
    assert world.last.requeue_after == 30.0


@pytest.mark.parametrize(
    ("answer", "after", "event"),
    [
        (PromotionDone(), PromotionState.DONE, "PromotionDone"),
        (PromotionClosed(URL), PromotionState.CLOSED, "PromotionClosed"),
    ],
)
def test_a_promotion_that_has_ended_is_not_asked_for_again(
    answer: PromotionAnswer, after: PromotionState, event: str
) -> None:
    world = asked()
    world.see(promotion=answer)
    world.turn()
    world.done.clear()
    world.see(promotion=PromotionPending())
    for _ in range(5):
        world.later(HOUR)
        world.turn()
    assert state(world) is after
    assert not world.did(ProposePromotion)
    assert event not in announced(world)


def test_a_refused_promotion_says_why_once_and_is_tried_again() -> None:
    world = stable_for(HOUR)
    world.see(promotion=PromotionRefused("version 1 was rejected in production"))
    world.turn(4)
    assert state(world) is PromotionState.REFUSED
    assert announced(world).count("PromotionRefused") == 1
    world.see(promotion=PromotionAsked(URL))
    world.turn()
    assert state(world) is PromotionState.OPEN


def become_stable(world: World, version: str, *, sentence: str = "") -> None:
    world.desired = declared(version, generation=world.desired.generation + 1, steps=[{"weight": 100}], **WISH)
    world.turn(2)
    world.judged(Verdict.PASS, sentence=sentence)
    world.turn(4)
    assert world.status.stable is not None
    assert world.status.stable.version == version


def test_a_newer_stable_version_takes_the_pull_request_back_and_gets_its_own_when_due() -> None:
    world = asked()
    former = world.status.promotion
    become_stable(world, "2")
    withdrawn = world.did(WithdrawPromotion)
    assert {(action.promotion, action.why) for action in withdrawn} == {(former, "version 2 is stable now")}
    world.see(promotion=PromotionWithdrawn())
    world.turn()
    assert world.status.promotion is None
    assert "PromotionLeftOpen" not in announced(world)
    world.see(promotion=PromotionPending())
    world.done.clear()
    world.later(HOUR)
    world.turn(2)
    assert {action.model.version for action in world.did(ProposePromotion)} == {"2"}


def test_while_a_newer_version_is_tried_the_pull_request_of_the_stable_one_stays() -> None:
    world = asked()
    world.desired = declared("2", generation=9, **WISH)
    world.turn(3)
    assert world.status.phase is not Phase.STABLE
    assert state(world) is PromotionState.OPEN
    assert not world.did(WithdrawPromotion)


def test_a_pull_request_is_taken_back_again_until_the_forge_has_done_so() -> None:
    world = asked()
    become_stable(world, "2")
    world.later(2 * HOUR)
    world.done.clear()
    world.see(promotion=PromotionPending("the forge cannot be reached"))
    world.turn(3)
    assert len(world.did(WithdrawPromotion)) == 3
    assert not world.did(ProposePromotion)
    record = world.status.promotion
    assert record is not None
    assert (record.version, record.note) == ("1", "the forge cannot be reached")
    assert world.last is not None
    assert world.last.requeue_after == 5.0


def test_a_pull_request_that_may_not_be_taken_back_is_told_and_left() -> None:
    world = asked()
    become_stable(world, "2")
    world.see(promotion=PromotionWithdrawn("the token may not close it"))
    world.turn(2)
    assert announced(world).count("PromotionLeftOpen") == 1
    assert world.status.promotion is None


def test_a_version_that_comes_back_is_proposed_again_though_it_was_taken_back() -> None:
    world = asked()
    become_stable(world, "2")
    world.see(promotion=PromotionWithdrawn())
    world.turn()
    world.desired = declared("1", generation=9, **WISH)
    world.turn(3)
    world.later(HOUR)
    world.done.clear()
    world.turn()
    assert {action.model.version for action in world.did(ProposePromotion)} == {"1"}
    assert state(world) is PromotionState.DUE
    world.see(promotion=PromotionAsked(URL))
    world.turn()
    assert state(world) is PromotionState.OPEN


def test_the_proposal_says_how_the_version_did_here() -> None:
    world = serving_1(**WISH)
    become_stable(world, "2", sentence="no evidence of harm on 1,320 requests")
    world.later(HOUR)
    world.done.clear()
    world.turn()
    (action,) = world.did(ProposePromotion)
    stable, rollout = action.gathered
    assert stable.startswith("Version 2 has been stable there since 1970-")
    assert rollout == "Its rollout ended Promoted: no evidence of harm on 1,320 requests"


@pytest.mark.parametrize("wish", [{}, {"promotion": {"to": "../other", "after": "1h"}}])
def test_without_the_wish_an_open_pull_request_is_taken_back(wish: dict[str, Any]) -> None:
    world = asked()
    world.desired = declared("1", generation=9, **wish)
    world.turn()
    (withdrawn,) = world.did(WithdrawPromotion)
    assert withdrawn.why == "promotions to ../production are no longer asked for"


ANSWERS = st.sampled_from(
    [PromotionPending(), PromotionAsked(URL), PromotionDone(), PromotionClosed(URL), PromotionRefused("no")]
)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(ANSWERS, st.booleans(), st.floats(0, 7200)), max_size=12))
def test_whatever_is_answered_and_forgotten_one_version_is_proposed_until_it_has_ended(
    steps: list[tuple[PromotionAnswer, bool, float]],
) -> None:
    """A kill before status is written loses what was noted in that turn, and nothing else."""
    world = serving_1(**WISH)
    ended = False
    for answer, killed, pause in steps:
        before = world.status
        world.see(promotion=answer)
        world.done.clear()
        world.turn()
        due = world.now >= (before.stable.since if before.stable else NOW) + HOUR
        assert len(world.did(ProposePromotion)) == (1 if due and not ended else 0)
        if killed:
            world.status = replace(world.status, promotion=before.promotion)
        ended = world.status.promotion is not None and world.status.promotion.state in (
            PromotionState.DONE,
            PromotionState.CLOSED,
        )
        world.later(pause)
