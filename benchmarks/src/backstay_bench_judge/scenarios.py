"""What is simulated: traffic, base rate, share, effect, and everything that makes real rollouts unpleasant.

A scenario is a value; its name is made from it, and its random numbers from its name and the seed, so that a scenario
gives the same rollouts whichever others are run beside it.
"""

from dataclasses import dataclass, field, replace
from enum import StrEnum

SECONDS = 15.0
PER_MINUTE = 4
MINUTES = 60
# Labels are judged in cohorts of requests, once they are old enough.
COHORT_MINUTES = 120
LABEL_DELAY_COHORTS = 3

TRAFFIC = (0.05, 0.2, 2.0, 20.0, 200.0)
BASES = (0.001, 0.01, 0.05)
SHARES = (0.01, 0.05, 0.10, 0.50)
EFFECTS = (1.0, 1.1, 1.25, 1.5, 2.0, 5.0)
TAILS = (1.10, 1.25, 2.0)
SHIFTS = (0.01, 0.05, 0.1, 0.25)
AUC_LOSSES = (0.01, 0.02, 0.05)
TWICE = 2.0
STEPPED = (0.01, 0.05, 0.25, 0.50)


class Kind(StrEnum):
    """What the signal of a scenario counts."""

    COUNT = "count"
    LATENCY = "latency"
    DISTRIBUTION = "distribution"
    LABELS = "labels"
    FAMILY = "family"


@dataclass(frozen=True, slots=True)
class Nuisance:
    """What goes wrong without being the new version's fault.

    Attributes:
        name: the word in tables; "" when nothing goes wrong.
        shared_sd: standard deviation of the log of a factor on every arm's rate, AR(1) over ``shared_minutes``.
        pod_sd: standard deviation of the log of each pod's own rate, for good.
        cold_minutes: how long pods that started with the rollout (canary and fresh baseline) err ``cold_factor`` times
            as often.
        resets: chance that one pod of an arm restarts in an interval; what its counters had gained since the last
            reading is lost.
        missed: chance that an arm's scrape is missed, so that its increments come with the next one.
        burst: errors come in clusters of this size, as retries that repeat one failure.
        skew: factor on the canary's share that nobody planned.
        diurnal: relative amplitude of the traffic's daily wave.
        warm_up_minutes: the warm-up that the user has configured.
        canary_pods: pods of the canary, and of the fresh baseline; stable has twice as many.
    """

    name: str = ""
    shared_sd: float = 0.0
    shared_minutes: float = 5.0
    pod_sd: float = 0.0
    cold_minutes: float = 0.0
    cold_factor: float = 3.0
    resets: float = 0.0
    missed: float = 0.0
    burst: int = 1
    skew: float = 1.0
    diurnal: float = 0.0
    warm_up_minutes: float = 5.0
    canary_pods: int = 4


NUISANCES = (
    Nuisance("shared AR(1), sd .5", shared_sd=0.5),
    Nuisance("shared AR(1), sd 1", shared_sd=1.0),
    Nuisance("diurnal traffic, ±50 %", diurnal=0.5),
    Nuisance("cold start, 1 min", cold_minutes=1.0),
    Nuisance("cold start, 5 min", cold_minutes=5.0),
    Nuisance("cold start, 15 min", cold_minutes=15.0, warm_up_minutes=15.0),
    Nuisance("cold start, 15 min, warm-up set to 5", cold_minutes=15.0),
    Nuisance("counter resets", resets=0.05),
    Nuisance("missed scrapes", missed=0.10),
    Nuisance("missed scrapes, shared AR(1)", missed=0.10, shared_sd=0.5),
    Nuisance("routing skew, x0.8", skew=0.8),
    Nuisance("retry bursts of 3", burst=3),
    Nuisance("pod noise, sd .25", pod_sd=0.25),
    Nuisance("pod noise, sd .5", pod_sd=0.5),
)


@dataclass(frozen=True, slots=True)
class Scenario:
    """One cell of the grid.

    Attributes:
        kind: what is counted.
        traffic: the canary's requests a second (of a stepped rollout: at a share of 10 %).
        base: chance of an error in the running version.
        shares: the canary's share at each step; steps last equally long.
        effect: what the new version multiplies: errors (count), tail latency (latency), nothing (distribution: the
            PSI of its shift; labels: the loss of AUC).
        onset_minute: when the effect begins.
        wider: for distributions, the same mean and a larger variance instead of a shift.
        nuisance: what else goes wrong.
        minutes: how long the rollout takes.
    """

    kind: Kind = Kind.COUNT
    traffic: float = 2.0
    base: float = 0.01
    shares: tuple[float, ...] = (0.10,)
    effect: float = 1.0
    onset_minute: float = 0.0
    wider: bool = False
    nuisance: Nuisance = field(default_factory=Nuisance)
    minutes: int = MINUTES

    @property
    def intervals(self) -> int:
        """How many intervals the rollout has; for labels, cohorts."""
        return round(self.minutes / self.interval_minutes)

    @property
    def interval_minutes(self) -> float:
        """How long an interval is."""
        return float(COHORT_MINUTES) if self.kind is Kind.LABELS else 1 / PER_MINUTE

    @property
    def harmless(self) -> bool:
        """Tell whether the new version is as good as the running one."""
        neutral = 1.0 if self.kind in {Kind.COUNT, Kind.LATENCY, Kind.FAMILY} else 0.0
        return self.effect == neutral and not self.wider

    @property
    def null(self) -> "Scenario":
        """The same rollout of a harmless version: what thresholds are tuned on."""
        neutral = 1.0 if self.kind in {Kind.COUNT, Kind.LATENCY, Kind.FAMILY} else 0.0
        return replace(self, effect=neutral, wider=False, onset_minute=0.0)

    @property
    def name(self) -> str:
        """The cell's name, in the order of the grid's dimensions."""
        parts = [str(self.kind), f"{self.traffic:g}/s", f"base {self.base * 100:g}%", f"share {self.shares_name}%"]
        parts.append(self.effect_name)
        if self.onset_minute:
            parts.append(f"from minute {self.onset_minute:g}")
        if self.nuisance.name:
            parts.append(self.nuisance.name)
        return ", ".join(parts)

    @property
    def shares_name(self) -> str:
        """The shares in percent."""
        return "-".join(f"{share * 100:g}" for share in self.shares)

    @property
    def effect_name(self) -> str:
        """The effect in its own unit."""
        if self.wider:
            return "wider"
        if self.kind is Kind.DISTRIBUTION:
            return f"PSI {self.effect:g}"
        return f"AUC -{self.effect:g}" if self.kind is Kind.LABELS else f"x{self.effect:g}"


CENTRE = Scenario()


def central() -> list[Scenario]:
    """The middle of the grid, every effect: what the first tables show."""
    return [replace(CENTRE, effect=effect) for effect in EFFECTS]


def nuisances() -> list[Scenario]:
    """Everything that goes wrong, with a harmless version and one twice as bad."""
    return [replace(CENTRE, nuisance=nuisance, effect=effect) for nuisance in NUISANCES for effect in (1.0, 2.0)]


def onsets() -> list[Scenario]:
    """Defects that are there from the start, or begin late, in a stepped rollout."""
    stepped = replace(CENTRE, shares=STEPPED)
    return [replace(stepped, effect=2.0, onset_minute=minute) for minute in (0.0, 15.0, 30.0, 45.0)] + [stepped]


def within() -> list[Scenario]:
    """Defects that begin in the middle of the only step."""
    return [
        replace(CENTRE, effect=effect, onset_minute=minute) for effect in (TWICE, 5.0) for minute in (5.0, 30.0, 45.0)
    ]


def grid() -> list[Scenario]:
    """Traffic x base x share x effect."""
    return [
        Scenario(traffic=traffic, base=base, shares=shares, effect=effect)
        for traffic in TRAFFIC
        for base in BASES
        for shares in (*((share,) for share in SHARES), STEPPED)
        for effect in EFFECTS
    ]


def latencies() -> list[Scenario]:
    """Slower in the tail only."""
    return [
        Scenario(kind=Kind.LATENCY, traffic=traffic, base=0.10, effect=effect)
        for traffic in (0.2, 2.0, 20.0)
        for effect in (1.0, *TAILS)
    ]


def distributions() -> list[Scenario]:
    """Predictions or confidences that shift, or only spread."""
    cells = [
        Scenario(kind=Kind.DISTRIBUTION, traffic=traffic, base=0.0, effect=effect)
        for traffic in (0.2, 2.0, 20.0)
        for effect in (0.0, *SHIFTS)
    ]
    wider = [replace(cell, effect=0.0, wider=True) for cell in cells if cell.effect == 0.0]
    return cells + wider


def labels() -> list[Scenario]:
    """Models that rank worse, seen in labels that come late."""
    return [
        Scenario(kind=Kind.LABELS, traffic=traffic, base=0.2, shares=(share,), effect=effect, minutes=48 * 60)
        for traffic in (0.05, 0.2)
        for share in (0.10, 0.50)
        for effect in (0.0, *AUC_LOSSES)
    ]


def families() -> list[Scenario]:
    """Twelve signals at once: none bad, or one."""
    return [replace(CENTRE, kind=Kind.FAMILY, effect=effect) for effect in (1.0, 2.0, 5.0)]


PARTS = {
    "central": central,
    "nuisances": nuisances,
    "onset": onsets,
    "within": within,
    "grid": grid,
    "latency": latencies,
    "distribution": distributions,
    "labels": labels,
    "family": families,
}
