"""The commands `demo` and `bench-…`."""

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from backstay_playground.demo import bench, crowd, harmless, shadowing
from backstay_playground.demo.story import demo, how_to_look
from backstay_playground.layout import repository_root
from backstay_playground.playground import Playground
from backstay_playground.ports import parse_choices

_console = Console()

State = Annotated[
    str,
    typer.Option(
        "--state", help="The state folder; by default $BACKSTAY_PLAYGROUND or .playground.", show_default=False
    ),
]


def _out(name: str) -> Path:
    return repository_root() / "out" / name


def play_demo(
    state: State = "",
    *,
    keep: Annotated[bool, typer.Option("--keep", help="Leave the playground up and say how to look at it.")] = False,
    protected: Annotated[
        bool, typer.Option("--protected", help="Protect the branch, so that the rollback comes as a pull request.")
    ] = False,
) -> None:
    """Show the main job: a good version goes live, a bad one is drained and goes back to Git."""
    playground = Playground(state, ports=parse_choices([]), console=_console)
    # What an earlier run left (kept, or killed half-way) would be part of the story.
    playground.down()
    try:
        demo(playground, console=_console, report=_out("demo-report.json"), protected=protected)
        if keep:
            how_to_look(_console)
    finally:
        if not keep:
            playground.down(keep_logs=True)


def bench_rollback(
    state: State = "",
    repetitions: Annotated[int, typer.Option(min=1, max=100, help="How many rollbacks are timed.")] = 20,
) -> None:
    """Time rollbacks from the first bad answer to the synced commit: min, median, max."""
    playground = Playground(state, ports=parse_choices([]), console=_console)
    playground.down()
    try:
        bench.bench(playground, console=_console, repetitions=repetitions, report=_out("bench-rollback.json"))
    finally:
        playground.down(keep_logs=True)


def bench_harmless(
    state: State = "",
    repetitions: Annotated[int, typer.Option(min=1, max=200, help="How many harmless rollouts are tried.")] = 20,
) -> None:
    """Roll out what is no different, at low traffic and by every kind of signal: none may be rolled back."""
    playground = Playground(state, ports=parse_choices([]), console=_console)
    playground.down()
    try:
        harmless.bench(playground, console=_console, repetitions=repetitions, report=_out("bench-harmless.json"))
    finally:
        playground.down(keep_logs=True)


def bench_shadow(
    state: State = "",
    repetitions: Annotated[int, typer.Option(min=1, max=100, help="How many rounds of short runs are compared.")] = 40,
) -> None:
    """Compare the times of answers with every request copied to a version in the shadow and without, in turn."""
    playground = Playground(state, ports=parse_choices([]), console=_console)
    playground.down()
    try:
        shadowing.bench(playground, console=_console, repetitions=repetitions, report=_out("bench-shadow.json"))
    finally:
        playground.down(keep_logs=True)


def bench_crowd(
    state: State = "",
    size: Annotated[int, typer.Option(min=1, max=200, help="How many models fail at once.")] = 50,
) -> None:
    """Fail many models of one repository at once, while others push to it; time them, and check every commit."""
    playground = Playground(state, ports=parse_choices([]), console=_console)
    playground.down()
    try:
        crowd.bench(playground, console=_console, size=size, report=_out("bench-crowd.json"))
    finally:
        playground.down(keep_logs=True)
