"""One reading for many models: judged in one go, each as it would be alone."""

import json
import math
from dataclasses import replace
from pathlib import Path

import pytest

from backstay.adapters.prometheus.client import Place, Problem, Reading, Value
from backstay.controller.evidence.following import Following, Interest, Trial, follow
from backstay.controller.evidence.loop import EvidenceLoop
from backstay.controller.evidence.profiles import REQUESTS, CounterPair
from backstay.controller.evidence.recorder import Recorder
from backstay.controller.evidence.sources import sources
from backstay.domain.observed import Backend
from backstay.domain.resource import Analysis, Key
from backstay.domain.signals import Comparison, Objective, Signal
from backstay.domain.status import Verdict
from backstay.judge.document import evidence_of
from backstay.judge.fold import Interval
from backstay.judge.memory import Memory, Process
from backstay.judge.process import log_evidence
from backstay.judge.replay import judge

KEYS = [Key("prod", f"model-{index}") for index in range(5)]
(ERRORS,) = [
    source
    for source in sources(Analysis(2.0, 0.05, (Signal("errors", Comparison()),))).values()
    if isinstance(source, CounterPair)
]
STABLE, CANARY = Backend("aaa"), Backend("bbb")


def followed(key: Key) -> Following:
    signals = (Signal("errors", Comparison(1.25 if key.name.endswith("3") else 1.0)), Signal("limit", Objective(0.05)))
    trial = Trial(
        rollout="2-1",
        stable="aaa",
        canary="bbb",
        step=0,
        opening=False,
        changed_at=0.0,
        warm_until=0.0,
        baseline=False,
        comparable=True,
        pods={CANARY: 1},
        steps=2,
    )
    return follow(None, key, Interest(Analysis(2.0, 0.05, signals), frozenset(), trial, Memory()), now=0.0)


def reading(tick: int) -> Reading:
    """Count up: the canary of each model answers ten requests a tick, with the model's number of errors."""
    requests: dict[Key, dict[Place, Value]] = {}
    errors: dict[Key, dict[Place, Value]] = {}
    for index, key in enumerate(KEYS):
        requests[key] = {Place(STABLE, "stable"): 90.0 * tick, Place(CANARY, "canary"): 10.0 * tick}
        errors[key] = {Place(CANARY, "canary"): float(index * tick)}
    return Reading(100.0 + 2 * tick, {REQUESTS: requests, ERRORS.events: errors})


def of_its_own(index: int) -> Following:
    """Follow a model with revisions that no other has."""
    model = followed(KEYS[index])
    assert model.trial is not None
    canary = Backend(f"bbb-{index}")
    trial = replace(model.trial, stable=f"aaa-{index}", canary=canary.revision, pods={canary: 1})
    return follow(None, model.key, Interest(model.analysis, frozenset(), trial, Memory()), now=0.0)


def own_reading(tick: int) -> Reading:
    """Count up as `reading` does, for models with revisions of their own."""
    one = reading(tick)
    return replace(
        one,
        values={
            template: {
                key: {
                    Place(Backend(f"{place.backend.revision}-{KEYS.index(key)}"), place.pod): value
                    for place, value in found.items()
                }
                for key, found in models.items()
            }
            for template, models in one.values.items()
        },
    )


def test_a_tick_judges_every_model_as_it_would_be_judged_alone() -> None:
    loop = EvidenceLoop(None, lambda *_, **__: None, lambda: 0.0)
    together, alone = [followed(key) for key in KEYS], [followed(key) for key in KEYS]
    for tick in range(6):
        loop._take(together, reading(tick))  # noqa: SLF001 - what a tick does after its query
        for model in alone:
            model.take(reading(tick))
    assert [model.memory for model in together] == [model.memory for model in alone]
    verdicts = [str(evidence.verdict) for model in together if (evidence := model.evidence())]
    assert verdicts == ["Pass", "Fail", "Fail", "Fail", "Fail"]


class Recording:
    """A Prometheus that answers with the readings above, and notes which ticks it was asked for at once."""

    def __init__(self) -> None:
        self.asked: list[list[float]] = []

    def read(self, templates: object, revisions: object, ticks: list[float], *, shared: object) -> list[Reading]:
        del templates, revisions, shared
        self.asked.append(ticks)
        return [self.answer(round((tick - 100) / 2)) for tick in ticks]

    def answer(self, tick: int) -> Reading:
        return reading(tick)


async def test_what_was_missed_is_asked_for_at_once_and_judged_tick_by_tick() -> None:
    prometheus, (late, steady) = Recording(), (followed(KEYS[1]), followed(KEYS[1]))
    loop = EvidenceLoop(prometheus, lambda *_, **__: None, lambda: 180.0)  # type: ignore[arg-type]
    loop.watch(KEYS[1], Interest(late.analysis, frozenset(), late.trial, Memory()))
    await loop._learn_of(list(loop._followed.values()))  # noqa: SLF001 - what the loop does for new rollouts
    for due in (102.0, 180.0):
        await loop._tick(2.0, due)  # noqa: SLF001 - what the loop does when a tick is due
    steady.learn(steady.past())
    for tick in range(1, 41):
        steady.take(reading(tick))
    assert [len(ticks) for ticks in prometheus.asked[4:]] == [1, 20, 19]
    assert loop.evidence(KEYS[1]) == steady.evidence()


async def test_what_fails_among_what_was_missed_is_drained_before_the_rest_is_judged_and_goes_on_where_it_was() -> None:
    prometheus, model = Recording(), followed(KEYS[4])
    drained_at = list[float]()

    async def drain(patience: float) -> None:
        assert patience > 0
        drained_at.append(loop._followed[KEYS[4]].tick)  # noqa: SLF001 - how far it is
        loop.watch(KEYS[4], Interest(model.analysis, frozenset(), None, Memory()))

    loop = EvidenceLoop(prometheus, lambda *_, **__: None, lambda: 180.0, calm=drain)  # type: ignore[arg-type]
    loop.watch(KEYS[4], Interest(model.analysis, frozenset(), model.trial, Memory()))
    await loop._learn_of(list(loop._followed.values()))  # noqa: SLF001 - what the loop does for new rollouts
    for due in (102.0, 180.0):
        await loop._tick(2.0, due)  # noqa: SLF001 - what the loop does when a tick is due
    (at,) = drained_at
    assert 102.0 < at < 140.0
    left = loop._followed[KEYS[4]]  # noqa: SLF001 - how far it is
    assert (left.trial, left.tick) == (None, 180.0)


class Refusing(Recording):
    """A Prometheus that cannot work out the requests of some revisions for a while."""

    def __init__(self, revisions: set[str], *, since: float = 0.0, until: float = math.inf) -> None:
        super().__init__()
        self.revisions, self.since, self.until = frozenset(revisions), since, until

    def answer(self, tick: int) -> Reading:
        return own_reading(tick)

    def read(self, templates: object, revisions: object, ticks: list[float], *, shared: object) -> list[Reading]:
        readings = super().read(templates, revisions, ticks, shared=shared)
        if not self.since <= ticks[-1] < self.until:
            return readings
        problems = {REQUESTS: (Problem("many-to-many matching not allowed", self.revisions),)}
        return [replace(one, problems=problems) for one in readings]


async def test_what_prometheus_refuses_of_one_model_is_its_own_trouble() -> None:
    now, woken = 100.0, Woken()
    prometheus = Refusing({"bbb-1"}, since=104.0, until=112.0)
    loop = EvidenceLoop(prometheus, woken, lambda: now)  # type: ignore[arg-type]
    alone = [of_its_own(index) for index in range(len(KEYS))]
    for model in alone:
        loop.watch(model.key, Interest(model.analysis, model.judged, model.trial, Memory()))
    await loop._learn_of(list(loop._followed.values()))  # noqa: SLF001 - what the loop does for new rollouts
    for model in alone:
        model.learn(model.past())
    prometheus.asked.clear()
    for tick in range(1, 8):
        due = 100.0 + 2 * tick
        now = due + 0.6
        await loop._tick(2.0, due)  # noqa: SLF001 - what the loop does when a tick is due
        for index, model in enumerate(alone):
            model.take(own_reading(tick))
            evidence = loop.evidence(model.key)
            if index == 1 and 104 <= due < 112:
                assert evidence is not None
                assert evidence.verdict is Verdict.UNAVAILABLE
                assert "many-to-many" in evidence.sentence
                assert loop.answered_at(model.key) == 102.6
            else:
                assert evidence == model.evidence()
        # The others' ticks are asked for once, and it alone is asked for again.
        assert loop._next(2.0)[0] == pytest.approx(due + 2.5)  # noqa: SLF001 - when it asks next
    singles = [at for at in prometheus.asked if len(at) == 1]
    assert singles.count([104.0]) == 1
    assert len(prometheus.asked) <= 2 * 7
    # It has made good what it missed.
    assert loop.evidence(KEYS[1]) == alone[1].evidence()


async def test_when_prometheus_refuses_all_models_it_is_unavailable_and_asked_every_second() -> None:
    prometheus = Refusing({f"bbb-{index}" for index in range(len(KEYS))})
    loop = EvidenceLoop(prometheus, Woken(), lambda: 105.0)  # type: ignore[arg-type]
    for index in range(len(KEYS)):
        model = of_its_own(index)
        loop.watch(model.key, Interest(model.analysis, model.judged, model.trial, Memory(tick=90.0)))
    await loop._tick(2.0, 104.0)  # noqa: SLF001 - what the loop does when a tick is due
    assert loop._next(2.0)[0] == 106.0  # noqa: SLF001 - when it asks next


async def test_a_model_whose_past_is_refused_keeps_no_other_from_beginning() -> None:
    woken = Woken()
    loop = EvidenceLoop(Refusing({"aaa-1"}), woken, lambda: 3700.0)  # type: ignore[arg-type]
    for index in range(len(KEYS)):
        model = of_its_own(index)
        loop.watch(model.key, Interest(model.analysis, model.judged, model.trial, Memory()))
    await loop._learn_of(list(loop._followed.values()))  # noqa: SLF001 - what the loop does for new rollouts
    lacking = [f for f in loop._followed.values() if f.lacks_history]  # noqa: SLF001 - who waits
    assert [(f.key, "many-to-many" in f.unavailable) for f in lacking] == [(KEYS[1], True)]


def test_a_model_whose_counters_cannot_be_judged_keeps_no_other_from_being_judged() -> None:
    loop = EvidenceLoop(None, Woken(), lambda: 0.0)
    together = [followed(key) for key in KEYS]
    for tick in range(3):
        one = reading(tick)
        strange = {**one.values[REQUESTS], KEYS[1]: {Place(CANARY, "canary"): "many"}}
        loop._take(together, replace(one, values={**one.values, REQUESTS: strange}))  # type: ignore[dict-item]  # noqa: SLF001 - what a tick does after its query
    verdicts = [evidence.verdict for model in together if (evidence := model.evidence())]
    assert verdicts[1] is Verdict.UNAVAILABLE
    assert Verdict.UNAVAILABLE not in verdicts[2:]


class Woken:
    """Notes which models are woken, and which of them urgently."""

    def __init__(self) -> None:
        self.keys: list[str] = []
        self.urgent: list[str] = []

    def __call__(self, key: Key, /, *, urgent: bool = False) -> None:
        (self.urgent if urgent else self.keys).append(key.name)

    def taken(self) -> tuple[list[str], list[str]]:
        """Return what was noted since the last call: urgent ones, and the others."""
        found = (sorted(self.urgent), sorted(self.keys))
        self.keys, self.urgent = [], []
        return found


async def test_a_model_is_woken_by_news_at_once_and_for_mere_progress_now_and_then() -> None:
    now, woken = 100.0, Woken()
    loop = EvidenceLoop(Recording(), woken, lambda: now)  # type: ignore[arg-type]
    for key in KEYS:
        model = followed(key)
        loop.watch(key, Interest(model.analysis, frozenset(), model.trial, Memory()))
    await loop._learn_of(list(loop._followed.values()))  # noqa: SLF001 - what the loop does for new rollouts
    told = []
    for tick in range(7):
        now = 102.0 + 2 * tick
        await loop._tick(2.0, now)  # noqa: SLF001 - what the loop does when a tick is due
        told.append(woken.taken())
    names = [key.name for key in KEYS]
    # The first reading is news for all, and everyone's turn to write; what fails fails as in the first test.
    assert told[0] == ([], sorted(names * 2))
    failed = [urgent for urgent, _ in told if urgent]
    assert sorted(name for urgent in failed for name in urgent) == names[1:]
    quiet = [others for urgent, others in told[2:] if not urgent]
    assert [] in quiet
    # After five seconds it is everyone's turn again.
    assert sum(others.count("model-0") for _, others in told[1:]) <= 4


async def test_what_is_written_down_in_a_second_does_not_grow_with_the_number_of_rollouts() -> None:
    woken = Woken()
    loop = EvidenceLoop(None, woken, lambda: 1000.0)
    models = [for_model(index) for index in range(300)]
    loop._wake_for_progress(models, 5.0)  # noqa: SLF001 - the end of a tick
    first = woken.taken()[1]
    for model in models:
        model.progress_at -= 6.0
    loop._wake_for_progress(models, 5.0)  # noqa: SLF001 - the end of a tick
    second = woken.taken()[1]
    assert (len(first), len(second)) == (50, 50)
    assert not set(first) & set(second)


def for_model(index: int) -> Following:
    return followed(Key("prod", f"model-{index}"))


def test_what_is_new_is_read_once_nothing_more_comes_and_after_an_interval_at_the_latest() -> None:
    now = 100.0
    loop = EvidenceLoop(None, Woken(), lambda: now)
    loop.last_tick = 100.0
    read_at = []
    for second in range(8):
        now = 100.0 + 0.3 * second
        # With memory: what has none reads stable's past first.
        model, memory = for_model(second), Memory(tick=90.0)
        loop.watch(model.key, Interest(model.analysis, frozenset(), model.trial, memory))
        read_at.append(round(loop._next(2.0)[0], 2))  # noqa: SLF001 - what the loop waits for
    assert read_at == [100.5, 100.8, 101.1, 101.4, 101.7, 102.0, 102.0, 102.1]


async def test_when_prometheus_goes_away_every_rollout_is_told_once() -> None:
    woken = Woken()
    loop = EvidenceLoop(None, woken, lambda: 100.0)
    for key in KEYS:
        model = followed(key)
        loop.watch(key, Interest(model.analysis, frozenset(), model.trial, Memory(tick=90.0)))
        loop._followed[key].progress_at = 99.0  # noqa: SLF001 - it is nobody's turn to write
    for due in (100.0, 102.0):
        await loop._tick(2.0, due)  # noqa: SLF001 - what the loop does when a tick is due
    assert woken.taken() == ([], [key.name for key in KEYS])
    evidence = loop.evidence(KEYS[0])
    assert evidence is not None
    assert "BACKSTAY_PROMETHEUS_URL is not set" in evidence.sentence


async def test_the_past_is_read_once_before_the_first_interval_and_together_for_rollouts_of_one_minute() -> None:
    prometheus, models = Recording(), [followed(key) for key in KEYS]
    loop = EvidenceLoop(prometheus, lambda *_, **__: None, lambda: 3700.0)  # type: ignore[arg-type]
    for index, (key, model) in enumerate(zip(KEYS, models, strict=True)):
        assert model.trial is not None
        trial = replace(model.trial, began=3600.0 + 25 * index)
        loop.watch(key, Interest(model.analysis, frozenset(), trial, Memory()))
    await loop._learn_of(list(loop._followed.values()))  # noqa: SLF001 - what the loop does for new rollouts
    for due in (3702.0, 3704.0):
        await loop._tick(2.0, due)  # noqa: SLF001 - what the loop does when a tick is due
    first, second, ticks = prometheus.asked[:4], prometheus.asked[4:8], prometheus.asked[8:]
    # In parts, so that it is never all in memory.
    assert [at for part in first for at in part] == [15.0 * step for step in range(241)]
    assert (second[0][0], second[-1][-1]) == (60.0, 3660.0)
    assert ticks == [[3702.0], [3704.0]]
    document = loop.evidence(KEYS[0])
    assert document is not None
    assert document.accumulators["learnt"] == {"errors": [1.0, 0.0]}
    # Who goes on with a memory has nothing to learn any more.
    resumed = follow(None, KEYS[0], Interest(models[0].analysis, frozenset(), models[0].trial, Memory(tick=1.0)), now=0)
    assert not resumed.lacks_history


def test_what_was_recorded_is_judged_to_the_same_numbers(tmp_path: Path) -> None:
    model, recorder = followed(KEYS[2]), Recorder(tmp_path)
    loop = EvidenceLoop(None, lambda *_, **__: None, lambda: 0.0, recorder)
    for tick in range(6):
        # A controller that starts again reads the last tick once more.
        for _ in range(2):
            loop._take([model], reading(tick))  # noqa: SLF001 - what a tick does after its query
    answer = judge(
        evidence_of(json.loads(json.dumps(recorder.document(model.key, "2-1", model.panel, model.memory.learnt))))
    )
    evidence = model.evidence()
    assert evidence is not None
    (told,) = answer["signals"]
    process = model.memory.signals["errors"]
    assert isinstance(process, Process)
    (part,) = model.panel.compared
    failed_at = answer["failedAt"]
    # Comparisons stand still once they have failed.
    assert told["logE"][failed_at] == pytest.approx(float(log_evidence(part.shape, process.row)), abs=1e-12)
    assert (answer["verdict"], str(evidence.verdict)) == ("Fail", "Fail")


def test_a_new_rollout_takes_the_place_of_the_last_ones_record(tmp_path: Path) -> None:
    recorder = Recorder(tmp_path)
    interval = Interval(tick=1.0, signals={}, requests=0.0)
    recorder.add(KEYS[0], "2-1", interval)
    recorder.add(KEYS[1], "2-1", interval)
    recorder.add(KEYS[0], "3-2", interval)
    assert len(list(tmp_path.iterdir())) == 2
    assert recorder.document(KEYS[0], "2-1", followed(KEYS[0]).panel, {}) == {}


async def test_while_prometheus_is_away_it_is_asked_every_second_for_the_tick_that_is_missing() -> None:
    loop = EvidenceLoop(None, Woken(), lambda: 200.0)
    model = followed(KEYS[0])
    analysis = replace(model.analysis, interval=30.0)
    loop.watch(KEYS[0], Interest(analysis, frozenset(), model.trial, Memory(tick=150.0)))
    await loop._tick(30.0, 180.0)  # noqa: SLF001 - what the loop does when a tick is due
    assert loop._next(30.0) == (201.0, 180.0, 30.0)  # noqa: SLF001 - when it asks next
