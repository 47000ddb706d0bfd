"""Comparing two counts of events, at every look: a test supermartingale.

One interval has n_c and n_s requests and c and s events in the canary and the stable arm. Given the events m = c + s
and the canary's share of the requests rho = n_c / (n_c + n_s), an event falls on the canary with chance at most
rho' = rho psi0 / (1 - rho + rho psi0) when the canary's odds of an event are at most psi0 times the stable ones. For an
alternative that multiplies the odds by e^d further,

    x_d = sum over intervals of  c d - m log(1 + rho' (e^d - 1)),      E = sum over d of w_d exp(x_d)

never has an expectation above 1 under that null, so by Ville's inequality the chance that E ever reaches 1/alpha is at
most alpha, however often anybody looks. The form is the next-event test of Lindon and Malek (NeurIPS 2022) with shares
per interval; given the margins it holds by Hoeffding's (1963) bound of the hypergeometric by the binomial.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

GRID: tuple[float, ...] = tuple(math.log(ratio) for ratio in (1.25, 1.5, 2.0, 3.0, 5.0, 10.0))


@dataclass(frozen=True, slots=True)
class Counts:
    """Requests and the events among them, of both arms in one interval."""

    canary_requests: float
    canary_events: float
    stable_requests: float
    stable_events: float

    @property
    def comparable(self) -> bool:
        """Tell whether both arms had requests."""
        return self.canary_requests > 0 and self.stable_requests > 0

    def __add__(self, other: "Counts") -> "Counts":
        """Add interval to interval."""
        return Counts(
            self.canary_requests + other.canary_requests,
            self.canary_events + other.canary_events,
            self.stable_requests + other.stable_requests,
            self.stable_events + other.stable_events,
        )


NOTHING = Counts(0, 0, 0, 0)


def exponents(counts: Counts, *, tolerance: float = 1.0, grid: Sequence[float] = GRID) -> tuple[float, ...]:
    """Return one interval's addition to each alternative's exponent x_d.

    Args:
        counts: the interval; one in which an arm had no requests adds nothing.
        tolerance: psi0 >= 1, the ratio of odds that still counts as no harm.
        grid: the alternatives d, as logarithms of further odds ratios.
    """
    if not counts.comparable:
        return tuple(0.0 for _ in grid)
    rho = counts.canary_requests / (counts.canary_requests + counts.stable_requests)
    tilted = rho * tolerance / (1 - rho + rho * tolerance)
    events = counts.canary_events + counts.stable_events
    return tuple(counts.canary_events * d - events * math.log1p(tilted * math.expm1(d)) for d in grid)


def log_evidence(totals: Sequence[float]) -> float:
    """Mix the alternatives with equal weights: log E = logsumexp(x_d) - log(number of alternatives)."""
    top = max(totals)
    return top + math.log(math.fsum(math.exp(x - top) for x in totals) / len(totals))
