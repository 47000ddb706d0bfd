"""Raw counters and histograms from Prometheus: one query for each template, for all live rollouts together."""

import re
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import requests
from prometheus_api_client import PrometheusConnect
from prometheus_api_client.exceptions import PrometheusApiClientException
from urllib3.util.retry import Retry

from backstay.adapters.prometheus.queries import Apart, Patience
from backstay.adapters.prometheus.series import (
    LABELS,
    Found,
    Place,
    Places,
    PodLabels,
    Value,
    Values,
    by_model,
    joined,
    step_of,
)
from backstay.domain.resource import Key

__all__ = [
    "REVISIONS",
    "Place",
    "Places",
    "Problem",
    "Prometheus",
    "PrometheusUnavailableError",
    "Reading",
    "Value",
    "Values",
]

REVISIONS = "$revisions"
"""Stands in a template for the revisions that are asked for, as a regular expression."""

# So many revisions are asked for in one query.
_AT_ONCE = 4000
# How the client tells that Prometheus understood a query, and failed to work it out.
_NOT_WORKED_OUT = "HTTP Status Code 422 "
# So often a template's revisions are halved in one reading.
_MOST_HALVED = 32
# After so many queries that were not answered in time, the others that only some models need wait for the next reading;
# and where so many of those that all need were not, Prometheus counts as unavailable.
_MOST_SILENT = 2
_PROBE_SECONDS = 1.0
_LONGEST_QUERY = 600


@dataclass(frozen=True, slots=True)
class Problem:
    """Why Prometheus did not answer a template, as a sentence; ``revisions`` are those concerned, all where empty."""

    sentence: str
    revisions: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Reading:
    """All that was asked for, as it stood at one time (Unix seconds), by template and model.

    ``problems`` tell of templates that Prometheus refused to answer, or did not answer in time. ``broken`` are the pods
    whose samples are no counts, see ``Found``.
    """

    at: float
    values: Mapping[str, Mapping[Key, Values]] = field(default_factory=dict)
    problems: Mapping[str, tuple[Problem, ...]] = field(default_factory=dict)
    broken: Mapping[str, Mapping[Key, Places]] = field(default_factory=dict)

    def of(self, template: str, key: Key) -> Values:
        """Return one model's values of one template; none where Prometheus has none."""
        return self.values.get(template, {}).get(key, {})

    def problem(self, template: str, revisions: AbstractSet[str]) -> str:
        """Say why a template was not read for some revisions; empty where it was."""
        found = self.problems.get(template, ())
        return next((one.sentence for one in found if not one.revisions or one.revisions & revisions), "")

    def broken_of(self, template: str, key: Key) -> Places:
        """Return one model's pods whose samples of one template are no counts."""
        return self.broken.get(template, {}).get(key, frozenset())


class PrometheusUnavailableError(Exception):
    """Prometheus did not answer, or not with what was asked; the text is a sentence for people."""


class _RefusedError(Exception):
    """Prometheus answers, and not with what was asked.

    ``splits`` tells that it could not work the query out, which may be due to some of the revisions in it.
    """

    def __init__(self, sentence: str, *, splits: bool) -> None:
        super().__init__(sentence)
        self.splits = splits


class _SilentError(Exception):
    """A query was not answered."""


@dataclass(slots=True)
class _Asking:
    """One template's way to its answers: groups of revisions that are refused are halved, ``left`` times at most."""

    template: str
    put: Callable[[str], list[Found]]
    apart: Apart
    answers: list[list[Found]] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)
    left: int = _MOST_HALVED

    def ask(self, group: tuple[str, ...], *, is_half: bool = False) -> bool:
        """Ask for a group of revisions; tells whether it was answered in one query.

        Raises:
            PrometheusUnavailableError, _SilentError: there was no answer.
        """
        query = self.template.replace(REVISIONS, "|".join(re.escape(revision) for revision in group))
        try:
            self.answers.append(self.put(query))
        except _RefusedError as refused:
            if refused.splits and len(group) > 1 and self.left:
                self.left -= 1
                self._halve(group)
                return False
            self.problems.append(Problem(str(refused), frozenset(group)))
            if is_half:
                self.apart.keep(self.template, group)
            return False
        return True

    def _halve(self, group: tuple[str, ...]) -> None:
        middle = len(group) // 2
        answered = [self.ask(half, is_half=True) for half in (group[:middle], group[middle:])]
        if all(answered):
            # The halves are in each other's way.
            self.apart.keep(self.template, group[middle:])


class Prometheus:
    """Reads counters; blocking, to be called from a thread of its own."""

    def __init__(self, url: str, *, timeout: float = 5.0, asked: Callable[[str], None] = lambda _: None) -> None:
        """Take the address; ``asked`` is told how each query ended: ``answered``, ``refused`` or ``unavailable``."""
        self._url = url
        self._asked = asked
        self._timeout = timeout
        # A failed reading is repeated at the next tick; retries in between would only make it late.
        self._client = PrometheusConnect(url=url, method="POST", retry=Retry(total=0), timeout=timeout)
        # By whether one time is asked for or many, of which the latter takes longer.
        self._patience = {False: Patience(), True: Patience()}
        self._apart = Apart()

    def read(
        self,
        templates: Collection[str],
        revisions: Iterable[str],
        ticks: Sequence[float],
        *,
        shared: Collection[str] = (),
    ) -> list[Reading]:
        """Read every pod's value of every template, with one query for each template however many ticks there are.

        Beyond some thousand revisions it is one for each so many: an answer has to fit into memory while it is parsed.
        Where Prometheus cannot work a query out, as where two series are in each other's way, the revisions are halved
        until those are found that it is due to; for some minutes these are then asked for apart.

        Args:
            templates: PromQL whose series carry the labels of our pods (and ``le``, for a classic histogram).
            revisions: what ``$revisions`` in a template stands for.
            ticks: the times, in Unix seconds: one, or several that are evenly spaced.
            shared: templates that are asked for every time, before the others. Another one that was not answered in
                time rests for a while, so that it does not delay every reading.

        Returns:
            One reading for each tick.

        A template that Prometheus refuses, as it does PromQL with a mistake, or does not answer in time, is a problem
        of the models that read it: the others are read all the same.

        Raises:
            PrometheusUnavailableError: when Prometheus does not answer.
        """
        wanted, patience = sorted(revisions), self._patience[len(ticks) > 1]
        # Every template, and every bucket, has the same pods. Nothing is kept longer: there are always new ones.
        places = PodLabels()
        values: list[dict[str, Mapping[Key, Values]]] = [{} for _ in ticks]
        broken: list[dict[str, Mapping[Key, Places]]] = [{} for _ in ticks]
        problems: dict[str, tuple[Problem, ...]] = {}
        silent = 0
        for template in patience.order(templates, shared):
            if template not in shared and (patience.rests(template) or silent >= _MOST_SILENT):
                problems[template] = self._late(template)
                continue
            try:
                answers, found = self._ask_in_parts(template, wanted, ticks, places)
            except _SilentError as late:
                silent += 1
                if template not in shared:
                    patience.slow(template)
                elif silent >= _MOST_SILENT:
                    raise PrometheusUnavailableError(str(late)) from late
                problems[template] = self._late(template)
                continue
            patience.answered(template)
            if found:
                problems[template] = found
            if not answers:
                continue
            for at_tick, wrong, *parts in zip(values, broken, *answers, strict=True):
                at_tick[template], wrong_here = joined(parts)
                if wrong_here:
                    wrong[template] = wrong_here
        return [Reading(tick, at, problems, wrong) for tick, at, wrong in zip(ticks, values, broken, strict=True)]

    def _late(self, template: str) -> tuple[Problem, ...]:
        sentence = (
            f"Prometheus at {self._url} does not answer a query within {self._timeout:g} s: let it read fewer series"
        )
        return (Problem(f"{sentence} (query: {_cut(template)})"),)

    def _ask_in_parts(
        self, template: str, revisions: Sequence[str], ticks: Sequence[float], places: PodLabels
    ) -> tuple[list[list[Found]], tuple[Problem, ...]]:
        """Ask for all revisions of a template, in as few queries as are answered."""
        parts = self._apart.groups(template, revisions, _AT_ONCE) if REVISIONS in template else [()]
        asking = _Asking(template, lambda query: self._ask(query, ticks, places), self._apart)
        for part in parts:
            asking.ask(part)
        return asking.answers, tuple(asking.problems)

    def _ask(self, query: str, ticks: Sequence[float], places: PodLabels) -> list[Found]:
        try:
            found = by_model(self._series(f"sum by ({LABELS}) ({query})", ticks), ticks, places)
        except requests.RequestException as problem:
            self._asked("unavailable")
            sentence = f"Prometheus at {self._url} does not answer ({type(problem).__name__})"
            raise (_SilentError if self._answers() else PrometheusUnavailableError)(sentence) from problem
        except (PrometheusApiClientException, ValueError, KeyError, TypeError, IndexError) as problem:
            self._asked("refused")
            sentence = f"Prometheus at {self._url} answers with an error: {problem} (query: {_cut(query)})"
            raise _RefusedError(sentence, splits=str(problem).startswith(_NOT_WORKED_OUT)) from problem
        self._asked("answered")
        return found

    def _answers(self) -> bool:
        """Tell whether Prometheus answers the smallest of queries: then it was the query before that is too much."""
        try:
            self._client.custom_query("vector(1)", timeout=_PROBE_SECONDS)
        except (requests.RequestException, PrometheusApiClientException, ValueError, KeyError, TypeError):
            return False
        return True

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
        exact = {"start": start, "end": end + step_of(ticks) / 2}
        answer: list[dict[str, Any]] = self._client.custom_query_range(
            query,
            datetime.fromtimestamp(start, UTC),
            datetime.fromtimestamp(end, UTC),
            step=str(step_of(ticks)),
            params=exact,
        )
        return answer


def _cut(query: str) -> str:
    return query if len(query) <= _LONGEST_QUERY else f"{query[:_LONGEST_QUERY]}..."
