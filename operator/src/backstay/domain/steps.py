"""The steps of one live rollout: which share the canary gets, and when it goes on to the next."""

from dataclasses import dataclass, replace
from enum import Enum

from backstay.domain import deadline, restarts, rollback, startup
from backstay.domain.actions import EnsureWorkload, KeepPlan, RememberStable
from backstay.domain.observed import Backend, Evidence, Track
from backstay.domain.resource import APPROVE, PAUSE, SKIP, ApprovalStep, Plan, ShadowStep, Step, WeightStep
from backstay.domain.rollback import Failure
from backstay.domain.rules import OnInconclusive
from backstay.domain.split import FULL, pods, split
from backstay.domain.startup import Missing
from backstay.domain.status import Ended, Phase, RolloutState, Served, Verdict
from backstay.domain.turn import Turn

# How long a ready canary waits for Prometheus to see its pods before it gets traffic all the same: intervals, and
# seconds on top.
_MEASURE_INTERVALS = 6
_MEASURE_AT_LEAST = 30.0


@dataclass(frozen=True, slots=True)
class _Share:
    """What the canary gets: live requests, or copies of requests, in percent."""

    weight: int = 0
    copies: int = 0

    def __str__(self) -> str:
        return f"copies of {self.copies} % of the requests" if self.copies else f"{self.weight} % of the traffic"


class _Gate(Enum):
    """Whether a step whose time is up may end."""

    OPEN = "open"
    WAIT = "wait"
    FAILED = "failed"


class StepMachine:
    """One look at a live rollout."""

    def __init__(self, turn: Turn, rollout: RolloutState, plan: Plan) -> None:
        self.turn = turn
        self.rollout = rollout
        self.plan = plan
        self.steps = (self._bake(),) if rollout.alone else plan.rollout.steps
        self.index = min(rollout.step, len(self.steps) - 1)
        self.stable = turn.status.stable.revision if turn.status.stable else ""
        self.canary = Backend(rollout.revision)
        self.baseline = Backend(self.stable, Track.BASELINE)
        self.evidence = evidence_of(turn, rollout)

    def go(self) -> None:
        """Decide what to do at this step, and write it on the turn's sheet."""
        step = self.steps[self.index]
        share = self._share_of(step)
        self.turn.note(step=f"{self.index + 1}/{len(self.steps)}")
        if self._stable_comes_first():
            return
        # Whatever is ready serves at once where the stable version does not.
        begun = self.rollout.step_since or self.rollout.rescued_at
        carried = share if begun else self._carried(share)
        self._provide(share, carried)
        if self.rollout.step_since and not self.turn.observed.ready(self.canary):
            # Its pods died: the step begins anew when they are back, or fails like pods that never came.
            self.rollout = replace(self.rollout, step_since=0.0, ready_since=0.0, ramp_since=self.turn.now)
            self.turn.note(rollout=self.rollout)
        if self.rollout.step_since:
            self._serve(share)
            self._hold(step, share)
        else:
            self._serve(carried)
            self._ramp(share, carried)

    def _stable_comes_first(self) -> bool:
        """Start nothing beside a stable version that was only just recalled and does not serve yet.

        Its pods may be broken, so half of the time that the canary's pods have is the limit.
        """
        turn, stable = self.turn, self.turn.status.stable
        left = self.plan.rollout.progress_deadline / 2 - (turn.now - self.rollout.started_at)
        if stable is None or turn.observed.route is not None or turn.observed.ready(Backend(self.stable)) or left <= 0:
            return False
        turn.say(Phase.STARTING, f"Waiting for pods of version {stable.version}, which was stable here before")
        turn.wake_in(left)
        return True

    def _bake(self) -> WeightStep:
        """What has nothing to be compared with takes all traffic for the last step's time."""
        last = self.plan.rollout.steps[-1]
        return WeightStep(FULL, last.min_duration if isinstance(last, WeightStep) else 0.0)

    def _share_of(self, step: Step) -> _Share:
        match step:
            case WeightStep(weight):
                return _Share(weight)
            case ShadowStep(percent):
                return _Share(copies=percent)
            case ApprovalStep():
                return self._reached()

    def _reached(self) -> _Share:
        """Return what the last step before this one gave, approvals left out."""
        before = [step for step in self.steps[: self.index] if not isinstance(step, ApprovalStep)]
        return self._share_of(before[-1]) if before else _Share()

    def _carried(self, share: _Share) -> _Share:
        """Return what the canary may have before its step begins: as before, or what the route carries for the step.

        The latter is so when the controller ended after the route's update and before it could remember the step.
        """
        route = self.turn.observed.route
        carried = _Share(route.weights.get(self.canary, 0), route.copies.get(self.canary, 0)) if route else None
        return share if carried == share else self._reached()

    def _fresh(self, share: _Share) -> bool:
        return self.plan.rollout.baseline and not self.rollout.alone and share.weight < FULL

    def _provide(self, share: _Share, carried: _Share) -> None:
        """Ask for the pods that the share needs, and for as many fresh ones of the stable revision beside them.

        Copies of all requests take more pods than the live ones of the next step, and take them until that begins.
        """
        turn = self.turn
        turn.keep.add(self.canary)
        needed = max(self._needed(share), self._needed(carried))
        turn.act(EnsureWorkload(self.canary, self.plan, needed))
        if self.canary.revision not in turn.observed.plans:
            turn.act(KeepPlan(self.plan))
        stable_plan = turn.plan_for(turn.status.stable) if turn.status.stable else None
        if stable_plan is not None and self._fresh(share):
            turn.keep.add(self.baseline)
            turn.act(EnsureWorkload(self.baseline, stable_plan, needed))

    def _needed(self, share: _Share) -> int:
        return pods(self.turn.desired.replicas, max(share.weight, share.copies))

    def _wanted(self, share: _Share) -> list[Backend]:
        return [self.canary, self.baseline] if self._fresh(share) else [self.canary]

    def _serve(self, share: _Share) -> None:
        observed = self.turn.observed
        self.turn.live = split(
            observed,
            stable=self.stable,
            canary=self.rollout.revision,
            weight=share.weight,
            baseline=self._fresh(share),
        )
        # The fresh baseline answers the same copies as the canary.
        ready = [backend for backend in self._wanted(share) if observed.ready(backend)]
        self.turn.copies = dict.fromkeys(ready, share.copies) if share.copies and self.canary in ready else {}

    def _ramp(self, share: _Share, carried: _Share) -> None:
        """Wait until enough pods are ready, and seen by Prometheus, to take the step's share."""
        turn, version = self.turn, self.rollout.version
        needed = self._needed(share)
        short = [backend for backend in self._wanted(share) if turn.observed.ready(backend) < needed]
        phase = Phase.STARTING if self.index == 0 else Phase.PROGRESSING
        if short:
            held = self._paused() or self._away()
            self.rollout = startup.wait(turn, self.rollout, self.plan, Missing(phase, tuple(short), needed, held=held))
            return
        if not self.rollout.ready_since:
            self.rollout = replace(self.rollout, ready_since=turn.now)
            turn.note(rollout=self.rollout)
        self.rollout = deadline.leave_out(turn, self.rollout, held=self._paused() or self._away())
        if self._paused():
            turn.say(Phase.PAUSED, f"Version {version} is paused with {carried}")
            return
        if not self._measured():
            why = "waiting for Prometheus to see its pods"
            if self.evidence is not None and self._away():
                why = f"{self.evidence.sentence}; holding until it answers"
            turn.say(phase, f"Version {version} is ready; {why}")
            turn.wake_in(self._unmeasured_until() - turn.now)
            return
        self._serve(share)
        if turn.live is None:
            turn.say(
                phase, f"Version {version} is ready; waiting for pods of the stable version", stalled="StableNotReady"
            )
            return
        self.rollout = replace(self.rollout, step_since=turn.now)
        turn.note(rollout=self.rollout)
        self._hold(self.steps[self.index], share)

    def _paused(self) -> bool:
        return self.turn.desired.annotations.get(PAUSE) == self.rollout.id

    def _away(self) -> bool:
        return self.evidence is not None and self.evidence.verdict is Verdict.UNAVAILABLE

    def _measured(self) -> bool:
        """Tell whether more traffic would be judged; servers without metrics get it all the same after a while."""
        if self.rollout.alone:
            return True
        if self._away():
            return False
        if self.evidence is not None and self.evidence.measured:
            return True
        return self.turn.now > self._unmeasured_until()

    def _unmeasured_until(self) -> float:
        return self.rollout.ready_since + _MEASURE_INTERVALS * self.plan.analysis.interval + _MEASURE_AT_LEAST

    def _hold(self, step: Step, share: _Share) -> None:
        """Stay at the step until it may end."""
        turn = self.turn
        if not self.rollout.alone and not self.rollout.traffic_since and (share.weight or share.copies):
            self.rollout = restarts.begin(turn, self.rollout, self.plan)
            turn.note(rollout=self.rollout)
        paused = self._paused()
        held = paused or self._away() or isinstance(step, ApprovalStep)
        self.rollout = deadline.leave_out(turn, self.rollout, held=held)
        if self._late(share):
            return
        if paused:
            turn.say(Phase.PAUSED, f"Version {self.rollout.version} is paused with {share}")
            return
        if isinstance(step, ApprovalStep):
            name = f"{self.rollout.id}/{self.index + 1}"
            if turn.desired.annotations.get(APPROVE) == name:
                turn.announce("Approved", f"Version {self.rollout.version} may go on")
                self._next()
                return
            turn.say(
                Phase.AWAITING_APPROVAL,
                f"Version {self.rollout.version} has {share} and waits for approval: annotate with {APPROVE}={name}",
            )
            return
        self._judge(step, share)

    def _judge(self, step: WeightStep | ShadowStep, share: _Share) -> None:
        turn = self.turn
        stay = turn.now - self.rollout.step_since
        requests = self.evidence.requests if self.evidence else 0
        phase = Phase.BAKING if share.weight == FULL else Phase.PROGRESSING
        if turn.desired.annotations.get(SKIP) == f"{self.rollout.id}/{self.index + 1}":
            turn.announce("StepSkipped", f"A person lets version {self.rollout.version} leave {share} early")
            self._next()
            return
        gate, why = self._gate()
        if stay >= step.min_duration and requests >= step.min_requests and gate is _Gate.OPEN:
            self._next()
            return
        progress = f"{min(stay, step.min_duration):.0f} of {step.min_duration:.0f} s"
        if step.min_requests:
            progress += f", {requests} of {step.min_requests}" if requests < step.min_requests else f", {requests}"
            progress += " requests"
        sentence = self.evidence.sentence if self.evidence else ""
        parts = [f"Version {self.rollout.version} gets {share}: {progress}", sentence, why]
        turn.say(phase, "; ".join(part for part in parts if part))
        if stay < step.min_duration:
            turn.wake_in(step.min_duration - stay)

    def _gate(self) -> tuple[_Gate, str]:  # noqa: PLR0911 - one return for each verdict
        """Tell whether the evidence lets the step end; NoData and Unavailable hold, Pass is demanded before 100 %."""
        if self.rollout.alone:
            return self._gate_alone()
        verdict = self.evidence.verdict if self.evidence else Verdict.NO_DATA
        before_full = self.index + 1 < len(self.steps) and self._next_weight() == FULL
        match verdict:
            case Verdict.PASS:
                return _Gate.OPEN, ""
            case Verdict.INCONCLUSIVE if not before_full:
                return _Gate.OPEN, ""
            case Verdict.INCONCLUSIVE:
                return _Gate.WAIT, "the evidence must say Pass before full traffic"
            case Verdict.UNAVAILABLE:
                return _Gate.WAIT, "holding until it answers"
            case Verdict.NO_DATA:
                return _Gate.WAIT, "holding until there is data"
            case Verdict.FAIL:
                return _Gate.FAILED, ""

    def _next_weight(self) -> int:
        return next((s.weight for s in self.steps[self.index + 1 :] if isinstance(s, WeightStep)), FULL)

    def _gate_alone(self) -> tuple[_Gate, str]:
        """Let what is compared with nothing be stable, unless the version that it stands in for is on its way back."""
        stable = self.turn.status.stable
        if stable is None:
            return _Gate.OPEN, ""
        if self.rollout.stable_up_since:
            return _Gate.WAIT, f"version {stable.version} has ready pods again"
        return _Gate.OPEN, f"no pod of version {stable.version} is ready"

    def _next(self) -> None:
        turn = self.turn
        if not self.rollout.alone:
            # Whether the version has crashed must be known before it gets more.
            turn.need_pods()
        if self.index + 1 == len(self.steps):
            self._promote()
            return
        step = self.steps[self.index + 1]
        # An approval step has no weight to wait for: it begins at once.
        since = turn.now if isinstance(step, ApprovalStep) else 0.0
        self.rollout = replace(
            self.rollout, step=self.index + 1, ramp_since=turn.now, ready_since=0.0, step_since=since
        )
        turn.note(rollout=self.rollout)
        doing = "approval" if isinstance(step, ApprovalStep) else f"{self._share_of(step)}"
        turn.announce("StepEnded", f"Version {self.rollout.version} goes on to {doing}")
        turn.say(Phase.PROGRESSING, f"Version {self.rollout.version} goes on to {doing}")
        turn.wake_in(0.0)

    def _promote(self) -> None:
        turn, rollout = self.turn, self.rollout
        former = turn.status.stable
        turn.act(RememberStable(rollout.version))
        turn.note(
            stable=Served(rollout.revision, rollout.version, rollout.digest, since=turn.now),
            previous=replace(former, until=turn.now + turn.desired.rollback.warm_for) if former else None,
            rollout=None,
            analysis={},
            step="",
        )
        sentence = self.evidence.sentence if self.evidence else ""
        turn.record(Ended(rollout.version, "Promoted", rollout.started_at, turn.now, sentence))
        turn.announce("Promoted", f"Version {rollout.version} is stable")
        turn.say(Phase.STABLE, f"Version {rollout.version} is stable")
        turn.keep.update({Backend(rollout.revision)} | ({Backend(former.revision)} if former else set()))
        turn.wake_in(0.0)

    def _late(self, share: _Share) -> bool:
        """Apply the deadline; True when that settles this turn."""
        turn, rollout = self.turn, self.rollout
        if rollout.held_since or rollout.alone:
            return False
        left = self.plan.rollout.deadline - (turn.now - rollout.started_at - rollout.held)
        if left > 0:
            turn.wake_in(left)
            return False
        verdict = self.evidence.verdict if self.evidence else Verdict.NO_DATA
        why = f"the deadline of {self.plan.rollout.deadline:g} s passed"
        choice = self.plan.rollout.on_inconclusive
        if verdict is Verdict.PASS:
            return False
        if verdict is Verdict.INCONCLUSIVE and choice is OnInconclusive.ROLLBACK:
            rollback.begin(turn, rollout, Failure(f"{why} without enough evidence", inconclusive=True))
            return True
        if verdict is Verdict.INCONCLUSIVE and choice is OnInconclusive.PROMOTE:
            self._next()
            return True
        turn.say(
            Phase.PROGRESSING,
            f"Version {rollout.version} stays with {share}: {why} and the evidence says {verdict}",
            stalled="DeadlineExceeded",
        )
        return True


def evidence_of(turn: Turn, rollout: RolloutState) -> Evidence | None:
    """Return what the judge says of this very rollout."""
    evidence = turn.observed.evidence
    return evidence if evidence is not None and evidence.rollout == rollout.id else None
