"""Start the controller: ``python -m backstay.controller``."""

import logging
import sys

import uvloop

from backstay.adapters.kubernetes.client import ApiError
from backstay.adapters.recursion import make_room
from backstay.adapters.shipped import NotShippedError
from backstay.controller.operator import run
from backstay.controller.runtime.settings import Settings

# So often, in seconds, a thread that reads a large answer of Prometheus lets the loop go on. The loop does many small
# things, and would wait for Python's usual 5 ms before each of them.
_HAND_OVER_EVERY = 0.0005


def main() -> int:
    """Run the controller; mistakes of configuration and installation end it with one sentence."""
    sys.setswitchinterval(_HAND_OVER_EVERY)
    make_room()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    for chatty in ("kopf", "aiohttp.access", "git"):
        logging.getLogger(chatty).setLevel(logging.WARNING)
    # It warns of kinds that are missing, as the controller does in words of its own.
    logging.getLogger("kopf._core.reactor.observation").setLevel(logging.ERROR)
    # It warns of each retry, of which the last one is reported by the caller.
    logging.getLogger("urllib3").setLevel(logging.ERROR)
    try:
        uvloop.run(run(Settings.from_environment()))
    except (ValueError, ApiError, NotShippedError) as problem:
        sys.stderr.write(f"{problem}\n")
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
