"""`make bench-harmless`: versions that are no different, at low traffic, by every kind of signal."""

import json
import time
from collections import Counter
from pathlib import Path
from typing import Any

import yaml
from rich.console import Console

from backstay_playground.demo.rollouts import Observer
from backstay_playground.demo.stage import MODEL, PRODUCTION, Pace, Stage
from backstay_playground.errors import PlaygroundError
from backstay_playground.playground import Playground

RATE = 4.0
_PATIENCE = 90.0
# Every kind of signal, with tolerances as one would have them: processes on one machine differ a little in speed.
PACE = Pace(
    steps=(
        {"weight": 20, "minDuration": "6s"},
        {"weight": 50, "minDuration": "6s"},
        {"weight": 100, "minDuration": "2s"},
    ),
    interval="1s",
    warmup="2s",
    warm_for="1s",
    signals=(
        {"name": "errors", "weight": 2, "comparison": {"events": "errors"}},
        {"name": "nulls", "comparison": {"events": "nulls"}},
        {"name": "latency", "latency": {"tolerance": 1.25}},
        {"name": "prediction", "distribution": {"metric": "prediction"}},
        {"name": "confidence", "distribution": {"metric": "confidence"}},
    ),
)


def bench(playground: Playground, *, console: Console, repetitions: int, report: Path) -> None:
    """Roll out the same model in one harmless configuration after another, and count what becomes of them.

    Raises:
        PlaygroundError: when one is rolled back.
    """
    playground.up()
    stage = Stage(playground, PACE)
    stage.train()
    playground.install_controller()
    stage.push_repository("2")
    observer = Observer(stage, PRODUCTION)
    stage.deliver(PRODUCTION)
    observer.wait_stable("2", timeout=180)
    traffic = stage.traffic(PRODUCTION, rate=RATE).start()
    outcomes: list[dict[str, Any]] = []
    try:
        for count in range(repetitions):
            outcomes.append(_attempt(stage, observer, count))
            console.print(f"  {count + 1:2} of {repetitions}: {outcomes[-1]}", highlight=False)
    finally:
        traffic.stop()
        observer.stop()
    report.parent.mkdir(parents=True, exist_ok=True)
    report.write_text(json.dumps(outcomes, indent=2) + "\n", encoding="utf-8")
    counted = Counter(outcome["outcome"] for outcome in outcomes)
    console.print(f"{repetitions} harmless rollouts at {RATE:g} requests a second: {dict(counted)}", highlight=False)
    if counted["rolled back"]:
        raise PlaygroundError(f"{counted['rolled back']} harmless rollouts were rolled back; see {report.name}")


def _attempt(stage: Stage, observer: Observer, number: int) -> dict[str, Any]:
    """Start one rollout and wait for its end; one that takes too long is held."""
    former, begun = observer.status()["stable"]["revision"], time.time()

    def edit(root: Path) -> None:
        file = root / PRODUCTION.folder / "pace.yaml"
        document = yaml.safe_load(file.read_text(encoding="utf-8"))
        document["spec"]["serving"]["config"] = {"attempt": str(number)}
        file.write_text(yaml.safe_dump(document, sort_keys=False), encoding="utf-8")

    stage.change(edit, f"{MODEL}: attempt {number}, which changes nothing")
    stage.refresh(PRODUCTION)
    while time.time() < begun + _PATIENCE:
        status = observer.status()
        seconds = round(time.time() - begun, 1)
        if status.get("phase") == "Stable" and status["stable"]["revision"] != former:
            return {"outcome": "promoted", "seconds": seconds}
        if status.get("phase") in ("RollingBack", "RolledBack", "Degraded"):
            return {"outcome": "rolled back", "seconds": seconds, "reason": status["message"]}
        time.sleep(0.25)
    return {"outcome": "held", "seconds": _PATIENCE, "reason": observer.status()["message"]}
