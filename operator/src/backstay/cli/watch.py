"""``backstay watch``: follow a rollout to its end."""

import time
from collections.abc import Iterator, Mapping
from typing import Annotated, Any

import typer
from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.text import Text

from backstay.cli import looking
from backstay.cli.cluster import ClusterError, Models, Object
from backstay.cli.status import detail_lines
from backstay.cli.trouble import ANSWER_IS_NO, end
from backstay.domain.status import Phase, RollbackState, Status

_MOST_EVENTS = 6
# The API server ends a watch after some time anyway; so does this, and begins again.
_STRETCH = 60.0


def watch(
    name: looking.Name,
    *,
    timeout: Annotated[float, typer.Option(help="Give up after so many seconds; 0 for never.")] = 0.0,
    namespace: looking.Namespace = "",
    context: looking.Context = "",
    kubeconfig: looking.Kubeconfig = "",
) -> None:
    """Follow a rollout until it has ended.

    On a terminal it is a live view, elsewhere a line for each change. The exit code is 0 when the declared version is
    stable, and 1 when it was rolled back, rejected, or has not ended in time: so a pipeline can wait for it.

    ```
    backstay bump fraud-detector --environment staging --version 8
    backstay watch fraud-detector --namespace fraud-staging --timeout 3600
    ```
    """
    try:
        models = Models(looking.place(namespace, context, kubeconfig))
        where = models.place(name)
        states = _states(models, where, time.monotonic() + timeout if timeout else None)
        ended = _live(models, states) if Console().is_terminal else _lines(states)
    except ClusterError as problem:
        end(str(problem), problem.code)
    except KeyboardInterrupt:
        raise typer.Exit(130) from None
    if ended is None:
        end(f"{name} has not ended within {timeout:.0f} s: it goes on all the same", ANSWER_IS_NO)
    if not ended:
        raise typer.Exit(ANSWER_IS_NO)


def outcome(body: Mapping[str, Any]) -> bool | None:
    """Tell how what is declared ended: well, badly, or (None) not yet."""
    found = body.get("status") or {}
    status = Status.of(found)
    if found.get("observedGeneration", 0) < body["metadata"]["generation"]:
        return None
    record = status.rollback
    match status.phase:
        case Phase.STABLE:
            return True
        case Phase.ROLLED_BACK:
            return False
        case Phase.DEGRADED:
            return False if record is None or record.state is RollbackState.DONE or status.stalled else None
        case _:
            return None


def line(body: Mapping[str, Any]) -> str:
    """Say in a line how a rollout stands."""
    status = Status.of(body.get("status") or {})
    step = f" {status.step}" if status.step else ""
    return f"{status.phase}{step}  {status.message}"


def _states(models: Models, where: tuple[str, str], deadline: float | None) -> Iterator[Object]:
    """Go through the states of an object until a deadline; a watch that ends is begun again."""
    models.get(*where)  # a name that is wrong is told at once
    while deadline is None or time.monotonic() < deadline:
        left = _STRETCH if deadline is None else min(deadline - time.monotonic(), _STRETCH)
        yield from models.watch(*where, seconds=left)


def _lines(states: Iterator[Object]) -> bool | None:
    said = ""
    for body in states:
        now = line(body)
        if now != said:
            typer.echo(f"{looking.when(looking.now())}  {now}")
            said = now
        ended = outcome(body)
        if ended is not None:
            return ended
    return None


def _live(models: Models, states: Iterator[Object]) -> bool | None:
    with Live(console=Console(highlight=False), auto_refresh=False) as live:
        for body in states:
            live.update(_view(body, models.events(body)), refresh=True)
            ended = outcome(body)
            if ended is not None:
                return ended
    return None


def _view(body: Object, events: list[Object]) -> Group:
    status = Status.of(body.get("status") or {})
    lines = [Text(one) for one in detail_lines(body, looking.now())]
    bar = ProgressBar(total=100, completed=status.weight, width=60)
    told = [
        Text(f"  {event.get('reason', '')}: {event.get('note') or event.get('message') or ''}", style="dim")
        for event in events[-_MOST_EVENTS:]
    ]
    return Group(*lines, bar, *told)
