"""Room on the stack for the deepest document that an API server accepts."""

import sys

# The API server takes JSON of 10,000 levels, and Python's own limit is 1,000 calls: a single object would end every
# listing and every watch that it is in. The main thread's stack, and that of others, hold four times as many levels.
_CALLS = 20_000


def make_room() -> None:
    """Let this process decode any object of the API server; to be called once, at its start."""
    sys.setrecursionlimit(_CALLS)
