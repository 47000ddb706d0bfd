"""Many rollouts at once, resumed anywhere, in little room: always the same to the bit."""

import base64
import json
import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from backstay.domain.resource import Analysis
from backstay.domain.signals import Comparison, NoHarm, Signal
from backstay.domain.status import Verdict
from backstay.judge import counts, onset, process
from backstay.judge.codec import Field, Layout, Precision
from backstay.judge.fold import Interval, counted, fold, fold_many
from backstay.judge.memory import Learnt, Memory, Process
from backstay.judge.objectives import Limit
from backstay.judge.panel import SPLIT, Count, Distribution, Judged, Latency, Panel, panel_of, shape_of
from backstay.judge.process import layout, log_evidence
from backstay.judge.verdict import assess

EDGES = tuple(float(2**i) / 100 for i in range(11))
NO_HARM = NoHarm()
MIXED = Panel(
    alpha=0.05,
    signals=(
        Judged("errors", Count(no_harm=NO_HARM), 2.0),
        Judged("latency", Latency(EDGES, tolerance=1.1)),
        Judged("guarded", Latency((0.1, 0.5), no_harm=NO_HARM)),
        Judged("confidence", Distribution(12)),
        Judged("classes", Distribution(4, smallest=0.02, ordered=False)),
        Judged("limit", Limit(0.5, violations=2, looks=3)),
    ),
    split_tolerance=1.1,
)
SIZES = {"errors": 2, "latency": 12, "guarded": 3, "confidence": 12, "classes": 4, "limit": 2}


def simulated(random: np.random.Generator, index: int, *, rate: float, panel: Panel = MIXED) -> Interval:
    """Return one interval of a rollout in three steps of 5, 25 and 50 %, five intervals each."""
    step = min(index // 5, 2)
    share = (0.05, 0.25, 0.5)[step]
    signals, arms = {}, np.array([0.0, 0.0])
    for signal in panel.signals:
        buckets = 2 if isinstance(signal.rule, Limit) else signal.rule.buckets
        shape = np.arange(buckets, 0, -1) ** 2.0
        pooled = random.poisson(rate * shape / shape.sum())
        canary = random.binomial(pooled, share)
        signals[signal.name] = np.array([canary, pooled - canary], dtype=float)
        arms = signals[signal.name].sum(axis=1)
    return Interval(
        tick=15.0 * (index + 1),
        signals=signals,
        requests=float(arms[0]),
        step=step,
        steps=3,
        mix="fresh" if index == 0 else "",
        comparable=index % 5 != 4,
        planned=share,
        arms=(float(arms[0]), float(arms[1])),
        pods=(1 + step, 4),
    )


@settings(max_examples=25, deadline=None)
@example(seed=0, rate=8.0, cut=15)
@given(st.integers(0, 1000), st.sampled_from([0.5, 8.0, 40.0, 3000.0]), st.integers(0, 15))
def test_a_restart_anywhere_changes_nothing_to_the_bit(seed: int, rate: float, cut: int) -> None:
    random = np.random.default_rng(seed)
    intervals = [simulated(random, index, rate=rate) for index in range(15)]
    whole = resumed = Memory(learnt={"errors": Learnt(1.5, 0.1)})
    for interval in intervals:
        whole = fold(whole, interval, MIXED)
    for interval in intervals[:cut]:
        resumed = fold(resumed, interval, MIXED)
    resumed = Memory.of(json.loads(json.dumps(resumed.to_dict(MIXED))), MIXED)
    for interval in intervals[max(cut - 2, 0) :]:
        resumed = fold(resumed, interval, MIXED)
    assert resumed == whole


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 1000), st.integers(2, 40))
def test_many_at_once_are_to_the_bit_what_they_are_one_at_a_time(seed: int, rollouts: int) -> None:
    random = np.random.default_rng(seed)
    base = replace(MIXED, refinements=False)
    panels = [MIXED if i % 3 else base for i in range(rollouts)]
    rates = random.choice([3.0, 30.0, 500.0], rollouts)
    together = alone = [Memory()] * rollouts
    for index in range(6):
        intervals = [simulated(random, index, rate=rate) for rate in rates]
        together = fold_many(together, intervals, panels)
        alone = [
            fold(memory, interval, panel) for memory, interval, panel in zip(alone, intervals, panels, strict=True)
        ]
    assert together == alone


@pytest.mark.parametrize("kind", [Latency(EDGES, no_harm=NO_HARM), Distribution(12), Distribution(12, smallest=0.1)])
def test_rows_are_to_the_bit_the_same_however_many_are_computed_at_a_time(kind: Latency | Distribution) -> None:
    random, shape, size = np.random.default_rng(4), shape_of(kind, refined=True), 1200
    seen = random.poisson(random.choice([1.0, 40.0], (size, 2, 12))).astype(float)
    one, zero = np.ones(size), np.zeros(size)
    given_ = process.Given(1.25 * one, 0.25 * one, zero, one, 2 * one, getattr(kind, "smallest", 0.0) * one, zero)
    rows = np.tile(process.start(shape), (size, 1))
    for counts_ in (seen, seen[::-1]):
        whole = process.advance(shape, rows, counts_, given_)
        for some in (slice(0, 1), slice(100, 103), slice(510, 515), slice(1199, 1200)):
            apart = process.advance(shape, rows[some], counts_[some], given_.only(some))
            assert apart.tobytes() == whole[some].tobytes()
        rows = whole


@given(st.binary(max_size=50))
def test_evidence_is_written_in_base_85(data: bytes) -> None:
    layout_ = Layout([Field("numbers", len(data), Precision.LOG)])
    row_ = np.frombuffer(data, dtype=np.uint8).astype(float) / 2**26
    assert base64.b85decode(layout_.encode(row_))[::5] == data
    assert layout_.decode(layout_.encode(row_)).tobytes() == row_.tobytes()


@pytest.mark.parametrize("rate", [20.0, 5000.0])
@pytest.mark.parametrize(
    ("rules", "limit"),
    [
        ([Latency(EDGES)] * 6, 3000),
        ([Distribution(12)] * 6, 3000),
        ([Count(), Latency(EDGES), Latency(EDGES), Distribution(12), Distribution(12), Distribution(12)], 3000),
        ([Latency(EDGES, no_harm=NO_HARM)] * 6, 3200),
    ],
)
def test_six_signals_of_twelve_buckets_fit_into_status(rate: float, rules: list[Latency], limit: int) -> None:
    panel = Panel(0.05, tuple(Judged(f"signal-{i}", rule) for i, rule in enumerate(rules)))
    random, memory = np.random.default_rng(0), Memory()
    for index in range(14):
        memory = fold(memory, simulated(random, index, rate=rate, panel=panel), panel)
    document = memory.to_dict(panel)
    assert any("pending" in entry for entry in document["signals"].values()) == (rate < 30)
    assert len(json.dumps(document, separators=(",", ":"))) < limit


def row(memory: Memory, name: str) -> Process:
    process = memory.signals[name]
    assert isinstance(process, Process)
    return process


ERRORS = Panel(0.05, (Judged("errors", Count()),))


def errors(tick: float, counts_: tuple[float, ...], *, step: int = 0, steps: int = 1, mix: str = "") -> Interval:
    return Interval(tick, {"errors": counted(*counts_)}, requests=counts_[2], step=step, steps=steps, mix=mix)


def log_e(memory: Memory, panel: Panel, name: str = "errors") -> float:
    (shape,) = (part.shape for part in panel.compared if part.signal.name == name)
    return float(log_evidence(shape, row(memory, name).row))


@pytest.mark.parametrize(
    ("kept", "hazards"),
    [(0.0, (1 / 3, 0, 1 / 2, 0, 1)), (0.1, (0.9 / 3, 0.005 / 3, 0.9 / 2, 0.005 / 2, 0.9))],
)
def test_each_step_brings_its_share_of_what_is_held_back_to_work(kept: float, hazards: tuple[float, ...]) -> None:
    intervals = [(1, 9, 120, 1080), (0, 12, 110, 1100), (3, 20, 300, 900), (6, 18, 300, 920), (9, 10, 600, 610)]
    weights, panel = np.array(counts.WATCHED_WEIGHTS), replace(ERRORS, kept=kept)
    memory, state = Memory(), onset.waiting((), len(counts.WATCHED))
    for index, (interval, step, hazard) in enumerate(zip(intervals, [0, 0, 1, 1, 2], hazards, strict=True)):
        memory = fold(memory, errors(index + 1, interval, step=step, steps=3), panel)
        state = onset.step(state, counts.increments(*interval, ratios=counts.WATCHED), hazard)
        assert log_e(memory, ERRORS) == pytest.approx(float(onset.log_evidence(state, weights)), abs=1e-7)


def test_a_defect_that_begins_after_an_hour_of_one_step_is_found_in_two_intervals() -> None:
    panel = panel_of(Analysis(interval=15.0, alpha=0.05, signals=(Signal("errors", Comparison()),)))
    memory, good, bad = Memory(), (2.0, 18.0, 200.0, 1800.0), (20.0, 18.0, 200.0, 1800.0)
    for tick in range(1, 241):
        memory = fold(memory, errors(tick, good), panel)
    assert not memory.failed
    for tick in range(241, 243):
        memory = fold(memory, errors(tick, bad), panel)
    assert memory.failed


def test_intervals_are_joined_until_both_arms_have_thirty_requests() -> None:
    memory = fold(Memory(), errors(1, (1, 0, 3, 20)), ERRORS)
    assert log_e(memory, ERRORS) == 0
    assert assess(memory, ERRORS).verdict is Verdict.NO_DATA
    memory = fold(memory, errors(2, (0, 1, 2, 18)), ERRORS)
    joined = fold(Memory(), errors(2, (1, 1, 5, 38)), ERRORS)
    assert memory.signals == joined.signals


def test_events_do_not_end_the_joining() -> None:
    assert log_e(fold(Memory(), errors(1, (6, 0, 6, 20)), ERRORS), ERRORS) == 0


@pytest.mark.parametrize("later", [{"step": 1, "steps": 2}, {"mix": "fresh"}])
def test_what_waits_is_judged_by_itself_when_the_shares_change(later: dict[str, int]) -> None:
    memory = fold(Memory(), errors(1, (1, 0, 3, 20)), ERRORS)
    memory = fold(memory, errors(2, (0, 1, 20, 20), **later), ERRORS)  # type: ignore[arg-type]
    assert row(memory, "errors").row[layout(ERRORS.compared[0].shape).slices["totals"]].tolist() == [1, 1, 23, 40]
    assert row(memory, "errors").pending is None


def test_what_waits_is_judged_when_the_weights_change_and_that_interval_is_not() -> None:
    memory = fold(Memory(), errors(1, (1, 0, 3, 20)), ERRORS)
    memory = fold(memory, replace(errors(2, (9, 0, 9, 20)), comparable=False), ERRORS)
    assert row(memory, "errors").row[layout(ERRORS.compared[0].shape).slices["totals"]].tolist() == [1, 0, 3, 20]


def test_comparisons_stand_still_once_they_have_failed() -> None:
    memory = fold(Memory(), errors(1, (30, 0, 100, 900)), ERRORS)
    assert memory.failed
    later = fold(memory, errors(2, (0, 900, 100, 900)), ERRORS)
    assert (later.signals, later.failed, later.requests) == (memory.signals, True, 200)
    assert assess(later, ERRORS).sentence == assess(memory, ERRORS).sentence


def test_clusters_divide_the_evidence_and_pods_that_differ_widen_the_tolerance() -> None:
    interval = errors(1, (30, 90, 1000, 9000))
    plain = log_e(fold(Memory(), interval, ERRORS), ERRORS)
    bursty = log_e(fold(Memory(learnt={"errors": Learnt(phi=3.0)}), interval, ERRORS), ERRORS)
    uneven = fold(Memory(learnt={"errors": Learnt(sigma=0.25)}), interval, ERRORS)
    assert 0 < bursty < plain / 2
    assert log_e(uneven, ERRORS) < plain
    assert "limit 40" in assess(uneven, ERRORS).sentence
    assert "bursts" not in assess(uneven, ERRORS).sentence
    told = assess(fold(Memory(learnt={"errors": Learnt(phi=3.0)}), interval, ERRORS), ERRORS)
    assert told.sentence.endswith(", weighed for bursts of 3")
    assert all(line.endswith(" phi=3") for line in told.details)


def test_no_harm_starts_again_at_every_step_and_stands_at_full_traffic() -> None:
    asks = Panel(0.05, (Judged("errors", Count(no_harm=NoHarm())),))
    one = errors(1, (5, 50, 500, 4500), steps=2)
    first = fold(Memory(), one, asks)
    assert assess(first, asks).verdict is Verdict.INCONCLUSIVE
    enough = fold(first, replace(one, tick=2.0), asks)
    assert assess(enough, asks).verdict is Verdict.PASS
    second = fold(enough, errors(3, (1, 10, 50, 450), step=1, steps=2), asks)
    assert assess(second, asks).verdict is Verdict.INCONCLUSIVE
    for tick in range(4, 8):
        second = fold(second, errors(tick, (50, 50, 5000, 5000), step=1, steps=2), asks)
    assert assess(second, asks).verdict is Verdict.PASS
    full = fold(second, errors(9, (5, 0, 900, 0), step=2, steps=2), asks)
    assert assess(full, asks).verdict is Verdict.PASS


def test_no_events_are_no_evidence_of_no_harm() -> None:
    asks = Panel(0.05, (Judged("errors", Count(no_harm=NoHarm())),))
    assert assess(fold(Memory(), errors(1, (0, 0, 5000, 5000)), asks), asks).verdict is Verdict.INCONCLUSIVE
    assert assess(fold(Memory(), errors(1, (0, 0, 5000, 5000)), ERRORS), ERRORS).verdict is Verdict.PASS


def _split(n_c: float, n_s: float, *, planned: float = 0.1) -> Memory:
    panel = replace(ERRORS, split_tolerance=1.1)
    memory = Memory()
    for tick in range(1, 6):
        interval = Interval(
            float(tick), {"errors": counted(0, 0, n_c, n_s)}, requests=n_c, planned=planned, arms=(n_c, n_s)
        )
        memory = fold(memory, interval, panel)
    return memory


def test_a_canary_that_answers_too_little_lost_the_rest() -> None:
    judged = assess(_split(100, 1800), ERRORS)
    assert judged.verdict is Verdict.FAIL
    assert judged.sentence.startswith(
        "traffic: the canary answered 500 requests where its share brings 1,000, so 500 were lost"
    )
    assert judged.details[0].startswith("signal=traffic verdict=Fail value=500 baseline=1000 requests=500 E=10^")


def test_a_canary_that_gets_too_much_is_not_at_fault() -> None:
    judged = assess(_split(400, 1800), ERRORS)
    assert judged.verdict is Verdict.INCONCLUSIVE
    assert "see whether the route is as planned" in judged.sentence


def test_the_split_is_not_judged_on_what_any_gateway_does() -> None:
    assert assess(_split(205, 1800), ERRORS).verdict is Verdict.PASS


def test_a_canary_that_answers_nothing_at_all_fails() -> None:
    memory = _split(0, 1800)
    assert memory.split is not None
    assert log_evidence(SPLIT, memory.split.row) > math.log(1000)
    assert assess(memory, ERRORS).verdict is Verdict.FAIL


def test_at_full_traffic_there_is_no_split_to_judge() -> None:
    assert _split(100, 0, planned=1.0).split is None


def test_a_signal_stored_in_another_form_begins_anew() -> None:
    memory = fold(Memory(), errors(1, (3, 0, 30, 300)), ERRORS)
    document = memory.to_dict(ERRORS)
    other = Panel(0.05, (Judged("errors", Latency(EDGES)),))
    assert Memory.of(document, other).signals == {}
    document["signals"]["errors"]["state"] = "not base 85 \\"
    assert Memory.of(document, ERRORS).signals == {}
