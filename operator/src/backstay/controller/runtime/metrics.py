"""What the controller tells Prometheus about itself."""

from collections.abc import Callable, Iterator, Mapping

from prometheus_client import Counter, Gauge, Histogram
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from backstay.domain.resource import Key
from backstay.domain.status import Phase, RollbackState, Status, Verdict

_FAST = (0.01, 0.025, 0.05, 0.1, 0.2, 0.5, 1.0, 2.5, 5.0, 10.0)
_SLOW = (0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 180.0, 600.0, 3600.0)
_OPEN = frozenset(RollbackState) - {RollbackState.DONE}
_OF_MODEL = ("namespace", "modeldeployment")

QUEUE_DEPTH = Gauge("backstay_queue_depth", "Keys that wait for a worker")
QUEUE_AGE = Gauge("backstay_queue_oldest_seconds", "How long the longest-waiting key has waited")
TASKS = Gauge("backstay_tasks", "Tasks of the event loop, those that wait included")
RECONCILES = Counter("backstay_reconciles_total", "Looks at a ModelDeployment, by outcome", ["outcome"])
API_REQUESTS = Counter("backstay_api_requests_total", "Requests to the API server, watches left out", ["verb", "code"])
TICKS = Counter("backstay_ticks_total", "Readings of Prometheus, by outcome", ["outcome"])
TICK_SECONDS = Histogram("backstay_tick_seconds", "Time to read and judge one tick", buckets=_FAST)
QUERIES = Counter("backstay_prometheus_queries_total", "Queries put to Prometheus, by outcome", ["outcome"])
VERDICTS = Counter("backstay_verdicts_total", "Changes of what the evidence says of a version", ["verdict"])
ROLLOUTS = Counter("backstay_rollouts_total", "Rollouts that ended, by outcome", ["outcome"])
DRAIN_SECONDS = Histogram(
    "backstay_verdict_to_drained_seconds",
    "From the answer of Prometheus that failed a version to weight 0 in the API server",
    buckets=_FAST,
)
ROLLBACK_SECONDS = Histogram(
    "backstay_rollback_stage_seconds",
    "Time of a rollback's stages: from the verdict to weight 0, to the commit in Git, to its sync by Argo CD",
    ["stage"],
    buckets=_SLOW,
)
NOTIFICATIONS = Counter(
    "backstay_notifications_total", "Messages to people, by what became of them", ["target", "outcome"]
)
GIT_PUSHES = Counter("backstay_git_pushes_total", "Pushes to Git, those tried and those done", ["outcome"])


def count_changes(before: Status, after: Status) -> None:
    """Count what a status that was written tells beyond the one before: verdicts, ends of rollouts, stages."""
    if after.verdict is not None and after.verdict is not before.verdict and after.rollout is not None:
        VERDICTS.labels(after.verdict).inc()
    if after.history and after.history != before.history:
        ROLLOUTS.labels(after.history[-1].outcome).inc()
    was, now = before.rollback, after.rollback
    if now is None:
        return
    same = was is not None and was.rollout == now.rollout
    stages = (("drain", now.failed_at, "drained_at"), ("push", now.drained_at, "pushed_at"))
    for stage, begun, field in (*stages, ("sync", now.pushed_at, "synced_at")):
        ended = getattr(now, field)
        if begun and ended and not (same and getattr(was, field)):
            ROLLBACK_SECONDS.labels(stage).observe(max(ended - begun, 0.0))


class Models(Collector):
    """The state of all models, gathered when Prometheus asks; only those that need one have series of their own."""

    def __init__(
        self,
        statuses: Callable[[], Mapping[Key, Status]],
        answered: Callable[[], Mapping[Key, float]],
        clock: Callable[[], float],
    ) -> None:
        self._statuses = statuses
        self._answered = answered
        self._clock = clock

    def collect(self) -> Iterator[Metric]:
        """Gather: counts by phase, verdict and reason, weights and ages of evidence, rollbacks that are not done."""
        phases: dict[str, int] = dict.fromkeys(Phase, 0)
        verdicts: dict[str, int] = dict.fromkeys(Verdict, 0)
        stalled: dict[str, int] = {}
        now = self._clock()
        rollbacks = GaugeMetricFamily(
            "backstay_rollback_open_seconds",
            "Age of a rollback that is not done, from its verdict",
            labels=[*_OF_MODEL, "state"],
        )
        weights = GaugeMetricFamily(
            "backstay_canary_weight_percent", "Weight of the version that is tried", labels=_OF_MODEL
        )
        for key, status in self._statuses().items():
            phases[status.phase] += 1
            if status.rollout is not None:
                weights.add_metric([key.namespace, key.name], status.weight)
                verdicts[status.verdict or Verdict.NO_DATA] += 1
            if status.stalled:
                stalled[status.stalled] = stalled.get(status.stalled, 0) + 1
            record = status.rollback
            if record is not None and record.state in _OPEN:
                rollbacks.add_metric([key.namespace, key.name, record.state], now - record.failed_at)
        yield from (rollbacks, weights)
        yield _counted("backstay_modeldeployments", "ModelDeployments, by phase", "phase", phases)
        yield _counted("backstay_rollouts_live", "Rollouts under way, by verdict", "verdict", verdicts)
        yield _counted("backstay_stalled", "ModelDeployments that need a person, by reason", "reason", stalled)
        ages = GaugeMetricFamily(
            "backstay_evidence_age_seconds", "How long ago Prometheus last answered for a rollout", labels=_OF_MODEL
        )
        for key, answered_at in self._answered().items():
            ages.add_metric([key.namespace, key.name], max(now - answered_at, 0.0))
        yield ages


def _counted(name: str, meaning: str, label: str, counts: Mapping[str, int]) -> Metric:
    family = GaugeMetricFamily(name, meaning, labels=[label])
    for value, count in counts.items():
        family.add_metric([value], count)
    return family
