"""The benchmark's command: python -m backstay_bench_judge."""

import os
import shlex
import sys
import time
from fnmatch import fnmatch
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table

from backstay_bench_judge.field import JUDGES
from backstay_bench_judge.plots import draw
from backstay_bench_judge.report import write
from backstay_bench_judge.run import Cell, Results, run
from backstay_bench_judge.scenarios import PARTS, Scenario

RUNS, FULL, SEED = 500, 10_000, 20260101
_HELP = """Backstay's judge beside the others in the field, on the same simulated rollouts.

Every judge sees the same requests and errors of a canary, a fresh baseline and the stable version, in intervals of 15
seconds. Reported are rollbacks of harmless versions, promotions of harmful ones, bad answers served and delay, with
each judge as configured and with thresholds moved until all fail harmless versions equally often.

The default writes docs/judge-benchmark.md and docs/images/judge-*.svg, and keeps the numbers in
out/bench-judge/results.json, from which --again writes them without simulating. The same seed gives the same numbers,
whatever else runs beside a scenario.

Examples:

    make bench-judge

    make bench-judge ARGS=--full

    make bench-judge ARGS="--only central --only nuisances --runs 2000"

    make bench-judge ARGS="--only 'count, 2/s*' --list"
"""
_console = Console(stderr=True)


def main(  # noqa: PLR0913 - a command line has many options
    *,
    only: Annotated[
        list[str] | None,
        typer.Option(help=f"A part ({', '.join(PARTS)}) or a pattern of scenario names such as '*200/s*'; repeatable."),
    ] = None,
    runs: Annotated[int, typer.Option(min=1, help="Rollouts of each scenario; labels take a fifth of it.")] = RUNS,
    full: Annotated[bool, typer.Option("--full", help=f"{FULL} rollouts of each scenario: hours.")] = False,
    seed: Annotated[int, typer.Option(help="The random numbers' seed.")] = SEED,
    jobs: Annotated[int, typer.Option(min=1, help="Processes at once.")] = os.cpu_count() or 1,
    docs: Annotated[Path, typer.Option(help="The folder for the report and its plots.")] = Path("docs"),
    results: Annotated[Path, typer.Option(help="Where the numbers are kept.")] = Path("out/bench-judge/results.json"),
    again: Annotated[
        bool, typer.Option("--again", help="Write the report from the kept numbers; simulate nothing.")
    ] = False,
    show: Annotated[bool, typer.Option("--list", help="List the scenarios and the judges; simulate nothing.")] = False,
) -> None:
    """Run the benchmark."""
    scenarios = choose(only or [])
    if not scenarios:
        raise typer.BadParameter(f"No scenario is called {only}: --list shows them all", param_hint="--only")
    if show:
        _list(scenarios)
        return
    if again:
        found = Results.load(results)
    else:
        runs = FULL if full else runs
        found = Results(_command(sys.argv[1:]), runs, seed, _simulate(scenarios, seed=seed, runs=runs, jobs=jobs))
        found.save(results)
    pictures = draw(found, docs / "images")
    write(found, docs / "judge-benchmark.md", pictures)
    _console.print(f"Wrote {docs / 'judge-benchmark.md'} and {len(pictures)} plots; the numbers are in {results}.")


def choose(only: list[str]) -> list[Scenario]:
    """Return the scenarios of the parts or patterns given, each once; all of them when none is given."""
    found: dict[str, Scenario] = {}
    for part, make in PARTS.items():
        for scenario in make():
            if not only or part in only or any(fnmatch(scenario.name, pattern) for pattern in only):
                found.setdefault(scenario.name, scenario)
    return list(found.values())


def _simulate(scenarios: list[Scenario], *, seed: int, runs: int, jobs: int) -> tuple[Cell, ...]:
    began = time.monotonic()
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=_console) as progress:
        task = progress.add_task("scenarios", total=len(scenarios))
        cells = run(
            scenarios,
            seed=seed,
            runs=runs,
            jobs=jobs,
            finished=lambda name, count: progress.update(task, advance=count, description=name[:60]),
        )
    _console.print(f"{len(scenarios)} scenarios of {runs} rollouts in {time.monotonic() - began:.0f} s.")
    return cells


def _list(scenarios: list[Scenario]) -> None:
    out = Console()
    for scenario in scenarios:
        out.print(scenario.name, highlight=False, soft_wrap=True)
    table = Table("judge", "configuration", box=None, pad_edge=False)
    for judge in JUDGES:
        table.add_row(judge.name, judge.configuration)
    out.print(table, highlight=False)


def _command(arguments: list[str]) -> str:
    return f'make bench-judge ARGS="{shlex.join(arguments)}"' if arguments else "make bench-judge"


def application() -> typer.Typer:
    """Return the command line."""
    app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
    app.command(help=_HELP)(main)
    return app


if __name__ == "__main__":
    application()()
