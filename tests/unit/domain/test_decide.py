"""What is decided, as a table of scenarios that read as sentences."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import pytest

from backstay.adapters.messages.incident import incident_of
from backstay.domain.actions import (
    Action,
    Announce,
    CommitRollback,
    Decision,
    EnsureStableService,
    EnsureWorkload,
    LocateRollback,
    RecallStable,
    RefreshApplication,
    RememberStable,
    Retire,
    ShiftTraffic,
    WithdrawRollback,
)
from backstay.domain.decide import decide
from backstay.domain.observed import (
    Backend,
    Evidence,
    GatesAnswered,
    Located,
    NeverServed,
    NotSynced,
    Observed,
    Proposed,
    RecallUnavailable,
    Route,
    ServedBefore,
    Synced,
    Track,
    Unwritten,
    Workload,
    WriteRefused,
    Written,
)
from backstay.domain.resource import ABORT, APPROVE, PAUSE, SKIP, Key, ModelDeployment, ModelIdentity, Plan
from backstay.domain.status import Phase, RollbackState, Status, Verdict

NOW = 1_000_000.0
STEPS: list[dict[str, Any]] = [
    {"weight": 10, "minDuration": "30s", "minRequests": 100},
    {"weight": 50, "minDuration": "30s"},
    {"weight": 100, "minDuration": "1m"},
]


RECALLED = Observed(recall=ServedBefore(ModelIdentity("fraud", "1")), gates=GatesAnswered(()))


def body(version: str = "1", *, generation: int = 1, **spec: Any) -> dict[str, Any]:
    rollout = {"steps": spec.pop("steps", STEPS), **spec.pop("rollout", {})}
    model = {"name": "fraud", "version": version, **spec.pop("model", {})}
    return {
        "metadata": {
            "name": "fraud",
            "namespace": "prod",
            "uid": "u1",
            "generation": generation,
            "annotations": spec.pop("annotations", {}),
        },
        "spec": {
            "model": model,
            "registry": {"uri": "http://mlflow:5000"},
            "serving": {
                "replicas": 4,
                "config": spec.pop("config", {}),
                "template": {"spec": {"containers": [{"name": "server", "image": "server:1"}]}},
            },
            "traffic": {"gatewayAPI": {"gateway": {"name": "models", "namespace": "gateways"}}},
            "rollout": rollout,
            "analysis": {"interval": "10s"},
            **spec,
        },
    }


def declared(version: str = "1", **spec: Any) -> ModelDeployment:
    return ModelDeployment.of(body(version, **spec))


def revision(version: str) -> str:
    return declared(version).plan.revision


@dataclass
class World:
    """A cluster in which actions take effect at once, unless a test says otherwise."""

    desired: ModelDeployment
    status: Status = field(default_factory=Status)
    seen: Observed = field(
        default_factory=lambda: Observed(
            recall=NeverServed(), cluster="here", gates=GatesAnswered(()), told_registry=True
        )
    )
    now: float = NOW
    last: Decision | None = None
    done: list[Action] = field(default_factory=list)
    starts: bool = True

    def turn(self, times: int = 1) -> Decision:
        for _ in range(times):
            decision = decide(self.desired, self.status, self.seen, self.now)
            if decision.lacks_pods:
                self.see(pods_read_at=self.now)
                decision = decide(self.desired, self.status, self.seen, self.now)
                assert not decision.lacks_pods
            for action in decision.actions:
                self._do(action)
            self.status = Status.of({**decision.status.to_dict(), "conditions": self._conditions(decision.status)})
            self.done.extend(decision.actions)
            self.last = decision
        assert self.last is not None
        return self.last

    @staticmethod
    def _conditions(status: Status) -> list[dict[str, str]]:
        return [{"type": "Stalled", "reason": status.stalled}] if status.stalled else []

    def _do(self, action: Action) -> None:
        workloads = dict(self.seen.workloads)
        match action:
            case EnsureWorkload(backend, plan, replicas):
                known = workloads.get(backend, Workload(0, 0))
                workloads[backend] = replace(known, replicas=replicas, ready=replicas if self.starts else known.ready)
                self.see(workloads=workloads, plans={**self.seen.plans, plan.revision: plan})
            case EnsureStableService(selected):
                self.see(served=selected)
            case Retire(backend):
                del workloads[backend]
                self.see(workloads=workloads)
            case ShiftTraffic(weights, copies, marks):
                self.see(route=Route(dict(weights), dict(copies), marks, accepted=True))

    def see(self, **changes: Any) -> None:
        self.seen = replace(self.seen, **changes)

    def pods(self, backend: Backend, ready: int) -> None:
        self.shows(backend, replicas=4, ready=ready)

    def shows(self, backend: Backend, **changes: Any) -> None:
        """Change what is seen of the pods of one backend."""
        known = self.seen.workloads.get(backend, Workload(0, 0))
        self.see(workloads={**self.seen.workloads, backend: replace(known, **changes)})

    def judged(self, verdict: Verdict, requests: int = 1000, sentence: str = "errors 9.0 % against 0.1 %") -> None:
        rollout = self.status.rollout
        assert rollout is not None
        details = (f"signal=errors verdict={verdict}",) if verdict is Verdict.FAIL else ()
        self.see(
            evidence=Evidence(
                rollout.id,
                verdict,
                sentence,
                details,
                requests=requests,
                measured=True,
                accumulators={"tick": self.now},
            )
        )

    def later(self, seconds: float) -> None:
        self.now += seconds

    @property
    def weights(self) -> Mapping[Backend, int]:
        assert self.seen.route is not None
        return self.seen.route.weights

    def weight(self, version: str, track: Track = Track.PRIMARY) -> int:
        return self.weights.get(Backend(revision(version), track), 0)

    def did(self, kind: type[Action]) -> list[Any]:
        return [action for action in self.done if isinstance(action, kind)]


def serving_1(**spec: Any) -> World:
    """Version 1 is stable."""
    world = World(declared("1", **spec))
    world.turn(2)
    world.later(61)
    world.turn(3)
    assert world.status.phase is Phase.STABLE
    world.done.clear()
    return world


def bumped_to_2(**spec: Any) -> World:
    """Version 1 is stable, and Git has just been bumped to version 2."""
    world = serving_1()
    world.desired = declared("2", generation=2, **spec)
    return world


def canary_at_10(**spec: Any) -> World:
    """Version 2 gets 10 % of the traffic."""
    world = bumped_to_2(**spec)
    world.turn()
    world.judged(Verdict.NO_DATA, requests=0)
    world.see(set_by="abc123")
    world.turn(2)
    assert world.weight("2") == 10
    return world


def rolled_back() -> World:
    """Version 2 failed at 10 %; it is drained, committed and synced."""
    world = canary_at_10()
    world.judged(Verdict.FAIL)
    world.turn(2)
    world.see(write_back=Written("def456", world.now))
    world.turn()
    world.see(sync=Synced(world.now))
    world.desired = declared("1", generation=3, model={"rejectedVersions": [{"version": "2"}]})
    world.turn(2)
    return world


def test_nothing_is_started_before_registry_and_git_have_said_what_was_stable() -> None:
    world = World(declared("1"), seen=Observed())
    assert world.turn().actions == (RecallStable(),)


def test_without_an_answer_of_registry_and_git_the_version_is_not_taken_for_the_first() -> None:
    world = World(declared("2"), seen=Observed(recall=RecallUnavailable("MLflow does not answer")))
    world.turn()
    assert (world.status.phase, world.status.stalled) == (Phase.PENDING, "MemoryUnavailable")
    assert not world.did(EnsureWorkload)


def test_the_first_version_takes_all_traffic_when_ready_and_is_stable_after_the_last_steps_time() -> None:
    world = World(declared("1"))
    world.turn(3)
    assert world.weight("1") == 100
    assert world.status.stable is None
    world.later(61)
    world.turn()
    assert world.status.stable is not None
    assert world.status.stable.version == "1"
    assert world.did(RememberStable) == [RememberStable("1")]


def test_a_cluster_rebuilt_in_mid_canary_serves_the_stable_version_and_tries_the_other() -> None:
    world = World(declared("2"), seen=RECALLED)
    world.turn(2)
    assert world.weight("1") == 100
    assert world.weight("2") == 0
    assert world.status.rollout is not None
    assert not world.status.rollout.first


def test_a_recalled_stable_versions_pods_come_first_unless_they_never_come() -> None:
    world = World(
        declared("2"),
        seen=RECALLED,
        starts=False,
    )
    world.turn(3)
    assert {action.backend for action in world.did(EnsureWorkload)} == {Backend(revision("1"))}
    assert "Waiting for pods of version 1" in world.status.message
    world.now += 301
    world.turn()
    assert Backend(revision("2")) in {action.backend for action in world.did(EnsureWorkload)}


def test_no_traffic_before_the_canary_pods_and_as_many_fresh_baseline_pods_are_ready() -> None:
    world = bumped_to_2()
    world.starts = False
    world.turn(3)
    assert world.status.phase is Phase.STARTING
    assert world.weight("2") == 0
    assert {action.backend.track for action in world.did(EnsureWorkload)} == {Track.PRIMARY, Track.BASELINE}


def test_no_traffic_before_prometheus_sees_the_canary() -> None:
    world = bumped_to_2()
    world.turn(3)
    assert world.weight("2") == 0
    assert "waiting for Prometheus" in world.status.message


def test_a_controller_killed_between_the_routes_update_and_the_status_keeps_the_steps_weight() -> None:
    world = bumped_to_2()
    world.turn(3)
    world.see(route=Route({Backend(revision("1")): 90, Backend(revision("2")): 10}, accepted=True), evidence=None)
    world.turn()
    assert world.weight("2") == 10
    world = canary_at_10()
    world.judged(Verdict.PASS)
    world.now += 31
    world.turn()
    world.see(route=Route({Backend(revision("1")): 50, Backend(revision("2")): 50}, accepted=True), evidence=None)
    world.turn()
    assert world.weight("2") == 50


def test_no_traffic_while_prometheus_is_away_however_long_and_that_time_does_not_count_for_the_deadline() -> None:
    world = bumped_to_2()
    world.turn()
    world.judged(Verdict.UNAVAILABLE, requests=0, sentence="Prometheus does not answer")
    world.turn()
    world.later(13 * 3600)
    world.turn()
    assert world.weight("2") == 0
    assert world.status.message == "Version 2 is ready; Prometheus does not answer; holding until it answers"
    world.judged(Verdict.INCONCLUSIVE, requests=1)
    world.turn(2)
    assert (world.weight("2"), world.status.stalled) == (10, "")


def test_the_canary_gets_its_step_and_the_baseline_as_much() -> None:
    world = canary_at_10()
    assert world.weights == {
        Backend(revision("1")): 80,
        Backend(revision("1"), Track.BASELINE): 10,
        Backend(revision("2")): 10,
    }


@pytest.mark.parametrize(
    ("verdict", "requests", "waited", "goes_on"),
    [
        (Verdict.PASS, 100, 31, True),
        (Verdict.INCONCLUSIVE, 100, 31, True),
        (Verdict.PASS, 99, 31, False),
        (Verdict.PASS, 100, 29, False),
        (Verdict.NO_DATA, 100, 31, False),
        (Verdict.UNAVAILABLE, 100, 31, False),
    ],
)
def test_a_step_ends_when_time_requests_and_verdict_allow(
    verdict: Verdict, requests: int, waited: float, *, goes_on: bool
) -> None:
    world = canary_at_10()
    world.judged(verdict, requests)
    world.later(waited)
    world.turn(3)
    assert (world.weight("2") == 50) is goes_on


def test_before_full_traffic_the_evidence_must_say_pass() -> None:
    world = canary_at_10()
    world.judged(Verdict.PASS)
    world.later(31)
    world.turn(3)
    world.judged(Verdict.INCONCLUSIVE)
    world.later(31)
    world.turn(3)
    assert world.weight("2") == 50
    world.judged(Verdict.PASS)
    world.turn(3)
    assert world.weight("2") == 100


def at_full() -> World:
    world = canary_at_10()
    for _ in range(2):
        world.judged(Verdict.PASS)
        world.later(31)
        world.turn(3)
    assert world.weight("2") == 100
    return world


def test_at_full_traffic_the_previous_version_stays_warm_until_the_bake_ends() -> None:
    world = at_full()
    assert str(world.status.phase) == "Baking"
    assert world.seen.ready(Backend(revision("1"))) == 4
    world.later(61)
    world.turn()
    assert str(world.status.phase) == "Stable"
    assert world.status.stable is not None
    assert world.status.stable.version == "2"
    assert world.did(RememberStable) == [RememberStable("2")]


def test_the_baseline_is_retired_at_full_traffic_once_it_is_quiet() -> None:
    world = at_full()
    baseline = Backend(revision("1"), Track.BASELINE)
    world.turn(2)
    assert baseline in world.seen.workloads
    world.see(quiet=frozenset({baseline}))
    world.turn(2)
    assert baseline not in world.seen.workloads


def test_the_previous_version_is_retired_after_its_warm_time() -> None:
    world = at_full()
    world.later(61)
    world.turn(2)
    world.later(24 * 3600 + 1)
    world.see(quiet=frozenset({Backend(revision("1")), Backend(revision("1"), Track.BASELINE)}))
    world.turn(3)
    assert Backend(revision("1")) not in world.seen.workloads
    assert world.weights == {Backend(revision("2")): 100}


def test_a_failure_drains_and_marks_in_the_first_action() -> None:
    world = canary_at_10()
    world.judged(Verdict.FAIL)
    first = world.turn().actions[0]
    assert isinstance(first, ShiftTraffic)
    assert first.weights[Backend(revision("2"))] == 0
    assert first.weights[Backend(revision("1"))] == 100
    assert [mark.version for mark in first.marks] == ["2"]


def test_the_weight_in_status_is_the_declared_versions() -> None:
    world = canary_at_10()
    assert world.status.weight == 10
    world.judged(Verdict.FAIL)
    world.turn()
    assert world.status.weight == 0
    assert rolled_back().status.weight == 100


def test_the_intent_is_in_status_before_anything_is_committed() -> None:
    world = canary_at_10()
    world.judged(Verdict.FAIL)
    world.turn()
    assert not world.did(CommitRollback)
    assert world.status.rollback is not None
    assert world.status.rollback.id
    world.turn(2)
    assert len({action.rollback.id for action in world.did(CommitRollback)}) == 1


def test_without_a_known_commit_the_rollback_is_drained_first_and_located_then() -> None:
    world = bumped_to_2()
    world.turn()
    world.judged(Verdict.FAIL)
    world.turn(3)
    assert world.weight("2") == 0
    assert not world.did(CommitRollback)
    assert world.did(LocateRollback)
    world.see(write_back=Located("id-1", "abc"))
    world.turn(2)
    assert world.did(CommitRollback)[0].rollback.id == "id-1"


def test_a_controller_killed_after_the_drain_takes_the_rollback_up_from_the_mark() -> None:
    world = canary_at_10()
    world.judged(Verdict.FAIL)
    before = world.status
    world.turn()
    world.status = before
    world.see(evidence=None)
    world.turn()
    assert world.weight("2") == 0
    assert world.status.rollback is not None
    assert world.status.rollback.reason == "errors 9.0 % against 0.1 %"
    assert world.status.rollback.evidence == ("signal=errors verdict=Fail",)


def test_a_rollback_ends_when_argo_cd_has_synced_it() -> None:
    world = rolled_back()
    assert (world.status.phase, world.status.stalled) == (Phase.ROLLED_BACK, "")
    assert world.status.rollback is not None
    assert world.status.rollback.state is RollbackState.DONE
    assert world.status.message.startswith("Rolled back from version 2 to 1: errors 9.0 %")


def test_the_failed_versions_pods_go_once_they_are_quiet() -> None:
    world = rolled_back()
    assert Backend(revision("2")) in world.seen.workloads
    world.see(quiet=frozenset({Backend(revision("2")), Backend(revision("1"), Track.BASELINE)}))
    world.turn(2)
    assert set(world.seen.workloads) == {Backend(revision("1"))}


def test_argo_cd_is_asked_again_until_it_has_synced_and_people_are_told_after_five_minutes() -> None:
    world = canary_at_10()
    world.judged(Verdict.FAIL)
    world.turn(2)
    world.see(write_back=Written("def456", world.now), sync=NotSynced("the Application does not sync by itself"))
    world.turn(3)
    assert world.did(RefreshApplication)
    assert world.status.stalled == ""
    world.later(301)
    world.turn()
    assert world.status.stalled == "AwaitingSync"
    assert "does not sync by itself" in world.status.message


def test_a_refused_push_is_stalled_with_traffic_safe() -> None:
    world = canary_at_10()
    world.judged(Verdict.FAIL)
    world.turn(2)
    world.see(write_back=WriteRefused("the branch main is protected"))
    world.turn(2)
    assert (world.status.phase, world.status.stalled) == (Phase.ROLLING_BACK, "WriteBackRefused")
    assert "the branch main is protected" in world.status.message
    assert world.weight("1") == 100


def test_what_the_policy_forbids_is_not_started_and_stable_serves() -> None:
    world = bumped_to_2()
    world.see(violations=("version 2 has no digest",))
    world.turn(2)
    assert (world.status.phase, world.status.stalled) == (Phase.DEGRADED, "PolicyViolated")
    assert world.status.message == "Version 2 is not started: version 2 has no digest"
    assert Backend(revision("2")) not in world.seen.workloads
    assert world.weight("1") == 100
    world.see(violations=())
    world.turn()
    assert Backend(revision("2")) in world.seen.workloads


def test_what_the_policy_forbids_by_now_is_not_stopped_under_way() -> None:
    world = canary_at_10()
    world.see(violations=("version 2 has no digest",))
    world.turn()
    assert world.weight("2") == 10


def test_a_forbidden_version_takes_the_place_of_a_canary_and_gets_no_traffic() -> None:
    world = canary_at_10()
    world.desired = declared("3", generation=5)
    world.see(violations=("version 3 has no digest",))
    world.turn(2)
    assert (world.weight("1"), world.weight("2"), world.weight("3")) == (100, 0, 0)
    assert world.status.stalled == "PolicyViolated"


PULL_REQUEST = "https://git.example.com/models/gitops/pulls/7"


def awaiting_merge() -> World:
    world = canary_at_10()
    world.judged(Verdict.FAIL)
    world.turn(2)
    world.see(write_back=Proposed(PULL_REQUEST, world.now, "it needs 1 approval"))
    world.turn(2)
    return world


def test_a_pull_request_is_waited_for_with_traffic_safe_and_people_are_told() -> None:
    world = awaiting_merge()
    assert (world.status.phase, world.status.stalled) == (Phase.ROLLING_BACK, "AwaitingMerge")
    assert f"until {PULL_REQUEST} is merged: it needs 1 approval" in world.status.message
    assert (world.weight("1"), world.weight("2")) == (100, 0)
    assert world.status.rollback is not None
    assert (world.status.rollback.state, world.status.rollback.pull_request) == (
        RollbackState.AWAITING_MERGE,
        PULL_REQUEST,
    )
    assert len([action for action in world.done if getattr(action, "reason", "") == "RollbackProposed"]) == 1


def test_what_a_pull_request_waits_for_is_still_told_after_a_restart() -> None:
    world = awaiting_merge()
    world.see(write_back=Unwritten())
    decision = world.turn()
    assert "it needs 1 approval" in world.status.message
    assert any(isinstance(action, CommitRollback) for action in decision.actions)


def test_a_merged_pull_request_is_followed_like_a_commit() -> None:
    world = awaiting_merge()
    world.see(write_back=Written("def456", world.now))
    world.turn(2)
    assert world.status.rollback is not None
    assert (world.status.rollback.state, world.status.rollback.commit) == (RollbackState.AWAITING_SYNC, "def456")
    world.see(sync=Synced(world.now))
    world.turn()
    assert world.status.rollback.state is RollbackState.DONE
    assert world.status.rollback.pull_request == PULL_REQUEST


def test_a_pull_request_that_a_person_closed_stalls_and_is_taken_up_when_it_is_opened_again() -> None:
    world = awaiting_merge()
    world.see(write_back=WriteRefused(f"{PULL_REQUEST} was closed without a merge"))
    world.turn()
    assert (world.status.phase, world.status.stalled) == (Phase.ROLLING_BACK, "WriteBackRefused")
    world.see(write_back=Proposed(PULL_REQUEST, world.now, "it needs 1 approval"))
    world.turn()
    assert world.status.stalled == "AwaitingMerge"


def test_a_later_rollback_withdraws_the_pull_request_of_the_former() -> None:
    world = awaiting_merge()
    former = world.status.rollback
    world.desired = declared("3", generation=5)
    world.turn(3)
    world.judged(Verdict.PASS)
    world.turn(2)
    world.judged(Verdict.FAIL)
    world.turn()
    assert [action.rollback for action in world.done if isinstance(action, WithdrawRollback)] == [former]


Edit = Callable[[World], None]


def _old_manifest(world: World) -> None:
    world.desired = declared("2", generation=9)


def _steps_edited(world: World) -> None:
    world.desired = declared("2", generation=9, steps=[{"weight": 100}])


def _new_template(world: World) -> None:
    world.desired = declared("2", generation=9, config={"servingThreshold": "0.9"})


def _status_lost(world: World) -> None:
    world.desired = declared("2", generation=9)
    world.status = replace(world.status, rejected=(), rollback=None)


def _route_deleted(world: World) -> None:
    world.desired = declared("2", generation=9)
    world.see(route=None)


def _marks_removed(world: World) -> None:
    world.desired = declared("2", generation=9)
    assert world.seen.route is not None
    world.see(route=replace(world.seen.route, marks=()))


@pytest.mark.parametrize(
    "edit", [_old_manifest, _steps_edited, _new_template, _status_lost, _route_deleted, _marks_removed]
)
def test_a_rejected_version_gets_no_traffic_again_whatever_happens(edit: Edit) -> None:
    world = rolled_back()
    edit(world)
    world.later(3600)
    for _ in range(5):
        world.turn()
        world.later(60)
        assert world.weight("1") == 100
        assert world.weight("2") == 0
    assert (world.status.phase, world.status.stalled) == (Phase.DEGRADED, "VersionRejected")


def test_a_commit_that_names_the_rollback_lets_the_version_try_again() -> None:
    world = rolled_back()
    assert world.status.rollback is not None
    model = {
        "retryOf": world.status.rollback.id,
        "rejectedVersions": [{"version": "2", "rollbackID": world.status.rollback.id}],
    }
    world.desired = declared("2", generation=4, model=model)
    world.turn(2)
    assert world.status.phase is Phase.STARTING
    assert world.seen.route is not None
    assert world.seen.route.marks == ()


def test_a_retry_that_fails_again_is_rejected_again() -> None:
    world = rolled_back()
    assert world.status.rollback is not None
    first = world.status.rollback.id
    world.desired = declared("2", generation=4, model={"retryOf": first})
    world.see(write_back=Unwritten(), sync=NotSynced())
    world.done.clear()
    world.turn()
    world.judged(Verdict.NO_DATA)
    world.turn(2)
    world.judged(Verdict.FAIL)
    world.turn(3)
    assert world.status.rollback.id != first
    assert (world.status.phase, world.weight("2")) == (Phase.ROLLING_BACK, 0)
    assert {action.rollback.id for action in world.did(CommitRollback)} == {world.status.rollback.id}


def test_a_newer_version_in_mid_rollout_starts_over_from_stable_and_rejects_nothing() -> None:
    world = canary_at_10()
    world.desired = declared("3", generation=3)
    world.turn()
    assert world.weight("2") == 0
    assert world.status.rollout is not None
    assert world.status.rollout.version == "3"
    assert world.status.rejected == ()


def test_a_newer_version_during_a_rollback_is_followed_while_the_rollback_goes_on() -> None:
    world = canary_at_10()
    world.judged(Verdict.FAIL)
    world.turn(2)
    world.desired = declared("3", generation=3)
    world.turn(2)
    assert world.status.rollout is not None
    assert world.status.rollout.version == "3"
    assert world.did(CommitRollback)


def test_git_going_back_to_stable_by_itself_ends_the_rollout_without_a_rejection() -> None:
    world = canary_at_10()
    world.desired = declared("1", generation=3)
    world.turn()
    assert (world.status.phase, world.weight("2"), world.status.rejected) == (Phase.STABLE, 0, ())


def test_a_persons_commit_back_to_the_warm_previous_version_moves_at_once() -> None:
    world = at_full()
    world.later(61)
    world.turn(2)
    world.desired = declared("1", generation=3)
    world.turn()
    assert world.weight("1") == 100
    assert world.status.stable is not None
    assert world.status.stable.version == "1"
    assert world.did(RememberStable)[-1] == RememberStable("1")


def test_a_rollback_that_git_has_overtaken_waits_for_no_commit() -> None:
    world = canary_at_10()
    world.judged(Verdict.FAIL)
    world.turn(2)
    world.see(write_back=Written("", world.now, "Git has moved on to version 3"))
    world.turn()
    assert world.status.rollback is not None
    assert world.status.rollback.state is RollbackState.DONE


def test_another_configuration_of_the_same_version_that_fails_changes_nothing_in_git() -> None:
    world = serving_1()
    world.desired = declared("1", generation=2, config={"servingThreshold": "0.9"})
    world.turn()
    world.judged(Verdict.NO_DATA)
    world.turn(2)
    world.judged(Verdict.FAIL)
    world.turn(3)
    assert not world.did(CommitRollback)
    assert (world.status.phase, world.status.stalled) == (Phase.DEGRADED, "ConfigurationRejected")
    assert world.status.message.startswith("The new configuration of version 1 failed: errors 9.0 %")
    assert world.weight("1") == 100


def test_an_approval_step_waits_for_the_annotation_that_names_rollout_and_step() -> None:
    steps = [{"weight": 10}, {"approval": {}}, {"weight": 100}]
    world = canary_at_10(steps=steps)
    world.judged(Verdict.PASS)
    world.turn(3)
    assert world.status.phase is Phase.AWAITING_APPROVAL
    world.desired = declared("2", generation=2, steps=steps, annotations={APPROVE: "2-2/1"})
    world.turn(2)
    assert world.status.phase is Phase.AWAITING_APPROVAL
    world.desired = declared("2", generation=2, steps=steps, annotations={APPROVE: "2-2/2"})
    world.turn(3)
    assert world.weight("2") == 100


def test_a_person_may_skip_what_is_left_of_a_step_once() -> None:
    world = canary_at_10()
    assert world.status.rollout is not None
    world.desired = declared("2", generation=2, annotations={SKIP: f"{world.status.rollout.id}/1"})
    world.turn(2)
    world.judged(Verdict.NO_DATA)
    world.turn(3)
    assert (world.weight("2"), world.status.step) == (50, "2/3")


def test_skipping_saves_no_version_that_failed() -> None:
    world = canary_at_10()
    assert world.status.rollout is not None
    world.desired = declared("2", generation=2, annotations={SKIP: f"{world.status.rollout.id}/1"})
    world.judged(Verdict.FAIL)
    world.turn()
    assert world.weight("2") == 0


def test_a_paused_rollout_stays_and_is_judged_all_the_same() -> None:
    world = canary_at_10()
    world.desired = declared("2", generation=2, annotations={PAUSE: "2-2"})
    world.judged(Verdict.PASS)
    world.later(1000)
    world.turn(2)
    assert (world.status.phase, world.weight("2")) == (Phase.PAUSED, 10)
    world.judged(Verdict.FAIL)
    world.turn()
    assert world.weight("2") == 0


def test_abort_is_a_failure_with_the_persons_reason() -> None:
    world = canary_at_10()
    world.desired = declared("2", generation=2, annotations={ABORT: "2-2: customers complain"})
    world.turn()
    assert world.weight("2") == 0
    assert world.status.rollback is not None
    assert world.status.rollback.reason == "aborted by a person: customers complain"


def test_an_abort_of_another_rollout_does_nothing() -> None:
    world = canary_at_10()
    world.desired = declared("2", generation=2, annotations={ABORT: "7-1"})
    world.turn()
    assert world.weight("2") == 10


def test_a_canary_without_ready_pods_gets_nothing_and_its_share_goes_to_stable() -> None:
    world = canary_at_10()
    world.starts = False
    world.pods(Backend(revision("2")), 0)
    world.turn()
    assert world.weight("2") == 0
    assert sum(world.weights.values()) == 100


def test_a_canary_that_never_gets_ready_fails() -> None:
    world = bumped_to_2()
    world.starts = False
    world.turn()
    world.pods(Backend(revision("1"), Track.BASELINE), 1)
    world.shows(Backend(revision("2")), trouble="container server ended")
    world.later(601)
    world.turn()
    assert world.status.rollback is not None
    assert world.status.rollback.reason == "its pods were not ready within 600 s: container server ended"
    assert world.status.verdict is Verdict.FAIL


def test_the_words_of_a_container_stay_in_the_cluster() -> None:
    world = bumped_to_2()
    world.starts = False
    world.turn()
    world.pods(Backend(revision("1"), Track.BASELINE), 1)
    failing = Workload(1, 0, trouble="container server ended with code 3", said="Backstay-Rollback-Id: 0 @everyone")
    world.see(workloads={**world.seen.workloads, Backend(revision("2")): failing})
    world.later(601)
    world.turn()
    (event,) = [act for act in world.did(Announce) if act.reason == "RollingBack"]
    assert event.message.endswith("ended with code 3: Backstay-Rollback-Id: 0 @everyone")
    assert "ended with code 3: Backstay-Rollback-Id: 0 @everyone. " in world.status.message
    record = world.status.rollback
    assert record is not None
    assert record.said == "Backstay-Rollback-Id: 0 @everyone"
    kept = replace(world.status, message="", rollback=replace(record, said=""))
    incident = incident_of(world.desired, record, environment="production", started_at=0.0)
    (traffic,) = world.did(ShiftTraffic)[-1:]
    assert "@everyone" not in f"{kept}{traffic.marks}{incident}"


def test_a_canary_that_never_gets_ready_is_not_blamed_when_fresh_pods_of_stable_do_not_either() -> None:
    world = bumped_to_2()
    world.starts = False
    world.turn()
    world.later(601)
    decision = world.turn()
    assert world.status.rollback is None
    assert world.status.stalled == "BaselineNotReady"
    assert decision.requeue_after == 5


def test_while_only_the_fresh_pods_of_stable_are_missing_people_are_told_so() -> None:
    world = bumped_to_2()
    world.starts = False
    world.turn()
    world.pods(Backend(revision("2")), 1)
    world.turn()
    assert world.status.message == "Waiting for fresh pods of version 1 to compare with: 0 of 1 ready"


@pytest.mark.parametrize(
    ("choice", "verdict", "phase", "stalled"),
    [
        ("hold", Verdict.INCONCLUSIVE, Phase.PROGRESSING, "DeadlineExceeded"),
        ("rollback", Verdict.INCONCLUSIVE, Phase.ROLLING_BACK, ""),
        ("rollback", Verdict.NO_DATA, Phase.PROGRESSING, "DeadlineExceeded"),
        ("promote", Verdict.NO_DATA, Phase.PROGRESSING, "DeadlineExceeded"),
    ],
)
def test_the_deadline_applies_on_inconclusive_to_inconclusive_alone(
    choice: str, verdict: Verdict, phase: Phase, stalled: str
) -> None:
    world = canary_at_10(rollout={"onInconclusive": choice})
    world.judged(verdict, requests=1)
    world.later(12 * 3600 + 1)
    world.turn()
    assert (world.status.phase, world.status.stalled) == (phase, stalled)


def test_a_deadline_rollback_rejects_nothing_for_good() -> None:
    world = canary_at_10(rollout={"onInconclusive": "rollback"})
    world.judged(Verdict.INCONCLUSIVE, requests=1)
    world.later(12 * 3600 + 1)
    world.turn(2)
    world.see(write_back=Written("def456", world.now))
    world.turn()
    world.see(sync=Synced(world.now))
    world.desired = declared("1", generation=3)
    world.turn(3)
    assert world.status.rejected == ()
    assert world.seen.route is not None
    assert world.seen.route.marks == ()


def test_time_without_prometheus_does_not_count_for_the_deadline() -> None:
    world = canary_at_10()
    world.judged(Verdict.UNAVAILABLE)
    world.turn()
    world.later(13 * 3600)
    world.turn()
    world.judged(Verdict.INCONCLUSIVE, requests=1)
    world.turn()
    assert world.status.stalled == ""
    assert world.weight("2") == 10


def test_nothing_is_decided_twice_when_nothing_changed() -> None:
    world = canary_at_10()
    world.turn(2)
    before = world.status
    decision = world.turn()
    assert not [a for a in decision.actions if isinstance(a, ShiftTraffic | Retire | CommitRollback)]
    assert world.status == before


def test_a_first_version_that_fails_keeps_serving_and_can_be_lifted_by_its_id() -> None:
    world = World(declared("1"))
    world.turn(3)
    world.judged(Verdict.FAIL, sentence="error-limit 40.0 % of 100 requests, limit 5 %")
    world.turn(2)
    assert (world.status.phase, world.status.stalled, world.weight("1")) == (Phase.DEGRADED, "NoStableVersion", 100)
    identity = world.status.rejected[0].rollback_id
    assert len(identity) == 16
    assert int(identity, 16)
    world.see(evidence=None)
    world.desired = declared("1", generation=2, model={"retryOf": identity})
    world.turn(2)
    assert world.status.rollout is not None


def test_a_route_that_is_not_the_declared_one_is_written_again() -> None:
    world = serving_1()
    assert world.seen.route is not None
    world.see(route=replace(world.seen.route, as_declared=False))
    world.turn()
    assert len(world.did(ShiftTraffic)) == 1


def test_editing_steps_in_mid_rollout_changes_nothing_of_it() -> None:
    world = canary_at_10()
    world.desired = declared("2", generation=3, steps=[{"weight": 90}, {"weight": 100}])
    world.turn(3)
    assert world.weight("2") == 10


def _plan() -> Plan:
    return declared("1").plan


def test_a_revision_is_the_same_for_ever() -> None:
    assert _plan().revision == "d54da21764"
    assert declared("1", rollout={"deadline": "1h"}).plan.revision == _plan().revision
    assert declared("1", config={"servingThreshold": "0.9"}).plan.revision != _plan().revision
    assert declared("1", model={"digest": "sha256:" + "0" * 64}).plan.revision != _plan().revision


def test_the_key_reads_as_people_write_it() -> None:
    assert str(Key("prod", "fraud")) == "prod/fraud"
