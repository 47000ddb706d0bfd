"""Requests to models, shared by the weights that the gateway has taken up, and Prometheus, which has counted them.

Rates are constant between two changes, so every counter is known at every time without an event for each request.
"""

import math
from bisect import bisect_right
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from backstay.adapters.kubernetes.client import POD, SERVICE
from backstay.adapters.kubernetes.manifests import NAME, backend_of
from backstay.adapters.prometheus.client import Prometheus, PrometheusUnavailableError, Reading
from backstay.adapters.prometheus.series import Place, Values
from backstay.domain.observed import Backend
from backstay.domain.resource import Key
from backstay_world.fields import Object
from backstay_world.looptime import SimulatedLoop
from backstay_world.nodes import Behaviour, is_ready
from backstay_world.objects import Change, Objects, Slot, selects, slot_of

_SCRAPE_EVERY = 1.0


@dataclass(frozen=True, slots=True)
class _Segment:
    """From a time on: what was counted until then, and how many a second are added."""

    at: float
    requests: float
    errors: float
    rate: float
    failing: float

    def until(self, at: float) -> tuple[float, float]:
        gone = at - self.at
        return self.requests + self.rate * gone, self.errors + self.failing * gone


@dataclass(slots=True)
class Meter:
    """The counters of one pod, from its start to its end."""

    key: Key
    place: Place
    born: float
    ended: float = math.inf
    segments: list[_Segment] = field(default_factory=list)

    @property
    def rate(self) -> float:
        """How many requests a second it gets now."""
        return self.segments[-1].rate if self.segments and self.ended == math.inf else 0.0

    def change(self, at: float, rate: float, failing: float) -> None:
        """Count at another rate from now on."""
        requests, errors = self.segments[-1].until(at) if self.segments else (0.0, 0.0)
        if not self.segments or (self.segments[-1].rate, self.segments[-1].failing) != (rate, failing):
            self.segments.append(_Segment(at, requests, errors, rate, failing))

    def at(self, when: float) -> tuple[float, float] | None:
        """Return requests and errors as scraped last at a time; nothing while the pod was not there."""
        scraped = math.floor(when / _SCRAPE_EVERY) * _SCRAPE_EVERY
        place = bisect_right(self.segments, scraped, key=lambda segment: segment.at)
        if not place or when >= self.ended:
            return None
        requests, errors = self.segments[place - 1].until(scraped)
        return float(math.floor(requests)), float(math.floor(errors))


class Traffic:
    """Sends requests at a constant rate to every model that has a route.

    Args:
        objects: the cluster.
        clock: returns Unix seconds.
        behaviour: says how a pod answers.
        rate: requests a second to each model.
    """

    def __init__(
        self, objects: Objects, clock: Callable[[], float], behaviour: Callable[[Object], Behaviour], *, rate: float
    ) -> None:
        self._objects = objects
        self._clock = clock
        self._behaviour = behaviour
        self.rate = rate
        self.routes: dict[Slot, dict[str, int]] = {}
        self.meters: dict[str, Meter] = {}
        self.listeners: list[Callable[[Key], None]] = []
        objects.listeners.append(self._changed)

    def take(self, route: Object) -> None:
        """Share requests as a route says, from now on."""
        refs = [ref for rule in route["spec"]["rules"] for ref in rule["backendRefs"]]
        self.routes[slot_of(route)] = {ref["name"]: ref["weight"] for ref in refs}
        self.share(slot_of(route))

    def drop(self, slot: Slot) -> None:
        """Send nothing any more."""
        self.routes.pop(slot, None)
        self.share(slot)

    def share(self, slot: Slot) -> None:
        """Give every pod of a model its rate."""
        now, weights = self._clock(), self.routes.get(slot, {})
        total = sum(weights.values())
        rates: dict[str, float] = {}
        pods = [pod for pod in self._pods(slot) if is_ready(pod)]
        for name, weight in weights.items():
            service = self._objects.find(SERVICE, slot[0], name)
            if service is None or not weight:
                continue
            wanted = ",".join(f"{label}={value}" for label, value in service["spec"]["selector"].items())
            chosen = [pod for pod in pods if selects(wanted, pod)]
            for pod in chosen:
                rates[pod["metadata"]["uid"]] = self.rate * weight / total / len(chosen)
        for pod in pods:
            uid = pod["metadata"]["uid"]
            rate = rates.get(uid, 0.0)
            self._meter(pod).change(now, rate, rate * self._behaviour(pod).errors)
        for listener in self.listeners:
            listener(Key(*slot))

    def _pods(self, slot: Slot) -> list[Object]:
        return self._objects.all(POD, namespace=slot[0], labels=f"{NAME}={slot[1]}")

    def _meter(self, pod: Object) -> Meter:
        meta = pod["metadata"]
        backend = backend_of(meta)
        if backend is None:
            raise ValueError(f"Pod {meta['name']} is not labelled like one of a model")
        key = Key(meta["namespace"], meta["labels"][NAME])
        return self.meters.setdefault(meta["uid"], Meter(key, Place(backend, meta["name"]), self._clock()))

    def _changed(self, change: Change) -> None:
        pod = change.after or change.before
        if change.kind is not POD or pod is None:
            return
        if change.after is None and pod["metadata"]["uid"] in self.meters:
            self.meters[pod["metadata"]["uid"]].ended = self._clock()
        self.share((pod["metadata"]["namespace"], pod["metadata"]["labels"][NAME]))

    def rates(self, key: Key) -> dict[Backend, float]:
        """Return how many requests a second each backend of a model gets now."""
        found: dict[Backend, float] = {}
        for meter in self.meters.values():
            if meter.key == key and meter.ended == math.inf:
                found[meter.place.backend] = found.get(meter.place.backend, 0.0) + meter.rate
        return found

    def ready(self, key: Key) -> set[Backend]:
        """Return the backends of a model that have ready pods."""
        pods = (pod for pod in self._pods((key.namespace, key.name)) if is_ready(pod))
        return {backend for pod in pods if (backend := backend_of(pod["metadata"])) is not None}


class SimulatedPrometheus(Prometheus):
    """Answers like Prometheus, with what `Traffic` has counted; blocks, in simulated time, while it hangs.

    Args:
        traffic: what is counted.
        loop: whose time passes.
    """

    def __init__(self, traffic: Traffic, loop: SimulatedLoop) -> None:
        self._traffic = traffic
        self._loop = loop
        self.away = False
        self.takes = 0.02

    def read(
        self,
        templates: Collection[str],
        revisions: Iterable[str],
        ticks: Sequence[float],
        *,
        shared: Collection[str] = (),
    ) -> list[Reading]:
        """Read requests and errors; of other templates it has no series."""
        del shared
        self._loop.spend(self.takes)
        if self.away:
            raise PrometheusUnavailableError("Prometheus does not answer")
        wanted = set(revisions)
        meters = [meter for meter in self._traffic.meters.values() if meter.place.backend.revision in wanted]
        return [Reading(tick, _values(templates, meters, tick)) for tick in ticks]


def _values(templates: Collection[str], meters: Sequence[Meter], tick: float) -> dict[str, Mapping[Key, Values]]:
    counts = [(meter, found) for meter in meters if (found := meter.at(tick)) is not None]
    values: dict[str, dict[Key, dict[Place, float]]] = {template: {} for template in templates}
    for template, by_key in values.items():
        if "backstay_requests_total" in template or "backstay_errors_total" in template:
            index = 0 if "backstay_requests_total" in template else 1
            for meter, found in counts:
                by_key.setdefault(meter.key, {})[meter.place] = found[index]
    return {template: dict(by_key) for template, by_key in values.items()}
