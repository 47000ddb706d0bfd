"""A registry or forge that hangs for ten minutes holds up what needs its answer, and no drain."""

from pathlib import Path

import pytest
from backstay_world.nodes import Behaviour
from backstay_world.world import MODEL, NAMESPACE, Pace, World
from outcomes import promoted

from backstay.domain.resource import Key

OUTAGE = 600.0
INTERVAL = 5.0
OTHERS = tuple(Key(NAMESPACE, f"other-{number}") for number in range(6))


def crowd(folder: Path) -> World:
    """Make a world with many models, whose rollbacks are pull requests and issues at one forge."""
    world = World(folder)
    asks = {"rollback": {"writeBack": "pullRequest", "incident": "issue"}}
    for key in (MODEL, *OTHERS):
        world.add(key, pace=Pace(more=asks))
    world.start()
    world.until("all are stable", lambda: all(promoted(world, "1", key) for key in (MODEL, *OTHERS)))
    return world


@pytest.mark.parametrize("patience", [20.0, OUTAGE])
@pytest.mark.parametrize("what", ["registry", "forge"])
def test_no_drain_and_no_step_waits_for_what_hangs(tmp_path: Path, what: str, patience: float) -> None:
    with crowd(tmp_path) as world:
        for key in (MODEL, *OTHERS):
            world.declare("2", key)
        world.until("all of them get requests", lambda: all(gets_requests(world, key) for key in (MODEL, *OTHERS)))
        hanging = getattr(world, what)
        hanging.hangs_until, hanging.patience = world.loop.time() + OUTAGE, patience
        # Four of them fail at once, so that all threads for the forge and for the registry are taken by rollbacks.
        failing, good = (MODEL, *OTHERS[:3]), OTHERS[3:]
        world.change("2", Behaviour(errors=0.2), *failing)
        revisions = {key: world.revision(key) for key in failing}
        drained = world.until(
            "the failing ones are drained", lambda: not any(world.requests(revisions[key], key) for key in failing)
        )
        assert drained < 2 * INTERVAL + 1.0
        # Two steps of 30 s and what their pods take; that the version is stable has to be told to the registry.
        took = world.until(
            "the others have all traffic",
            lambda: all(world.weights(key).get(world.revision(key)) == 100 for key in good),
        )
        assert drained + took < 65.0
        world.until("all is done after the outage", lambda: all(promoted(world, "2", key) for key in good))
        world.until("and Git is right", lambda: all(world.phase(key) == "RolledBack" for key in failing))
        world.invariants.finish()


def test_a_version_that_fails_while_the_forge_hangs_already_is_drained_as_soon_as_any_other(tmp_path: Path) -> None:
    with crowd(tmp_path) as world:
        world.declare("2")
        world.until("it gets requests", lambda: gets_requests(world, MODEL))
        world.forge.hangs_until = world.registry.hangs_until = world.loop.time() + OUTAGE
        world.let(40.0)
        revision = world.revision()
        world.change("2", Behaviour(errors=0.2))
        assert world.until("it is drained", lambda: not world.requests(revision)) < 2 * INTERVAL + 1.0
        world.until("and Git is right", lambda: world.phase() == "RolledBack")
        world.invariants.finish()


def gets_requests(world: World, key: Key) -> bool:
    rollout = world.status(key).rollout
    return rollout is not None and world.requests(rollout.revision, key) > 0
