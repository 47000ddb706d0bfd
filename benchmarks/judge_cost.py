"""What a tick costs the judge: 500 rollouts of 6 signals, in CPU time of this process.

Run it with ``python benchmarks/judge_cost.py [rollouts]``. It prints the median of 20 ticks for signals of one kind and
for a mixture, and how many bytes of JSON each rollout's memory takes.
"""

import json
import statistics
import sys
import time

import numpy as np

from backstay.domain.signals import NoHarm
from backstay.judge.fold import Interval, fold_many
from backstay.judge.memory import Memory
from backstay.judge.panel import Count, Distribution, Judged, Latency, Panel
from backstay.judge.verdict import assess

BUCKETS = 12
SIGNALS = 6
TICKS = 20
EDGES = tuple(0.005 * 2**i for i in range(BUCKETS - 1))
RULES: dict[str, list[Count | Latency | Distribution]] = {
    "counts": [Count()] * SIGNALS,
    "latencies": [Latency(EDGES)] * SIGNALS,
    "latencies, no harm asked": [Latency(EDGES, no_harm=NoHarm())] * SIGNALS,
    "distributions": [Distribution(BUCKETS)] * SIGNALS,
    "mixed": [Count(), Latency(EDGES), Latency(EDGES), *[Distribution(BUCKETS)] * 3],
}


def interval(random: np.random.Generator, panel: Panel, tick: int) -> Interval:
    """Return one interval of a rollout at 10 % with 2,000 requests."""
    signals = {}
    for signal in panel.signals:
        buckets = 2 if isinstance(signal.rule, Count) else BUCKETS
        pooled = random.multinomial(2000, np.full(buckets, 1.0 / buckets))
        canary = random.binomial(pooled, 0.1)
        signals[signal.name] = np.array([canary, pooled - canary], dtype=float)
    # Of counts among all requests nothing is due, see `backstay.controller.evidence.sources.steady`.
    counted = (signal.name for signal in panel.signals if not isinstance(signal.rule, Count))
    due = {name: (float(signals[name][0].sum()), float(signals[name][1].sum())) for name in counted}
    return Interval(float(tick), signals, requests=200.0, step=0, steps=4, due=due)


def measure(name: str, rollouts: int) -> None:
    """Time the ticks of one panel and print a line."""
    panel = Panel(0.05, tuple(Judged(f"signal-{i}", rule) for i, rule in enumerate(RULES[name])))
    panels = [panel] * rollouts
    random = np.random.default_rng(1)
    memories, seconds = [Memory()] * rollouts, []
    for tick in range(1, TICKS + 2):
        intervals = [interval(random, panel, tick) for _ in range(rollouts)]
        begun = time.process_time()
        memories = fold_many(memories, intervals, panels)
        seconds.append(time.process_time() - begun)
    begun = time.process_time()
    for memory in memories:
        assess(memory, panel)
        memory.to_dict(panel)
    told = (time.process_time() - begun) / rollouts
    size = len(json.dumps(memories[0].to_dict(panel), separators=(",", ":")))
    median, worst = statistics.median(seconds[1:]), max(seconds[1:])
    print(
        f"{name:26} median {1000 * median:5.1f} ms, worst {1000 * worst:5.1f} ms; {size:5} bytes and "
        f"{1000 * told:4.2f} ms to tell and store a rollout"
    )


def main() -> None:
    """Measure every panel."""
    rollouts = int(sys.argv[1]) if len(sys.argv) > 1 else 500
    print(f"{rollouts} rollouts, {SIGNALS} signals, {BUCKETS} buckets; CPU time of one tick")
    for name in RULES:
        measure(name, rollouts)


if __name__ == "__main__":
    main()
