"""`make bench-rollback`: how fast a bad version goes back, stage by stage."""

import json
import statistics
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from rich.console import Console
from rich.table import Table

from backstay_playground.demo.controller import metrics
from backstay_playground.demo.rollouts import Observer, Rollback
from backstay_playground.demo.stage import PRODUCTION, Stage
from backstay_playground.demo.story import RATE
from backstay_playground.errors import PlaygroundError
from backstay_playground.playground import Playground

INTERVAL = 2.0
_OWN_PART = "backstay_verdict_to_drained_seconds"


@dataclass(frozen=True, slots=True)
class Times:
    """One rollback's stages, in seconds; ``own`` is the controller's part of the drain."""

    breach_to_drained: float
    own: float
    drained_to_pushed: float
    pushed_to_synced: float


_LIMITS = {
    "breach_to_drained": (3 * INTERVAL, "breach -> weight 0 in the API server"),
    "own": (0.2, "  of it, from Prometheus' answer to weight 0 (median)"),
    "drained_to_pushed": (2.0, "drained -> rollback commit pushed"),
    "pushed_to_synced": (3.0, "pushed -> synced by Argo CD"),
}


def bench(playground: Playground, *, console: Console, repetitions: int, report: Path) -> None:
    """Roll the same bad version back again and again, each time as a person's new try, and print min, median and max.

    Raises:
        PlaygroundError: when a rollback does not happen.
    """
    playground.up()
    stage = Stage(playground)
    stage.train()
    playground.install_controller()
    stage.push_repository("2")
    observer = Observer(stage, PRODUCTION)
    stage.deliver(PRODUCTION)
    observer.wait_stable("2", timeout=180)
    traffic = stage.traffic(PRODUCTION, rate=RATE).start()
    times: list[Times] = []
    try:
        for count in range(repetitions):
            before = _own_part(playground)
            if count:
                _lift_rejection(stage)
            rollback = observer.roll_back("3", traffic)
            times.append(_times(rollback, _own_part(playground), before))
            console.print(f"  {count + 1:2} of {repetitions}: {_row(times[-1])}", highlight=False)
            _settle(observer)
    finally:
        traffic.stop()
        observer.stop()
    _print(console, times)
    report.parent.mkdir(parents=True, exist_ok=True)
    report.write_text(json.dumps([_as_dict(one) for one in times], indent=2) + "\n", encoding="utf-8")


def _lift_rejection(stage: Stage) -> None:
    """Take the bad version off the list of rejected ones and name the rollback that is lifted, as a person would."""
    status = json.loads(
        stage.playground.kubectl(
            "get", "mdep", "fraud-detector", f"--namespace={PRODUCTION.namespace}", "--output=json"
        )
    )["status"]
    document = yaml.safe_load(stage.read(PRODUCTION.version_file))
    document["spec"]["model"].pop("rejectedVersions", None)
    document["spec"]["model"]["retryOf"] = status["rollback"]["id"]
    text = yaml.safe_dump(document, sort_keys=False).encode()
    stage.merge(PRODUCTION.version_file, text, "fraud-detector: let version 3 be tried again")


def _settle(observer: Observer) -> None:
    """Wait until the failed version's pods are gone, so that the next try starts like the first."""
    deadline = time.monotonic() + 90
    command = ("get", "deployments", f"--namespace={PRODUCTION.namespace}", "--output=name")
    while len(observer.stage.playground.kubectl(*command).split()) > 1:
        if time.monotonic() > deadline:
            raise PlaygroundError("The pods of version 3 are still there 90 s after the rollback")
        time.sleep(0.5)


def _times(rollback: Rollback, after: tuple[float, float], before: tuple[float, float]) -> Times:
    drains = after[0] - before[0]
    if drains != 1:
        raise PlaygroundError(f"The controller counts {drains:g} drains by verdict in one rollback")
    return Times(
        breach_to_drained=rollback.drained_at - rollback.breach_at,
        own=after[1] - before[1],
        drained_to_pushed=rollback.pushed_at - rollback.drained_at,
        pushed_to_synced=rollback.synced_at - rollback.pushed_at,
    )


def _own_part(playground: Playground) -> tuple[float, float]:
    """Read count and sum of the controller's own measurement from its metrics."""
    values = metrics(playground)
    return values[f"{_OWN_PART}_count", ()], values[f"{_OWN_PART}_sum", ()]


def _as_dict(times: Times) -> Mapping[str, Any]:
    return {name: round(getattr(times, name), 3) for name in _LIMITS}


def _row(times: Times) -> str:
    return ", ".join(f"{name} {value:.2f} s" for name, value in _as_dict(times).items())


def _print(console: Console, times: list[Times]) -> None:
    table = Table(title=f"{len(times)} rollbacks, analysis interval {INTERVAL:g} s, scrape 0.5 s (seconds)")
    for column in ("stage", "min", "median", "max", "aim"):
        table.add_column(column, justify="left" if column == "stage" else "right")
    for name, (limit, title) in _LIMITS.items():
        values = [getattr(one, name) for one in times]
        figures = (min(values), statistics.median(values), max(values))
        table.add_row(title, *(f"{figure:.2f}" for figure in figures), f"{limit:.1f}")
    console.print(table)
