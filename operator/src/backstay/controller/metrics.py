"""What the controller tells Prometheus about itself."""

from prometheus_client import Counter, Gauge, Histogram

_FAST = (0.01, 0.025, 0.05, 0.1, 0.2, 0.5, 1.0, 2.5, 5.0, 10.0)

QUEUE_DEPTH = Gauge("backstay_queue_depth", "Keys that wait for a worker")
QUEUE_AGE = Gauge("backstay_queue_oldest_seconds", "How long the longest-waiting key has waited")
RECONCILES = Counter("backstay_reconciles_total", "Looks at a ModelDeployment, by outcome", ["outcome"])
TICKS = Counter("backstay_ticks_total", "Readings of Prometheus, by outcome", ["outcome"])
TICK_SECONDS = Histogram("backstay_tick_seconds", "Time to read and judge one tick", buckets=_FAST)
DRAIN_SECONDS = Histogram(
    "backstay_verdict_to_drained_seconds",
    "From the answer of Prometheus that failed a version to weight 0 in the API server",
    buckets=_FAST,
)
NOTIFICATIONS = Counter(
    "backstay_notifications_total", "Messages to people, by what became of them", ["target", "outcome"]
)
GIT_PUSHES = Counter("backstay_git_pushes_total", "Pushes to Git, those tried and those done", ["outcome"])
