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

# The suite's long samples are nearly all zeros: what is not, by its place.
MANY_OF = 206
MANY_VALUES = {
    8: 1.6666666666666572, 15: 3.7037037037036811, 22: 1.5625000000000142, 27: 3.3333333333333428,
    29: 1.7543859649122737,
}  # fmt: skip


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
