"""The guarantee itself: under each test's null, E has an expectation of at most 1, by enumeration."""

import itertools
import math
from collections.abc import Iterator

import numpy as np
import pytest
from scipy import stats

from backstay.judge import counts, latency, onset, panel, process, ratio, shift
from backstay.judge.arrays import Floats, logmeanexp

SIZES = [(1, 9), (5, 45), (20, 20), (50, 5), (100, 900), (7, 300)]
SHARES_OF_EVENTS = [0.01, 0.1, 0.3, 0.5, 0.9, 1.0]
SLACK = 1 + 1e-9


def margins(n_c: int, n_s: int, odds: float) -> Iterator[tuple[Floats, Floats, int]]:
    """Yield c's support and its probabilities given the margins, for several numbers of events."""
    for share in SHARES_OF_EVENTS:
        m = max(1, round(share * (n_c + n_s)))
        c = np.arange(max(0, m - n_s), min(m, n_c) + 1, dtype=float)
        yield c, stats.nchypergeom_fisher.pmf(c, n_c + n_s, m, n_c, odds), m


@pytest.mark.parametrize("refined", [False, True])
@pytest.mark.parametrize("tolerance", [1.0, 1.25, 3.0])
@pytest.mark.parametrize(("n_c", "n_s"), SIZES)
def test_counts_given_the_margins(n_c: int, n_s: int, tolerance: float, *, refined: bool) -> None:
    grid = (1.01, 1.25, 2.0, 5.0, 100.0)
    for odds in (tolerance, 0.7 * tolerance):
        for c, chance, m in margins(n_c, n_s, odds):
            added = counts.increments(c, m - c, n_c, n_s, tolerance=tolerance, ratios=grid, refined=refined)
            assert (chance[:, np.newaxis] * np.exp(added)).sum(axis=0).max() <= SLACK


def test_the_refined_form_is_never_below_the_base_form() -> None:
    c, s = np.meshgrid(np.arange(60.0), np.arange(60.0))
    base = counts.increments(c, s, 60, 120, tolerance=1.25, refined=False)
    assert (counts.increments(c, s, 60, 120, tolerance=1.25) >= base - 1e-12).all()


@pytest.mark.parametrize("rate", [0.001, 0.02, 0.3])
@pytest.mark.parametrize("tolerance", [1.0, 1.5])
def test_the_base_form_holds_for_ratios_of_rates_too(rate: float, tolerance: float) -> None:
    n_c, n_s = 30, 90
    c, s = np.arange(n_c + 1.0)[:, np.newaxis], np.arange(n_s + 1.0)
    chance = stats.binom.pmf(c, n_c, rate * tolerance) * stats.binom.pmf(s, n_s, rate)
    added = counts.increments(c, s, n_c, n_s, tolerance=tolerance, ratios=counts.BASE, refined=False)
    assert (chance[..., np.newaxis] * np.exp(added)).sum(axis=(0, 1)).max() <= SLACK


@pytest.mark.parametrize("harmful", [1.2, 2.0, 3.0])
@pytest.mark.parametrize(("n_c", "n_s"), SIZES)
def test_no_harm_given_the_margins(n_c: int, n_s: int, harmful: float) -> None:
    for theta, worse in itertools.product((1.0, 0.5), (1.0, 1.5, 5.0)):
        for c, chance, m in margins(n_c, n_s, harmful * worse):
            added = counts.no_harm(c, m - c, n_c, n_s, ratio=harmful, theta=theta)
            assert (chance * np.exp(added)).sum() <= SLACK


@pytest.mark.parametrize("planned", [0.01, 0.05, 0.25, 0.5])
@pytest.mark.parametrize("tolerance", [1.0, 1.1])
@pytest.mark.parametrize("total", [1, 20, 500])
def test_sample_ratio_for_every_share_within_the_tolerance(planned: float, tolerance: float, total: int) -> None:
    n_c = np.arange(total + 1.0)
    split = ratio.increments(n_c, total - n_c, planned, tolerance=tolerance)
    for factor in np.linspace(1 / tolerance, tolerance, 5):
        odds = planned / (1 - planned) * factor
        chance = stats.binom.pmf(n_c, total, odds / (1 + odds))
        for side in split:
            assert (chance[:, np.newaxis] * np.exp(side)).sum(axis=0).max() <= SLACK


def dealt(pooled: tuple[int, ...], n_c: int) -> Iterator[tuple[Floats, float]]:
    """Yield every way to deal n_c of the pooled requests to the canary, with its probability."""
    total = math.comb(sum(pooled), n_c)
    for c in itertools.product(*(range(t + 1) for t in pooled)):
        if sum(c) == n_c:
            yield np.array(c, dtype=float), math.prod(map(math.comb, pooled, c)) / total


@pytest.mark.parametrize(("pooled", "n_c"), [((5, 3, 2), 2), ((1, 8, 4), 6), ((6, 6, 0, 1), 5), ((12, 1), 7)])
def test_shift_given_the_pooled_counts(pooled: tuple[int, ...], n_c: int) -> None:
    random = np.random.default_rng(1)
    families = np.concatenate([shift.tilts(len(pooled)), np.exp(random.normal(0, 1, (5, len(pooled))))])
    expectation = np.zeros(len(families))
    for c, chance in dealt(pooled, n_c):
        expectation += chance * np.exp(shift.increments(c, np.array(pooled) - c, families))
    assert expectation.max() <= SLACK


def drawn(requests: int, shares: Floats) -> Iterator[tuple[Floats, float]]:
    """Yield every outcome of so many independent requests, with its probability."""
    for counts_ in itertools.product(range(requests + 1), repeat=len(shares)):
        if sum(counts_) == requests:
            yield np.array(counts_, dtype=float), float(stats.multinomial.pmf(counts_, requests, shares))


Arms = tuple[int, int]


def expected_course(shape: panel.Shape, sizes: tuple[Arms, ...], shares: tuple[Floats, ...], *, ease: float) -> Floats:
    """Return E's expectation after each interval of independent requests, by all courses that there are.

    Args:
        shape: the process.
        sizes: both arms' requests in each interval.
        shares: the canary's and the baseline's distribution at first.
        ease: by how much the exponent of the distributions grows with every interval: how they drift.
    """
    rows, chances, expectations = process.start(shape)[np.newaxis], np.ones(1), []
    for index, arms in enumerate(sizes):
        drifted = [np.array(share) ** (1 + ease * index) for share in shares]
        each = [list(drawn(size, share / share.sum())) for size, share in zip(arms, drifted, strict=True)]
        pairs = [(np.stack([c, s]), p * q) for (c, p), (s, q) in itertools.product(*each)]
        seen, chance = np.stack([pair for pair, _ in pairs]), np.array([one for _, one in pairs])
        before, chances = np.repeat(rows, len(pairs), axis=0), np.outer(chances, chance).ravel()
        ones, zeros = np.ones(len(before)), np.zeros(len(before))
        # A half of the evidence starts with the first interval, the rest with the second.
        hazard = ones * (0.5 if index == 0 else float(index == 1))
        known = process.Given(ones, hazard, zeros, ones, 2 * ones, zeros, zeros)
        rows = process.advance(shape, before, np.tile(seen, (len(rows), 1, 1)), known)
        expectations.append(float((chances * np.exp(process.log_evidence(shape, rows))).sum()))
    assert chances.sum() == pytest.approx(1)
    return np.array(expectations)


COURSES: list[tuple[Arms, ...]] = [((2, 2), (3, 2), (2, 2)), ((1, 3), (2, 4), (1, 2)), ((4, 1), (2, 2), (3, 1))]


@pytest.mark.parametrize("shares", [(0.2, 0.5, 0.3), (0.02, 0.08, 0.9), (0.4, 0.2, 0.4)])
@pytest.mark.parametrize("ordered", [False, True])
@pytest.mark.parametrize("sizes", COURSES)
def test_shift_with_weights_that_learn(sizes: tuple[Arms, ...], shares: tuple[float, ...], *, ordered: bool) -> None:
    shape = panel.shape_of(panel.Distribution(3, ordered=ordered), refined=True)
    both = (np.array(shares), np.array(shares))
    assert expected_course(shape, sizes, both, ease=0.5).max() <= 1 + 1e-6


@pytest.mark.parametrize(
    "shares",
    [
        ((0.2, 0.5, 0.3), (0.2, 0.5, 0.3)),
        ((0.9, 0.08, 0.02), (0.9, 0.08, 0.02)),
        ((0.02, 0.08, 0.9), (0.02, 0.08, 0.9)),
        ((0.7, 0.3, 0.0), (0.7, 0.1, 0.2)),
        ((0.3, 0.7, 0.0), (0.1, 0.6, 0.3)),
    ],
)
@pytest.mark.parametrize("sizes", COURSES)
def test_latency_with_edges_that_sleep(sizes: tuple[Arms, ...], shares: tuple[tuple[float, ...], ...]) -> None:
    """Also for canaries that are faster beyond one edge and as slow as the baseline beyond another."""
    shape = panel.shape_of(panel.Latency((0.1, 0.2)), refined=True)
    arms = (np.array(shares[0]), np.array(shares[1]))
    assert expected_course(shape, sizes, arms, ease=0.0).max() <= 1 + 1e-6


def test_shift_by_labels_is_not_far_off_where_pooled_counts_are_the_same_in_every_interval() -> None:
    """Requests that are not independent, but the same list again and again, dealt to two arms: beyond the guarantee."""
    random = np.random.default_rng(3)
    shape = panel.shape_of(panel.Distribution(5), refined=True)
    runs, pooled = 1000, np.array([2, 5, 9, 9, 5])
    rows, ones, zeros = np.tile(process.start(shape), (runs, 1)), np.ones(runs), np.zeros(runs)
    failed = np.zeros(runs, dtype=bool)
    for index in range(120):
        canary = random.multivariate_hypergeometric(pooled, 15, size=runs)
        known = process.Given(ones, ones if index == 0 else zeros, zeros, ones, 2 * ones, zeros, zeros)
        rows = process.advance(shape, rows, np.stack([canary, pooled - canary], axis=1).astype(float), known)
        failed |= process.log_evidence(shape, rows) >= math.log(20)
    assert failed.mean() <= 0.05


@pytest.mark.parametrize("smallest", [0.0, 0.02, 0.1, 0.3])
@pytest.mark.parametrize(("n_c", "n_s"), [(5, 45), (40, 40), (300, 20)])
def test_smallest_shift_for_every_pair_of_distributions_that_near(n_c: int, n_s: int, smallest: float) -> None:
    """With fixed weights the expectation over two multinomial samples has a closed form."""
    random = np.random.default_rng(2)
    families = np.concatenate([shift.tilts(4), np.exp(random.normal(0, 1, (5, 4)))])
    rho = n_c / (n_c + n_s)
    g = 1 + rho * (families - 1)
    h = families / g
    # The normaliser that the code subtracts: what it adds for an outcome, without that outcome's own terms.
    c, s = np.array([n_c, 0.0, 0, 0]), np.array([n_s, 0.0, 0, 0])
    own = n_c * np.log(families[:, 0]) - (n_c + n_s) * np.log(g[:, 0])
    normaliser = own - shift.increments(c, s, families, smallest=smallest)
    for stable in random.dirichlet(np.ones(4), 40):
        for order in itertools.permutations(range(4), 2):
            canary = stable.copy()
            moved = min(smallest, canary[order[0]])
            canary[order[0]] -= moved
            canary[order[1]] += moved
            log_expectation = n_c * np.log(h @ canary) + n_s * np.log((1 / g) @ stable) - normaliser
            assert log_expectation.max() <= 1e-9


def test_latency_mixes_over_edges() -> None:
    """Deal ten requests of three speeds to two arms: the mean over edges and alternatives."""
    expectation = 0.0
    for c, chance in dealt((6, 3, 2), 4):
        added = latency.increments(c, np.array([6, 3, 2]) - c)
        expectation += chance * float(np.exp(logmeanexp(added.reshape(-1))))
    assert expectation <= SLACK


@pytest.mark.parametrize("hazards", [(1.0, 0.0, 0.0), (1 / 3, 1 / 2, 1.0), (0.9, 0.005, 0.005)])
def test_late_onset_over_three_intervals(hazards: tuple[float, ...]) -> None:
    c = np.arange(5.0)
    chance = stats.hypergeom.pmf(c, 40, 6, 4)
    expectation = 0.0
    for path in itertools.product(range(5), repeat=3):
        state = onset.waiting((), 4)
        for index, hazard in zip(path, hazards, strict=True):
            state = onset.step(state, counts.increments(c[index], 6 - c[index], 4, 36), hazard)
        expectation += math.prod(chance[i] for i in path) * math.exp(float(onset.log_evidence(state)))
    assert expectation <= SLACK
