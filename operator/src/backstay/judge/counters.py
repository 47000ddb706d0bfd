"""From cumulative counters to what happened in one interval: resets, new pods and missing ones handled."""

from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from typing import TypeVar

import numpy as np

from backstay.judge.arrays import Floats

Pod = TypeVar("Pod")


def increment(
    before: Mapping[Pod, Floats], after: Mapping[Pod, Floats], *, born: AbstractSet[Pod], size: int
) -> Floats:
    """Difference two readings of one counter or histogram, pod by pod, and sum.

    Args:
        before: the last value seen of each pod, of shape [size] (kept while a pod is missing from a reading).
        after: this reading; a pod in which any count went down was reset, and counts from zero.
        born: pods known to have started after the previous reading: their first value counts from zero. The first value
            of any other pod only starts its account, or a lifetime would enter one interval.
        size: the number of counts of a pod: 1 for a counter, its buckets for a histogram.
    """
    total = np.zeros(size)
    for pod, value in after.items():
        known = before.get(pod)
        if known is None:
            if pod in born:
                total += value
        else:
            total += value - known if (value >= known).all() else value
    return total


def went_back(known: float, value: float) -> bool:
    """Tell whether a counter's value is an older one, rather than that of a counter that began again.

    A counter that was reset has counted less than before, since it had less time; half is the line.
    """
    return known / 2 < value < known
