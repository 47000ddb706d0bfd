"""What pods tell: that the cluster does not let them start, or that they crash."""

import pytest
from test_decide import NOW, World, at_full, bumped_to_2, canary_at_10, declared, revision

from backstay.domain.actions import CommitRollback
from backstay.domain.observed import Backend, Blocked, Track
from backstay.domain.status import Phase, Verdict

CANARY, STABLE = Backend(revision("2")), Backend(revision("1"))
BASELINE = Backend(revision("1"), Track.BASELINE)
UNSCHEDULABLE = Blocked("Unschedulable", "0/3 nodes are available: 3 node(s) were unschedulable.")
HOLDS = [
    UNSCHEDULABLE,
    Blocked("Unschedulable", "exceeded quota: pods"),
    Blocked("ImagePull", "the registry does not answer"),
    Blocked("ContainersNotCreated", "the node has not created the containers"),
]


def starting(**rollout: str) -> World:
    """Version 2's pod is not ready yet, that of the baseline is."""
    world = bumped_to_2(rollout={"progressDeadline": "60s", **rollout})
    world.starts = False
    world.turn()
    world.shows(BASELINE, replicas=1, ready=1)
    world.turn()
    return world


def wait(world: World, seconds: int, *, every: int = 1) -> None:
    for _ in range(0, seconds, every):
        world.later(every)
        world.turn()


@pytest.mark.parametrize("hold", HOLDS, ids=lambda hold: hold.message[:20])
@pytest.mark.parametrize("seconds", [50, 100, 400])
def test_after_trouble_of_the_cluster_a_version_has_a_full_deadline_again(hold: Blocked, seconds: int) -> None:
    world = starting()
    world.shows(CANARY, blocked=hold)
    wait(world, seconds, every=2)
    assert world.status.rollback is None
    world.shows(CANARY, blocked=None)
    wait(world, 54)
    assert world.status.rollback is None
    world.starts = True
    world.turn(2)
    assert "is ready" in world.status.message


def test_what_keeps_pods_from_starting_is_told_at_once_and_stalls_after_the_deadline() -> None:
    world = starting()
    world.shows(CANARY, blocked=UNSCHEDULABLE)
    wait(world, 30)
    assert world.status.message == f"Waiting for pods of version 2: 0 of 1 ready: {UNSCHEDULABLE.message}"
    assert world.status.stalled == ""
    wait(world, 31)
    assert world.status.stalled == "Unschedulable"
    world.shows(CANARY, blocked=None)
    wait(world, 5)
    assert world.status.stalled == ""


def test_trouble_of_the_cluster_does_not_count_for_the_deadline_of_the_rollout_either() -> None:
    world = starting(onInconclusive="rollback")
    world.shows(CANARY, blocked=UNSCHEDULABLE)
    wait(world, 13 * 3600, every=300)
    world.shows(CANARY, blocked=None)
    world.starts = True
    world.judged(Verdict.INCONCLUSIVE, requests=1)
    world.turn(3)
    assert (world.weight("2"), world.status.stalled, world.status.rollback) == (10, "", None)


def test_a_version_whose_pods_do_not_get_ready_after_the_trouble_fails_in_the_end() -> None:
    world = starting()
    world.shows(CANARY, blocked=UNSCHEDULABLE)
    wait(world, 50)
    world.shows(CANARY, blocked=None, trouble="container server ended with code 1")
    wait(world, 61)
    assert world.status.rollback is not None
    assert world.status.rollback.reason == "its pods were not ready within 60 s: container server ended with code 1"


def test_a_failure_to_start_that_the_baseline_shares_rejects_nothing_when_the_baseline_is_ready_first() -> None:
    world = starting()
    world.shows(BASELINE, ready=0)
    wait(world, 300, every=2)
    assert (world.status.rollback, world.status.stalled) == (None, "BaselineNotReady")
    world.shows(BASELINE, ready=1)
    wait(world, 54)
    assert world.status.rollback is None
    world.starts = True
    world.turn(2)
    assert "is ready" in world.status.message


def test_time_in_which_only_the_baseline_is_missing_does_not_count() -> None:
    world = starting()
    world.shows(BASELINE, ready=0)
    world.shows(CANARY, ready=1)
    wait(world, 58)
    world.shows(BASELINE, ready=1)
    world.shows(CANARY, ready=0)
    wait(world, 50)
    assert world.status.rollback is None


def test_pods_that_do_not_get_ready_are_read_now_and_then_and_not_at_every_look() -> None:
    world = starting(progressDeadline="10m")
    read = set()
    for _ in range(300):
        world.later(1)
        world.turn()
        read.add(world.seen.pods_read_at)
    assert 5 <= len(read - {0.0}) <= 11


def crashed(world: World, backend: Backend, times: int, *, ready: int = 0) -> None:
    world.shows(backend, ready=ready, restarts=times, ended="container server ended with code 139, reason OOMKilled")


def test_a_container_of_the_canary_that_ends_under_traffic_fails_the_rollout() -> None:
    world = canary_at_10()
    world.judged(Verdict.PASS)
    world.starts = False
    crashed(world, CANARY, 1)
    world.turn(2)
    assert world.weight("2") == 0
    assert world.status.rollback is not None
    assert world.status.rollback.reason == (
        "its containers ended once more than those of the stable version, "
        "the last time: container server ended with code 139, reason OOMKilled"
    )
    assert world.status.rollback.evidence == ("signal=restarts verdict=Fail value=1 limit=0",)
    world.turn()
    assert world.did(CommitRollback)


def test_a_container_that_is_running_again_when_the_pods_are_read_counts_all_the_same() -> None:
    world = canary_at_10()
    world.judged(Verdict.PASS)
    crashed(world, CANARY, 4, ready=1)
    world.later(31)
    world.turn()
    assert world.status.rollback is not None
    assert "ended 4 times more" in world.status.rollback.reason


def test_restarts_that_the_baseline_shares_fail_nothing() -> None:
    world = canary_at_10()
    world.judged(Verdict.PASS)
    crashed(world, CANARY, 2, ready=1)
    crashed(world, BASELINE, 2, ready=1)
    world.later(31)
    world.turn(3)
    assert world.status.rollback is None
    assert world.weight("2") == 50


def test_what_the_baseline_shared_still_counts_when_its_pods_are_gone() -> None:
    world = canary_at_10()
    crashed(world, CANARY, 2, ready=1)
    crashed(world, BASELINE, 2, ready=1)
    for _ in range(2):
        world.judged(Verdict.PASS)
        world.later(31)
        world.turn(3)
    world.see(quiet=frozenset({BASELINE}))
    world.turn(2)
    assert BASELINE not in world.seen.workloads
    world.later(61)
    world.turn(2)
    assert world.status.phase is Phase.STABLE


def test_a_crash_at_full_traffic_fails_the_version_before_it_is_stable() -> None:
    world = at_full()
    crashed(world, CANARY, 1, ready=4)
    world.later(61)
    world.turn()
    assert world.status.rollback is not None
    assert world.status.stable is not None
    assert world.status.stable.version == "1"


def test_what_happened_before_the_first_traffic_does_not_count() -> None:
    world = bumped_to_2()
    world.turn()
    crashed(world, CANARY, 3, ready=1)
    world.judged(Verdict.NO_DATA, requests=0)
    world.turn(2)
    assert world.weight("2") == 10
    world.judged(Verdict.PASS)
    world.later(31)
    world.turn(2)
    assert world.status.rollback is None
    crashed(world, CANARY, 4, ready=1)
    world.later(31)
    world.turn()
    assert world.status.rollback is not None


def test_as_many_restarts_as_are_allowed_fail_nothing() -> None:
    world = canary_at_10(rollout={"maxRestarts": 2})
    world.judged(Verdict.PASS)
    crashed(world, CANARY, 2, ready=1)
    world.later(31)
    world.turn()
    assert world.status.rollback is None
    crashed(world, CANARY, 3, ready=1)
    world.later(31)
    world.turn()
    assert world.status.rollback is not None
    assert "(rollout.maxRestarts allows 2)" in world.status.rollback.reason


def test_without_a_baseline_the_stable_versions_own_pods_are_compared_with() -> None:
    world = canary_at_10(rollout={"baseline": {"enabled": False}})
    world.judged(Verdict.PASS)
    crashed(world, CANARY, 1, ready=1)
    crashed(world, STABLE, 1, ready=4)
    world.later(31)
    world.turn()
    assert world.status.rollback is None


def test_a_first_version_is_not_failed_by_restarts() -> None:
    world = World(declared("1"))
    world.turn(3)
    crashed(world, STABLE, 5, ready=4)
    world.later(61)
    world.turn(2)
    assert world.status.phase is Phase.STABLE
    assert world.now > NOW
