"""Raw counters from Prometheus: one query for each metric and tick, for all live rollouts together."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import requests
from prometheus_api_client import PrometheusConnect
from prometheus_api_client.exceptions import PrometheusApiClientException
from urllib3.util.retry import Retry

from backstay.domain.observed import Backend, Track
from backstay.domain.resource import Key

# Metric names of the model server profile "backstay".
REQUESTS = "backstay_requests_total"
ERRORS = "backstay_errors_total"
_LABELS = "namespace, modeldeployment, revision, track, pod"


@dataclass(frozen=True, slots=True)
class Sample:
    """Where one counter's value comes from."""

    key: Key
    backend: Backend
    pod: str


@dataclass(frozen=True, slots=True)
class Reading:
    """All counters asked for, as they stood at one time (Unix seconds)."""

    at: float
    requests: Mapping[Sample, float]
    errors: Mapping[Sample, float]


class PrometheusUnavailableError(Exception):
    """Prometheus did not answer, or not with what was asked; the text is a sentence for people."""


class Prometheus:
    """Reads counters; blocking, to be called from a thread of its own."""

    def __init__(self, url: str, *, timeout: float = 5.0) -> None:
        self._url = url
        self._timeout = timeout
        # A failed reading is repeated at the next tick; retries in between would only make it late.
        self._client = PrometheusConnect(url=url, method="POST", retry=Retry(total=0), timeout=timeout)

    def read(self, revisions: Iterable[str], at: float) -> Reading:
        """Read requests and errors of every pod of these revisions.

        Raises:
            PrometheusUnavailableError: when there is no proper answer.
        """
        wanted = "|".join(sorted(re.escape(revision) for revision in revisions))
        return Reading(at, self._counter(REQUESTS, wanted, at), self._counter(ERRORS, wanted, at))

    def _counter(self, metric: str, revisions: str, at: float) -> Mapping[Sample, float]:
        query = f'sum by ({_LABELS}) ({metric}{{revision=~"{revisions}"}})'
        try:
            series = self._client.custom_query(query, params={"time": at})
            return {sample: value for entry in series for sample, value in [_sample(entry)] if sample is not None}
        except requests.RequestException as problem:
            raise PrometheusUnavailableError(
                f"Prometheus at {self._url} does not answer ({type(problem).__name__})"
            ) from problem
        except (PrometheusApiClientException, ValueError, KeyError, TypeError, IndexError) as problem:
            raise PrometheusUnavailableError(f"Prometheus at {self._url} answers with an error: {problem}") from problem


def _sample(entry: Mapping[str, Mapping[str, str]]) -> tuple[Sample | None, float]:
    """Read one series; one that is not labelled like a pod of ours is left out."""
    labels = entry["metric"]
    value = float(entry["value"][1])  # type: ignore[index]  # a pair of time and text
    if labels.get("track") not in tuple(Track) or not all(
        labels.get(n) for n in ("namespace", "modeldeployment", "pod")
    ):
        return None, value
    backend = Backend(labels["revision"], Track(labels["track"]))
    return Sample(Key(labels["namespace"], labels["modeldeployment"]), backend, labels["pod"]), value
