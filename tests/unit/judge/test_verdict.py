"""From intervals to a verdict, and back from status to the bit."""

import json
import math

from hypothesis import given
from hypothesis import strategies as st

from backstay.domain.resource import Analysis
from backstay.domain.signals import Comparison, Objective, Signal
from backstay.domain.status import Verdict
from backstay.judge.fold import Interval, counted, fold
from backstay.judge.memory import Memory
from backstay.judge.objectives import Window
from backstay.judge.panel import Panel, panel_of
from backstay.judge.verdict import assess

ERRORS = Signal("errors", Comparison())
LIMIT = Signal("limit", Objective(limit=0.05, window=60, min_requests=20, violations=2))


def analysis(*signals: Signal) -> Panel:
    return panel_of(Analysis(interval=2.0, alpha=0.05, signals=signals or (ERRORS,)))


def interval(tick: float, *, bad: int = 0, requests: int = 60, comparable: bool = True, step: int = 0) -> Interval:
    counts = counted(bad, 0, requests, 9 * requests)
    names = ("errors", "limit", "same")
    return Interval(tick, dict.fromkeys(names, counts), requests=requests, step=step, comparable=comparable)


def gathered(signals: Panel, *intervals: Interval) -> Memory:
    memory = Memory()
    for one in intervals:
        memory = fold(memory, one, signals)
    return memory


def test_no_data_is_not_a_failure() -> None:
    assert assess(Memory(), analysis()).verdict is Verdict.NO_DATA


def test_a_few_errors_of_a_broken_version_are_enough() -> None:
    judged = assess(gathered(analysis(), interval(2, bad=4, requests=8)), analysis())
    assert judged.verdict is Verdict.FAIL
    assert judged.sentence.startswith("errors 50.0 % against 0.0 % on 8 requests, E = ")
    assert judged.details[0].startswith("signal=errors verdict=Fail value=50.0 % baseline=0.0 %")


def test_one_error_among_many_is_not() -> None:
    assert assess(gathered(analysis(), interval(2, bad=1)), analysis()).verdict is Verdict.PASS


def test_an_interval_in_which_the_weights_changed_is_not_compared() -> None:
    judged = assess(gathered(analysis(), interval(2, bad=30, comparable=False)), analysis())
    assert judged.verdict is Verdict.NO_DATA


def test_an_interval_counts_once() -> None:
    once = gathered(analysis(), interval(2, bad=1))
    assert fold(once, interval(2, bad=1), analysis()) == once


def test_an_objective_needs_its_violations_in_a_row_and_its_requests() -> None:
    signals = analysis(LIMIT)
    one = gathered(signals, interval(2, bad=30))
    assert assess(one, signals).verdict is Verdict.PASS
    two = fold(one, interval(4, bad=30), signals)
    assert assess(two, signals).verdict is Verdict.FAIL
    few = gathered(signals, interval(2, bad=5, requests=5), interval(4, bad=5, requests=5))
    assert assess(few, signals).verdict is Verdict.INCONCLUSIVE


def test_an_objective_forgets_what_left_its_window() -> None:
    signals = analysis(LIMIT)
    later = (interval(2.0 * i, bad=4 if i == 50 else 0) for i in range(2, 60))
    memory = gathered(signals, interval(2, bad=4), *later)
    assert assess(memory, signals).verdict is Verdict.PASS
    window = memory.signals["limit"]
    assert isinstance(window, Window)
    assert len(window.slots) <= 13


def test_weighted_signals_fail_together() -> None:
    thrice = analysis(ERRORS, Signal("same", Comparison()), Signal("limit", Comparison()))
    # E is 47 for each: above 1/alpha, though none reaches its own share's limit of 3/alpha.
    judged = assess(gathered(thrice, interval(2, bad=4, requests=8)), thrice)
    assert judged.verdict is Verdict.FAIL
    assert max(signal.log_e for signal in judged.signals) < math.log(60)
    assert len(judged.details) == 3
    assert judged.sentence.endswith("; all comparisons together E = 47, limit 20")
    assert judged.sentence.count("together") == 1


def test_requests_are_counted_by_step() -> None:
    memory = gathered(analysis(), interval(2), interval(4), interval(6, step=1))
    assert (memory.step, memory.requests) == (1, 60)


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(5, 200)), min_size=2, max_size=20), st.data())
def test_a_restart_anywhere_changes_nothing_to_the_bit(rows: list[tuple[int, int]], data: st.DataObject) -> None:
    signals = analysis(ERRORS, LIMIT)
    intervals = [interval(2.0 * (i + 1), bad=bad, requests=requests) for i, (bad, requests) in enumerate(rows)]
    cut = data.draw(st.integers(1, len(rows)))
    resumed = Memory.of(json.loads(json.dumps(gathered(signals, *intervals[:cut]).to_dict(signals))), signals)
    for one in intervals[max(cut - 2, 0) :]:
        resumed = fold(resumed, one, signals)
    assert resumed == gathered(signals, *intervals)
