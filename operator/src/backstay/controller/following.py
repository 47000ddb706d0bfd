"""One model's evidence: readings of raw counters become intervals, intervals the judge's memory.

No I/O: the evidence loop hands in readings and asks for what follows from them.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from backstay.adapters.prometheus import Reading, Sample
from backstay.domain.observed import Backend, Evidence, Track
from backstay.domain.resource import Analysis, Key
from backstay.domain.status import Verdict
from backstay.judge.counters import increment
from backstay.judge.fold import Interval, counted, fold
from backstay.judge.memory import Memory
from backstay.judge.panel import Panel, panel_of
from backstay.judge.verdict import assess

# After this many seconds a backend of which Prometheus knows nothing counts as quiet.
QUIET_WITHOUT_DATA = 30.0


@dataclass(frozen=True, slots=True)
class Trial:
    """The live rollout of a model: what its evidence has to be split by.

    ``changed_at`` is when the route's weights last changed, ``warm_until`` when its newest pods have warmed up (Unix
    seconds); ``opening`` marks the first step with a weight, at whose start canary and fresh baseline had no requests;
    ``pods`` are the ready pods expected in a reading, by backend; ``steps`` are those before full traffic.
    """

    rollout: str
    stable: str
    canary: str
    step: int
    opening: bool
    changed_at: float
    warm_until: float
    baseline: bool
    comparable: bool
    pods: Mapping[Backend, int]
    steps: int = 1


@dataclass(frozen=True, slots=True)
class Interest:
    """What a reconcile wants to know of its model from now on: ``revisions`` are read, ``trial`` is judged."""

    analysis: Analysis
    revisions: frozenset[str]
    trial: Trial | None
    memory: Memory


@dataclass(slots=True)
class Following:
    """A model whose counters are read: because of a live rollout, or because backends are being drained."""

    key: Key
    analysis: Analysis
    since: float
    trial: Trial | None = None
    draining_since: float = 0.0
    memory: Memory = field(default_factory=Memory)
    tick: float = 0.0
    requests: Mapping[Sample, float] = field(default_factory=dict)
    errors: Mapping[Sample, float] = field(default_factory=dict)
    started: bool = False
    unavailable: str = ""
    answered_at: float = 0.0
    seen: Mapping[Backend, int] = field(default_factory=dict)
    quiet_since: dict[Backend, float] = field(default_factory=dict)

    @property
    def panel(self) -> Panel:
        """What is judged."""
        return panel_of(self.analysis)

    def take(self, reading: Reading) -> None:
        """Take in one reading and judge it."""
        interval = self.advance(reading)
        if interval is not None:
            self.memory = fold(self.memory, interval, self.panel)

    def advance(self, reading: Reading) -> Interval | None:
        """Take in one reading; returns the interval to be judged, if it ends one.

        A reading that is not later than the last changes nothing.
        """
        requests = {sample: value for sample, value in reading.requests.items() if sample.key == self.key}
        errors = {sample: reading.errors.get(sample, 0.0) for sample in requests}
        self.unavailable = ""
        if not self.started:
            self.requests, self.errors = requests, errors
            self.started, self.tick = True, reading.at
            self._see(requests)
            return None
        if reading.at <= self.tick:
            return None
        added_requests, added_errors = self._added(self.requests, requests), self._added(self.errors, errors)
        for backend in {sample.backend for sample in requests}:
            if added_requests.get(backend, 0.0) > 0:
                self.quiet_since.pop(backend, None)
            else:
                self.quiet_since.setdefault(backend, self.tick)
        interval = None
        if self.trial is not None:
            interval = self._interval(self.trial, reading.at, added_requests, added_errors)
        self.requests = {**self.requests, **requests}
        self.errors = {**self.errors, **errors}
        self.tick = reading.at
        self._see(requests)
        return interval

    def evidence(self) -> Evidence | None:
        """Say what the judge makes of it, or None while there is no rollout or no reading."""
        trial = self.trial
        if trial is None or not (self.started or self.unavailable):
            return None
        document = self.memory.to_dict(self.panel) if self.memory.tick else {}
        judged = assess(self.memory, self.panel, comparable=trial.comparable)
        requests = int(self.memory.requests) if self.memory.step == trial.step else 0
        measured = bool(trial.pods) and all(self.seen.get(b, 0) >= count for b, count in trial.pods.items())
        if self.unavailable and judged.verdict is not Verdict.FAIL:
            return Evidence(trial.rollout, Verdict.UNAVAILABLE, self.unavailable, (), requests, measured, document)
        return Evidence(trial.rollout, judged.verdict, judged.sentence, judged.details, requests, measured, document)

    def is_quiet(self, backend: Backend, drained_at: float, now: float) -> bool:
        """Tell whether a drained backend's request counters rest, over an interval that began after it was drained."""
        since = self.quiet_since.get(backend)
        if since is not None:
            return since >= drained_at or self.tick - drained_at > 2 * self.analysis.interval
        return backend not in self.seen and now - max(drained_at, self.since) > QUIET_WITHOUT_DATA

    def _added(self, before: Mapping[Sample, float], after: Mapping[Sample, float]) -> dict[Backend, float]:
        """Sum what an interval added, by backend. Pods of the trial were all born in it: they count from zero."""
        born_backends = set(self.trial.pods) - {Backend(self.trial.stable)} if self.trial else set()
        sums: dict[Backend, float] = {}
        for backend in {sample.backend for sample in after}:
            old = {sample.pod: value for sample, value in before.items() if sample.backend == backend}
            new = {sample.pod: value for sample, value in after.items() if sample.backend == backend}
            born = frozenset(new) if backend in born_backends else frozenset()
            sums[backend] = increment(old, new, born=born).value
        return sums

    def _interval(
        self, trial: Trial, tick: float, requests: Mapping[Backend, float], errors: Mapping[Backend, float]
    ) -> Interval:
        canary, own, fresh = Backend(trial.canary), Backend(trial.stable), Backend(trial.stable, Track.BASELINE)
        warm = tick >= trial.warm_until
        mixed = trial.changed_at > self.tick - lateness(self.analysis.interval)
        # Where the route opened in this interval, canary and fresh baseline began together: their shares do not mix.
        together = mixed and trial.opening and trial.baseline
        control = [fresh] if trial.baseline and (together or not warm) else [own, fresh]
        counts = counted(
            errors.get(canary, 0.0),
            sum(errors.get(backend, 0.0) for backend in control),
            requests.get(canary, 0.0),
            sum(requests.get(backend, 0.0) for backend in control),
        )
        # Cold pods may only be compared with equally cold ones.
        fair = warm or trial.baseline
        return Interval(
            tick=tick,
            signals={signal.name: counts for signal in self.analysis.signals},
            requests=requests.get(canary, 0.0),
            step=trial.step,
            steps=trial.steps,
            mix="fresh" if len(control) == 1 else "",
            comparable=(together or not mixed) and fair,
        )

    def _see(self, requests: Mapping[Sample, float]) -> None:
        seen: dict[Backend, int] = {}
        for sample in requests:
            seen[sample.backend] = seen.get(sample.backend, 0) + 1
        self.seen = seen


def lateness(interval: float) -> float:
    """Tell how many seconds after a tick its counters are read: one scrape, with four scrapes to an interval."""
    return interval / 4


def follow(known: Following | None, key: Key, interest: Interest, *, now: float) -> Following:
    """Go on following a model, or start with what status remembers of its rollout."""
    trial, memory = interest.trial, interest.memory
    same = known is not None and (known.trial is None) == (trial is None)
    if known is not None and same and (trial is None or (known.trial and known.trial.rollout == trial.rollout)):
        known.trial = trial
        return known
    started = Following(key=key, analysis=interest.analysis, since=now, trial=trial)
    if trial is not None and memory.tick:
        started.memory = replace(memory)
    if known is not None and trial is None:
        # The rollout ended: its counters' accounts go on, so that draining shows at once.
        started.requests, started.errors, started.started, started.tick = (
            known.requests,
            known.errors,
            known.started,
            known.tick,
        )
        started.seen = known.seen
    return started
