"""What must hold whatever happens in whatever order: random histories of commits, failures, restarts, lost objects."""

from dataclasses import replace

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from test_decide import STEPS, World, declared, serving_1

from backstay.domain.actions import CommitRollback
from backstay.domain.observed import (
    Backend,
    NeverServed,
    NotRecalled,
    Recall,
    RecallUnavailable,
    Synced,
    Track,
    Written,
)
from backstay.domain.resource import WeightStep
from backstay.domain.status import RollbackState, Status, Verdict

VERSIONS = st.sampled_from(["1", "2", "3"])


class Histories(RuleBasedStateMachine):
    """Drive a world at random."""

    world: World

    @initialize()
    def begin(self) -> None:
        self.world = serving_1()
        self.world.see(set_by="abc")
        self.generation = 1
        self.commits: set[tuple[str, str]] = set()

    def turn(self) -> None:
        before = dict(self.world.seen.route.weights) if self.world.seen.route else {}
        rejected = {r.revision for r in self.world.status.rejected if r.revision}
        ready = {backend.revision for backend, workload in self.world.seen.workloads.items() if workload.ready}
        decision = self.world.turn()
        for action in decision.actions:
            if isinstance(action, CommitRollback):
                self.commits.add((action.rollback.rollout, action.rollback.id))
        self.check_step(before)
        self.check_rejected(rejected | {r.revision for r in self.world.status.rejected if r.revision}, ready)

    def check_step(self, before: dict[Backend, int]) -> None:
        """An unproven revision never exceeds its step's weight."""
        rollout = self.world.status.rollout
        if rollout is None or rollout.rescued_at or self.world.seen.route is None:
            return
        plan = self.world.seen.plans[rollout.revision]
        steps = [s.weight for s in plan.rollout.steps[: rollout.step + 1] if isinstance(s, WeightStep)]
        weight = self.world.weights.get(Backend(rollout.revision), 0)
        assert weight <= max(steps, default=0), (weight, before)

    def check_rejected(self, rejected: set[str], ready: set[str]) -> None:
        """A rejected revision gets nothing while the stable one has ready pods, its own or those of its baseline."""
        stable = self.world.status.stable
        if stable is None or stable.revision not in ready or self.world.seen.route is None:
            return
        for revision in rejected - {stable.revision}:
            assert not self.world.seen.route.feeds(Backend(revision)), revision

    @rule(version=VERSIONS, shadowed=st.booleans())
    def commit(self, version: str, *, shadowed: bool) -> None:
        self.generation += 1
        steps = [{"shadow": {}, "minDuration": "30s"}, *STEPS] if shadowed else STEPS
        self.world.desired = declared(version, generation=self.generation, steps=steps)
        self.turn()

    @rule(seconds=st.sampled_from([1, 31, 601, 90000]))
    def wait(self, seconds: float) -> None:
        self.world.later(seconds)
        self.turn()

    @precondition(lambda self: self.world.status.rollout is not None)
    @rule(verdict=st.sampled_from(Verdict))
    def judge(self, verdict: Verdict) -> None:
        self.world.judged(verdict)
        self.turn()

    @rule(up=st.booleans(), version=VERSIONS)
    def pods(self, version: str, *, up: bool) -> None:
        self.world.starts = up
        backend = Backend(declared(version).plan.revision)
        if backend in self.world.seen.workloads:
            self.world.pods(backend, 4 if up else 0)
        self.turn()

    @rule()
    def restart_after_the_route_was_written(self) -> None:
        """The controller dies after its first actions: the status it meant to write is lost."""
        before = self.world.status
        self.turn()
        self.world.status = before
        self.world.see(evidence=None)
        self.turn()

    @rule(recall=st.sampled_from([NotRecalled(), NeverServed(), RecallUnavailable("MLflow does not answer")]))
    def status_lost(self, recall: Recall) -> None:
        """Registry and Git know nothing, or do not answer; the cluster's own objects are still there."""
        self.world.status = Status()
        self.world.see(recall=recall, evidence=None)
        self.turn()
        self.world.see(recall=NeverServed())
        self.turn()

    @invariant()
    def nothing_is_taken_for_a_first_version_where_one_has_served(self) -> None:
        assert self.world.status.rollout is None or not self.world.status.rollout.first

    @rule()
    def route_deleted(self) -> None:
        self.world.see(route=None)
        self.turn()

    @precondition(lambda self: self.world.status.rollback is not None)
    @rule()
    def git_and_argo_do_their_part(self) -> None:
        record = self.world.status.rollback
        assert record is not None
        if record.state is RollbackState.COMMITTING:
            self.world.see(write_back=Written("fedcba", self.world.now))
        elif record.state is RollbackState.AWAITING_SYNC:
            self.world.see(sync=Synced(self.world.now))
        self.turn()
        self.world.see(write_back=type(self.world.seen)().write_back, sync=type(self.world.seen)().sync)

    @rule()
    def quiet(self) -> None:
        self.world.see(quiet=frozenset(self.world.seen.workloads))
        self.turn()
        self.world.see(quiet=frozenset())

    @invariant()
    def weights_total_100(self) -> None:
        if self.world.seen.route is not None:
            assert sum(self.world.weights.values()) == 100

    @invariant()
    def traffic_goes_to_ready_pods_where_stable_is_ready(self) -> None:
        stable = self.world.status.stable
        if self.world.seen.route is None or stable is None or not self.world.seen.ready(Backend(stable.revision)):
            return
        settled = replace(self.world)
        settled.turn()
        assert settled.seen.route is not None
        for backend in {*settled.weights, *settled.seen.route.copies}:
            assert not settled.seen.route.feeds(backend) or settled.seen.ready(backend), backend

    @invariant()
    def copies_go_only_where_the_route_can_be_drained(self) -> None:
        if self.world.seen.route is not None:
            assert set(self.world.seen.route.copies) <= set(self.world.weights)

    @invariant()
    def one_rollback_commit_for_each_failed_rollout(self) -> None:
        rollouts = [rollout for rollout, _ in self.commits]
        assert len(rollouts) == len(set(rollouts))

    @invariant()
    def the_status_survives_being_written_and_read(self) -> None:
        status = self.world.status
        assert status.to_dict() == type(status).of({**status.to_dict()}).to_dict()

    @invariant()
    def the_baseline_serves_beside_a_canary_or_in_place_of_a_stable_revision_that_is_down(self) -> None:
        stable = self.world.status.stable
        if self.world.seen.route is None or stable is None or not self.world.seen.ready(Backend(stable.revision)):
            return
        settled = replace(self.world)
        settled.turn()
        if settled.status.rollout is None:
            assert not settled.weights.get(Backend(stable.revision, Track.BASELINE), 0)


TestHistories = Histories.TestCase
TestHistories.settings = settings(max_examples=150, stateful_step_count=30, deadline=None)
