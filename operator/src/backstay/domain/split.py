"""How a step's weight becomes the weights of a route."""

from collections.abc import Mapping

from backstay.domain.observed import Backend, Observed, Track

FULL = 100


def split(
    observed: Observed, *, stable: str, canary: str = "", weight: int = 0, baseline: bool = False
) -> Mapping[Backend, int] | None:
    """Share 100 among the backends that are ready.

    The canary gets ``weight`` and never more, nothing while none of its pods is ready. The fresh baseline gets
    floor(min(w, (100 - w) / 2)), the stable revision the rest. A stable revision without ready pods is stood in for by
    its own baseline pods.

    Returns:
        The weights, or None where nothing ready may take the rest: the route then stays as it is.
    """
    own = Backend(stable) if stable else None
    fresh = Backend(stable, Track.BASELINE) if stable and baseline else None
    trial = Backend(canary) if canary else None
    own_ready = own is not None and observed.ready(own) > 0
    fresh_ready = fresh is not None and observed.ready(fresh) > 0
    share = weight if trial is not None and observed.ready(trial) > 0 else 0

    weights: dict[Backend, int] = {}
    if trial is not None and share:
        weights[trial] = share
    rest = FULL - share
    if fresh is not None and fresh_ready:
        weights[fresh] = min(share, rest // 2) if own_ready else rest
        rest -= weights[fresh]
    if rest:
        if own is None or not own_ready:
            return None
        weights[own] = rest
    return {backend: value for backend, value in weights.items() if value}


def pods(replicas: int, weight: int) -> int:
    """Count the ready pods that a weight in percent needs, rounding up; at least one for any traffic."""
    return max(1, -(-replicas * weight // FULL))
