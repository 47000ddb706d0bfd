"""What was stable, where the status does not say so although everything else is still there."""

from dataclasses import replace

import pytest
from test_decide import STEPS, World, canary_at_10, declared, revision, serving_1

from backstay.domain.actions import KeepPlan
from backstay.domain.observed import (
    Backend,
    Mark,
    NeverServed,
    NotRecalled,
    Recall,
    RecallUnavailable,
    Route,
    ServedBefore,
)
from backstay.domain.resource import ModelIdentity
from backstay.domain.status import Phase, Status

AWAY = RecallUnavailable("MLflow does not answer")


def lost(world: World, recall: Recall) -> World:
    world.status = Status()
    world.see(recall=recall, evidence=None)
    return world


@pytest.mark.parametrize(
    "recall", [NeverServed(), AWAY, ServedBefore(ModelIdentity("fraud", "1"))], ids=["never", "away", "remembered"]
)
def test_a_canary_whose_status_is_lost_is_no_first_version_whatever_is_remembered_outside(recall: Recall) -> None:
    world = lost(canary_at_10(), recall)
    weights = []
    for _ in range(8):
        world.turn()
        weights.append(world.weight("2"))
        world.later(100)
    assert max(weights) <= 10
    assert world.status.stable is not None
    assert world.status.stable.version == "1"
    assert world.status.rollout is not None
    assert not world.status.rollout.first


def test_while_registry_and_git_are_asked_the_weights_stay() -> None:
    world = canary_at_10()
    before = dict(world.weights)
    lost(world, NotRecalled()).turn()
    assert world.weights == before
    assert world.status.phase is Phase.PENDING


def test_without_a_stable_service_the_other_revision_on_the_route_counts_as_stable() -> None:
    world = lost(canary_at_10(), NeverServed())
    world.see(served="")
    world.turn(2)
    assert world.status.stable is not None
    assert world.status.stable.version == "1"


def test_a_rejected_revision_that_still_serves_is_not_taken_for_the_stable_one() -> None:
    world = World(declared("1"))
    world.turn(3)
    marks = (Mark(revision=revision("1"), version="1"),)
    world.see(route=Route({Backend(revision("1")): 100}, marks=marks, accepted=True))
    world.desired = declared("2", generation=2)
    lost(world, NeverServed()).turn()
    assert world.status.stable is None


def test_a_first_version_whose_status_is_lost_is_a_first_version_again() -> None:
    world = World(declared("1"))
    world.turn(3)
    lost(world, NeverServed()).turn(2)
    assert world.status.stable is None
    assert world.status.rollout is not None
    assert world.status.rollout.first
    assert world.weight("1") == 100


def test_a_status_that_lost_only_what_is_stable_finds_it_again() -> None:
    world = canary_at_10()
    world.status = replace(world.status, stable=None)
    world.turn()
    assert world.status.stable is not None
    assert world.status.stable.version == "1"
    assert world.weight("2") == 10


def test_the_pods_that_served_go_on_serving_although_another_template_is_declared() -> None:
    world = serving_1()
    serving = world.status.stable
    assert serving is not None
    world.desired = declared("1", generation=2, config={"servingThreshold": "0.9"}, steps=STEPS)
    world.turn()
    lost(world, ServedBefore(ModelIdentity("fraud", "1"))).turn()
    assert world.status.stable is not None
    assert world.status.stable.revision == serving.revision
    assert world.weights[Backend(serving.revision)] == 100


def test_a_kept_plan_is_not_written_again() -> None:
    world = lost(canary_at_10(), ServedBefore(ModelIdentity("fraud", "1")))
    world.done.clear()
    world.turn()
    assert revision("1") not in {action.plan.revision for action in world.did(KeepPlan)}


def test_a_plan_kept_for_another_model_of_the_same_version_number_is_not_what_was_stable() -> None:
    world = lost(canary_at_10(), ServedBefore(ModelIdentity("churn", "1")))
    world.turn()
    assert world.status.stable is not None
    assert world.status.stable.version == "1"
    assert world.status.stable.revision != revision("1")
