"""The published check values of every formula, to 1e-6. An interval is (c, s, n_c, n_s)."""

import numpy as np
import pytest

from backstay.judge import combine, counts, effects, onset, ratio, shift
from backstay.judge.arrays import Floats, logmeanexp

STEPPED = [
    (1, 9, 120, 1080),
    (0, 12, 110, 1100),
    (3, 20, 300, 900),
    (6, 18, 300, 920),
    (9, 10, 600, 610),
    (14, 9, 590, 600),
]
CANARY = np.array([[5, 15, 100, 0], [8, 20, 92, 0], [9, 22, 85, 4], [12, 25, 80, 3]], dtype=float)
BASELINE = np.array([[40, 140, 900, 0], [50, 130, 880, 0], [45, 150, 860, 5], [44, 139, 890, 7]], dtype=float)


@pytest.mark.parametrize(
    ("interval", "tolerance", "expected"),
    [
        ((20, 80, 100, 900), 1.0, 3.2258774),
        ((10, 90, 100, 900), 1.0, -1.5279550),
        ((20, 80, 100, 900), 1.25, 1.4251497229),
    ],
)
def test_counts_in_the_base_form(interval: tuple[float, ...], tolerance: float, expected: float) -> None:
    exponents = counts.increments(*interval, tolerance=tolerance, ratios=counts.BASE, refined=False)
    assert logmeanexp(exponents) == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize(("tolerance", "expected"), [(1.0, 0.4392276366), (1.25, -1.0820202096)])
def test_counts_in_the_refined_form(tolerance: float, expected: float) -> None:
    exponents = counts.increments(45, 315, 120, 1080, tolerance=tolerance, ratios=(1.25, 2, 5))
    assert logmeanexp(exponents) == pytest.approx(expected, abs=1e-6)


def test_no_harm() -> None:
    assert counts.no_harm(8, 150, 1200, 10800, ratio=2.0, theta=1.0) == pytest.approx(9.3603429507, abs=1e-6)


def test_late_onset() -> None:
    state, seen = onset.waiting((), 4), []
    for hazard, interval in zip([1 / 3, 0, 1 / 2, 0, 1, 0], STEPPED, strict=True):
        state = onset.step(state, counts.increments(*interval, refined=False), hazard)
        seen.append(float(onset.log_evidence(state)))
    expected = [-0.1479847435, -0.3009873263, -1.0012981152, -1.0347765418, -2.4830908035, -1.9625792474]
    assert seen == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize(("tolerance", "expected"), [(1.0, 9.2085440003), (1.1, 2.8950254054)])
def test_sample_ratio(tolerance: float, expected: float) -> None:
    n_c, n_s, planned = np.array([(60, 940, 0.05), (75, 925, 0.05), (300, 700, 0.25)]).T
    split = ratio.increments(n_c, n_s, planned, tolerance=tolerance)
    log_e = logmeanexp(np.concatenate([split.more, split.less], axis=-1).sum(axis=0))
    assert log_e == pytest.approx(expected, abs=1e-6)


def by_history(kappa: float) -> float:
    canary, expected, pooled, log_e = np.zeros(4), np.zeros(4), np.zeros(4), 0.0
    for c, s in zip(CANARY, BASELINE, strict=True):
        weights = shift.history_weights(canary, expected, pooled, kappa=kappa)
        log_e += float(shift.increments(c, s, weights[np.newaxis])[0])
        canary, pooled = canary + c, pooled + c + s
        expected = expected + c.sum() * (c + s) / (c + s).sum()
    return log_e


def tilted() -> Floats:
    return np.asarray(shift.increments(CANARY, BASELINE, shift.tilts(4)).sum(axis=0))


def test_shift() -> None:
    assert by_history(50) == pytest.approx(5.9113054230, abs=1e-6)
    assert by_history(200) == pytest.approx(4.9147277038, abs=1e-6)
    assert logmeanexp(tilted()) == pytest.approx(3.7038891495, abs=1e-6)
    halves = np.array([by_history(200), float(logmeanexp(tilted()))])
    assert combine.log_mean(halves, np.ones(2)) == pytest.approx(4.4823645626, abs=1e-6)


def test_smallest_shift() -> None:
    weights = np.exp(np.array([[0.25, 0.0, -0.25]]))
    added = shift.increments(np.array([20.0, 40, 60]), np.array([90.0, 360, 630]), weights, smallest=0.05)
    assert added[0] == pytest.approx(-0.3564623201, abs=1e-6)


def test_weighted_mean_of_signals() -> None:
    mean = combine.log_mean(np.array([2.9, 1.0, -0.5]), np.array([2.0, 1.0, 1.0]))
    assert mean == pytest.approx(2.2943790964, abs=1e-6)


def test_mantel_haenszel() -> None:
    c, s, n_c, n_s = np.array([(1, 9, 10, 990), (5, 9, 50, 950), (25, 8, 250, 750), (150, 150, 500, 500)], float).T
    terms = effects.strata(c, s, n_c, n_s)
    assert effects.mantel_haenszel(terms.over.sum(), terms.under.sum()) == pytest.approx(1.2830797008, abs=1e-6)
    assert c.sum() / n_c.sum() / (s.sum() / n_s.sum()) == pytest.approx(4.0501543210, abs=1e-6)
