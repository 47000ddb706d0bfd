"""What the registry says decides whether a version is started, and never whether one goes back."""

from typing import Any

import pytest
from test_decide import World, declared, revision, serving_1

from backstay.domain.actions import (
    Announce,
    AskGates,
    CommitRollback,
    EnsureWorkload,
    ShiftTraffic,
    TellRegistry,
)
from backstay.domain.observed import Backend, GatesAnswered, GatesUnasked, GatesUnavailable, Unwritten
from backstay.domain.status import FAILED, PASSED, Gate, Phase, RollbackState, Verdict

NO = GatesAnswered((Gate("Registered", PASSED), Gate("Tags", FAILED, "version 2 of fraud has no tag eval.approved")))
YES = GatesAnswered((Gate("Registered", PASSED), Gate("Ready", PASSED)))


def bumped(**spec: Any) -> World:
    """Return a world that serves version 1 and has just been asked for version 2."""
    world = serving_1()
    world.see(gates=GatesUnasked())
    world.desired = declared("2", generation=2, **spec)
    world.done.clear()
    world.turn()
    return world


def started(world: World) -> bool:
    return any(action.backend == Backend(revision("2")) for action in world.did(EnsureWorkload))


def test_no_pod_is_started_before_the_registry_has_answered() -> None:
    world = bumped()
    assert world.did(AskGates)
    assert not started(world)
    assert world.status.message == "Asking the registry about version 2"
    world.see(gates=YES)
    world.turn()
    assert started(world)
    assert (world.status.gated, world.status.gates) == (revision("2"), YES.gates)


def test_a_registry_that_is_away_holds_what_is_new_and_says_so() -> None:
    world = bumped()
    world.see(gates=GatesUnavailable("The registry does not answer"))
    for _ in range(5):
        world.later(600)
        world.turn()
    assert not started(world)
    assert (world.status.phase, world.status.stalled) == (Phase.DEGRADED, "RegistryUnavailable")
    assert world.status.message == "Version 2 is not started yet: The registry does not answer"
    assert world.seen.route is not None
    assert world.seen.route.weights[Backend(revision("1"))] == 100


def test_a_version_that_the_registry_does_not_let_through_waits_and_is_asked_about_again() -> None:
    world = bumped()
    world.see(gates=NO)
    world.turn(3)
    assert not started(world)
    assert not world.did(CommitRollback)
    assert world.status.stalled == "GateFailed"
    assert [action.reason for action in world.did(Announce)] == ["GateFailed"]
    assert world.status.message == "Version 2 is not started: version 2 of fraud has no tag eval.approved"
    assert world.last is not None
    assert world.last.requeue_after == 30.0
    world.see(gates=YES)
    world.turn()
    assert started(world)


def test_with_rollback_git_is_put_right_and_no_pod_was_ever_started() -> None:
    world = bumped(registry={"uri": "http://mlflow:5000", "onGateFailure": "rollback"})
    world.see(gates=NO, set_by="b" * 40, write_back=Unwritten())
    world.turn(4)
    assert not started(world)
    (commit, *_) = world.did(CommitRollback)
    assert commit.good.version == "1"
    record = world.status.rollback
    assert record is not None
    assert record.reason == "the registry: version 2 of fraud has no tag eval.approved"
    assert record.evidence == ("gate=Tags result=Failed",)
    assert record.state is RollbackState.COMMITTING
    assert any(action.reason == "RollingBack" for action in world.did(Announce))


def test_with_rollback_a_registry_that_is_away_still_holds() -> None:
    world = bumped(registry={"uri": "http://mlflow:5000", "onGateFailure": "rollback"})
    world.see(gates=GatesUnavailable("The registry does not answer"))
    world.turn(3)
    assert world.status.rollback is None
    assert world.status.stalled == "RegistryUnavailable"


def test_a_first_version_has_nothing_to_go_back_to_and_waits() -> None:
    world = World(declared("2", registry={"uri": "http://mlflow:5000", "onGateFailure": "rollback"}))
    world.see(gates=NO)
    world.turn(2)
    assert (world.status.phase, world.status.stalled) == (Phase.PENDING, "GateFailed")
    assert world.status.rollback is None


@pytest.mark.parametrize("answer", [NO, GatesUnavailable("The registry does not answer"), GatesUnasked()])
def test_what_is_under_way_or_serves_is_not_asked_about(answer: Any) -> None:
    world = bumped()
    world.see(gates=YES)
    world.turn(2)
    world.see(gates=answer)
    world.done.clear()
    world.judged(Verdict.PASS)
    world.turn(3)
    world.later(31)
    world.turn(3)
    assert not world.did(AskGates)
    assert world.status.step == "2/3"
    # Back to what serves, and then another configuration of it.
    world.desired = declared("1", generation=3)
    world.turn(2)
    world.desired = declared("1", generation=4, config={"threshold": "0.6"})
    world.turn(2)
    assert not world.did(AskGates)
    assert world.status.rollout is not None


def test_a_rollback_is_not_held_up_by_a_registry_that_is_away_and_tells_it_later() -> None:
    world = bumped()
    world.see(gates=YES)
    world.turn(2)
    world.see(gates=GatesUnavailable("The registry does not answer"), told_registry=False, set_by="b" * 40)
    world.later(5)
    world.judged(Verdict.FAIL)
    world.turn(3)
    record = world.status.rollback
    assert record is not None
    assert record.state is RollbackState.COMMITTING
    assert world.did(ShiftTraffic)
    (told, *_) = world.did(TellRegistry)
    assert told.rollback.from_version == "2"
    world.see(told_registry=True)
    world.done.clear()
    world.turn(2)
    assert world.status.rollback is not None
    assert world.status.rollback.told
    assert not world.did(TellRegistry)
