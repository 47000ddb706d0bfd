"""The simulator: the same for the same seed, and right on average."""

from dataclasses import replace

import numpy as np
import pytest

from backstay.judge.counters import increment
from backstay_bench_judge.scenarios import CENTRE, NUISANCES, PARTS, STEPPED, Kind, Nuisance, Scenario
from backstay_bench_judge.shapes import EDGES, latency_shares, psi_of, score_shares
from backstay_bench_judge.simulate import batches, delayed

SHORT = replace(CENTRE, minutes=10)


def test_a_seed_gives_the_same_rollouts_whatever_else_runs() -> None:
    first, again, other = (next(batches(SHORT, seed=seed, runs=5)) for seed in (1, 1, 2))
    assert np.array_equal(first.canary.errors, again.canary.errors)
    assert np.array_equal(first.history.errors, again.history.errors)
    assert not np.array_equal(first.canary.requests, other.canary.requests)


def test_names_tell_all_scenarios_apart() -> None:
    scenarios = {scenario for part in PARTS.values() for scenario in part()}
    assert len({scenario.name for scenario in scenarios}) == len(scenarios)


@pytest.mark.parametrize("share", [0.01, 0.10, 0.50])
def test_means_are_those_of_the_scenario(share: float) -> None:
    rollouts = next(batches(replace(SHORT, shares=(share,), traffic=20.0, effect=2.0), seed=1, runs=100))
    canary, baseline, stable = rollouts.canary, rollouts.baseline, rollouts.stable
    assert canary.requests.mean() == pytest.approx(300, rel=0.01)
    whole = canary.requests + baseline.requests + stable.requests
    assert canary.requests.sum() / whole.sum() == pytest.approx(share, rel=0.01)
    assert canary.errors.sum() / canary.requests.sum() == pytest.approx(0.02, rel=0.05)
    assert baseline.errors.sum() / baseline.requests.sum() == pytest.approx(0.01, rel=0.08)
    assert stable.errors.sum() / stable.requests.sum() == pytest.approx(0.01, rel=0.08)


def test_a_stepped_rollout_has_its_shares() -> None:
    rollouts = next(batches(replace(CENTRE, shares=STEPPED, traffic=20.0), seed=1, runs=20))
    whole = rollouts.canary.requests + rollouts.baseline.requests + rollouts.stable.requests
    for step, share in enumerate(STEPPED):
        at = rollouts.step == step
        assert rollouts.canary.requests[:, at].sum() / whole[:, at].sum() == pytest.approx(share, rel=0.03)


@pytest.mark.parametrize("nuisance", NUISANCES, ids=lambda nuisance: nuisance.name)
def test_nuisances_harm_nobody_on_average(nuisance: Nuisance) -> None:
    """But for young pods, whose errors are the canary's and the fresh baseline's alike."""
    rollouts = next(batches(replace(SHORT, nuisance=nuisance, traffic=20.0), seed=3, runs=150))
    canary = rollouts.canary.errors.sum() / rollouts.canary.requests.sum()
    baseline = rollouts.baseline.errors.sum() / rollouts.baseline.requests.sum()
    assert canary / baseline == pytest.approx(1.0, abs=0.12)


def test_a_late_defect_is_not_there_before_its_onset() -> None:
    late = next(batches(replace(SHORT, effect=5.0, onset_minute=5.0, traffic=20.0), seed=1, runs=20))
    half = late.canary.errors.shape[1] // 2
    assert late.canary.errors[:, :half].sum() / late.canary.requests[:, :half].sum() == pytest.approx(0.01, rel=0.1)
    assert late.canary.errors[:, half:].sum() / late.canary.requests[:, half:].sum() == pytest.approx(0.05, rel=0.1)


def test_bursts_keep_the_rate_and_multiply_the_variance() -> None:
    rollouts = next(batches(replace(SHORT, traffic=20.0, nuisance=Nuisance("bursts", burst=3)), seed=1, runs=100))
    errors = rollouts.stable.errors
    assert errors.var() / errors.mean() == pytest.approx(3, rel=0.1)
    assert set(np.unique(errors % 3)) == {0.0}


def test_missed_scrapes_are_what_the_product_makes_of_them() -> None:
    """The increments are those of ``backstay.judge.counters`` on readings that lack the missed ones."""
    rng = np.random.default_rng(6)
    increments = rng.integers(0, 9, (1, 30)).astype(np.float64)
    seen = rng.random((1, 30)) > 0.3
    totals = np.cumsum(increments[0])
    last, expected = {"pod": np.zeros(1)}, []
    for total, there in zip(totals, seen[0], strict=True):
        now = {"pod": np.array([total])} if there else {}
        expected.append(float(increment(last, now, born=frozenset(), size=1)[0]))
        last |= now
    assert delayed(increments, seen)[0].tolist() == expected


def test_a_scrape_that_comes_too_late_is_nobodys() -> None:
    increments = np.array([[5.0, 7.0]])
    assert delayed(increments, np.array([[True, False]])).tolist() == [[5.0, 0.0]]


@pytest.mark.parametrize("psi", [0.01, 0.05, 0.1, 0.25])
def test_shifted_scores_have_exactly_their_index(psi: float) -> None:
    assert psi_of(score_shares(psi), score_shares(0.0)) == pytest.approx(psi)
    assert score_shares(psi).sum() == pytest.approx(1)


def test_wider_scores_keep_their_mean() -> None:
    wide, usual = score_shares(0.0, wider=True), score_shares(0.0)
    at = np.arange(len(usual))
    assert wide @ at == pytest.approx(usual @ at)
    assert wide @ (at - wide @ at) ** 2 > 1.2 * (usual @ (at - usual @ at) ** 2)


def test_a_slower_tail_leaves_the_rest_alone() -> None:
    usual, slow = latency_shares(1.0, tail=0.10), latency_shares(2.0, tail=0.10)
    below = [edge < 0.14 for edge in EDGES.seconds]
    assert slow[: sum(below)] == pytest.approx(usual[: sum(below)])
    assert slow[-EDGES.slow :].sum() > 2 * usual[-EDGES.slow :].sum()


def test_only_the_canary_of_a_distribution_shifts() -> None:
    scenario = Scenario(kind=Kind.DISTRIBUTION, base=0.0, effect=0.25, traffic=20.0, minutes=5)
    rollouts = next(batches(scenario, seed=1, runs=20))
    shares = [arm.buckets.sum(axis=(0, 1)) / arm.buckets.sum() for arm in (rollouts.canary, rollouts.stable)]
    assert psi_of(shares[0], shares[1]) == pytest.approx(0.25, abs=0.02)


def test_labels_come_with_the_loss_that_was_asked_for() -> None:
    scenario = Scenario(kind=Kind.LABELS, traffic=0.2, base=0.2, shares=(0.5,), effect=0.05, minutes=12 * 60)
    cohorts = next(batches(scenario, seed=1, runs=20)).cohorts
    assert cohorts is not None
    assert cohorts.loss[:, -1].mean() == pytest.approx(0.05, abs=0.01)
    assert cohorts.loss[:, -1].std() == pytest.approx(np.sqrt(cohorts.variance[:, -1]).mean(), rel=0.5)
