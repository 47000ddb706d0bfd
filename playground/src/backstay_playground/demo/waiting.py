"""Waiting for what has no watch."""

import time
from collections.abc import Callable

from backstay_playground.errors import PlaygroundError

_POLL_SECONDS = 0.25


def wait_until(what: str, condition: Callable[[], bool], *, timeout: float = 120) -> None:
    """Poll until a condition holds; `timeout` in seconds.

    Raises:
        PlaygroundError: it does not in time.
    """
    deadline = time.monotonic() + timeout
    while not condition():
        if time.monotonic() > deadline:
            raise PlaygroundError(f"{what}: not within {timeout:.0f} s")
        time.sleep(_POLL_SECONDS)
