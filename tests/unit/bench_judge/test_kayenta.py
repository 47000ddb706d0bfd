"""Kayenta's rule, against the cases of its own suites.

The samples and expectations are those of ClassifierSuite.scala, ScorerSuite.scala and MannWhitneySuite.scala in
spinnaker/kayenta (now spinnaker/spinnaker, kayenta/), entered anew; the intervals there were computed with R.
"""

import numpy as np
import pytest
from scipy import stats

from backstay_bench_judge.rivals.kayenta import Direction, Label, Metric, classify, score
from backstay_bench_judge.rivals.mann_whitney import RankSum, shift, z_at
from backstay_bench_judge.simulate import Floats

TEN = [9.7767343120109462, 10.587071850477695, 7.8375506388901766, 9.3243326886113884, 8.3774505409784421]
TEN += [8.9359264399606282, 8.2707663324728511, 9.7484308126716925, 11.623746715547156, 9.2753442679633942]
TEN += [8.1538047749171518, 10.562020975754294, 13.498135575451835, 11.054419256110332, 6.9538903590055092]
TEN += [12.521008342195479, 9.0216358603546443, 4.9234856699531662, 11.251360203607172, 11.598449508040337]
TEN += [8.435232204668182, 11.110228516867279, 10.70063380164755, 8.9212773652115249, 10.086167067942661]
TEN += [11.42107515483087, 9.3792347813644952, 7.7980320148552593, 10.62339807275746, 11.909642062063739]

ALSO_TEN = [11.1453586774086, 9.9618059885597017, 7.068574306369829, 7.3012661810483657, 9.7944630265656727]
ALSO_TEN += [9.6037918603687302, 6.1867793350339388, 12.345599159550174, 10.371891733859533, 8.6094300785016724]
ALSO_TEN += [9.913162673361084, 10.361375299003466, 14.206800387518818, 10.946153754753301, 10.215876627044048]
ALSO_TEN += [11.739760899484603, 10.907627468626439, 12.823353694464775, 8.1018609771732137, 8.4981616408804932]
ALSO_TEN += [12.113441374697231, 13.272210809932028, 10.114579381663297, 6.9463958767978067, 6.2105278541727778]
ALSO_TEN += [10.160401684903775, 8.3457712066455461, 8.383822063895833, 7.0020205070083765, 10.755757401808442]

TWENTY = [20.878412601720026, 21.78550581191622, 19.70828084717019, 15.859946903461562, 19.510058772176841]
TWENTY += [19.392005525270303, 22.926528314912101, 17.156530276709894, 18.655117916226171, 23.422607911610392]
TWENTY += [24.055817684156644, 22.62689958516501, 21.979472967817678, 21.659318607218694, 20.067707574072426]
TWENTY += [22.119570836305414, 16.44037132663307, 21.559622826341268, 21.000181443489218, 17.779369411412663]
TWENTY += [17.806006358943584, 18.537200618386109, 20.555550300210797, 19.552928184468378, 21.771118944087092]
TWENTY += [21.809622806176627, 20.961762909905271, 20.977571577503021, 19.106303205498794, 16.976918966987078]

# The suite's long samples are mostly zeros; the order does not matter.
MOSTLY_ZERO = [1.6666666666666572, 3.703703703703681, 1.5625000000000142, 3.333333333333343]
MOSTLY_ZERO += [1.7543859649122737, 1.8518518518518476, 1.8518518518518476, 1.5151515151515156]
MOSTLY_ZERO += [1.7857142857142776, 1.3333333333333286, 3.125000000000014, 1.9607843137255117]
MOSTLY_ZERO += [1.4492753623188293, 2.439024390243887, 1.6393442622950687, 1.6129032258064484]
MOSTLY_ZERO += [1.9607843137255117, 1.5873015873015817, 2.8169014084507182, 3.0303030303030454]
MOSTLY_ZERO += [3.3898305084745743, 1.234567901234584, 1.7241379310344769, 1.6949152542372872]
MOSTLY_ZERO += [1.470588235294116, 1.3698630136986196, 3.225806451612911, 1.754385964912288, 3.4482758620689538]
MOSTLY_ZERO += [3.333333333333343, 1.818181818181813, 1.4285714285714448, 1.8867924528301927]
MOSTLY_ZERO += [2.0000000000000284, 2.985074626865682, 1.6666666666666714, 1.5625, 1.9230769230769198]
MOSTLY_ZERO += [1.8518518518518619, 2.702702702702709, 1.3513513513513544, 1.818181818181813]
MOSTLY_ZERO += [1.6666666666666572, 1.818181818181813, 1.4285714285714164, 4.1095890410959015]
MOSTLY_ZERO += [1.8518518518518619, 1.8518518518518476, 1.3888888888888857, 1.8867924528301785]
MOSTLY_ZERO += [1.4285714285714164, 1.5625, 1.8867924528301927, 2.040816326530603, 1.818181818181813]
MOSTLY_ZERO += [1.6393442622950687, 1.7241379310344769, 1.5151515151515156, 2.564102564102555]
MOSTLY_ZERO += [5.555555555555557, 4.081632653061206, 3.5714285714285836, 2.040816326530603, 3.1746031746031633]
MOSTLY_ZERO += [0.0] * 146

NEARLY_ZERO = [1.5625000000000142, 1.3888888888888857, 1.5384615384615614, 1.492537313432834]
NEARLY_ZERO += [1.6949152542373014, 1.470588235294116, 1.754385964912288, 1.8518518518518619]
NEARLY_ZERO += [1.6393442622950687, 1.7241379310344769, 1.5873015873015817, 1.492537313432834]
NEARLY_ZERO += [3.124999999999986, 1.492537313432834, 2.9850746268656536, 2.5000000000000284]
NEARLY_ZERO += [1.7857142857142776]
NEARLY_ZERO += [0.0] * 193


def rows(*values: float) -> Floats:
    return np.array([values], dtype=np.float64)


@pytest.mark.parametrize(
    ("canary", "control", "direction", "expected"),
    [
        (TEN, ALSO_TEN, Direction.EITHER, Label.PASS),
        (TWENTY, ALSO_TEN, Direction.EITHER, Label.HIGH),
        (ALSO_TEN, TWENTY, Direction.EITHER, Label.LOW),
        (TEN, TWENTY, Direction.INCREASE, Label.PASS),
        (TWENTY, ALSO_TEN, Direction.DECREASE, Label.PASS),
        (TWENTY, ALSO_TEN, Direction.INCREASE, Label.HIGH),
        (TEN, TWENTY, Direction.DECREASE, Label.LOW),
        (MOSTLY_ZERO, NEARLY_ZERO, Direction.EITHER, Label.HIGH),
        ([20.0, 22.0, 21.0, 25.0, 30.0], [1.0, 2.2, 1.1, 2.5, 3.0], Direction.EITHER, Label.HIGH),
        ([2.0, 2.0, 2.0, 2.0, 3.0], [10.0, 20.2, 10.1, 20.5, 30.0], Direction.EITHER, Label.LOW),
        ([1.0, 1.0, 1.0], [1.0, 1.0], Direction.DECREASE, Label.PASS),
        ([1.0, 2.0, 3.0, 4.0, 5.0], [5.0, 4.0, 3.0, 2.0, 1.0], Direction.DECREASE, Label.PASS),
        ([0.0, 1.0, 1.0, 1.0, 1.0], [1.0, 1.0, 1.0, 1.0, 1.0], Direction.DECREASE, Label.PASS),
        ([np.nan], [1.0, 2.0, 3.0, 4.0, 5.0], Direction.DECREASE, Label.NO_DATA),
        ([1.0, 1.0, 1.0, 1.0, 10.0], [1.0, 1.0, 1.0, 1.0, 1.0], Direction.EITHER, Label.PASS),
        ([10.0] * 5, [1.0] * 5, Direction.EITHER, Label.HIGH),
        ([10.0] * 5, [0.0] * 5, Direction.EITHER, Label.HIGH),
        ([54.9, 54.5, 55.1, 55.6, 57.4], [0.0] * 5, Direction.EITHER, Label.HIGH),
        ([0.0] * 5, [54.9, 54.5, 55.1, 55.6, 57.4], Direction.EITHER, Label.LOW),
        ([0.0] * 5, [0.0] * 5, Direction.EITHER, Label.PASS),
    ],
)
def test_classifier_suite(canary: list[float], control: list[float], direction: Direction, expected: Label) -> None:
    found = classify(rows(*canary), rows(*control), direction=direction, tolerance=0.10, confidence=0.95)
    assert found == [expected]


def test_missing_data_passes_when_nan_is_replaced() -> None:
    assert classify(rows(np.nan), rows(1.0, 2.0), replace_nan=True, direction=Direction.DECREASE) == [Label.PASS]


def test_samples_of_many_canaries_are_classified_at_once() -> None:
    canary = np.array([TWENTY, TEN, [np.nan] * 30])
    control = np.array([ALSO_TEN, ALSO_TEN, ALSO_TEN])
    assert classify(canary, control) == [Label.HIGH, Label.PASS, Label.NO_DATA]


def test_interval_of_few_values() -> None:
    found = shift(rows(10.0, 20.0, 30.0, 40.0), rows(1.0, 2.0, 3.0, 4.0), confidence=0.95)
    assert (found.low[0], found.high[0], found.estimate[0]) == pytest.approx((6.0, 39.0, 22.5), abs=1e-6)


def test_statistic_and_interval_of_heavily_tied_samples() -> None:
    """Where the ends of the interval are wherever R's root finder stops."""
    x, y = rows(*MOSTLY_ZERO), rows(*NEARLY_ZERO)
    ranks, normal = RankSum(x, y), 1.9599639845400536
    assert ranks.lowest[0] == pytest.approx(-3.124999999999986)
    assert ranks.highest[0] == pytest.approx(5.555555555555557)
    ends = [ranks.z(end)[0] - quantile for quantile in (normal, -normal) for end in (ranks.lowest, ranks.highest)]
    assert ends == pytest.approx([17.090968923762254, -20.997687930433106, 21.01089688284236, -17.077759961353])
    found = shift(x, y, confidence=0.95)
    assert found.low[0] == pytest.approx(3.521755377702165e-5, abs=1e-9)
    assert found.high[0] == pytest.approx(2.02456461662334e-5, abs=1e-9)
    assert found.estimate[0] == pytest.approx(2.6279243045155653e-5, abs=1e-9)


def test_statistic_agrees_with_scipy() -> None:
    rng = np.random.default_rng(1)
    for _ in range(20):
        x, y = rng.integers(0, 6, 25).astype(np.float64), rng.integers(1, 7, 30).astype(np.float64)
        expected = stats.mannwhitneyu(x, y, method="asymptotic", use_continuity=True).pvalue
        z = z_at(x[None, :], y[None, :], 0.0)[0]
        assert 2 * stats.norm.sf(abs(z)) == pytest.approx(expected)
        assert RankSum(x[None, :], y[None, :]).z(np.zeros(1))[0] == pytest.approx(z)


def test_missing_values_are_left_out() -> None:
    whole = shift(rows(*TWENTY), rows(*TEN), confidence=0.98)
    holed = shift(rows(*TWENTY, np.nan), rows(np.nan, *TEN), confidence=0.98)
    assert holed.low[0] == pytest.approx(whole.low[0], abs=1e-4)
    assert holed.estimate[0] == pytest.approx(whole.estimate[0], abs=1e-4)


def metrics(*labels: Label, group: str = "test-group") -> list[Metric]:
    return [Metric(label, (group,)) for label in labels]


@pytest.mark.parametrize(
    ("found", "weights", "expected"),
    [
        (metrics(Label.PASS), {}, 100.0),
        (metrics(Label.HIGH), {}, 0.0),
        (metrics(Label.PASS, Label.HIGH), {}, 50.0),
        (metrics(Label.PASS, Label.HIGH, Label.LOW), {}, 33.33),
        (metrics(Label.PASS, Label.PASS, group="1") + metrics(Label.HIGH, group="2"), {"1": 75.0, "2": 25.0}, 75.0),
        (metrics(Label.PASS, Label.HIGH, group="1") + metrics(Label.HIGH, group="2"), {"1": 50.0, "2": 50.0}, 25.0),
        (metrics(Label.PASS, Label.NO_DATA, group="1") + metrics(Label.HIGH, group="2"), {"1": 50.0, "2": 50.0}, 50.0),
        ([*metrics(Label.PASS), Metric(Label.HIGH, ("test-group",), critical=True)], {}, 0.0),
        ([*metrics(Label.LOW), Metric(Label.PASS, ("test-group",), critical=True)], {}, 50.0),
        ([*metrics(Label.PASS), Metric(Label.NO_DATA, ("test-group",), critical=True)], {}, 0.0),
        (
            metrics(Label.HIGH, Label.LOW, Label.PASS, group="1") + metrics(Label.HIGH, group="2"),
            {"1": 15.0, "2": 85.0},
            5.0,
        ),
        (metrics(Label.NO_DATA), {}, 0.0),
        (metrics(Label.PASS, Label.PASS, group="1") + metrics(Label.NO_DATA, group="2"), {"1": 50.0, "2": 50.0}, 100.0),
    ],
)
def test_scorer_suite(found: list[Metric], weights: dict[str, float], expected: float) -> None:
    assert score(found, weights) == expected
