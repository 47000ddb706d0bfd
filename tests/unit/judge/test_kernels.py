"""The kernels beside their check values: shapes, edges, and other people's code as oracle."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import integrate, optimize, special, stats

from backstay.judge import combine, counts, dependence, effects, labels, latency, objectives, onset, shift
from backstay.judge.arrays import Floats, logmeanexp, logsumexp
from backstay.judge.objectives import Beyond, Limit, Window

finite = st.floats(-800, 800)
log_e = st.lists(finite, min_size=1, max_size=8)


@given(st.lists(st.one_of(finite, st.just(-math.inf)), min_size=1, max_size=20))
def test_logsumexp_is_scipys(values: list[float]) -> None:
    assert logsumexp(np.array(values)) == pytest.approx(special.logsumexp(values), abs=1e-12)


def test_alternatives_are_on_the_last_axis_whatever_the_shape() -> None:
    c = np.arange(24.0).reshape(2, 3, 4)
    assert counts.increments(c, 30, 40, 400).shape == (2, 3, 4, 4)
    assert counts.no_harm(c, 30, 40, 400).shape == (2, 3, 4)
    assert latency.increments(c, c + 1).shape == (2, 3, 3, 3)
    assert shift.increments(c, c + 1, shift.tilts(4)).shape == (2, 3, 12)


@pytest.mark.parametrize("empty", [(0, 5, 0, 100), (3, 0, 100, 0), (0, 0, 0, 0), (2, 1, 0, 0)])
def test_an_empty_arm_adds_nothing(empty: tuple[float, ...]) -> None:
    assert not counts.increments(*empty).any()
    assert not counts.no_harm(*empty).any()
    one, other = np.array([empty[2], 0.0]), np.array([empty[3], 0.0])
    assert not latency.increments(one, other).any()
    assert not shift.increments(one, other, shift.tilts(2)).any()
    assert not shift.increments(one, other, shift.tilts(2), smallest=0.1).any()


def test_counts_without_events_add_nothing_or_less() -> None:
    assert (counts.increments(0, 0, 100, 900, tolerance=1.3) <= 0).all()
    assert not counts.no_harm(0, 0, 100, 900).any()


def test_more_events_than_requests_are_taken_as_that_many_requests() -> None:
    assert np.isfinite(counts.increments(7, 1, 5, 50)).all()


def test_the_mean_in_no_harm_is_near_that_of_fishers_noncentral_hypergeometric() -> None:
    n_c, n_s, m, psi = 1200, 10800, 158, 2.0
    exact = stats.nchypergeom_fisher.mean(n_c + n_s, m, n_c, psi)
    b = n_s - m + psi * (n_c + m)
    root = math.sqrt(b * b + 4 * (1 - psi) * psi * n_c * m)
    assert 2 * psi * n_c * m / (b + root) == pytest.approx(exact, rel=0.01)


def test_latency_counts_what_lies_beyond_each_edge() -> None:
    assert latency.tails(np.array([90.0, 20, 8, 2])).tolist() == [30, 10, 2]


def test_different_buckets_are_refused() -> None:
    with pytest.raises(ValueError, match=r"4 buckets and the baseline's 3: both versions must export the same edges"):
        latency.increments(np.ones(4), np.ones(3))


def test_edges_without_use_cost_nothing_and_keep_their_part() -> None:
    log_r, added = np.array([[0.3], [-0.2], [0.0]]), np.array([[0.5], [0.1], [-1.0]])
    told = latency.lent(log_r, added, np.array([False, False, True]))
    assert told[:2].tolist() == added[:2].tolist()
    before, after = np.exp(log_r).sum(), np.exp(log_r + told).sum()
    assert after / before == pytest.approx(np.exp((log_r + added)[:2]).sum() / np.exp(log_r[:2]).sum())
    assert latency.lent(log_r, added, np.array([True, True, True])).tolist() == added.tolist()
    assert latency.lent(log_r, added, np.array([False, False, False])).tolist() == added.tolist()


def test_weights_are_centred_on_what_is_usual_and_left_alone_where_nothing_is_known() -> None:
    weights = np.array([[2.0, 1.0, 4.0], [1.0, 1.0, 1.0]])
    centred = shift.centred(weights, np.array([10.0, 20.0, 10.0]))
    assert centred.tolist() == [[1.0, 0.5, 2.0], [1.0, 1.0, 1.0]]
    assert shift.centred(weights, np.zeros(3)).tolist() == weights.tolist()


def test_at_equal_arms_labels_tell_twice_as_much() -> None:
    """Expected growth under the best weights of each form, for a small shift."""
    ours, theirs = np.array([0.23, 0.5, 0.27]), np.array([0.25, 0.5, 0.25])
    c, s = 1000 * ours, 1000 * theirs
    pooled = shift.increments(c, s, (2 * ours / (ours + theirs))[np.newaxis])
    labelled = shift.increments(c, s, (ours / theirs)[np.newaxis], smallest=0.0)
    assert labelled[0] / pooled[0] == pytest.approx(2.0, rel=0.02)


def test_shift_starts_without_an_opinion() -> None:
    nothing = np.zeros(3)
    assert shift.history_weights(nothing, nothing, nothing).tolist() == [1, 1, 1]


def test_late_onset_with_all_mass_at_work_is_the_plain_product() -> None:
    first, second = counts.increments(3, 9, 100, 900), counts.increments(5, 8, 100, 900)
    plain = onset.step(onset.step(onset.working((), 4), first, 0.0), second, 0.0)
    begun = onset.step(onset.step(onset.waiting((), 4), first, 1.0), second, 0.0)
    assert onset.log_evidence(plain) == pytest.approx(logmeanexp(first + second), abs=1e-12)
    assert onset.log_evidence(begun) == pytest.approx(onset.log_evidence(plain), abs=1e-12)


def test_late_onset_keeps_what_is_far_below_the_smallest_float() -> None:
    state = onset.step(onset.working((), 2), np.array([-1500.0, -2000.0]), 0.0)
    recovered = onset.step(state, np.array([1510.0, 0.0]), 0.0)
    assert onset.log_evidence(recovered) == pytest.approx(10 - math.log(2))


@given(log_e, st.data())
def test_the_mean_rejects_no_later_than_holms_procedure(values: list[float], data: st.DataObject) -> None:
    alpha = data.draw(st.sampled_from([0.001, 0.05, 0.2]))
    mean = combine.log_mean(np.array(values), np.ones(len(values)))
    if max(values) - math.log(len(values)) >= -math.log(alpha):
        assert mean >= -math.log(alpha) - 1e-9


@given(log_e)
def test_attribution_shares_out_all_of_the_evidence(values: list[float]) -> None:
    parts = combine.attribution(np.array(values), np.ones(len(values)))
    assert parts.sum() == pytest.approx(1.0)
    assert parts[np.argmax(values)] == parts.max()


def _closed_by_all_subsets(values: list[float], weights: list[float], alpha: float) -> tuple[bool, ...]:
    n = len(values)
    named = [True] * n
    for bits in range(1, 2**n):
        chosen = [i for i in range(n) if bits >> i & 1]
        total = math.fsum(weights[i] for i in chosen)
        mean = math.fsum(weights[i] * math.exp(values[i]) for i in chosen) / total
        if mean < 1 / alpha:
            for i in chosen:
                named[i] = False
    return tuple(named)


@given(st.lists(st.tuples(st.floats(-3, 8), st.sampled_from([1.0, 2.0, 5.0])), min_size=1, max_size=6))
def test_closed_testing_looks_at_the_hardest_sets_only(signals: list[tuple[float, float]]) -> None:
    values, weights = [e for e, _ in signals], [w for _, w in signals]
    assert combine.closed(values, weights, alpha=0.05) == _closed_by_all_subsets(values, weights, 0.05)


def test_a_good_versions_crude_ratio_may_be_four_and_its_effect_is_one() -> None:
    n_c, n_s = np.array([10.0, 500, 500]), np.array([990.0, 500, 500])
    rates = np.array([0.001, 0.05, 0.05])
    terms = effects.strata(rates * n_c, rates * n_s, n_c, n_s)
    assert effects.mantel_haenszel(terms.over.sum(), terms.under.sum()) == pytest.approx(1.0)
    assert effects.mantel_haenszel(0.0, 0.0) == 1
    assert effects.mantel_haenszel(1.0, 0.0) == math.inf


def test_psi_between_equal_distributions_is_zero_on_average() -> None:
    random = np.random.default_rng(3)
    shares = np.full(10, 0.1)
    canary, stable = random.multinomial(100, shares, 4000), random.multinomial(900, shares, 4000)
    psi = effects.debiased_psi(canary.astype(float), stable / 9, squares=100 * 100 / 900)
    assert abs(psi.mean()) < 0.01


def test_dispersion_is_the_size_of_clusters() -> None:
    random = np.random.default_rng(4)
    requests = np.full((400, 4), 500.0)
    rate = np.exp(random.normal(0, 0.5, (400, 1))) * 0.01
    single = random.poisson(requests * rate).astype(float)
    tripled = 3.0 * random.poisson(requests * rate / 3).astype(float)
    assert dependence.dispersion(single, requests) == pytest.approx(1.0, abs=0.1)
    assert dependence.dispersion(tripled, requests) == pytest.approx(3.0, abs=0.3)
    assert dependence.dispersion(np.zeros((5, 3)), np.ones((5, 3))) == 1


def test_pod_spread_covers_the_true_one_as_often_as_it_says() -> None:
    random = np.random.default_rng(5)
    covered = 0
    for _ in range(500):
        events = random.poisson(2000 * np.exp(random.normal(0, 0.25, 6))).astype(float)
        covered += dependence.pod_spread(events, np.full(6, 1e6)) >= 0.25
    assert 0.93 <= covered / 500 <= 0.97


@pytest.mark.parametrize("freedom", [1, 2, 5, 20])
def test_chi_squared_quantiles_are_near_scipys(freedom: int) -> None:
    events = np.exp(np.linspace(0, 1, freedom + 1)) * 1e9
    requests = np.full(freedom + 1, 1e12)
    exact = math.sqrt(freedom * np.log(events).var(ddof=1) / stats.chi2.ppf(0.05, freedom))
    assert dependence.pod_spread(events, requests) == pytest.approx(exact, rel=0.2)


def test_one_pod_says_nothing_of_how_pods_differ() -> None:
    with pytest.raises(ValueError, match="run at least two"):
        dependence.pod_spread(np.ones(1), np.ones(1))


def test_more_pods_widen_the_tolerance_less() -> None:
    few = dependence.widened(1.0, sigma=0.25, canary_pods=1, baseline_pods=9)
    many = dependence.widened(1.0, sigma=0.25, canary_pods=4, baseline_pods=36)
    assert 1 < many < few
    assert dependence.widened(1.25, sigma=0.0, canary_pods=1, baseline_pods=1) == 1.25


def _delong_by_pairs(events: Floats, others: Floats) -> tuple[float, float]:
    wins = (events[:, None] > others) + 0.5 * (events[:, None] == others)
    variance = wins.mean(axis=1).var(ddof=1) / len(events) + wins.mean(axis=0).var(ddof=1) / len(others)
    return float(wins.mean()), float(variance)


@pytest.mark.parametrize("levels", [3, 10, 100000])
def test_delong_is_that_of_all_pairs_and_the_area_scipys(levels: int) -> None:
    random = np.random.default_rng(levels)
    events, others = random.integers(1, levels + 1, 40).astype(float), random.integers(0, levels, 70).astype(float)
    auc = labels.Placements.of(events, others).auc()
    assert (auc.value, auc.variance) == pytest.approx(_delong_by_pairs(events, others))
    assert auc.value == pytest.approx(stats.mannwhitneyu(events, others).statistic / (40 * 70))


def test_delongs_paired_covariance_makes_a_score_no_different_from_itself() -> None:
    random = np.random.default_rng(6)
    events, others = random.normal(1, 1, 30), random.normal(0, 1, 50)
    placed = labels.Placements.of(events, others)
    difference = placed.auc().minus(placed.auc(), covariance=placed.covariance(placed))
    assert (difference.value, difference.variance) == pytest.approx((0.0, 0.0))


def test_delongs_paired_test_is_that_of_another_implementation() -> None:
    """The expected numbers are those of MLstatkit 0.1.91 on the same scores, the first twelve being events."""
    first = [10, 1, 7, 5, 5, 6, 2, 6, 4, 13, 6, 5, 2, 2, 1, 2, 4, 3, 5, 3, 3, 6, 4, 2, 3, 4, 7, 2, 3, 5]
    second = [2, 3, 6, 5, 4, 5, -2, 6, 2, 1, 5, 5, 2, 1, 3, 3, 6, 4, 3, 5, 3, 1, 4, 4, 3, 1, 3, -2, 4, 4]
    one, other = (
        labels.Placements.of(np.array(scores[:12], float), np.array(scores[12:], float)) for scores in (first, second)
    )
    assert (one.auc().value, other.auc().value) == pytest.approx((0.761574074074074, 0.6226851851851851))
    difference = one.auc().minus(other.auc(), covariance=one.covariance(other))
    assert difference.variance == pytest.approx(0.016128400013203932)
    z = difference.value / math.sqrt(difference.variance)
    assert 2 * stats.norm.sf(z) == pytest.approx(0.27411568930247643)


def test_delongs_variance_is_that_of_simulation() -> None:
    random = np.random.default_rng(7)
    areas, variances = [], []
    for _ in range(2000):
        auc = labels.Placements.of(random.normal(1, 1, 40), random.normal(0, 1, 80)).auc()
        areas.append(auc.value)
        variances.append(auc.variance)
    assert np.mean(areas) == pytest.approx(stats.norm.cdf(1 / math.sqrt(2)), abs=0.005)
    assert np.mean(variances) == pytest.approx(np.var(areas), rel=0.1)


def test_the_confidence_sequence_holds_at_every_look() -> None:
    random = np.random.default_rng(8)
    walks = random.normal(0, 1, (2000, 400)).cumsum(axis=1)
    looks = np.arange(1, 401)
    radii = np.array([labels.radius(1 / n, alpha=0.1, tuned_at=100.0) for n in looks])
    assert (np.abs(walks / looks) > radii).any(axis=1).mean() <= 0.1


@pytest.mark.parametrize("tuned_at", [5.0, 20.0, 80.0])
def test_evidence_of_an_estimate_reaches_its_limit_seldom_enough_at_all_looks_together(tuned_at: float) -> None:
    """As every look counts, from the very first; the sequence alone, two-sided, is crossed upwards half as often."""
    random = np.random.default_rng(9)
    walks, failed = np.zeros(4000), np.zeros(4000, dtype=bool)
    for n in range(1, 401):
        walks += random.normal(0, 1, 4000)
        limit = optimize.brentq(
            lambda value, n=n: labels.log_evidence(labels.Estimate(value, 1 / n), tuned_at=tuned_at) - math.log(10),
            0.0,
            100.0,
        )
        failed |= walks / n >= limit
    assert 0.03 < failed.mean() <= 0.1


@pytest.mark.parametrize("value", [-40.0, -3.0, -0.1, 0.0, 0.4, 3.0])
def test_evidence_of_an_estimate_is_the_mixture_over_harm(value: float) -> None:
    information, tuned_at = 7.0, 3.0
    density = stats.halfnorm(scale=1 / math.sqrt(tuned_at))

    def likelihood(theta: float) -> float:
        return float(density.pdf(theta) * math.exp(information * (value * theta - theta * theta / 2)))

    mixed, _ = integrate.quad(likelihood, 0, 6, epsabs=0)
    told = labels.log_evidence(labels.Estimate(value, 1 / information), tuned_at=tuned_at)
    assert told == pytest.approx(math.log(mixed), abs=1e-5)


def test_evidence_of_an_estimate_has_reached_its_limit_where_the_sequence_leaves_the_margin() -> None:
    radius = labels.radius(0.01, alpha=0.05, tuned_at=50.0)
    beyond, before = labels.Estimate(radius + 0.02, 0.01), labels.Estimate(0.8 * radius + 0.02, 0.01)
    assert labels.log_evidence(beyond, margin=0.02, tuned_at=50.0) == pytest.approx(math.log(2 * 20), abs=0.01)
    assert labels.log_evidence(before, margin=0.02, tuned_at=50.0) < math.log(20)
    better = labels.Estimate(-1.0, 0.01)
    assert labels.log_evidence(better, tuned_at=50.0) < 0


def test_a_gap_between_groups_is_a_difference_of_rates() -> None:
    canary, baseline = labels.gap((30, 10), (100, 100)), labels.gap((110, 100), (1000, 1000))
    difference = canary.minus(baseline)
    assert difference.value == pytest.approx(0.19)
    assert difference.variance == pytest.approx(0.3 * 0.7 / 100 + 0.1 * 0.9 / 100 + 0.1 * 0.9 / 500, rel=0.05)


def test_labels_that_arrive_rarer_or_oftener_show() -> None:
    assert logmeanexp(labels.arrival(300, 4500, 500, 5000)) > 20
    assert logmeanexp(labels.arrival(495, 4500, 500, 5000)) > 5
    assert logmeanexp(labels.arrival(450, 4500, 500, 5000)) < 0


def _looks(limit: Limit, *events: float, requests: float = 100) -> Window:
    window = Window()
    for index, count in enumerate(events):
        window = objectives.watch(window, limit, tick=100.0 * (index + 1), requests=requests, events=count)
    return window


def test_violations_in_a_row_and_among_the_last_looks() -> None:
    row = Limit(0.05, window=60, violations=2)
    assert not _looks(row, 9, 0, 9, 0).failed
    assert _looks(row, 0, 9, 9).failed
    among = Limit(0.05, window=60, violations=2, looks=3)
    assert _looks(among, 9, 0, 9).failed
    assert not _looks(among, 9, 0, 0, 9).failed


def test_a_limit_may_be_a_lower_one_and_needs_its_requests() -> None:
    assert _looks(Limit(0.5, beyond=Beyond.BELOW), 40).failed
    assert not _looks(Limit(0.5, beyond=Beyond.BELOW), 60).failed
    assert not _looks(Limit(0.05), 5, requests=10).failed


def test_a_look_without_requests_ends_no_row() -> None:
    limit = Limit(0.05, window=1000, violations=2)
    window = _looks(limit, 9)
    window = objectives.watch(window, limit, tick=200, requests=0, events=0)
    assert not window.failed
    assert objectives.watch(window, limit, tick=300, requests=100, events=9).failed


def test_harm_of_a_tenth_shows_where_there_is_traffic_enough() -> None:
    """What is watched has an alternative that grows; without the smallest, none would, however much is seen."""
    assert sum(counts.WATCHED_WEIGHTS) == pytest.approx(1.0)
    n_c, n_s, base = 1e5, 9e5, 0.05
    seen = (1.1 * base * n_c, base * n_s, n_c, n_s)
    assert counts.increments(*seen, ratios=counts.WATCHED).max() > 10
    assert counts.increments(*seen, ratios=counts.ERRORS).max() < -10
