"""`make bench-serving`: throughput, latency, memory, start and rolling restart of three model servers in one run."""

import asyncio
import json
import logging
import os
import statistics
import sys
import tempfile
from pathlib import Path
from typing import Annotated

import httpx
import mlflow
import typer
from mlflow.models import infer_signature
from rich.console import Console
from rich.table import Table
from sklearn.datasets import load_breast_cancer
from sklearn.ensemble import GradientBoostingClassifier

from backstay_bench_serving.load import Load, attack
from backstay_bench_serving.rolling import lost
from backstay_bench_serving.servers import KINDS, Server, prepare, start
from backstay_playground.build import binaries
from backstay_playground.errors import PlaygroundError

_FIRST_PORT = 21800
_WARM_UP = 2.0
_ROWS = 64
# The fixed rate is this share of what the slowest server can do.
_SHARE = 0.6
_CONSOLE = Console()


def _model(folder: Path) -> tuple[Path, list[bytes]]:
    """Train a model as the example's, save it, and make one request of each of some rows."""
    data = load_breast_cancer(as_frame=True)
    features = data.data
    # It warns of every pickle; this one is read by who wrote it.
    logging.getLogger("mlflow.sklearn").setLevel(logging.ERROR)
    fitted = GradientBoostingClassifier(random_state=7).fit(features, data.target)
    signature = infer_signature(features, fitted.predict(features))
    mlflow.sklearn.save_model(
        fitted, folder, signature=signature, serialization_format=mlflow.sklearn.SERIALIZATION_FORMAT_CLOUDPICKLE
    )
    rows = [json.loads(features.iloc[[row]].to_json(orient="split", index=False)) for row in range(_ROWS)]
    return folder, [json.dumps({"dataframe_split": row}).encode() for row in rows]


def _agree(servers: list[Server], bodies: list[bytes]) -> None:
    """Make sure that all servers answer the same."""
    for body in bodies:
        said = {
            server.kind.name: httpx.post(
                server.url, content=body, headers={"Content-Type": "application/json"}, trust_env=False
            ).json()["predictions"]
            for server in servers
        }
        if len({json.dumps(one) for one in said.values()}) != 1:
            raise PlaygroundError(f"The servers do not agree on a row: {said}")


def _row(table: Table, what: str, figures: dict[str, list[float]], *, unit: str, digits: int = 1) -> None:
    """Print medians over rounds, and beside those of others how many times Backstay's they are, round by round."""
    ours = figures[KINDS[0].name]
    cells = []
    for kind in KINDS:
        values = figures[kind.name]
        cell = f"{statistics.median(values):,.{digits}f} {unit}"
        if kind is not KINDS[0]:
            ratios = [value / own for value, own in zip(values, ours, strict=True)]
            cell += f" (x{statistics.median(ratios):.2f}, {min(ratios):.2f} to {max(ratios):.2f})"
        cells.append(cell)
    table.add_row(what, *cells)


def bench(
    rounds: Annotated[int, typer.Option(min=1, max=50, help="How many times each server is asked in turn.")] = 5,
    seconds: Annotated[float, typer.Option(min=1, help="How long each time, at each kind of load.")] = 5.0,
) -> None:
    """Compare the servers on this machine: each on one processor, whoever asks on another."""
    processors = sorted(os.sched_getaffinity(0))
    if len(processors) == 1:
        raise typer.BadParameter("this benchmark needs two processors: one for the servers, one for whoever asks")
    serving, asking = processors[:1], processors[1:]
    vegeta = binaries(["vegeta"], _CONSOLE)["vegeta"]
    prepare()
    os.sched_setaffinity(0, asking)
    with tempfile.TemporaryDirectory(prefix="backstay-bench-serving-") as place:
        folder = Path(place)
        model, bodies = _model(folder / "model")
        (folder / "body.json").write_bytes(bodies[0])
        servers: list[Server] = []
        try:
            for number, kind in enumerate(KINDS):
                servers.append(start(kind, model, _FIRST_PORT + 10 * number, folder, serving))
            _agree(servers, bodies)
            saturated, steady, rate = _measured(vegeta, servers, bodies, rounds=rounds, seconds=seconds)
            memory = {server.kind.name: [server.memory()] for server in servers}
        finally:
            for server in servers:
                server.stop()
        title = f"{rounds} rounds of {seconds:g} s; beside medians: times Backstay's, median and range over rounds"
        table = Table("", *(kind.name for kind in KINDS), title=title)
        _row(table, "answers/s, 16 connections", {k: [one.rate for one in v] for k, v in saturated.items()}, unit="/s")
        for name in ("p50", "p99"):
            figures = {kind: [1000 * getattr(one, name) for one in some] for kind, some in steady.items()}
            _row(table, f"{name} at {rate:.0f} requests/s", figures, unit="ms", digits=2)
        _row(table, "memory", memory, unit="MiB", digits=0)
        _row(table, "start until ready", {s.kind.name: [s.started] for s in servers}, unit="s")
        told = []
        for number, kind in enumerate(KINDS):
            ports = (_FIRST_PORT + 100 + 20 * number, _FIRST_PORT + 110 + 20 * number)
            sent, missed = asyncio.run(lost(kind, model, ports, folder, serving))
            told.append(f"{missed} of {sent}")
        table.add_row("lost in a rolling restart", *told)
        _CONSOLE.print(table)


def _measured(
    vegeta: Path, servers: list[Server], bodies: list[bytes], *, rounds: int, seconds: float
) -> tuple[dict[str, list[Load]], dict[str, list[Load]], float]:
    """Ask the servers in turn, in another order each round: as fast as they answer, and at one rate for all."""
    first = [attack(vegeta, server.url, bodies, seconds=_WARM_UP).rate for server in servers]
    rate = max(round(_SHARE * min(first)), 1)
    saturated: dict[str, list[Load]] = {server.kind.name: [] for server in servers}
    steady: dict[str, list[Load]] = {server.kind.name: [] for server in servers}
    for number in range(rounds):
        for server in servers[number % len(servers) :] + servers[: number % len(servers)]:
            name = server.kind.name
            saturated[name].append(attack(vegeta, server.url, bodies, seconds=seconds))
            steady[name].append(attack(vegeta, server.url, bodies, seconds=seconds, rate=rate))
        shown = ", ".join(f"{name} {some[-1].rate:.0f}/s" for name, some in saturated.items())
        _CONSOLE.print(f"  {number + 1} of {rounds}: {shown}", highlight=False)
    return saturated, steady, rate


def main() -> None:
    """Run the command; what a person can act on is printed without a stack trace."""
    app = typer.Typer(pretty_exceptions_enable=False)
    app.command()(bench)
    try:
        app()
    except PlaygroundError as error:
        Console(stderr=True).print(f"error: {error}", soft_wrap=True, highlight=False, markup=False)
        sys.exit(1)


if __name__ == "__main__":
    main()
