"""The controller's own metrics: what a status tells beyond the one before, and the state of all models."""

import re
from dataclasses import replace
from pathlib import Path

import prometheus_client
import pytest
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import generate_latest

from backstay.controller.runtime import metrics
from backstay.domain.resource import Key
from backstay.domain.status import Ended, Phase, RollbackRecord, RollbackState, RolloutState, Status, Verdict

DOCUMENTED = Path(__file__).parents[4] / "docs" / "reference.md"
ROLLOUT = RolloutState(id="2-1", revision="bbb", version="2", started_at=10.0)
RECORD = RollbackRecord(
    rollout="2-1",
    from_revision="bbb",
    from_version="2",
    to_revision="aaa",
    to_version="1",
    reason="errors",
    failed_at=100.0,
)


def sample(name: str, **labels: str) -> float:
    return prometheus_client.REGISTRY.get_sample_value(name, labels) or 0.0


def test_a_verdict_counts_when_it_changes() -> None:
    before = Status(rollout=ROLLOUT, verdict=Verdict.INCONCLUSIVE)
    counted = sample("backstay_verdicts_total", verdict="Pass")
    metrics.count_changes(before, replace(before, verdict=Verdict.PASS))
    metrics.count_changes(replace(before, verdict=Verdict.PASS), replace(before, verdict=Verdict.PASS, weight=30))
    assert sample("backstay_verdicts_total", verdict="Pass") - counted == 1.0


def test_a_rollout_that_ended_counts_by_its_outcome() -> None:
    before = Status(rollout=ROLLOUT)
    counted = sample("backstay_rollouts_total", outcome="Promoted")
    after = Status(phase=Phase.STABLE, history=(Ended("2", "Promoted", 10.0, 60.0),))
    metrics.count_changes(before, after)
    metrics.count_changes(after, after)
    assert sample("backstay_rollouts_total", outcome="Promoted") - counted == 1.0


def test_each_stage_of_a_rollback_is_measured_once_also_where_two_end_between_writes() -> None:
    stages = ("drain", "push", "sync")

    def measured() -> list[tuple[float, float]]:
        name = "backstay_rollback_stage_seconds"
        return [(sample(f"{name}_count", stage=stage), sample(f"{name}_sum", stage=stage)) for stage in stages]

    begun = measured()
    failed = Status(rollback=RECORD)
    drained = Status(rollback=replace(RECORD, drained_at=100.5))
    pushed = Status(rollback=replace(RECORD, drained_at=100.5, pushed_at=102.5, synced_at=110.0))
    for before, after in ((Status(), failed), (failed, drained), (drained, pushed), (pushed, pushed)):
        metrics.count_changes(before, after)
    ended = measured()
    assert [count - before for (count, _), (before, _) in zip(ended, begun, strict=True)] == [1.0, 1.0, 1.0]
    seconds = [total - before for (_, total), (_, before) in zip(ended, begun, strict=True)]
    assert seconds == pytest.approx([0.5, 2.0, 7.5])


def test_the_state_of_all_models_is_gathered_when_prometheus_asks() -> None:
    statuses = {
        Key("prod", "stable"): Status(phase=Phase.STABLE),
        Key("prod", "tried"): Status(phase=Phase.PROGRESSING, rollout=ROLLOUT, weight=20, verdict=Verdict.PASS),
        Key("prod", "failed"): Status(
            phase=Phase.ROLLING_BACK, stalled="WriteBackRefused", rollback=replace(RECORD, state=RollbackState.REFUSED)
        ),
        Key("prod", "done"): Status(phase=Phase.ROLLED_BACK, rollback=replace(RECORD, state=RollbackState.DONE)),
    }
    registry = CollectorRegistry()
    registry.register(metrics.Models(lambda: statuses, lambda: {Key("prod", "tried"): 145.0}, lambda: 150.0))
    told = {line for line in generate_latest(registry).decode().splitlines() if not line.startswith("#")}
    of_tried = 'modeldeployment="tried",namespace="prod"'
    assert told >= {
        'backstay_modeldeployments{phase="Stable"} 1.0',
        'backstay_modeldeployments{phase="Degraded"} 0.0',
        'backstay_rollouts_live{verdict="Pass"} 1.0',
        'backstay_stalled{reason="WriteBackRefused"} 1.0',
        f"backstay_canary_weight_percent{{{of_tried}}} 20.0",
        f"backstay_evidence_age_seconds{{{of_tried}}} 5.0",
        'backstay_rollback_open_seconds{modeldeployment="failed",namespace="prod",state="Refused"} 50.0',
    }
    assert not any('modeldeployment="done"' in line or 'modeldeployment="stable"' in line for line in told)


def test_the_reference_lists_every_metric_and_no_other() -> None:
    section = DOCUMENTED.read_text(encoding="utf-8").split("## Metrics of the controller")[1].split("\n## ")[0]
    listed = set(re.findall(r"^\| `(backstay_\w+)`", section, flags=re.MULTILINE))
    models = metrics.Models(dict, dict, lambda: 0.0)
    defined = {
        value for value in vars(metrics).values() if isinstance(value, prometheus_client.metrics.MetricWrapperBase)
    }
    names = {family.name for one in (*defined, models) for family in one.collect()}
    counters = {family.name for one in defined for family in one.collect() if family.type == "counter"}
    assert listed == {f"{name}_total" if name in counters else name for name in names}
