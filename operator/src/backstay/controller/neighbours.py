"""The processes around the controller, and the clocks that it goes by, in one place: tests put their own there.

The API server is the controller's ``Cluster``, the registries are in its settings.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass

from prometheus_client import REGISTRY, CollectorRegistry

from backstay.adapters.prometheus.client import Prometheus
from backstay.controller.runtime import metrics
from backstay.controller.runtime.settings import Settings
from backstay.controller.services.git_writer import GitRemotes, GitServers


@dataclass(frozen=True, slots=True)
class Neighbours:
    """What one controller talks to.

    ``prometheus`` is None where no address is configured. ``clock`` returns Unix seconds, ``monotonic`` seconds that
    never go back. ``collectors`` is where the controller's own metrics are gathered.
    """

    prometheus: Prometheus | None
    git: GitServers
    clock: Callable[[], float] = time.time
    monotonic: Callable[[], float] = time.monotonic
    collectors: CollectorRegistry = REGISTRY

    @staticmethod
    def of(settings: Settings) -> "Neighbours":
        """Return those that the settings name."""
        prometheus = Prometheus(settings.prometheus_url, asked=_count_query) if settings.prometheus_url else None
        return Neighbours(prometheus, GitRemotes(settings))


def _count_query(outcome: str) -> None:
    metrics.QUERIES.labels(outcome).inc()
