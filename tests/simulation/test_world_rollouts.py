"""Whole rollouts in the simulated world, with the controller's own code from its watches to its judge."""

from backstay_world.nodes import Behaviour
from backstay_world.objects import Change
from backstay_world.world import MODEL, World
from outcomes import ROLLED_BACK, is_stable, outcome, promoted, rolled_back

from backstay.adapters.kubernetes.client import CONFIG_MAP, DEPLOYMENT, EVENT, HTTP_ROUTE, MODEL_DEPLOYMENT
from backstay.adapters.messages.rollback_commit import ID_TRAILER
from backstay.domain.status import RollbackState


def test_a_version_is_promoted_step_by_step(world: World) -> None:
    weights: list[int] = []

    def note(change: Change) -> None:
        rollout = world.status().rollout
        if change.kind is HTTP_ROUTE and rollout is not None:
            weights.append(world.weights().get(rollout.revision, 0))

    world.objects.listeners.append(note)
    world.declare("2")
    took = world.until("version 2 is stable", lambda: promoted(world))
    # Two steps of 30 s before full traffic, and that for 30 s.
    assert 90.0 < took < 120.0
    assert list(dict.fromkeys(weights)) == [10, 50, 100]
    assert world.registry.stable(MODEL.name) == {"2"}
    world.until("its facts are published", lambda: facts(world)["model_version"] == "2", within=5.0)
    assert not world.rollbacks()


def test_a_version_that_fails_is_drained_and_git_declares_the_former_one_again(world: World) -> None:
    world.behaviours["2"] = Behaviour(errors=0.2)
    bad = world.declare("2")
    world.until("version 2 gets requests", lambda: live_requests(world) > 0)
    failed = live_revision(world)
    world.until("Git is put right and synced", lambda: world.phase() == "RolledBack")
    assert world.requests(failed) == 0
    record = world.status().rollback
    assert record is not None
    assert (record.state, record.from_version, record.to_version) == (RollbackState.DONE, "2", "1")
    (commit,) = world.rollbacks()
    assert f"{ID_TRAILER}: {record.id}" in commit.message
    assert (commit.parent, record.bad_commit, record.commit) == (bad, bad, commit.id)
    model = world.body()["spec"]["model"]
    assert model["version"] == "1"
    assert model["rejectedVersions"] == [{"version": "2", "rollbackID": record.id}]
    world.until("the failed pods are gone", lambda: len(world.objects.all(DEPLOYMENT)) == 1)
    assert any(event["reason"] == "RolledBack" for event in world.objects.all(EVENT))


def test_a_version_whose_pods_do_not_start_gets_no_request_and_is_rolled_back(world: World) -> None:
    world.behaviours["2"] = Behaviour(starts=False)
    world.declare("2")
    world.until("it is rolled back", lambda: world.phase() == "RolledBack")
    record = world.status().rollback
    assert record is not None
    assert "its pods were not ready within 600 s: container model ended with code 1" in record.reason
    assert len(world.rollbacks()) == 1


def test_a_status_lost_in_a_canary_gives_the_unproven_version_no_more_than_its_steps(world: World) -> None:
    world.declare("2")
    world.until("it has the second step's weight", lambda: live_weight(world) == 50)
    unproven = live_revision(world)
    lose_status(world)
    weights = set()

    def note(change: Change) -> None:
        if change.kind is HTTP_ROUTE and not is_stable(world, "2"):
            weights.add(world.weights()[unproven])

    world.objects.listeners.append(note)
    world.until("version 1 is known as stable again", lambda: is_stable(world, "1"), within=60.0)
    world.until("its steps begin anew", lambda: live_weight(world) == 10, within=300.0)
    assert max(weights) <= 50
    world.until("version 2 is stable", lambda: is_stable(world, "2"))


def test_a_model_that_is_deleted_and_declared_again_keeps_its_stable_version(world: World) -> None:
    world.declare("2")
    world.until("it has the second step's weight", lambda: live_weight(world) == 50)
    world.objects.delete(MODEL_DEPLOYMENT, (MODEL.namespace, MODEL.name), "person")
    assert not world.objects.all(HTTP_ROUTE)
    world.argocd.sync(MODEL)
    world.until("version 1 serves again", lambda: is_stable(world, "1") and world.phase() != "Stable")
    world.until("version 2 is stable", lambda: is_stable(world, "2"))


def test_two_controllers_at_once_write_one_commit(world: World) -> None:
    world.start(lag=3.0)
    world.behaviours["2"] = Behaviour(errors=0.2)
    world.declare("2")
    world.until("it is rolled back", lambda: rolled_back(world))
    world.let(60.0)
    assert not any(life.dead for life in world.lives)
    assert outcome(world) == ROLLED_BACK


def facts(world: World) -> dict[str, str]:
    data: dict[str, str] = world.objects.get(CONFIG_MAP, MODEL.namespace, f"{MODEL.name}-model-config")["data"]
    return data


def live_revision(world: World) -> str:
    rollout = world.status().rollout
    assert rollout is not None
    return rollout.revision


def live_weight(world: World) -> int:
    rollout = world.status().rollout
    return world.weights().get(rollout.revision, 0) if rollout is not None else 0


def live_requests(world: World) -> float:
    rollout = world.status().rollout
    return world.requests(rollout.revision) if rollout is not None else 0.0


def lose_status(world: World) -> None:
    body = world.body()
    world.objects.replace_status(MODEL_DEPLOYMENT, {"metadata": body["metadata"], "status": {}}, "person")
