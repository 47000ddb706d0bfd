"""The playground's command: python -m backstay_playground."""

import os
import shlex
import sys
import time
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from backstay_playground.build import binaries
from backstay_playground.cluster import choose_cluster
from backstay_playground.demo.command import bench_crowd, bench_harmless, bench_rollback, bench_shadow, play_demo
from backstay_playground.environment import environment, image_requirements
from backstay_playground.errors import PlaygroundError
from backstay_playground.install import apply_folder
from backstay_playground.layout import repository_root
from backstay_playground.playground import Line, Playground
from backstay_playground.ports import PREFERRED, parse_choices
from backstay_playground.tools import TOOLS

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="A whole real environment for Backstay on this machine: API server, Argo CD, Prometheus, Envoy Gateway, "
    "Gitea, MLflow and a node that runs pods as local processes.",
)
_console = Console()
_COLOURS = {"ready": "green", "not answering": "yellow", "stopped": "red"}
_MINUTE, _HOUR = 60, 3600
_INTERRUPTED = 130

State = Annotated[
    str,
    typer.Option(
        "--state", help="The state folder; by default $BACKSTAY_PLAYGROUND or .playground.", show_default=False
    ),
]
Name = Annotated[str, typer.Argument(help="The component, as `status` names it.")]


@app.command()
def up(
    state: State = "",
    port: Annotated[
        list[str] | None,
        typer.Option(help=f"Choose a port: NAME=NUMBER, where NAME is one of {', '.join(PREFERRED)}."),
    ] = None,
) -> None:
    """Bring everything up; what runs already is kept, what died is started again."""
    playground = Playground(state, ports=parse_choices(port or []), console=_console)
    try:
        playground.up()
    except KeyboardInterrupt:
        typer.echo("Interrupted. What has started still runs: `up` goes on from there, `down` stops it.", err=True)
        raise typer.Exit(_INTERRUPTED) from None
    for name, where in playground.endpoints().items():
        _console.print(f"  {name:<16} {where}", highlight=False, soft_wrap=True)


@app.command()
def down(
    state: State = "",
    *,
    keep_logs: Annotated[bool, typer.Option("--keep-logs", help="Keep the folder with the logs.")] = False,
) -> None:
    """Stop everything the playground started and remove its state."""
    playground = Playground(state, console=_console)
    stopped = playground.down(keep_logs=keep_logs)
    _console.print("The playground is down." if stopped else f"There is no playground in {playground.layout.root}.")


@app.command()
def status(state: State = "") -> None:
    """Show what runs, where, since when, and its log; exit code 1 unless everything is ready."""
    lines = Playground(state).status()
    table = Table("component", "state", "pid", "age", "where", "log", box=None, pad_edge=False)
    for line in lines:
        pid, age = (str(line.pid), _age(line)) if line.pid else ("", "")
        coloured = f"[{_COLOURS[line.state]}]{line.state}[/]"
        table.add_row(line.component.name, coloured, pid, age, line.component.where, os.path.relpath(line.log))
    # A table cut to 80 columns in a log is of no use.
    (_console if _console.is_terminal else Console(width=200)).print(table, highlight=False)
    if any(line.state != "ready" for line in lines):
        raise typer.Exit(1)


def _age(line: Line) -> str:
    seconds = int(time.time() - line.started)
    if seconds < _MINUTE:
        return f"{seconds}s"
    return f"{seconds // _MINUTE}m{seconds % _MINUTE:02}s" if seconds < _HOUR else f"{seconds // _HOUR}h"


@app.command()
def start(name: Name, state: State = "") -> None:
    """Start one component."""
    Playground(state).start(name)
    _console.print(f"{name} is ready.")


@app.command()
def stop(name: Name, state: State = "") -> None:
    """Stop one component; its data stays."""
    Playground(state).stop(name)
    _console.print(f"{name} is stopped.")


@app.command()
def restart(name: Name, state: State = "") -> None:
    """Stop one component and start it again."""
    playground = Playground(state)
    playground.stop(name)
    playground.start(name)
    _console.print(f"{name} is ready.")


@app.command()
def logs(
    name: Name,
    state: State = "",
    lines: Annotated[int, typer.Option("--lines", "-n", min=0, help="How many of the last lines.")] = 100,
    *,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on with new lines until Ctrl-C.")] = False,
) -> None:
    """Show the end of a component's log."""
    log = Playground(state).log(name)
    command = ["tail", f"--lines={lines}", *(["--follow=name"] if follow else []), str(log)]
    os.execvp(command[0], command)  # noqa: S606 - to become the program, without a shell, is the purpose


@app.command(context_settings={"allow_extra_args": True, "ignore_unknown_options": True, "help_option_names": []})
def kubectl(context: typer.Context) -> None:
    """Run kubectl against the playground's cluster; the state folder is $BACKSTAY_PLAYGROUND or .playground."""
    program = Playground().kubectl
    command = program.argv(*context.args)
    os.execve(program.binary, command, program.environment())  # noqa: S606 - to become kubectl is the purpose


@app.command()
def env(state: State = "") -> None:
    """Print shell exports: eval "$(python -m backstay_playground env)"."""
    playground = Playground(state)
    endpoints = playground.endpoints()
    exports = {
        "BACKSTAY_PLAYGROUND": str(playground.layout.root),
        "KUBECONFIG": endpoints["kubeconfig"],
        "MLFLOW_TRACKING_URI": endpoints["mlflow"],
        "PATH": f"{playground.layout.bin}:{os.environ.get('PATH', os.defpath)}",
    }
    for name, value in exports.items():
        typer.echo(f"export {name}={shlex.quote(value)}")


@app.command()
def build() -> None:
    """Build whatever programs are missing into the user's cache, and show the progress; not those of benchmarks.

    The Python packages of the images go there too.
    """
    binaries(sorted(name for name, tool in TOOLS.items() if not tool.for_benchmarks), _console)
    # Tests have no network to install them from.
    for pins in image_requirements():
        _console.print(
            f"installing {pins.relative_to(repository_root())}, unless it is there already ...", highlight=False
        )
        environment(pins)


@app.command()
def install(
    state: State = "",
    *,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask before an outside cluster is changed.")] = False,
) -> None:
    """Install the controller into the playground, or into the outside cluster whose context $BACKSTAY_CONTEXT names."""
    playground = Playground(state, console=_console)
    kubectl = choose_cluster(lambda: playground.kubectl, yes=yes)
    if kubectl.context:
        apply_folder(kubectl, repository_root())
    else:
        playground.install_controller()
    _console.print("The controller is installed.")


app.command("demo")(play_demo)
app.command("bench-rollback")(bench_rollback)
app.command("bench-harmless")(bench_harmless)
app.command("bench-crowd")(bench_crowd)
app.command("bench-shadow")(bench_shadow)


def main() -> None:
    """Run the command; what a person can act on is printed without a stack trace."""
    try:
        app(prog_name="python -m backstay_playground")
    except PlaygroundError as error:
        Console(stderr=True).print(f"[red]error:[/] {error}", highlight=False, markup=True, soft_wrap=True)
        sys.exit(1)


if __name__ == "__main__":
    main()
