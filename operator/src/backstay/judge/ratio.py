"""Is traffic split as planned? The sample ratio test.

Of N requests n_c reached the canary, and the planned share is omega. The null allows odds within a factor tau of the
planned ones: no gateway splits exactly, so exact equality always fails at scale. Both directions are mixed over the
same grid, with equal weights.
"""

from typing import NamedTuple

import numpy as np

from backstay.judge.arrays import Floats, Like, broadcast

GRID = (1.02, 1.05, 1.1, 1.25, 1.5, 2.0)
TOLERANCE = 1.1


class Split(NamedTuple):
    """Exponents of the alternatives that the canary gets more, and that it gets less, of shape [..., 6] each."""

    more: Floats
    less: Floats


def increments(n_c: Like, n_s: Like, planned: Like, *, tolerance: Like = TOLERANCE) -> Split:
    """Return what each interval adds to each alternative's exponent.

    Args:
        n_c: requests of the canary, of any shape [...].
        n_s: requests of the other arm.
        planned: omega in (0, 1), the planned share of the canary among the requests of both.
        tolerance: tau >= 1, the factor by which the odds may differ from the planned ones.
    """
    n_c, n_s, omega, tau = (value[..., np.newaxis] for value in broadcast(n_c, n_s, planned, tolerance))
    grid = np.asarray(GRID)
    d, total = np.log(grid), n_c + n_s
    most = omega * tau / (1.0 - omega + omega * tau)
    least = omega / (omega + tau * (1.0 - omega))
    return Split(
        more=n_c * d - total * np.log1p(most * (grid - 1.0)),
        less=-n_c * d - total * np.log1p(least * (1.0 / grid - 1.0)),
    )
