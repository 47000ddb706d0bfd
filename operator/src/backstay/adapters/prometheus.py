"""Raw counters and histograms from Prometheus: one query for each template, for all live rollouts together."""

import math
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, NamedTuple, TypeAlias

import requests
from prometheus_api_client import PrometheusConnect
from prometheus_api_client.exceptions import PrometheusApiClientException
from urllib3.util.retry import Retry

from backstay.adapters.histograms import Histogram, classic, native
from backstay.domain.observed import Backend, Track
from backstay.domain.resource import Key

REVISIONS = "$revisions"
"""Stands in a template for the revisions that are asked for, as a regular expression."""

_LABELS = "namespace, modeldeployment, revision, track, pod, le"


class Place(NamedTuple):
    """Where one value comes from."""

    backend: Backend
    pod: str


Value: TypeAlias = float | Histogram
Values: TypeAlias = Mapping[Place, Value]


@dataclass(frozen=True, slots=True)
class Reading:
    """All that was asked for, as it stood at one time (Unix seconds), by template and model.

    ``problems`` are sentences on templates that Prometheus refused to answer.
    """

    at: float
    values: Mapping[str, Mapping[Key, Values]] = field(default_factory=dict)
    problems: Mapping[str, str] = field(default_factory=dict)

    def of(self, template: str, key: Key) -> Values:
        """Return one model's values of one template; none where Prometheus has none."""
        return self.values.get(template, {}).get(key, {})


class PrometheusUnavailableError(Exception):
    """Prometheus did not answer, or not with what was asked; the text is a sentence for people."""


class _RefusedError(Exception):
    """Prometheus answers, and not with what was asked."""


class Prometheus:
    """Reads counters; blocking, to be called from a thread of its own."""

    def __init__(self, url: str, *, timeout: float = 5.0) -> None:
        self._url = url
        self._timeout = timeout
        # A failed reading is repeated at the next tick; retries in between would only make it late.
        self._client = PrometheusConnect(url=url, method="POST", retry=Retry(total=0), timeout=timeout)

    def read(self, templates: Collection[str], revisions: Iterable[str], ticks: Sequence[float]) -> list[Reading]:
        """Read every pod's value of every template, with one query for each template however many ticks there are.

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
        wanted = "|".join(sorted(re.escape(revision) for revision in revisions))
        values: list[dict[str, Mapping[Key, Values]]] = [{} for _ in ticks]
        problems: dict[str, str] = {}
        for template in templates:
            try:
                answers = self._ask(template.replace(REVISIONS, wanted), ticks)
            except _RefusedError as refused:
                problems[template] = f"Prometheus at {self._url} answers with an error: {refused}"
            else:
                for at_tick, answer in zip(values, answers, strict=True):
                    at_tick[template] = answer
        return [Reading(tick, at_tick, problems) for tick, at_tick in zip(ticks, values, strict=True)]

    def _ask(self, query: str, ticks: Sequence[float]) -> list[Mapping[Key, Values]]:
        try:
            return [_by_model(series) for series in self._series(f"sum by ({_LABELS}) ({query})", ticks)]
        except requests.RequestException as problem:
            raise PrometheusUnavailableError(
                f"Prometheus at {self._url} does not answer ({type(problem).__name__})"
            ) from problem
        except (PrometheusApiClientException, ValueError, KeyError, TypeError, IndexError) as problem:
            raise _RefusedError(f"{problem} (query: {query})") from problem

    def _series(self, query: str, ticks: Sequence[float]) -> list[list[dict[str, Any]]]:
        """Return the series at each tick, in the form of an instant query's answer."""
        if len(ticks) == 1:
            return [self._client.custom_query(query, params={"time": ticks[0]})]
        start, end = ticks[0], ticks[-1]
        step = (end - start) / (len(ticks) - 1)
        # The client rounds times to whole seconds, which the parameters make good.
        exact = {"start": start, "end": end + step / 2}
        found: list[list[dict[str, Any]]] = [[] for _ in ticks]
        for series in self._client.custom_query_range(
            query, datetime.fromtimestamp(start, UTC), datetime.fromtimestamp(end, UTC), step=str(step), params=exact
        ):
            for many, one in (("values", "value"), ("histograms", "histogram")):
                for sample in series.get(many, ()):
                    found[round((float(sample[0]) - start) / step)].append({"metric": series["metric"], one: sample})
        return found


def _by_model(series: Iterable[Mapping[str, Any]]) -> dict[Key, dict[Place, Value]]:
    found: dict[Key, dict[Place, Value]] = {}
    buckets: dict[tuple[Key, Place], dict[str, float]] = {}
    for entry in series:
        labels = entry["metric"]
        names = [labels.get(name, "") for name in ("namespace", "modeldeployment", "revision", "pod")]
        if labels.get("track") not in tuple(Track) or not all(names):
            # Not labelled like a pod of ours.
            continue
        namespace, model, revision, pod = names
        key, place = Key(namespace, model), Place(Backend(revision, Track(labels["track"])), pod)
        if "le" in labels:
            buckets.setdefault((key, place), {})[labels["le"]] = float(entry["value"][1])
        elif "histogram" in entry:
            found.setdefault(key, {})[place] = native(entry["histogram"][1])
        elif math.isfinite(value := float(entry["value"][1])):
            found.setdefault(key, {})[place] = value
    for (key, place), counts in buckets.items():
        # One that is not whole is missing, like a pod that was not scraped.
        with suppress(ValueError):
            found.setdefault(key, {})[place] = classic(counts)
    return found
