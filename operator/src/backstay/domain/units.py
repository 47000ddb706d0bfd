"""Durations and times, between the strings of the API and seconds."""

import re
from datetime import UTC, datetime

_PART = re.compile(r"(\d+)(ms|s|m|h)")
_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}


def seconds(duration: str) -> float:
    """Read a duration such as ``1h30m`` or ``500ms``, in seconds.

    Raises:
        ValueError: when the text is not a duration.
    """
    parts = _PART.findall(duration)
    if not parts or "".join(number + unit for number, unit in parts) != duration:
        raise ValueError(f"{duration!r} is not a duration: write for example 30s, 5m or 1h30m")
    return sum(int(number) * _SECONDS[unit] for number, unit in parts)


def timestamp(at: float) -> str:
    """Write a Unix time in seconds as RFC 3339 in UTC with milliseconds."""
    return datetime.fromtimestamp(at, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def unix(text: str) -> float:
    """Read an RFC 3339 time as Unix seconds.

    Raises:
        ValueError: when the text is not such a time.
    """
    return datetime.fromisoformat(text).timestamp()
