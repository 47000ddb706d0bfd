"""Numbers as people read them."""

import math

_READABLE_DECADES = 6
_WHOLE_FROM = 10


def percent(share: float) -> str:
    """Write a share."""
    return f"{100 * share:.1f} %"


def evidence(log_e: float) -> str:
    """Write E: as a number while it is readable, as a power of ten beyond."""
    decades = log_e / math.log(10)
    if decades > _READABLE_DECADES:
        return f"10^{decades:.0f}"
    value = math.exp(log_e)
    return f"{value:,.0f}" if value >= _WHOLE_FROM else f"{value:.2g}"


def limit(log_limit: float) -> str:
    """Write the limit that E has to reach."""
    return f"{math.exp(log_limit):.3g}"
