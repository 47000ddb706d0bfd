"""`make bench-shadow`: what copying every request costs those who wait for the answer.

On a cluster the pods that answer copies take their processor time from their own nodes. Here there is one machine, so
copies are answered in two ways: by pods that let a model's time pass and compute nothing, which is what gateway and
client see of other nodes; and by the rollout's own pods. Those, and the rest of the playground, are bound to one
processor, and gateway, stable pod and client to the others, in all runs.
"""

import json
import math
import os
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import Any

import psutil
from rich.console import Console
from rich.table import Table

from backstay.domain.observed import Track
from backstay_playground.demo import elsewhere
from backstay_playground.demo.rollouts import Observer
from backstay_playground.demo.stage import MODEL, PRODUCTION, Pace, Stage
from backstay_playground.demo.traffic import Answer
from backstay_playground.errors import PlaygroundError
from backstay_playground.playground import Playground

RATE = 40.0
SECONDS = 2.0
# Each run begins with new connections; what is answered meanwhile is left out.
_LEAD = 0.5
_EVERY = 10
_RESAMPLED = 1000
_WARM_UP = 10.0
_PATIENCE = 180.0
_PERCENTILES = {"p50": 0.5, "p90": 0.9, "p99": 0.99}
PACE = Pace(steps=({"shadow": {}, "minDuration": "2h"}, {"weight": 10}, {"weight": 100}), interval="2s", warmup="2s")
# The same stable version by several names: as the controller has it, with other copies of each request, with none.
_BOTH, _ONE, _PLAIN = "canary and baseline, on this machine", "canary alone, on this machine", "nothing copied"
_BOTH_ELSEWHERE, _ONE_ELSEWHERE = "two pods elsewhere", "one pod elsewhere"
_COPIED = (_ONE_ELSEWHERE, _BOTH_ELSEWHERE, _ONE, _BOTH)
_HOSTNAMES = {
    _BOTH: PRODUCTION.hostname,
    _ONE: f"one.{PRODUCTION.hostname}",
    _BOTH_ELSEWHERE: f"two-elsewhere.{PRODUCTION.hostname}",
    _ONE_ELSEWHERE: f"one-elsewhere.{PRODUCTION.hostname}",
    _PLAIN: f"plain.{PRODUCTION.hostname}",
}
_ELSEWHERE_PORT = 8080
# The times of one round's answers, in seconds, by what is copied.
Round = dict[str, list[float]]


def bench(playground: Playground, *, console: Console, repetitions: int, report: Path) -> None:
    """Ask the same stable version in turn with every request copied and without, and compare.

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
        rounds: list[Round] = []
        for number in range(repetitions):
            order = sorted(_HOSTNAMES, key=lambda name: (list(_HOSTNAMES).index(name) + number) % len(_HOSTNAMES))
            answers = {name: _asked(stage, _HOSTNAMES[name]) for name in order}
            for one in (answer for some in answers.values() for answer in some):
                said.setdefault(one.body, set()).add(one.said)
            rounds.append({name: [one.ended - one.began for one in some] for name, some in answers.items()})
            if not (number + 1) % _EVERY:
                console.print(f"  {number + 1} of {repetitions} rounds", highlight=False)
        if any(len(words) > 1 for words in said.values()):
            raise PlaygroundError("The same request got different answers")
    finally:
        observer.stop()
    _print(console, rounds)
    report.parent.mkdir(parents=True, exist_ok=True)
    report.write_text(json.dumps(rounds) + "\n", encoding="utf-8")


def _begin_shadow(stage: Stage, observer: Observer) -> None:
    stage.merge_bump(PRODUCTION, "2")
    stage.refresh(PRODUCTION)
    seen = observer.route.wait(
        "version 2 gets copies",
        lambda body: any(rule.get("filters") for rule in body["spec"]["rules"]),
        timeout=_PATIENCE,
    )
    spec = seen.body["spec"]
    (rule,) = spec["rules"]
    stable = [ref for ref in rule["backendRefs"] if ref["weight"]]
    to_canary = [
        one for one in rule["filters"] if not one["requestMirror"]["backendRef"]["name"].endswith(f"-{Track.BASELINE}")
    ]
    mirrors = [_mirror(name) for name in _start_elsewhere(stage)]
    copies = {_ONE: to_canary, _BOTH_ELSEWHERE: mirrors, _ONE_ELSEWHERE: mirrors[:1], _PLAIN: []}
    for number, (name, filters) in enumerate(copies.items()):
        rules = [{"matches": rule["matches"], "backendRefs": stable, "filters": filters}]
        stage.playground.kubectl.apply(
            json.dumps(
                {
                    "apiVersion": seen.body["apiVersion"],
                    "kind": "HTTPRoute",
                    "metadata": {"name": f"{MODEL}-beside-{number}", "namespace": PRODUCTION.namespace},
                    "spec": {"parentRefs": spec["parentRefs"], "hostnames": [_HOSTNAMES[name]], "rules": rules},
                }
            )
        )
    _part_processors(stage)
    for hostname in _HOSTNAMES.values():
        deadline = time.monotonic() + _PATIENCE
        while not all(answer.version == "1" for answer in _answers(stage, hostname, _WARM_UP)):
            if time.monotonic() > deadline:
                raise PlaygroundError(f"{hostname} is not served by version 1")


def _start_elsewhere(stage: Stage) -> list[str]:
    """Start two pods that answer after a time, each with a Service; return the Services' names."""
    names, port = [f"{MODEL}-elsewhere-{number}" for number in range(2)], {"name": "http", "port": _ELSEWHERE_PORT}
    for name in names:
        labels = {"app": name}
        address = {"name": "POD_IP", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}}
        container = {
            "name": "server",
            "image": "python",
            "command": [sys.executable, "-m", elsewhere.__name__],
            "env": [address, {"name": "PORT", "value": str(_ELSEWHERE_PORT)}],
            "readinessProbe": {"httpGet": {"path": "/ready", "port": _ELSEWHERE_PORT}},
        }
        for kind, spec in (
            ("Pod", {"containers": [container]}),
            ("Service", {"selector": labels, "ports": [port]}),
        ):
            meta = {"name": name, "namespace": PRODUCTION.namespace, "labels": labels}
            body = {"apiVersion": "v1", "kind": kind, "metadata": meta, "spec": spec}
            stage.playground.kubectl.apply(json.dumps(body))
        stage.playground.kubectl(
            "wait", f"--namespace={PRODUCTION.namespace}", "--for=condition=Ready", f"pod/{name}", "--timeout=60s"
        )
    return names


def _mirror(service: str) -> dict[str, Any]:
    target = {"group": "", "kind": "Service", "name": service, "port": _ELSEWHERE_PORT}
    return {"type": "RequestMirror", "requestMirror": {"backendRef": target}}


def _part_processors(stage: Stage) -> None:
    """Bind all that a client waits for to all processors but one, and what else the playground runs to that one."""
    processors = sorted(os.sched_getaffinity(0))
    if len(processors) == 1:
        raise PlaygroundError("This benchmark needs two processors: one is for what no client waits for")
    listening = {
        one.laddr.ip: psutil.Process(one.pid)
        for one in psutil.net_connections(kind="tcp")
        if one.status == psutil.CONN_LISTEN and one.laddr and one.pid
    }
    pods = json.loads(stage.playground.kubectl("get", "pods", f"--namespace={PRODUCTION.namespace}", "--output=json"))[
        "items"
    ]
    versions = {pod["status"]["podIP"]: _answers_clients(pod) for pod in pods}
    awaited = {listening[ip].pid for ip, live in versions.items() if live} | {os.getpid()}
    root = str(stage.playground.layout.root)
    for process in psutil.process_iter():
        with suppress(psutil.Error, ProcessLookupError):
            command = " ".join(process.cmdline())
            if root in command or "backstay_playground" in command:
                is_awaited = process.pid in awaited or process.name() == "envoy"
                _bind(process, processors[:-1] if is_awaited else processors[-1:])


def _answers_clients(pod: dict[str, Any]) -> bool:
    labels = pod["metadata"]["labels"]
    if "backstay.dev/track" not in labels:
        return False
    environment = {one["name"]: one.get("value") for one in pod["spec"]["containers"][0]["env"]}
    return bool(environment["MODEL_VERSION"] == "1" and labels["backstay.dev/track"] == "primary")


def _bind(process: psutil.Process, processors: Sequence[int]) -> None:
    for thread in process.threads():
        os.sched_setaffinity(thread.id, processors)


def _asked(stage: Stage, hostname: str) -> list[Answer]:
    answers = _answers(stage, hostname, _LEAD + SECONDS)
    wrong = next((answer for answer in answers if (answer.status, answer.version) != (200, "1")), None)
    if wrong is not None:
        raise PlaygroundError(f"A request to {hostname} was answered {wrong.status} by version {wrong.version!r}")
    return [answer for answer in answers if answer.began >= answers[0].began + _LEAD]


def _answers(stage: Stage, hostname: str, seconds: float) -> list[Answer]:
    traffic = stage.traffic(replace(PRODUCTION, hostname=hostname), rate=RATE).start()
    time.sleep(seconds)
    traffic.stop()
    return traffic.answers()


def percentile(rounds: Sequence[Round], what: str, share: float) -> float:
    """Return a percentile of the times of all rounds' answers, in seconds."""
    taken = sorted(time for one in rounds for time in one[what])
    return taken[math.ceil(share * len(taken)) - 1]


def ratio(rounds: Sequence[Round], what: str, share: float) -> tuple[float, float, float]:
    """Return a percentile's ratio to that without copies, and its 95 % interval, by resampling whole rounds."""
    random = Random(7)  # noqa: S311 - the same intervals again from the same times

    def of(some: Sequence[Round]) -> float:
        return percentile(some, what, share) / percentile(some, _PLAIN, share)

    resampled = sorted(of(random.choices(rounds, k=len(rounds))) for _ in range(_RESAMPLED))
    return of(rounds), resampled[round(0.025 * _RESAMPLED)], resampled[round(0.975 * _RESAMPLED)]


def _print(console: Console, rounds: Sequence[Round]) -> None:
    table = Table(title=f"{len(rounds)} rounds of {SECONDS:g} s each at {RATE:g} requests a second; times of answers")
    for column in ("copies to", "percentile", "with", "without", "ratio", "95 % interval"):
        table.add_column(column, justify="left" if column == "copies to" else "right")
    for what in _COPIED:
        for name, share in _PERCENTILES.items():
            times = (percentile(rounds, copied, share) for copied in (what, _PLAIN))
            middle, low, high = ratio(rounds, what, share)
            row = (what, name, *(f"{1000 * one:.1f} ms" for one in times), f"{middle:.2f}", f"{low:.2f} to {high:.2f}")
            table.add_row(*row)
    console.print(table)
