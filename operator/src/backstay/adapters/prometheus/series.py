"""Series as Prometheus' HTTP API writes them, read into counts by model and pod."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from typing import Any, NamedTuple, TypeAlias

from backstay.adapters.prometheus.histograms import Histogram, classic, is_count, native
from backstay.domain.observed import Backend, Track
from backstay.domain.resource import Key

_NAMES = ("namespace", "modeldeployment", "revision", "pod", "track")
LABELS = ", ".join((*_NAMES, "le"))
"""The labels that tell where a series comes from, as PromQL."""
_TRACKS = {str(track): track for track in Track}


class Place(NamedTuple):
    """Where one value comes from."""

    backend: Backend
    pod: str


Value: TypeAlias = float | Histogram
Values: TypeAlias = Mapping[Place, Value]
Places: TypeAlias = AbstractSet[Place]


class Found(NamedTuple):
    """What one query found at one time, by model: counts, and the pods whose samples are no counts.

    A sample that is NaN, infinite or negative, or a histogram with such a bucket, is left out as if its pod had not
    been scraped. That it was there is told by ``broken``: a counter that is absent may be zero, and this one is not.
    """

    values: Mapping[Key, Values]
    broken: Mapping[Key, Places]


def step_of(ticks: Sequence[float]) -> float:
    """Return the seconds between ticks that are evenly spaced."""
    return (ticks[-1] - ticks[0]) / (len(ticks) - 1) if len(ticks) > 1 else 1.0


def _index(at: Any, ticks: Sequence[float], step: float) -> int:
    """Tell which tick a sample is of; a sample of an instant query belongs to the only tick, at any time."""
    return round((float(at) - ticks[0]) / step) if len(ticks) > 1 else 0


def joined(found: Sequence[Found]) -> Found:
    """Put the parts of an answer together; a model's revisions may be in several."""
    if len(found) == 1:
        return found[0]
    together: dict[Key, dict[Place, Value]] = {}
    broken: dict[Key, Places] = {}
    for part in found:
        for key, values in part.values.items():
            together.setdefault(key, {}).update(values)
        for key, places in part.broken.items():
            broken[key] = broken.get(key, frozenset()) | places
    return Found(together, broken)


class PodLabels(dict[tuple[str, ...], tuple[Key, Place] | None]):
    """Where series come from, by the values of `_NAMES`; None for one that is not labelled like a pod of ours."""

    def __missing__(self, labels: tuple[str, ...]) -> tuple[Key, Place] | None:
        namespace, model, revision, pod, track = labels
        ours = track in _TRACKS and namespace and model and revision and pod
        place = self[labels] = (Key(namespace, model), Place(Backend(revision, _TRACKS[track]), pod)) if ours else None
        return place


class _Tick:
    """What the series of one query say of one time, as they are gone through."""

    def __init__(self) -> None:
        self.values: dict[Key, dict[Place, Value]] = {}
        self.broken: dict[Key, set[Place]] = {}
        self.buckets: dict[tuple[Key, Place], dict[str, float]] = {}

    def count(self, key: Key, place: Place, number: float) -> None:
        """Take in a counter's value."""
        if is_count(number):
            self.values.setdefault(key, {})[place] = number
        else:
            self.broken.setdefault(key, set()).add(place)

    def histogram(self, key: Key, place: Place, read: Callable[[Any], Histogram], document: Any) -> None:
        """Read a histogram and take it in."""
        try:
            self.values.setdefault(key, {})[place] = read(document)
        except ValueError:
            self.broken.setdefault(key, set()).add(place)

    def found(self) -> Found:
        """Return all of it."""
        for (key, place), counts in self.buckets.items():
            self.histogram(key, place, classic, counts)
        return Found(self.values, self.broken)


def by_model(series: Iterable[Mapping[str, Any]], ticks: Sequence[float], places: PodLabels) -> list[Found]:
    """Return what series say of each tick, by model; what is not labelled like a pod of ours is left out."""
    read, step = [_Tick() for _ in ticks], step_of(ticks)
    for entry in series:
        labels = entry["metric"]
        where = places[tuple([labels.get(name, "") for name in _NAMES])]
        if where is None:
            continue
        key, place = where
        for at, value in entry.get("histograms", ()):
            read[_index(at, ticks, step)].histogram(key, place, native, value)
        edge = labels.get("le")
        for at, text in entry.get("values", ()):
            number, tick = float(text), read[_index(at, ticks, step)]
            if edge is not None:
                tick.buckets.setdefault(where, {})[edge] = number
            else:
                tick.count(key, place, number)
    return [tick.found() for tick in read]
