"""What is judged of a rollout, as ``spec.analysis.signals`` declares it."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, TypeAlias

from backstay.domain.units import seconds


class Profile(StrEnum):
    """Whose metric names a model server uses."""

    BACKSTAY = "backstay"
    ENVOY = "envoy"
    MLSERVER = "mlserver"
    SELDON = "seldon"
    TRITON = "triton"


class Events(StrEnum):
    """The counters of a model server's profile whose events are compared."""

    ERRORS = "errors"
    NULLS = "nulls"
    WRONG = "wrongPredictions"


class Measure(StrEnum):
    """The histograms of a model server's profile whose distributions are compared."""

    PREDICTION = "prediction"
    CONFIDENCE = "confidence"


@dataclass(frozen=True, slots=True)
class OwnCounters:
    """A count by the user's own PromQL: a counter of events, and one of what they are counted among."""

    events: str
    total: str = ""


@dataclass(frozen=True, slots=True)
class OwnHistogram:
    """A histogram by the user's own PromQL, classic or native."""

    query: str


@dataclass(frozen=True, slots=True)
class NoHarm:
    """The evidence that Pass asks for: ``ratio`` times the odds or more is ruled out at ``level``."""

    ratio: float = 2.0
    level: float = 0.05


@dataclass(frozen=True, slots=True)
class Comparison:
    """Compare the canary's share of requests with an event with the running version's.

    ``tolerance`` is the ratio of odds that counts as no harm.
    """

    tolerance: float = 1.0
    source: Events | OwnCounters = Events.ERRORS
    no_harm: NoHarm | None = None


@dataclass(frozen=True, slots=True)
class Latency:
    """Compare the share of slower requests at every edge of a histogram of durations.

    Without a source it is the profile's.
    """

    tolerance: float = 1.0
    source: OwnHistogram | None = None
    no_harm: NoHarm | None = None


@dataclass(frozen=True, slots=True)
class Distribution:
    """Compare two distributions over buckets; a total variation up to ``smallest`` counts as none."""

    source: Measure | OwnHistogram
    smallest: float = 0.0


@dataclass(frozen=True, slots=True)
class Objective:
    """Hold the canary's ratio of events to requests, over a window in seconds, under a fixed limit.

    It fails at ``violations`` readings above the limit: in a row, or among the last ``looks`` where that is not 0.
    """

    limit: float
    window: float = 60.0
    min_requests: int = 20
    violations: int = 1
    looks: int = 0


Rule: TypeAlias = Comparison | Latency | Distribution | Objective


@dataclass(frozen=True, slots=True)
class Signal:
    """One thing that is judged, with its share of the error budget ``alpha``."""

    name: str
    rule: Rule
    weight: float = 1.0


DEFAULT_SIGNAL: dict[str, Any] = {"name": "errors", "comparison": {"events": "errors"}}


def signal_of(signal: Mapping[str, Any]) -> Signal:
    """Read one entry of ``spec.analysis.signals``."""
    return Signal(name=signal["name"], rule=_rule(signal), weight=float(signal.get("weight", 1.0)))


def _rule(signal: Mapping[str, Any]) -> Rule:
    if "objective" in signal:
        objective = signal["objective"]
        return Objective(
            limit=float(objective["max"]),
            window=seconds(objective.get("window", "1m")),
            min_requests=objective.get("minRequests", 20),
            violations=objective.get("violations", 1),
            looks=objective.get("looks", 0),
        )
    if "latency" in signal:
        latency = signal["latency"]
        own = OwnHistogram(latency["query"]) if "query" in latency else None
        return Latency(float(latency.get("tolerance", 1.0)), own, _no_harm(latency))
    if "distribution" in signal:
        distribution = signal["distribution"]
        query = distribution.get("query")
        return Distribution(
            OwnHistogram(query) if query else Measure(distribution["metric"]),
            float(distribution.get("minimumShift", 0.0)),
        )
    comparison = signal["comparison"]
    query = comparison.get("query")
    source = OwnCounters(query, comparison.get("totalQuery", "")) if query else Events(comparison["events"])
    return Comparison(float(comparison.get("tolerance", 1.0)), source, _no_harm(comparison))


def _no_harm(rule: Mapping[str, Any]) -> NoHarm | None:
    if "noHarm" not in rule:
        return None
    return NoHarm(float(rule["noHarm"].get("ratio", 2.0)), float(rule["noHarm"].get("level", 0.05)))
