"""The metrics of model servers that people run, as PromQL templates."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from backstay.adapters.prometheus.client import REVISIONS
from backstay.domain.signals import Events, Measure, Profile
from backstay_contract import metrics

# A pod that two jobs scrape, or two Prometheus servers, is one pod all the same.
_COPIES = "job, instance, endpoint, prometheus, prometheus_replica, replica"


@dataclass(frozen=True, slots=True)
class CounterPair:
    """Two templates: a counter of events, and the one of everything they happen to."""

    events: str
    total: str

    @property
    def among(self) -> str:
        """Name the total as of the readings that had the events as well."""
        return f"{self.total} beside {self.events}"


@dataclass(frozen=True, slots=True)
class Metrics:
    """What a kind of server counts. ``requests`` decides how much was seen, and whether a drained backend is quiet.

    ``present`` has a series for every pod that is measured, before its first request; ``duration`` is a histogram in
    seconds, empty where the server has none.
    """

    requests: str
    present: str
    events: Mapping[Events, CounterPair]
    duration: str = ""
    measures: Mapping[Measure, str] = field(default_factory=dict)


def _of_pods(series: str, *matchers: str) -> str:
    return f"max without ({_COPIES}) ({series}{{{','.join([*matchers, _WANTED])}}})"


_WANTED = f'revision=~"{REVISIONS}"'
# Counters that appear with the first request say too late that a pod is measured.
_UP = f"max without ({_COPIES}) (up{{{_WANTED}}} == 1)"

REQUESTS = _of_pods(metrics.REQUESTS)
"""The requests to the reference server, and to whatever counts like it."""

_PREDICT = 'path=~".*/(infer|invocations)"'
_MLSERVER = _of_pods("rest_server_requests_total", _PREDICT)
_SELDON = "seldon_api_executor_server_requests_seconds"
_SELDON_PREDICT = 'service=~".*predict.*"'
_SELDON_REQUESTS = _of_pods(f"{_SELDON}_count", _SELDON_PREDICT)
# Success and failure are two counters; the name becomes a label so that they are added and not merged.
_TRITON = (
    f"max without ({_COPIES}) (label_replace("
    f'{{__name__=~"nv_inference_request_(success|failure)",{_WANTED}}}, "outcome", "$1", "__name__", "(.*)"))'
)


def _of_endpoints(counter: str) -> str:
    """Take a counter that Envoy keeps for each address, and find the pod of the address by Prometheus' own target.

    Each Envoy starts from zero by itself, so that each one's count of a pod is a series of its own. What goes to a pod
    by several clusters, as copies do, is added.
    """
    once = f"max by (address, instance, envoy_cluster_name) ({_addressed(counter, 'envoy_endpoint_address')})"
    pods = f"{_addressed(f'up{{{_WANTED}}} >= bool 0', 'instance')}"
    labels = "namespace, modeldeployment, revision, track, pod"
    joined = (
        f"sum by (address, instance) ({once}) * on (address) group_left ({labels}) max by (address, {labels}) ({pods})"
    )
    return f'label_join({joined}, "pod", " via ", "pod", "instance")'


def _addressed(series: str, label: str) -> str:
    return f'label_replace({series}, "address", "$1", "{label}", "(.*)")'


_ENVOY = _of_endpoints("envoy_cluster_endpoint_rq_total")

METRICS: Mapping[Profile, Metrics] = {
    Profile.BACKSTAY: Metrics(
        requests=REQUESTS,
        present=REQUESTS,
        events={
            Events.ERRORS: CounterPair(_of_pods(metrics.ERRORS), REQUESTS),
            Events.NULLS: CounterPair(_of_pods(metrics.NULL_PREDICTIONS), _of_pods(metrics.PREDICTIONS)),
            Events.WRONG: CounterPair(_of_pods(metrics.WRONG_PREDICTIONS), _of_pods(metrics.LABELLED_PREDICTIONS)),
        },
        duration=_of_pods(metrics.buckets(metrics.REQUEST_DURATION)),
        measures={
            Measure.PREDICTION: _of_pods(metrics.buckets(metrics.PREDICTION)),
            Measure.CONFIDENCE: _of_pods(metrics.buckets(metrics.CONFIDENCE)),
        },
    ),
    # What the gateway saw, for servers that count nothing: a pod is a target of Prometheus that gives no answer.
    # Envoy keeps no durations for each address.
    Profile.ENVOY: Metrics(
        requests=_ENVOY,
        present=f"max without ({_COPIES}) (up{{{_WANTED}}} >= bool 0)",
        events={Events.ERRORS: CounterPair(_of_endpoints("envoy_cluster_endpoint_rq_error"), _ENVOY)},
    ),
    # MLServer's REST server; what comes in by gRPC is not in these counters.
    Profile.MLSERVER: Metrics(
        requests=_MLSERVER,
        present=_UP,
        events={
            Events.ERRORS: CounterPair(
                _of_pods("rest_server_requests_total", _PREDICT, 'status_code=~"5.."'), _MLSERVER
            )
        },
        duration=_of_pods("rest_server_request_duration_seconds_bucket", _PREDICT),
    ),
    # The executor beside every model of Seldon Core 1.
    Profile.SELDON: Metrics(
        requests=_SELDON_REQUESTS,
        present=_UP,
        events={
            Events.ERRORS: CounterPair(_of_pods(f"{_SELDON}_count", _SELDON_PREDICT, 'code=~"5.."'), _SELDON_REQUESTS)
        },
        duration=_of_pods(f"{_SELDON}_bucket", _SELDON_PREDICT),
    ),
    # Triton tells durations as sums and quantiles, which cannot be compared. A request that its caller gave up is none
    # of its errors.
    Profile.TRITON: Metrics(
        requests=_TRITON,
        present=_UP,
        events={Events.ERRORS: CounterPair(_of_pods("nv_inference_request_failure", 'reason!="CANCELED"'), _TRITON)},
    ),
}

SHARED = frozenset(
    template
    for metrics in METRICS.values()
    for template in (
        metrics.requests,
        metrics.present,
        metrics.duration,
        *metrics.measures.values(),
        *(template for pair in metrics.events.values() for template in (pair.events, pair.total)),
    )
    if template
)
"""The templates of all profiles, which many models read; all others are some user's own."""
