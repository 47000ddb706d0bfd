"""A model's counters, pod by pod: what they were at last, and what an interval added to them. No I/O."""

from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field

import numpy as np

from backstay.adapters.prometheus.client import Place, Places, Value, Values
from backstay.adapters.prometheus.histograms import Histogram
from backstay.controller.evidence.profiles import CounterPair
from backstay.domain.observed import Backend
from backstay.judge.arrays import Floats
from backstay.judge.counters import increment, went_back

_ZERO = np.zeros(1)


class MisfitError(ValueError):
    """A pod counts in buckets that cannot be brought into the edges asked for."""

    def __init__(self, pod: str) -> None:
        super().__init__(pod)
        self.pod = pod


@dataclass(slots=True)
class Accounts:
    """Every pod's last value of each template, and of each pair's total among which its events were last counted.

    A pod that is missing from a reading keeps its values. Where what an interval added is asked for, ``born`` are
    backends whose pods all started in it: they count from zero.
    """

    last: dict[str, dict[Place, Value]] = field(default_factory=dict)

    def news(self, template: str, values: Values) -> Values:
        """Leave out what is older than what is known, as one of two Prometheus servers may have it."""
        known = self.last.get(template, {})
        return {
            place: value
            for place, value in values.items()
            if not (place in known and went_back(_size(known[place]), _size(value)))
        }

    def match(self, pair: CounterPair, after: dict[str, Values], broken: Places = frozenset()) -> list[Place]:
        """Leave out of a reading the pods of which it has only one of a pair of counters; both wait for the next one.

        Returns the pods whose events are missing. Of those in ``broken`` the events are no count: they are not zero,
        even where no event was ever counted.

        Events without their total would count among nothing. A counter that was there and is not is a hole in the
        answer, as servers that join several parts leave where one does not answer: its events would come later, among
        the requests of then. Where the total began again, so did the events; and a counter that was never there is
        zero.
        """
        events, total = after[pair.events], after[pair.total]
        known, before = self.last.setdefault(pair.events, {}), self.last.get(pair.among, {})
        whole, missing = {}, []
        for place, value in total.items():
            if place in broken:
                missing.append(place)
                continue
            if place in known and place not in events:
                if place in before and _size(value) >= _size(before[place]):
                    missing.append(place)
                    continue
                del known[place]
            whole[place] = value
        after[pair.events] = {place: value for place, value in events.items() if place in whole}
        after[pair.among] = whole
        return missing

    def lost(self, histogram: str, beside: str, after: Mapping[str, Values]) -> list[Place]:
        """Return the pods that had a histogram and have it no more, though the counter beside it goes on."""
        known, now, before = self.last.get(histogram, {}), after[histogram], self.last.get(beside, {})
        return [
            place
            for place, value in after[beside].items()
            if place in known and place not in now and place in before and _size(value) >= _size(before[place])
        ]

    def counted(
        self, template: str, after: Mapping[str, Values], *, born: AbstractSet[Backend], beside: str = ""
    ) -> dict[Backend, Floats]:
        """Return what an interval added to a counter, by backend.

        Args:
            template: the counter.
            after: the reading.
            born: see above.
            beside: a counter of the same exporter. Where a pod has that one and not this, this one is zero.
        """
        before, now = _numbers(self.last.get(template, {})), _numbers(after[template])
        if beside:
            before = {place: _ZERO for place in self.last.get(beside, {}) if place not in before} | before
        return _added(before, now, born=born, size=1)

    def bucketed(
        self, template: str, after: Mapping[str, Values], edges: Sequence[float], *, born: AbstractSet[Backend]
    ) -> dict[Backend, Floats]:
        """Return what an interval added to a histogram in the buckets of ``edges``, by backend.

        Raises:
            MisfitError: a pod of the reading has other buckets.
        """
        now = _fitted(after[template], edges)
        for place, counts in now.items():
            if counts is None:
                raise MisfitError(place.pod)
        before = _fitted(self.last.get(template, {}), edges)
        return _added(_known(before), _known(now), born=born, size=len(edges) + 1)

    def take(self, after: Mapping[str, Values]) -> None:
        """Remember a reading."""
        for template, values in after.items():
            self.last.setdefault(template, {}).update(values)


def _added(
    before: Mapping[Place, Floats], after: Mapping[Place, Floats], *, born: AbstractSet[Backend], size: int
) -> dict[Backend, Floats]:
    sums: dict[Backend, Floats] = {}
    for backend in {place.backend for place in after}:
        new = {place: value for place, value in after.items() if place.backend == backend}
        sums[backend] = increment(before, new, born=frozenset(new) if backend in born else frozenset(), size=size)
    return sums


def _size(value: Value) -> float:
    return value.total if isinstance(value, Histogram) else value


def _numbers(values: Mapping[Place, Value]) -> dict[Place, Floats]:
    return {place: np.array([value]) for place, value in values.items() if not isinstance(value, Histogram)}


def _fitted(values: Mapping[Place, Value], edges: Sequence[float]) -> dict[Place, Floats | None]:
    return {place: value.into(edges) for place, value in values.items() if isinstance(value, Histogram)}


def _known(counts: Mapping[Place, Floats | None]) -> dict[Place, Floats]:
    return {place: one for place, one in counts.items() if one is not None}
