"""Options and texts that the commands which look at the cluster have in common."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from backstay.cli.cluster import ClusterError, Models, Place
from backstay.cli.gathered import span
from backstay.domain.status import Status

__all__ = ["Context", "Kubeconfig", "Name", "Namespace", "Place", "place"]


def _names(context: typer.Context, incomplete: str) -> list[str]:
    """Complete the names of ModelDeployments; where the cluster is not reached, with nothing."""
    given = context.params
    try:
        models = Models(place(given.get("namespace", ""), given.get("context", ""), given.get("kubeconfig", "")))
        found = models.every(models.namespace)
    except ClusterError:
        return []
    return [name for body in found if (name := str(body["metadata"]["name"])).startswith(incomplete)]


Name = Annotated[
    str, typer.Argument(help="The ModelDeployment: name, or namespace/name.", autocompletion=_names, show_default=False)
]
Namespace = Annotated[str, typer.Option("--namespace", "-n", help="By default the kubeconfig's.", show_default=False)]
Context = Annotated[str, typer.Option("--context", help="The kubeconfig's context.", show_default=False)]
Kubeconfig = Annotated[str, typer.Option("--kubeconfig", help="The kubeconfig file.", show_default=False)]


def place(namespace: str, context: str, kubeconfig: str) -> Place:
    """Say which cluster and namespace are meant."""
    return Place(kubeconfig=kubeconfig, context=context, namespace=namespace)


def row(body: Mapping[str, Any], now: float) -> dict[str, str]:
    """Return what a line about a ModelDeployment says."""
    metadata, status = body["metadata"], Status.of(body.get("status") or {})
    created = metadata.get("creationTimestamp", "")
    age = span(now - datetime.fromisoformat(created).timestamp()) if created else ""
    return {
        "NAMESPACE": metadata["namespace"],
        "NAME": metadata["name"],
        "VERSION": str(body["spec"]["model"]["version"]),
        "STABLE": status.stable.version if status.stable else "",
        "PHASE": str(status.phase),
        "STEP": status.step,
        "WEIGHT": str(status.weight),
        "VERDICT": str(status.verdict or ""),
        "AGE": age,
        "MESSAGE": status.message,
    }


def table(rows: Sequence[Mapping[str, str]], columns: Sequence[str]) -> Table:
    """Lay rows out as kubectl does."""
    made = Table(*columns, box=None, pad_edge=False, header_style="")
    for one in rows:
        made.add_row(*(_coloured(column, one[column]) for column in columns))
    return made


def coloured(phase: str) -> str:
    """Give a phase its colour, for a terminal that has any."""
    colour = _COLOURS.get(phase)
    return f"[{colour}]{phase}[/]" if colour else phase


_COLOURS = {
    "Stable": "green",
    "RolledBack": "yellow",
    "RollingBack": "red",
    "Degraded": "red",
    "AwaitingApproval": "cyan",
    "Paused": "cyan",
}


def _coloured(column: str, text: str) -> str:
    return coloured(text) if column == "PHASE" else text.replace("[", "\\[")


def out() -> Console:
    """Return the console for answers: nothing is cut or wrapped where nobody looks at it."""
    console = Console(highlight=False, soft_wrap=True)
    return console if console.is_terminal else Console(highlight=False, soft_wrap=True, width=10_000)


def now() -> float:
    """Return the Unix time."""
    return datetime.now(UTC).timestamp()


def when(unix: float) -> str:
    """Write a time for people, in UTC."""
    return datetime.fromtimestamp(unix, UTC).strftime("%Y-%m-%d %H:%M:%S") if unix else ""
