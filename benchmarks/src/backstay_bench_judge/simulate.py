"""Rollouts by the thousand: requests, errors and bucket counts of three arms in intervals of 15 seconds.

Arms are the canary, the fresh baseline (the running version in pods as young as the canary's) and stable (the rest of
the running version). Every array is ``[runs, intervals]``, bucket counts ``[runs, intervals, buckets]``. What was
served and what was observed differ where counters reset or scrapes are missed.
"""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from backstay_bench_judge.cohorts import Cohorts, cohorts
from backstay_bench_judge.scenarios import PER_MINUTE, SECONDS, Kind, Nuisance, Scenario
from backstay_bench_judge.shapes import EDGES, latency_shares, score_shares

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]
Ints = NDArray[np.int64]

BATCH = 500
HISTORY_MINUTES = 60
FAMILY_SIZE = 12
_DAY = 24 * 60


@dataclass(frozen=True, slots=True)
class Arm:
    """One arm as it was observed: requests and errors, and bucket counts where the scenario has them."""

    requests: Floats
    errors: Floats
    buckets: Floats = field(default_factory=lambda: np.zeros((0, 0, 0)))

    def __add__(self, other: "Arm") -> "Arm":
        """Put two arms together."""
        return Arm(self.requests + other.requests, self.errors + other.errors, self.buckets + other.buckets)

    def where(self, mask: Bools) -> "Arm":
        """Keep the intervals of ``mask`` (over intervals) and empty the others."""
        buckets = self.buckets * mask[:, None] if self.buckets.size else self.buckets
        return Arm(self.requests * mask, self.errors * mask, buckets)


@dataclass(frozen=True, slots=True)
class History:
    """Stable's pods before the canary got traffic: ``[runs, intervals, pods]``."""

    requests: Floats
    errors: Floats


@dataclass(frozen=True, slots=True)
class Rollouts:
    """A batch of rollouts of one scenario.

    ``served`` are the canary's bad answers really served (for distributions and labels: all its answers), ``step`` the
    step of each interval, ``warm`` whether the configured warm-up is over. ``family`` holds the signals of a scenario
    of many, the bad one first.
    """

    scenario: Scenario
    canary: Arm
    baseline: Arm
    stable: Arm
    served: Floats
    step: Ints
    warm: Bools
    history: History
    family: tuple["Rollouts", ...] = ()
    cohorts: Cohorts | None = None

    @property
    def runs(self) -> int:
        """How many rollouts there are."""
        return int(self.canary.requests.shape[0])

    @property
    def control(self) -> Arm:
        """What the canary is compared with: the fresh baseline in the warm-up, then the whole running version."""
        return self.baseline + self.stable.where(self.warm)


def batches(scenario: Scenario, *, seed: int, runs: int) -> Iterator[Rollouts]:
    """Simulate ``runs`` rollouts in batches; the first ones do not depend on how many follow."""
    for index, start in enumerate(range(0, runs, BATCH)):
        yield simulate(scenario, generator(scenario, seed, index), min(BATCH, runs - start))


def generator(scenario: Scenario, seed: int, batch: int) -> np.random.Generator:
    """Return the random numbers of one batch: a function of the scenario's name, the seed and the batch's number.

    A harmful version meets the same random numbers as the harmless one of the same cell.
    """
    name = hashlib.sha256(scenario.null.name.encode()).digest()
    return np.random.default_rng([seed, batch, int.from_bytes(name[:8], "big")])


def simulate(scenario: Scenario, rng: np.random.Generator, runs: int) -> Rollouts:
    """Simulate a batch of rollouts."""
    if scenario.kind is Kind.LABELS:
        return _labelled(scenario, rng, runs)
    if scenario.kind is Kind.FAMILY:
        members = tuple(_one(scenario, rng, runs, bad=index == 0) for index in range(FAMILY_SIZE))
        first = members[0]
        return replace(first, family=members)
    return _one(scenario, rng, runs, bad=True)


def _one(scenario: Scenario, rng: np.random.Generator, runs: int, *, bad: bool) -> Rollouts:
    nuisance = scenario.nuisance
    length = scenario.intervals
    minute = np.arange(length) / PER_MINUTE
    step = np.minimum((np.arange(length) * len(scenario.shares)) // length, len(scenario.shares) - 1)
    share = np.asarray(scenario.shares)[step] * nuisance.skew
    fresh = np.minimum(share, (1 - share) / 2)
    total = _totals(scenario, rng, runs)
    drift = _shared(nuisance, rng, (runs, length))
    harm = np.where(minute >= scenario.onset_minute, scenario.effect, 1.0) if bad else np.ones(length)
    cold = np.where(minute < nuisance.cold_minutes, nuisance.cold_factor, 1.0)
    pods = {"canary": nuisance.canary_pods, "baseline": nuisance.canary_pods, "stable": 2 * nuisance.canary_pods}
    own = {name: _pod_factors(nuisance, rng, (runs, count)) for name, count in pods.items()}
    arms, served = {}, np.zeros((runs, length))
    for name, part, factor in (
        ("canary", share, harm * cold),
        ("baseline", fresh, cold),
        ("stable", 1 - share - fresh, np.ones(length)),
    ):
        rate = scenario.base * drift * own[name].mean(axis=1, keepdims=True)
        if scenario.kind in {Kind.COUNT, Kind.FAMILY}:
            rate = rate * factor
        arm = _arm(scenario if name == "canary" and bad else scenario.null, rng, total * part, rate)
        if name == "canary":
            served = arm.requests if scenario.kind is Kind.DISTRIBUTION else arm.errors
        arms[name] = _observe(arm, nuisance, rng, pods[name])
    return Rollouts(
        scenario,
        arms["canary"],
        arms["baseline"],
        arms["stable"],
        served,
        step,
        minute >= nuisance.warm_up_minutes,
        _history(scenario, rng, total[:, :1], own["stable"]),
    )


def _labelled(scenario: Scenario, rng: np.random.Generator, runs: int) -> Rollouts:
    share, length = scenario.shares[0], scenario.intervals
    expected = scenario.traffic * scenario.interval_minutes * 60
    canary = rng.poisson(expected, size=(runs, length)).astype(np.float64)
    stable = rng.poisson(expected * (1 - share) / share, size=(runs, length)).astype(np.float64)
    none = np.zeros((runs, length))
    return Rollouts(
        scenario,
        Arm(canary, none),
        Arm(none, none),
        Arm(stable, none),
        canary,
        np.zeros(length, dtype=np.int64),
        np.ones(length, dtype=np.bool_),
        History(none[:, :0, None], none[:, :0, None]),
        cohorts=cohorts(rng, canary, stable, positives=scenario.base, loss=scenario.effect),
    )


def _totals(scenario: Scenario, rng: np.random.Generator, runs: int) -> Floats:
    """Requests expected in an interval over all arms, with the daily wave begun at a random hour."""
    share = scenario.shares[0] if len(scenario.shares) == 1 else 0.10
    minute = np.arange(scenario.intervals) / PER_MINUTE
    phase = rng.uniform(0, _DAY, size=(runs, 1))
    wave = 1 + scenario.nuisance.diurnal * np.sin(2 * np.pi * (minute + phase) / _DAY)
    return np.asarray(scenario.traffic / share * SECONDS * wave)


def _shared(nuisance: Nuisance, rng: np.random.Generator, shape: tuple[int, int]) -> Floats:
    """A stationary AR(1) process in the log of the rate, with mean 1 of the rate itself."""
    if not nuisance.shared_sd:
        return np.ones(shape)
    keep = np.exp(-1 / (nuisance.shared_minutes * PER_MINUTE))
    noise = rng.standard_normal(shape)
    level = np.empty(shape)
    level[:, 0] = noise[:, 0]
    for t in range(1, shape[1]):
        level[:, t] = keep * level[:, t - 1] + np.sqrt(1 - keep**2) * noise[:, t]
    return np.asarray(np.exp(nuisance.shared_sd * level - nuisance.shared_sd**2 / 2))


def _pod_factors(nuisance: Nuisance, rng: np.random.Generator, shape: tuple[int, int]) -> Floats:
    if not nuisance.pod_sd:
        return np.ones(shape)
    return np.asarray(np.exp(nuisance.pod_sd * rng.standard_normal(shape) - nuisance.pod_sd**2 / 2))


def _arm(scenario: Scenario, rng: np.random.Generator, expected: Floats, rate: Floats) -> Arm:
    requests = rng.poisson(expected).astype(np.float64)
    if scenario.kind is Kind.LATENCY:
        buckets = _buckets(rng, requests, latency_shares(scenario.effect, tail=scenario.base))
        return Arm(requests, buckets[..., -EDGES.slow :].sum(axis=-1), buckets)
    if scenario.kind is Kind.DISTRIBUTION:
        buckets = _buckets(rng, requests, score_shares(scenario.effect, wider=scenario.wider))
        return Arm(requests, np.zeros_like(requests), buckets)
    burst = scenario.nuisance.burst
    first = rng.binomial(requests.astype(np.int64), np.clip(rate / burst, 0, 0.95)).astype(np.float64)
    return Arm(requests + (burst - 1) * first, burst * first)


def _buckets(rng: np.random.Generator, requests: Floats, shares: Floats) -> Floats:
    return rng.multinomial(requests.astype(np.int64), shares).astype(np.float64)


def _observe(arm: Arm, nuisance: Nuisance, rng: np.random.Generator, pods: int) -> Arm:
    """Turn what happened into what the counters show: increments lost to restarts, or late for a missed scrape."""
    if nuisance.resets:
        hit = rng.random(arm.requests.shape) < nuisance.resets
        lost = hit * rng.random(arm.requests.shape) / pods
        bad = arm.errors - rng.binomial(arm.errors.astype(np.int64), lost)
        good = arm.requests - arm.errors
        arm = Arm(bad + good - rng.binomial(good.astype(np.int64), lost), bad, arm.buckets)
    if nuisance.missed:
        seen = rng.random(arm.requests.shape) >= nuisance.missed
        arm = Arm(delayed(arm.requests, seen), delayed(arm.errors, seen), arm.buckets)
    return arm


def delayed(increments: Floats, seen: Bools) -> Floats:
    """Move the increments of missed scrapes to the next scrape that is seen; nothing is lost or counted twice."""
    total = np.cumsum(increments, axis=1)
    index = np.maximum.accumulate(np.where(seen, np.arange(seen.shape[1]), -1), axis=1)
    shown = np.where(index >= 0, np.take_along_axis(total, np.maximum(index, 0), axis=1), 0.0)
    return np.asarray(np.diff(shown, axis=1, prepend=0.0))


def _history(scenario: Scenario, rng: np.random.Generator, total: Floats, own: Floats) -> History:
    """An hour of stable's pods before the rollout, each with an equal part of the traffic."""
    runs, pods = own.shape
    length = HISTORY_MINUTES * PER_MINUTE
    if scenario.kind not in {Kind.COUNT, Kind.FAMILY}:
        empty = np.zeros((runs, 0, pods))
        return History(empty, empty)
    drift = _shared(scenario.nuisance, rng, (runs, length))
    requests = rng.poisson((total / pods)[:, :, None], size=(runs, length, pods)).astype(np.float64)
    burst = scenario.nuisance.burst
    rate = np.clip(scenario.base / burst * drift[:, :, None] * own[:, None, :], 0, 0.95)
    first = rng.binomial(requests.astype(np.int64), rate).astype(np.float64)
    return History(requests + (burst - 1) * first, burst * first)
