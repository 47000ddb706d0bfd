"""Raw counters and histograms from Prometheus: one query for each template, for all live rollouts together."""

import re
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, NamedTuple, TypeAlias

import requests
from prometheus_api_client import PrometheusConnect
from prometheus_api_client.exceptions import PrometheusApiClientException
from urllib3.util.retry import Retry

from backstay.adapters.histograms import Histogram, classic, is_count, native
from backstay.domain.observed import Backend, Track
from backstay.domain.resource import Key

REVISIONS = "$revisions"
"""Stands in a template for the revisions that are asked for, as a regular expression."""

_NAMES = ("namespace", "modeldeployment", "revision", "pod", "track")
_LABELS = ", ".join((*_NAMES, "le"))
# So many revisions are asked for in one query.
_AT_ONCE = 4000
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


@dataclass(frozen=True, slots=True)
class Reading:
    """All that was asked for, as it stood at one time (Unix seconds), by template and model.

    ``problems`` are sentences on templates that Prometheus refused to answer. ``broken`` are the pods whose samples
    are no counts, see ``Found``.
    """

    at: float
    values: Mapping[str, Mapping[Key, Values]] = field(default_factory=dict)
    problems: Mapping[str, str] = field(default_factory=dict)
    broken: Mapping[str, Mapping[Key, Places]] = field(default_factory=dict)

    def of(self, template: str, key: Key) -> Values:
        """Return one model's values of one template; none where Prometheus has none."""
        return self.values.get(template, {}).get(key, {})

    def broken_of(self, template: str, key: Key) -> Places:
        """Return one model's pods whose samples of one template are no counts."""
        return self.broken.get(template, {}).get(key, frozenset())


class PrometheusUnavailableError(Exception):
    """Prometheus did not answer, or not with what was asked; the text is a sentence for people."""


class _RefusedError(Exception):
    """Prometheus answers, and not with what was asked."""


class Prometheus:
    """Reads counters; blocking, to be called from a thread of its own."""

    def __init__(self, url: str, *, timeout: float = 5.0, asked: Callable[[str], None] = lambda _: None) -> None:
        """Take the address; ``asked`` is told how each query ended: ``answered``, ``refused`` or ``unavailable``."""
        self._url = url
        self._asked = asked
        self._timeout = timeout
        # A failed reading is repeated at the next tick; retries in between would only make it late.
        self._client = PrometheusConnect(url=url, method="POST", retry=Retry(total=0), timeout=timeout)

    def read(self, templates: Collection[str], revisions: Iterable[str], ticks: Sequence[float]) -> list[Reading]:
        """Read every pod's value of every template, with one query for each template however many ticks there are.

        Beyond some thousand revisions it is one for each so many: an answer has to fit into memory while it is parsed.

        Args:
            templates: PromQL whose series carry the labels of our pods (and ``le``, for a classic histogram).
            revisions: what ``$revisions`` in a template stands for.
            ticks: the times, in Unix seconds: one, or several that are evenly spaced.

        Returns:
            One reading for each tick.

        A template that Prometheus refuses, as it does PromQL with a mistake, is a problem of whoever wrote it: the
        others are read all the same.

        Raises:
            PrometheusUnavailableError: when Prometheus does not answer.
        """
        escaped = sorted(re.escape(revision) for revision in revisions)
        parts = ["|".join(escaped[at : at + _AT_ONCE]) for at in range(0, max(len(escaped), 1), _AT_ONCE)]
        # Every template, and every bucket, has the same pods. Nothing is kept longer: there are always new ones.
        places = _Places()
        values: list[dict[str, Mapping[Key, Values]]] = [{} for _ in ticks]
        broken: list[dict[str, Mapping[Key, Places]]] = [{} for _ in ticks]
        problems: dict[str, str] = {}
        for template in templates:
            queries = [template.replace(REVISIONS, part) for part in parts]
            try:
                answers = [self._ask(query, ticks, places) for query in dict.fromkeys(queries)]
            except _RefusedError as refused:
                problems[template] = f"Prometheus at {self._url} answers with an error: {refused}"
            else:
                for at_tick, wrong, *found in zip(values, broken, *answers, strict=True):
                    at_tick[template], wrong_here = _joined(found)
                    if wrong_here:
                        wrong[template] = wrong_here
        return [Reading(tick, at, problems, wrong) for tick, at, wrong in zip(ticks, values, broken, strict=True)]

    def _ask(self, query: str, ticks: Sequence[float], places: "_Places") -> list[Found]:
        try:
            found = _by_model(self._series(f"sum by ({_LABELS}) ({query})", ticks), ticks, places)
        except requests.RequestException as problem:
            self._asked("unavailable")
            raise PrometheusUnavailableError(
                f"Prometheus at {self._url} does not answer ({type(problem).__name__})"
            ) from problem
        except (PrometheusApiClientException, ValueError, KeyError, TypeError, IndexError) as problem:
            self._asked("refused")
            raise _RefusedError(f"{problem} (query: {query})") from problem
        self._asked("answered")
        return found

    def _series(self, query: str, ticks: Sequence[float]) -> list[dict[str, Any]]:
        """Return the series, each with ``values`` or ``histograms`` as in a range query's answer."""
        if len(ticks) == 1:
            found = self._client.custom_query(query, params={"time": ticks[0]})
            names = {"value": "values", "histogram": "histograms"}
            return [
                {"metric": one["metric"], **{names[name]: [one[name]] for name in names if name in one}}
                for one in found
            ]
        start, end = ticks[0], ticks[-1]
        # The client rounds times to whole seconds, which the parameters make good.
        exact = {"start": start, "end": end + _step(ticks) / 2}
        answer: list[dict[str, Any]] = self._client.custom_query_range(
            query,
            datetime.fromtimestamp(start, UTC),
            datetime.fromtimestamp(end, UTC),
            step=str(_step(ticks)),
            params=exact,
        )
        return answer


def _step(ticks: Sequence[float]) -> float:
    return (ticks[-1] - ticks[0]) / (len(ticks) - 1) if len(ticks) > 1 else 1.0


def _index(at: Any, ticks: Sequence[float], step: float) -> int:
    """Tell which tick a sample is of; an instant query's is of the only one, whatever time Prometheus puts to it."""
    return round((float(at) - ticks[0]) / step) if len(ticks) > 1 else 0


def _joined(found: Sequence[Found]) -> Found:
    """Put the parts of an answer together; a model's revisions may be in several."""
    if len(found) == 1:
        return found[0]
    joined: dict[Key, dict[Place, Value]] = {}
    broken: dict[Key, Places] = {}
    for part in found:
        for key, values in part.values.items():
            joined.setdefault(key, {}).update(values)
        for key, places in part.broken.items():
            broken[key] = broken.get(key, frozenset()) | places
    return Found(joined, broken)


class _Places(dict[tuple[str, ...], tuple[Key, Place] | None]):
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


def _by_model(series: Iterable[Mapping[str, Any]], ticks: Sequence[float], places: _Places) -> list[Found]:
    read, step = [_Tick() for _ in ticks], _step(ticks)
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
