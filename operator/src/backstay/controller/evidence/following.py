"""One model's evidence: readings of raw counters become intervals, intervals the judge's memory.

No I/O: the evidence loop hands in readings and asks for what follows from them.
"""

from collections import Counter
from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field, replace
from typing import NamedTuple

import numpy as np

from backstay.adapters.prometheus.client import Place, Reading, Value, Values
from backstay.adapters.prometheus.histograms import Histogram, edges_of
from backstay.controller.evidence.counters import Accounts, MisfitError
from backstay.controller.evidence.history import Past, learnable
from backstay.controller.evidence.profiles import METRICS, CounterPair, Metrics
from backstay.controller.evidence.sources import Buckets, Source, read_by, sources, steady, templates
from backstay.domain.observed import Backend, Evidence, Track
from backstay.domain.resource import Analysis, Key
from backstay.domain.status import Verdict
from backstay.judge.arrays import Floats
from backstay.judge.fold import Interval, counted, fold
from backstay.judge.memory import Memory
from backstay.judge.panel import Panel, panel_of
from backstay.judge.verdict import Assessment, assess

# After this many seconds a backend of which Prometheus knows nothing counts as quiet.
QUIET_WITHOUT_DATA = 30.0


@dataclass(frozen=True, slots=True)
class Trial:
    """The live rollout of a model: what its evidence has to be split by.

    ``changed_at`` is when the route's weights last changed, ``warm_until`` when its newest pods have warmed up (Unix
    seconds); ``opening`` marks the first step with a weight, at whose start canary and fresh baseline had no requests;
    ``pods`` are the ready pods expected in a reading, by backend, of the canary and the fresh baseline, ``stable_pods``
    those of the stable version; ``steps`` are those before full traffic. ``began`` is when the rollout did, and
    ``planned`` the canary's share of the route's weights; ``demanded`` are the requests that the step asks for.
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
    began: float = 0.0
    planned: float = 0.0
    stable_pods: int = 0
    demanded: int = 0

    def judges(self, place: Place) -> bool:
        """Tell whether a pod belongs to one of the arms."""
        return place.backend.revision in (self.canary, self.stable)


class Standing(NamedTuple):
    """What of the evidence a decision hangs on: while it is the same, there is nothing to decide."""

    rollout: str
    step: int
    verdict: Verdict
    measured: bool
    enough: bool


@dataclass(frozen=True, slots=True)
class Interest:
    """What a reconcile wants to know of its model from now on: ``revisions`` are read, ``trial`` is judged."""

    analysis: Analysis
    revisions: frozenset[str]
    trial: Trial | None
    memory: Memory


@dataclass(slots=True)
class Following:
    """A model whose counters are read: because of a live rollout, or because backends are being drained.

    ``places`` are the pods in the last reading, ``seen`` counts them. ``unfit`` are sentences on signals whose last
    reading could not be used, ``holes`` on those of which a part was missing, by name. ``told`` is what the model was
    last woken for, ``progress_at`` when it was last woken only to write down how far it is, ``learning_at`` when
    stable's past was last asked for.
    """

    key: Key
    analysis: Analysis
    since: float
    trial: Trial | None = None
    memory: Memory = field(default_factory=Memory)
    tick: float = 0.0
    accounts: Accounts = field(default_factory=Accounts)
    started: bool = False
    unavailable: str = ""
    answered_at: float = 0.0
    places: frozenset[Place] = frozenset()
    seen: Mapping[Backend, int] = field(default_factory=dict)
    quiet_since: dict[Backend, float] = field(default_factory=dict)
    unfit: dict[str, str] = field(default_factory=dict)
    holes: dict[str, str] = field(default_factory=dict)
    told: Standing | None = None
    progress_at: float = 0.0
    learning_at: float = 0.0

    @property
    def panel(self) -> Panel:
        """What is judged."""
        return panel_of(self.analysis, self.memory.edges)

    @property
    def templates(self) -> frozenset[str]:
        """What has to be read."""
        if self.trial is not None:
            return templates(self.analysis)
        return frozenset({self.metrics.requests, self.metrics.present})

    @property
    def metrics(self) -> Metrics:
        """What the model server counts."""
        return METRICS[self.analysis.profile]

    @property
    def judged(self) -> frozenset[str]:
        """The revisions that the judge compares."""
        return frozenset({self.trial.canary, self.trial.stable}) - {""} if self.trial is not None else frozenset()

    def refused(self, reading: Reading, revisions: AbstractSet[str]) -> str:
        """Say why a reading tells nothing of this model, of which ``revisions`` were read; empty where it does."""
        about = self.judged or revisions
        return reading.problem(self.metrics.requests, about) or reading.problem(self.metrics.present, about)

    @property
    def lacks_history(self) -> bool:
        """Tell whether stable's past has to be read first: before a rollout's first interval, and never later."""
        compares = self.trial is not None and self.trial.comparable
        return compares and not self.memory.tick and not self.memory.learnt and bool(learnable(self.analysis))

    def past(self) -> Past:
        """Return what readings of stable's past are to be gathered in, to be learnt from by ``learn``."""
        return Past(self.analysis, self.key, Backend(self.trial.stable if self.trial else ""))

    def learn(self, past: Past) -> None:
        """Learn from stable's past."""
        self.memory = replace(self.memory, learnt=past.learn())

    def take(self, reading: Reading) -> None:
        """Take in one reading and judge it."""
        interval = self.advance(reading)
        if interval is not None:
            self.memory = fold(self.memory, interval, self.panel)

    def advance(self, reading: Reading) -> Interval | None:
        """Take in one reading; returns the interval to be judged, if it ends one.

        A reading that is not later than the last changes nothing.
        """
        self.unavailable = ""
        if self.started and reading.at <= self.tick:
            return None
        after = {t: self.accounts.news(t, reading.of(t, self.key)) for t in self.templates}
        self.unfit = _refused(self.analysis, reading, self.judged)
        self.holes = self._holes(self.trial, after, reading) if self.trial is not None else {}
        interval = None
        if self.started:
            requests = self._counted(self.metrics.requests, after)
            self._rest(requests)
            if self.trial is not None:
                interval = self._interval(self.trial, reading.at, requests, after)
        self.accounts.take(after)
        self.started, self.tick = True, reading.at
        self.places = frozenset(after[self.metrics.requests])
        self.seen = Counter(place.backend for place in after[self.metrics.present])
        return interval

    def _holes(self, trial: Trial, after: dict[str, Values], reading: Reading) -> dict[str, str]:
        """Leave halves of pairs out of a reading; returns sentences on the signals that miss something, by name."""
        broken = {template: reading.broken_of(template, self.key) for template in after}
        read = sources(self.analysis)
        missing: dict[Source, list[Place]] = {}
        for source in dict.fromkeys(read.values()):
            match source:
                case CounterPair(events):
                    missing[source] = self.accounts.match(source, after, broken[events])
                case Buckets(histogram):
                    missing[source] = self.accounts.lost(histogram, self.metrics.requests, after)
        holes = {}
        for name, source in read.items():
            wrong = [place for template in read_by(source) for place in broken[template] if trial.judges(place)]
            if wrong:
                holes[name] = (
                    f"{name}: a counter of pod {min(place.pod for place in wrong)} is NaN, infinite or negative: "
                    "see what its server counts"
                )
            elif pods := [place.pod for place in missing[source] if trial.judges(place)]:
                pod = min(pods)
                holes[name] = (
                    f"{name}: Prometheus answers without a counter that pod {pod} had before: see whether a part of it "
                    "does not answer"
                )
        return holes

    def evidence(self) -> Evidence | None:
        """Say what the judge makes of it, or None while there is no rollout or no reading."""
        trial = self.trial
        if trial is None or not (self.started or self.unavailable):
            return None
        document = self.memory.to_dict(self.panel) if self.memory.tick else {}
        judged = self._assess(trial)
        requests, measured = self._requests(trial), self._measured(trial)
        if self.unavailable and judged.verdict is not Verdict.FAIL:
            return Evidence(trial.rollout, Verdict.UNAVAILABLE, self.unavailable, (), requests, measured, document)
        return Evidence(trial.rollout, judged.verdict, judged.sentence, judged.details, requests, measured, document)

    def standing(self) -> Standing | None:
        """Return what of the evidence a decision hangs on, or None while there is none."""
        trial = self.trial
        if trial is None or not (self.started or self.unavailable):
            return None
        verdict = self._assess(trial).verdict
        if self.unavailable and verdict is not Verdict.FAIL:
            verdict = Verdict.UNAVAILABLE
        enough = self._requests(trial) >= trial.demanded
        return Standing(trial.rollout, trial.step, verdict, self._measured(trial), enough)

    def _assess(self, trial: Trial) -> Assessment:
        return assess(self.memory, self.panel, comparable=trial.comparable, unfit=self.holes | self.unfit)

    def _requests(self, trial: Trial) -> int:
        return int(self.memory.requests) if self.memory.step == trial.step else 0

    def _measured(self, trial: Trial) -> bool:
        return bool(trial.pods) and all(self.seen.get(b, 0) >= count for b, count in trial.pods.items())

    def is_quiet(self, backend: Backend, drained_at: float, now: float) -> bool:
        """Tell whether a drained backend's request counters rest, over an interval that began after it was drained."""
        since = self.quiet_since.get(backend)
        if since is not None:
            return since >= drained_at or self.tick - drained_at > 2 * self.analysis.interval
        return backend not in self.seen and now - max(drained_at, self.since) > QUIET_WITHOUT_DATA

    def _rest(self, requests: Mapping[Backend, Floats]) -> None:
        """Note which backends got no requests in the interval that begins at the last tick."""
        for backend in {*requests, *self.seen}:
            if backend in requests and requests[backend][0] > 0:
                self.quiet_since.pop(backend, None)
            else:
                self.quiet_since.setdefault(backend, self.tick)

    def _interval(
        self, trial: Trial, tick: float, requests: Mapping[Backend, Floats], after: Mapping[str, Values]
    ) -> Interval:
        canary, own, fresh = Backend(trial.canary), Backend(trial.stable), Backend(trial.stable, Track.BASELINE)
        warm = tick >= trial.warm_until
        mixed = trial.changed_at > self.tick - lateness(self.analysis.interval)
        # Where the route opened in this interval, canary and fresh baseline began together: their shares do not mix.
        together = mixed and trial.opening and trial.baseline
        arms = Arms(canary, (fresh,) if trial.baseline and (together or not warm) else (own, fresh))
        # Cold pods may only be compared with equally cold ones.
        fair = warm or trial.baseline
        signals, pairs = {}, dict[CounterPair, Floats]()
        for name, source in sources(self.analysis).items():
            if name in self.unfit:
                continue
            match source:
                case CounterPair():
                    if source not in pairs:
                        events = self._counted(source.events, after, beside=source.among)
                        pairs[source] = arms.counted(events, self._counted(source.among, after))
                    signals[name] = pairs[source]
                case Buckets(histogram):
                    counts = self._buckets(name, histogram, arms, after)
                    if counts is not None:
                        signals[name] = counts
        pods = Counter(place.backend for place in after[self.metrics.present])
        n_c, n_s = (float(count) for count in arms.of(requests, 1)[:, 0])
        every = float(sum(added[0] for added in requests.values()))
        whole = 0.0 < trial.planned < 1.0 and not mixed and self._is_whole(trial, after[self.metrics.requests])
        return Interval(
            tick=tick,
            signals=signals,
            requests=n_c,
            due=dict.fromkeys(steady(self.analysis), (n_c, n_s)),
            step=trial.step,
            steps=trial.steps,
            mix="fresh" if len(arms.control) == 1 else "",
            comparable=(together or not mixed) and fair,
            planned=trial.planned if whole else 0.0,
            arms=(n_c, every - n_c) if whole else (0.0, 0.0),
            pods=(max(pods[canary], 1), max(sum(pods[backend] for backend in arms.control), 1)),
        )

    def _is_whole(self, trial: Trial, requests: Mapping[Place, Value]) -> bool:
        """Tell whether the same pods, and all of them, are in the last reading and in this one.

        Otherwise requests that some pod did answer would be missing from one arm.
        """
        expected = {**trial.pods, Backend(trial.stable): trial.stable_pods}
        pods = Counter(place.backend for place in requests)
        same = self.places == frozenset(requests)
        return same and all(pods[backend] >= count for backend, count in expected.items())

    def _buckets(self, name: str, template: str, arms: "Arms", after: Mapping[str, Values]) -> Floats | None:
        """Return what an interval added to a histogram, of shape [2, buckets]; None where that cannot be said."""
        if name not in self.memory.edges:
            edges = edges_of(value for value in after[template].values() if isinstance(value, Histogram))
            if not edges:
                return None
            self.memory = replace(self.memory, edges={**self.memory.edges, name: edges})
        edges = self.memory.edges[name]
        try:
            added = self.accounts.bucketed(template, after, edges, born=self._born)
        except MisfitError as misfit:
            self.unfit[name] = (
                f"{name}: pod {misfit.pod} counts in other buckets than those this rollout is judged in: give both "
                "versions the same buckets, or take the signal out of spec.analysis.signals"
            )
            return None
        return arms.of(added, len(edges) + 1)

    def _counted(self, template: str, after: Mapping[str, Values], *, beside: str = "") -> dict[Backend, Floats]:
        return self.accounts.counted(template, after, born=self._born, beside=beside)

    @property
    def _born(self) -> frozenset[Backend]:
        """The backends whose pods were all born in the trial."""
        return frozenset(self.trial.pods) - {Backend(self.trial.stable)} if self.trial else frozenset()


@dataclass(frozen=True, slots=True)
class Arms:
    """The canary, and the backends that it is compared with."""

    canary: Backend
    control: tuple[Backend, ...]

    def canary_of(self, added: Mapping[Backend, Floats], size: int) -> Floats:
        """Return the canary's counts, of shape [size]."""
        return added.get(self.canary, np.zeros(size))

    def counted(self, events: Mapping[Backend, Floats], totals: Mapping[Backend, Floats]) -> Floats:
        """Return events among their totals, in the form of ``Interval.signals``."""
        (n_c, n_s), (c, s) = self.of(totals, 1)[:, 0], self.of(events, 1)[:, 0]
        return counted(min(c, n_c), min(s, n_s), n_c, n_s)

    def of(self, added: Mapping[Backend, Floats], size: int) -> Floats:
        """Return both arms' counts, of shape [2, size], canary first."""
        control = np.zeros(size)
        for backend in self.control:
            control = control + added.get(backend, 0.0)
        return np.stack([self.canary_of(added, size), control])


def _refused(analysis: Analysis, reading: Reading, revisions: AbstractSet[str]) -> dict[str, str]:
    """Say which signals could not be read, by name."""
    found = {}
    for name, source in sources(analysis).items():
        said = (reading.problem(template, revisions) for template in read_by(source))
        problem = next((sentence for sentence in said if sentence), "")
        if problem:
            found[name] = f"{name}: {problem}"
    return found


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
        started.accounts, started.places, started.seen = known.accounts, known.places, known.seen
        started.started, started.tick = known.started, known.tick
    return started
