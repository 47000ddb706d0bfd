"""The controller is killed at every write and at any request: what comes of a rollout stays the same."""

import random
from collections.abc import Callable
from pathlib import Path

import pytest
from backstay_world.apiserver import Fault, Request
from backstay_world.nodes import Behaviour
from backstay_world.world import Pace, World
from outcomes import PROMOTED, ROLLED_BACK, outcome, promoted, rolled_back

from backstay.controller.runtime.faults import WRITES

FAILS = Behaviour(errors=0.2)
NEVER = frozenset({"restore", "old-plan"})
"""Nobody meddles with what the controller made, and no earlier rollout has left a plan of the new version."""
OF_PULL_REQUESTS = frozenset({"pull-request", "merge"})
OF_PROMOTIONS = frozenset({"config", "stable-service", "alias"})
OF_ROLLBACKS = frozenset({"rollback-tag", "refresh", "push"})


def points(writes: frozenset[str]) -> list[str]:
    return [f"{when}:{write}" for write in WRITES if write in writes for when in ("before", "after")]


def once(point: str) -> Callable[[str], bool]:
    armed = {point}

    def dies(reached: str) -> bool:
        found = reached in armed
        armed.discard(reached)
        return found

    return dies


@pytest.mark.parametrize("point", points(frozenset(WRITES) - NEVER - OF_PULL_REQUESTS - OF_PROMOTIONS))
def test_a_rollback_ends_the_same_wherever_the_controller_is_killed(world: World, point: str) -> None:
    world.behaviours["2"] = FAILS
    world.dies_at = once(point)
    world.declare("2")
    world.until("it is rolled back", lambda: rolled_back(world))
    assert [life.dead for life in world.lives] == [True, False]
    assert outcome(world) == ROLLED_BACK


@pytest.mark.parametrize("point", points(OF_PULL_REQUESTS))
def test_a_rollback_by_pull_request_ends_the_same_wherever_the_controller_is_killed(tmp_path: Path, point: str) -> None:
    with World(tmp_path) as world:
        world.add(pace=Pace(more={"rollback": {"writeBack": "pullRequest"}}))
        world.start()
        world.until("version 1 is stable", lambda: promoted(world, "1"))
        world.behaviours["2"] = FAILS
        world.dies_at = once(point)
        world.declare("2")
        world.until("it is rolled back", lambda: rolled_back(world))
        assert [life.dead for life in world.lives] == [True, False]
        assert outcome(world) == ROLLED_BACK
        assert len(world.forge.pulls) == 1
        world.invariants.finish()


@pytest.mark.parametrize("point", points(frozenset(WRITES) - NEVER - OF_PULL_REQUESTS - OF_ROLLBACKS))
def test_a_promotion_ends_the_same_wherever_the_controller_is_killed(tmp_path: Path, point: str) -> None:
    with World(tmp_path) as world:
        world.add(pace=Pace(more={"rollback": {"warmFor": "1m"}}))
        world.start()
        world.until("version 1 is stable", lambda: promoted(world, "1"))
        world.dies_at = once(point)
        world.declare("2")
        world.until("version 2 is stable", lambda: promoted(world))
        world.until("the controller has died", lambda: world.lives[0].dead and not world.lives[-1].dead)
        world.until("version 2 is stable still", lambda: promoted(world))
        assert outcome(world) == PROMOTED
        world.invariants.finish()


class Trouble:
    """Kills the controller at random requests, and lets some of the others fail; the same for the same seed."""

    def __init__(self, world: World, seed: int) -> None:
        self._world = world
        self._random = random.Random(seed)  # noqa: S311 - no secret
        self.kills = 0
        self.ends_at = world.loop.time() + 120.0
        world.dies_on = self._dies
        for fault in (
            Fault(self._meets, times=-1, status=409),
            Fault(self._meets, times=-1, status=503),
            Fault(self._meets, times=-1, lost=True),
            Fault(self._meets, times=-1, delay=3.0),
        ):
            world.fault(fault)

    def _goes_on(self) -> bool:
        return self._world.loop.time() < self.ends_at

    def _dies(self, when: str, request: Request) -> bool:
        del when
        dies = self._goes_on() and request.writes and self._random.random() < 0.04
        self.kills += dies
        return dies

    def _meets(self, request: Request) -> bool:
        return self._goes_on() and request.writes and self._random.random() < 0.03


@pytest.mark.parametrize("seed", range(12))
def test_nothing_that_must_hold_is_broken_by_kills_and_failing_requests(world: World, seed: int) -> None:
    world.behaviours["2"] = FAILS
    trouble = Trouble(world, seed)
    world.declare("2")
    world.let(trouble.ends_at - world.loop.time())
    world.until("it is rolled back", lambda: rolled_back(world))
    assert trouble.kills
    assert outcome(world) == ROLLED_BACK
