"""The statistical rivals, against published constants, scipy and their own promises."""

import numpy as np
import pytest
from scipy import integrate, stats

from backstay_bench_judge.comparison import chi_square, score_test, z_of
from backstay_bench_judge.rivals.msprt import log_ratio
from backstay_bench_judge.rivals.obrien_fleming import boundary
from backstay_bench_judge.scenarios import Kind, Scenario
from backstay_bench_judge.simulate import batches


@pytest.mark.parametrize(
    ("looks", "constant"), [(1, 1.960), (2, 1.977), (3, 2.004), (4, 2.024), (5, 2.040), (10, 2.087)]
)
def test_the_boundary_is_the_published_one(looks: int, constant: float) -> None:
    """Two-sided .05: Jennison and Turnbull, Group Sequential Methods (1999), table 2.3."""
    times = tuple((k + 1) / looks for k in range(looks))
    assert boundary(times, 0.05, two_sided=True) == pytest.approx(constant, abs=1e-3)


def test_the_boundary_keeps_its_level_one_sided() -> None:
    times = tuple((k + 1) / 12 for k in range(12))
    steps = np.random.default_rng(5).standard_normal((100_000, 12)) / np.sqrt(12)
    crossed = (np.cumsum(steps, axis=1) >= boundary(times, 0.05)).any(axis=1).mean()
    assert crossed == pytest.approx(0.05, abs=0.003)


@pytest.mark.parametrize(("u", "v"), [(0.0, 0.0), (3.0, 4.0), (-2.0, 1.5), (20.0, 9.0)])
def test_the_mixture_is_the_integral_over_its_prior(u: float, v: float) -> None:
    scale = 0.7

    def likelihood_ratio(theta: float) -> float:
        return float(np.exp(theta * u - theta**2 * v / 2) * 2 * stats.norm.pdf(theta, scale=scale))

    expected, _ = integrate.quad(likelihood_ratio, 0, 10, epsabs=1e-12)
    found = log_ratio(np.array([[u]]), np.array([[v]]), scale=scale)[0, 0]
    assert np.exp(found) == pytest.approx(expected, rel=1e-6)


def test_the_two_sided_mixture_is_the_published_formula() -> None:
    """Johari, Koomen, Pekelis and Walsh (2017): sqrt(V/(V+t)) exp(n^2 t x^2 / (2 V (V+t))), of the estimate U/V."""
    u, v, scale = 3.0, 4.0, 0.7
    estimate, variance = u / v, 1 / v
    expected = np.sqrt(variance / (variance + scale**2))
    expected *= np.exp(estimate**2 * scale**2 / (2 * variance * (variance + scale**2)))
    found = log_ratio(np.array([[u]]), np.array([[v]]), scale=scale, one_sided=False)[0, 0]
    assert np.exp(found) == pytest.approx(expected)


def test_the_score_is_hypergeometric_in_one_interval() -> None:
    rollouts = next(batches(Scenario(minutes=1, traffic=20.0), seed=1, runs=3))
    u, v = score_test(rollouts)
    canary, control = rollouts.canary, rollouts.control
    for run in range(3):
        total = int(canary.requests[run, 0] + control.requests[run, 0])
        events = int(canary.errors[run, 0] + control.errors[run, 0])
        drawn = stats.hypergeom(total, events, int(canary.requests[run, 0]))
        assert u[run, 0] == pytest.approx(canary.errors[run, 0] - drawn.mean())
        assert v[run, 0] == pytest.approx(drawn.var())


def test_chi_square_is_scipys() -> None:
    rollouts = next(batches(Scenario(kind=Kind.DISTRIBUTION, base=0, effect=0.05, minutes=2), seed=1, runs=2))
    found = chi_square(rollouts)
    table = np.stack([rollouts.canary.buckets[1].sum(axis=0), rollouts.control.buckets[1].sum(axis=0)])
    expected = stats.chi2_contingency(table[:, table.sum(axis=0) > 0], correction=False).pvalue
    assert stats.norm.sf(found[1, -1]) == pytest.approx(expected)


def test_z_is_nothing_before_there_is_anything() -> None:
    assert z_of(np.zeros((1, 1)), np.zeros((1, 1)))[0, 0] == 0
