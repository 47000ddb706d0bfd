"""Raw counters and histograms from Prometheus: one query for each template and tick, for all live rollouts together."""

import math
import re
from collections.abc import Collection, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
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

    def read(self, templates: Collection[str], revisions: Iterable[str], at: float) -> Reading:
        """Read every pod's value of every template.

        Args:
            templates: PromQL whose series carry the labels of our pods (and ``le``, for a classic histogram).
            revisions: what ``$revisions`` in a template stands for.
            at: the time for all of them, in Unix seconds.

        A template that Prometheus refuses, as it does PromQL with a mistake, is a problem of whoever wrote it: the
        others are read all the same.

        Raises:
            PrometheusUnavailableError: when Prometheus does not answer.
        """
        wanted = "|".join(sorted(re.escape(revision) for revision in revisions))
        values, problems = {}, {}
        for template in templates:
            try:
                values[template] = self._read(template.replace(REVISIONS, wanted), at)
            except _RefusedError as refused:
                problems[template] = f"Prometheus at {self._url} answers with an error: {refused}"
        return Reading(at, values, problems)

    def _read(self, query: str, at: float) -> Mapping[Key, Values]:
        try:
            series = self._client.custom_query(f"sum by ({_LABELS}) ({query})", params={"time": at})
            return _by_model(series)
        except requests.RequestException as problem:
            raise PrometheusUnavailableError(
                f"Prometheus at {self._url} does not answer ({type(problem).__name__})"
            ) from problem
        except (PrometheusApiClientException, ValueError, KeyError, TypeError, IndexError) as problem:
            raise _RefusedError(f"{problem} (query: {query})") from problem


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
