"""From cumulative counters to what happened in one interval: resets, new pods and missing ones handled."""

from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass

Reading = Mapping[str, float]


@dataclass(frozen=True, slots=True)
class Increment:
    """What one interval added, and the reading that the next one starts from."""

    value: float
    base: Mapping[str, float]


def increment(before: Reading, after: Reading, *, born: AbstractSet[str] = frozenset()) -> Increment:
    """Difference two readings of one counter, pod by pod, and sum.

    Args:
        before: the last value seen of each pod (kept while a pod is missing from a reading).
        after: this reading.
        born: pods known to have started after the previous reading: their first value counts from zero. The first value
            of any other pod only starts its account, or a lifetime would enter one interval.

    Returns:
        The sum, and ``before`` brought up to date. A counter that went down was reset, and counts from zero.
    """
    total = 0.0
    for pod, value in after.items():
        if pod in before:
            total += value - before[pod] if value >= before[pod] else value
        elif pod in born:
            total += value
    return Increment(total, {**before, **after})
