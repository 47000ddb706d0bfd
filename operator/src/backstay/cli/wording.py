"""Times, worded for people. No I/O."""

from datetime import UTC, datetime

_MINUTE, _HOUR, _DAY = 60.0, 3600.0, 86400.0


def span(seconds: float) -> str:
    """Word a time in the unit that fits."""
    if seconds < 2 * _MINUTE:
        return f"{max(seconds, 0):.0f} s"
    if seconds < 2 * _HOUR:
        return f"{seconds / _MINUTE:.0f} min"
    return f"{seconds / _HOUR:.0f} h" if seconds < 2 * _DAY else f"{seconds / _DAY:.1f} days"


def when(unix: float) -> str:
    """Write a Unix time for people, in UTC; 0 is no time."""
    return datetime.fromtimestamp(unix, UTC).strftime("%Y-%m-%d %H:%M:%S") if unix else ""
