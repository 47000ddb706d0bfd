"""Does a signal still count while its arm answers requests? A rule of thumb, outside alpha.

A signal that has stopped adds nothing to the evidence, so that its last verdict would stand. How many of its counts are
due is reckoned by the share of the requests that it has counted so far, since a signal need not count every request.
"""

from typing import NamedTuple

# So many counts must be due, and none have come. By chance alone that happens to one in 500 million.
DUE = 20.0
# And for so many intervals in which requests came: an exporter may be scraped less often than is judged.
INTERVALS = 4


class Flow(NamedTuple):
    """How one arm's requests and a signal's counts have come.

    ``requests`` are those up to the last interval in which the signal counted, and ``counted`` is what it counted among
    them. ``silent`` are the requests since, and ``intervals`` those in which they came; ``gap`` is the longest such row
    of intervals that ended with a count.
    """

    requests: float = 0.0
    counted: float = 0.0
    silent: float = 0.0
    intervals: int = 0
    gap: int = 0

    def after(self, requests: float, counted: float) -> "Flow":
        """Add an interval in which the arm answered ``requests``, of which the signal counted ``counted``."""
        if counted > 0:
            gap = max(self.gap, self.intervals)
            return Flow(self.requests + self.silent + requests, self.counted + counted, 0.0, 0, gap)
        if requests > 0:
            return self._replace(silent=self.silent + requests, intervals=self.intervals + 1)
        return self

    @property
    def stopped(self) -> bool:
        """Tell whether the signal has stopped: it has counted, and too many counts are due for none to be by chance."""
        if not self.counted or not self.requests:
            return False
        due = self.silent * min(self.counted / self.requests, 1.0)
        return due >= DUE and self.intervals >= max(INTERVALS, 2 * self.gap)
