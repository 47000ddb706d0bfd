"""Three deliberate mistakes in the controller are found by the invariants of the simulated world."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from backstay_world.apiserver import Fault, Request
from backstay_world.argocd import path_of
from backstay_world.git import FILE, GitServer, version_file
from backstay_world.invariants import MARKED, NOT_OVER_NEWER, REJECTED
from backstay_world.nodes import Behaviour
from backstay_world.world import MODEL, World
from outcomes import ROLLED_BACK, outcome, promoted, rolled_back

from backstay.adapters.kubernetes.client import HTTP_ROUTE, Cluster, Kind, Object
from backstay.adapters.traffic.gateway_api import GatewayApi

FAILS = Behaviour(errors=0.2)


@pytest.fixture
def mutable(tmp_path: Path) -> Iterator[World]:
    """A world like the usual one, in which invariants may break."""
    with World(tmp_path) as made:
        made.add()
        made.start()
        made.until("version 1 is stable", lambda: promoted(made, "1"))
        yield made


def kill_after_the_drain(world: World) -> None:
    """Kill the controller once, between the route's update that drains and the status that tells of it."""
    armed = ["route"]

    def dies(point: str) -> bool:
        status = world.status()
        drains = point == "after:route" and status.rollout is not None and status.rollout.step_since > 0
        gone = drains and not world.weights().get(status.rollout.revision if status.rollout else "", 0)
        return gone and bool(armed) and bool(armed.pop())

    world.dies_at = dies


def test_with_the_mark_on_the_route_a_drain_outlives_the_controller(mutable: World) -> None:
    mutable.behaviours["2"] = FAILS
    kill_after_the_drain(mutable)
    mutable.declare("2")
    mutable.until("it is rolled back", lambda: rolled_back(mutable))
    assert [life.dead for life in mutable.lives] == [True, False]
    assert outcome(mutable) == ROLLED_BACK
    mutable.invariants.finish()


def test_without_the_mark_on_the_route_an_invariant_breaks(mutable: World, monkeypatch: pytest.MonkeyPatch) -> None:
    build = GatewayApi.build

    def unmarked(self: GatewayApi, desired: Any, weights: Any, copies: Any, marks: Any) -> Any:
        del marks
        return build(self, desired, weights, copies, ())

    monkeypatch.setattr(GatewayApi, "build", unmarked)
    mutable.behaviours["2"] = FAILS
    kill_after_the_drain(mutable)
    mutable.declare("2")
    mutable.until("it is rejected", lambda: bool(mutable.status().rejected))
    mutable.let(30.0)
    assert MARKED in mutable.invariants.broken()


def test_a_person_who_commits_between_fetch_and_push_keeps_their_version(mutable: World) -> None:
    commit_before_the_push(mutable)
    mutable.invariants.finish()
    assert mutable.body()["spec"]["model"]["version"] == "3"


def test_a_commit_without_compare_and_set_breaks_an_invariant(mutable: World, monkeypatch: pytest.MonkeyPatch) -> None:
    push = GitServer.push

    def force(self: GitServer, branch: str, commit: str, *, seen: str) -> None:
        del seen
        push(self, branch, commit, seen=self.branches.get(branch, ""))

    monkeypatch.setattr(GitServer, "push", force)
    commit_before_the_push(mutable)
    assert NOT_OVER_NEWER in mutable.invariants.broken()


def commit_before_the_push(world: World) -> None:
    """Let a person declare version 3 while the rollback of version 2 is about to be pushed."""
    world.behaviours["2"] = FAILS
    world.register(MODEL, "3")
    armed = ["push"]

    def commits(point: str) -> bool:
        if point == "before:push" and armed:
            armed.pop()
            world.git.commit({f"{path_of(MODEL)}/{FILE}": version_file(MODEL.name, "3")}, "a fix")
        return False

    world.dies_at = commits
    world.declare("2")
    world.until("the rollback has been pushed", lambda: len(world.rollbacks()) == 1, within=300.0)
    world.let(10.0)


def test_a_request_that_comes_too_late_does_not_undo_a_drain(mutable: World) -> None:
    drain_before_a_stray_request(mutable)
    mutable.invariants.finish()
    assert outcome(mutable) == ROLLED_BACK


def test_a_route_that_is_written_whatever_its_resource_version_breaks_an_invariant(
    mutable: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def overwrite(self: Cluster, kind: Kind, body: Object) -> Object:
        meta = {name: value for name, value in body["metadata"].items() if name != "resourceVersion"}
        return await self.apply(kind, {**body, "metadata": meta})

    monkeypatch.setattr(Cluster, "replace", overwrite)
    drain_before_a_stray_request(mutable)
    assert REJECTED in mutable.invariants.broken()


def drain_before_a_stray_request(world: World) -> None:
    """Let the request for the second step's weight come to the API server when the version has failed there already."""

    def is_second_step(request: Request) -> bool:
        refs = request.body["spec"]["rules"][0]["backendRefs"] if request.kind is HTTP_ROUTE and request.writes else ()
        return [ref["weight"] for ref in refs].count(50) == 1

    stray = Fault(is_second_step, strays=120.0)
    world.fault(stray)
    world.declare("2")
    world.until("the request has gone astray", lambda: stray.times == 0)
    sent_at = world.loop.time()
    world.until("the step has its weight all the same", lambda: 50 in world.weights().values())
    world.change("2", FAILS)
    world.until("it is rolled back", lambda: rolled_back(world), within=90.0)
    world.let(sent_at + 130.0 - world.loop.time())
