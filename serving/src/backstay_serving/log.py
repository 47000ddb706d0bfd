"""The server's log: one line an event, and a flood of equal events told once in a while."""

import logging
import sys
from dataclasses import dataclass

_INTERVAL_SECONDS = 60.0
_FORMAT = "%(asctime)s %(levelname)s %(message)s"


@dataclass
class _Kind:
    told_at: float
    untold: int


class OncePerInterval(logging.Filter):
    """Lets one record of each kind through an interval, and says in the next how many were left out.

    A model that fails on every second request would otherwise write its log full. Records without the attribute `kind`
    pass untouched.

    Args:
        seconds: the interval.
    """

    def __init__(self, seconds: float = _INTERVAL_SECONDS) -> None:
        super().__init__()
        self._seconds = seconds
        self._kinds: dict[str, _Kind] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        """Say whether a record is to be written, by its own time."""
        name = getattr(record, "kind", "")
        if not name:
            return True
        kind = self._kinds.get(name)
        if kind is not None and record.created - kind.told_at < self._seconds:
            kind.untold += 1
            return False
        if kind is not None and kind.untold:
            record.msg = (
                f"{record.msg} [and {kind.untold} more like this in the last {record.created - kind.told_at:.0f} s]"
            )
        self._kinds[name] = _Kind(told_at=record.created, untold=0)
        return True


def configure_log() -> None:
    """Write the process's log, warnings of libraries included, to standard error."""
    handler = logging.StreamHandler(sys.stderr)
    handler.addFilter(OncePerInterval())
    logging.basicConfig(level=logging.INFO, format=_FORMAT, handlers=[handler])
    logging.getLogger("uvicorn").setLevel(logging.WARNING)
    logging.getLogger("urllib3").setLevel(logging.ERROR)  # a registry that stays away is told of once, at the end
    logging.captureWarnings(capture=True)
