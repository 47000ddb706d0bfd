"""`make bench-shadow`: what copying every request costs those who wait for the answer."""

import json
import math
import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from rich.console import Console
from rich.table import Table

from backstay_playground.demo.rollouts import Observer
from backstay_playground.demo.stage import MODEL, PRODUCTION, Pace, Stage
from backstay_playground.demo.traffic import Answer
from backstay_playground.errors import PlaygroundError
from backstay_playground.playground import Playground

RATE = 40.0
SECONDS = 8.0
_WARM_UP = 10.0
_PATIENCE = 180.0
_PERCENTILES = {"p50": 0.5, "p90": 0.9, "p99": 0.99}
PACE = Pace(steps=({"shadow": {}, "minDuration": "2h"}, {"weight": 100}), interval="2s", warmup="2s")
# The same model by another name: straight to the stable version, with nothing copied.
_PLAIN = replace(PRODUCTION, hostname=f"plain.{PRODUCTION.hostname}")


@dataclass(frozen=True, slots=True)
class Pair:
    """Percentiles of one pair of runs, in seconds, by name: with every request copied, and without."""

    shadowed: dict[str, float]
    plain: dict[str, float]

    def ratio(self, name: str) -> float:
        """Return how many times slower the answers were with copies."""
        return self.shadowed[name] / self.plain[name]


def bench(playground: Playground, *, console: Console, repetitions: int, report: Path) -> None:
    """Ask the same stable version in turn with every request copied to a new version and without, and compare.

    Raises:
        PlaygroundError: when an answer differs, or one is missing.
    """
    playground.up()
    stage = Stage(playground, PACE)
    stage.train()
    playground.install_controller()
    stage.push_repository("1")
    observer = Observer(stage, PRODUCTION)
    stage.deliver(PRODUCTION)
    observer.wait_stable("1", timeout=_PATIENCE)
    try:
        _begin_shadow(stage, observer)
        said: dict[int, set[str]] = {}
        pairs = []
        for number in range(repetitions):
            targets = [PRODUCTION, _PLAIN] if number % 2 else [_PLAIN, PRODUCTION]
            answers = {target.hostname: _asked(stage, target.hostname) for target in targets}
            for one in (answer for some in answers.values() for answer in some):
                said.setdefault(one.body, set()).add(one.said)
            pairs.append(Pair(*(percentiles(answers[target.hostname]) for target in (PRODUCTION, _PLAIN))))
            console.print(f"  {number + 1:2} of {repetitions}: {_row(pairs[-1])}", highlight=False)
        if any(len(words) > 1 for words in said.values()):
            raise PlaygroundError("The same request got different answers")
    finally:
        observer.stop()
    _print(console, pairs)
    report.parent.mkdir(parents=True, exist_ok=True)
    document = [{"shadowed": pair.shadowed, "plain": pair.plain} for pair in pairs]
    report.write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")


def _begin_shadow(stage: Stage, observer: Observer) -> None:
    stage.merge_bump(PRODUCTION, "2")
    stage.refresh(PRODUCTION)
    seen = observer.route.wait(
        "version 2 gets copies",
        lambda body: any(rule.get("filters") for rule in body["spec"]["rules"]),
        timeout=_PATIENCE,
    )
    spec = seen.body["spec"]
    stable = [ref for ref in spec["rules"][0]["backendRefs"] if ref["weight"]]
    plain = {"matches": spec["rules"][0]["matches"], "backendRefs": stable}
    stage.playground.kubectl.apply(
        json.dumps(
            {
                "apiVersion": seen.body["apiVersion"],
                "kind": "HTTPRoute",
                "metadata": {"name": f"{MODEL}-plain", "namespace": PRODUCTION.namespace},
                "spec": {"parentRefs": spec["parentRefs"], "hostnames": [_PLAIN.hostname], "rules": [plain]},
            }
        )
    )
    for target in (PRODUCTION, _PLAIN):
        deadline = time.monotonic() + _PATIENCE
        while not all(answer.version == "1" for answer in _answers(stage, target.hostname, _WARM_UP)):
            if time.monotonic() > deadline:
                raise PlaygroundError(f"{target.hostname} is not served by version 1")


def _asked(stage: Stage, hostname: str) -> list[Answer]:
    answers = _answers(stage, hostname, SECONDS)
    wrong = next((answer for answer in answers if (answer.status, answer.version) != (200, "1")), None)
    if wrong is not None:
        raise PlaygroundError(f"A request to {hostname} was answered {wrong.status} by version {wrong.version!r}")
    return answers


def _answers(stage: Stage, hostname: str, seconds: float) -> list[Answer]:
    traffic = stage.traffic(replace(PRODUCTION, hostname=hostname), rate=RATE).start()
    time.sleep(seconds)
    traffic.stop()
    return traffic.answers()


def percentiles(answers: Sequence[Answer]) -> dict[str, float]:
    """Return percentiles of the time that answers took, in seconds, by name."""
    taken = sorted(answer.ended - answer.began for answer in answers)
    return {name: taken[math.ceil(share * len(taken)) - 1] for name, share in _PERCENTILES.items()}


def _row(pair: Pair) -> str:
    return ", ".join(
        f"{name} {1000 * pair.shadowed[name]:.1f} ms against {1000 * pair.plain[name]:.1f} ms" for name in _PERCENTILES
    )


def _print(console: Console, pairs: Sequence[Pair]) -> None:
    table = Table(title=f"{len(pairs)} pairs of {SECONDS:g} s at {RATE:g} requests a second: with copies / without")
    for column in ("time of an answer", "median ratio", "min", "max"):
        table.add_column(column, justify="left" if column == "time of an answer" else "right")
    for name in _PERCENTILES:
        ratios = [pair.ratio(name) for pair in pairs]
        table.add_row(name, f"{statistics.median(ratios):.3f}", f"{min(ratios):.3f}", f"{max(ratios):.3f}")
    console.print(table)
