"""``backstay watch``: follow a rollout to its end."""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Annotated, Any

import typer
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar

from backstay.cli import screen, terminal
from backstay.cli.cluster import looking, rendering
from backstay.cli.cluster.client import ClusterError, MissingError, Models, Object, SilentError
from backstay.cli.cluster.ending import Ending, ending
from backstay.cli.screen import Form
from backstay.cli.trouble import ANSWER_IS_NO, end, refuse
from backstay.cli.wording import when
from backstay.domain.units import unix

# The object is read again so often, in seconds. A watch would tell a second sooner, and could hang unnoticed for hours.
_EVERY = 1.0
# A server that goes away for less than this, in seconds, ends nothing.
_PATIENCE = 60.0
_BAR = 60

Moment = tuple[Object, list[Object]]


def watch(  # noqa: PLR0913 - each is an option of the command
    name: looking.Name,
    *,
    version: Annotated[
        str,
        typer.Option(
            "--version", help="The version to wait for; what is declared now if not given.", show_default=False
        ),
    ] = "",
    timeout: Annotated[float, typer.Option(help="Give up after so many seconds; 0 is never.")] = 0.0,
    namespace: looking.Namespace = "",
    context: looking.Context = "",
    kubeconfig: looking.Kubeconfig = "",
    output: looking.FormOption = Form.TEXT,
) -> None:
    """Follow a rollout until it has ended.

    ```
    backstay watch fraud-detector --namespace fraud-production
    backstay watch fraud-detector --version 8 --timeout 3600   # in a pipeline
    ```

    On a terminal it is a live view, elsewhere a line for each change and each event. With -o json or yaml it is a
    document for each.

    The exit code is 0 when the version is stable, and 1 when it was taken back or rejected, waits for a person to
    finish that, or has not ended in time. A server that is away for a minute is waited for; after that it is 3.

    After a change in Git name the version: until Argo CD has synced it, the former one is still declared, and stable.
    """
    if not timeout >= 0:
        refuse(f"--timeout is {timeout:g}: write seconds, 0 for never")
    console = terminal.console()
    with looking.answered():
        models = Models(looking.place(namespace, context, kubeconfig))
        moments = _moments(models, models.place(name), time.monotonic() + timeout if timeout else None)
        show = _live if output is Form.TEXT and console.is_terminal else _lines(output)
        ended = show(console, moments, version)
    if ended is None:
        end(f"{name} has not ended within {timeout:g} s: it goes on all the same", ANSWER_IS_NO)
    if ended.sentence:
        terminal.warn(f"backstay: {ended.sentence}")
    if not ended.well:
        raise typer.Exit(ANSWER_IS_NO)


def _moments(models: Models, where: tuple[str, str], deadline: float | None) -> Iterator[Moment]:
    """Look at an object and its events again and again, until a deadline."""
    seen, silent_since = "", 0.0
    events: list[Object] = []
    fresh = 0
    while True:
        try:
            body = models.get(*where)
            # An event is written a moment after the change that it tells of, so it is looked for twice.
            fresh = 2 if body["metadata"]["resourceVersion"] != seen else fresh - 1
            if fresh > 0:
                events = models.events(body)
        except MissingError:
            if not seen:
                raise
            raise ClusterError(f"ModelDeployment {'/'.join(where)} was deleted", ANSWER_IS_NO) from None
        except SilentError:
            silent_since = silent_since or time.monotonic()
            if not seen or time.monotonic() - silent_since > _PATIENCE:
                raise
        else:
            seen, silent_since = body["metadata"]["resourceVersion"], 0.0
            yield body, events
        left = _EVERY if deadline is None else min(_EVERY, deadline - time.monotonic())
        if left <= 0:
            return
        time.sleep(left)


@dataclass(slots=True)
class _Told:
    """What was printed already."""

    state: dict[str, Any] | None = None
    events: frozenset[tuple[str, str]] | None = None

    def news(self, body: Object, events: list[Object]) -> Iterator[dict[str, Any]]:
        """Go through what is new; events that are older than the rollout or this command are not."""
        known = {
            (str(one["metadata"]["uid"]), str(one["metadata"]["resourceVersion"])): rendering.event(one)
            for one in events
        }
        if self.events is not None:
            yield from (one for identity, one in known.items() if identity not in self.events)
        self.events = (self.events or frozenset()) | known.keys()
        state = rendering.state(body)
        if state != self.state:
            yield state
        self.state = state


def _lines(form: Form) -> Callable[[Console, Iterator[Moment], str], Ending | None]:
    """Return what prints each change as a line or a document."""

    def show(_: Console, moments: Iterator[Moment], version: str) -> Ending | None:
        told = _Told()
        for body, events in moments:
            for news in told.news(body, events):
                _print(news, form)
            ended = ending(body, version)
            if ended is not None:
                return ended
        return None

    return show


def _print(news: dict[str, Any], form: Form) -> None:
    at = when(looking.now())
    match form:
        case Form.JSON:
            terminal.say_json({"seenAt": at, **news}, indent=None)
        case Form.YAML:
            terminal.say_yaml({"seenAt": at, **news}, start="---\n")
        case Form.TEXT:
            line = rendering.event_line(news) if "note" in news else rendering.state_line(news)
            terminal.say(f"{at}  {line}")


def _live(console: Console, moments: Iterator[Moment], version: str) -> Ending | None:
    with Live(console=console, auto_refresh=False) as live:
        for body, events in moments:
            live.update(view(body, events, looking.now(), ascii_only=console.options.ascii_only), refresh=True)
            ended = ending(body, version)
            if ended is not None:
                return ended
    return None


def view(body: Object, events: list[Object], now: float, *, ascii_only: bool = False) -> Group:
    """Draw how a rollout stands: its steps, its weight, what is said of it, and its last events."""
    status = body.get("status") or {}
    begun = (status.get("rollout") or {}).get("startedAt")
    parts: list[RenderableType] = [
        terminal.words(f"{body['metadata']['namespace']}/{body['metadata']['name']}", "bold"),
        screen.labelled(rendering.detail(body, now)),
    ]
    if step := status.get("step"):
        parts.append(terminal.words(f"  steps   {rendering.steps(step, ascii_only=ascii_only)}  {step}"))
    weight = int(status.get("weight", 0))
    bar = ProgressBar(total=100, completed=weight, width=_BAR)
    told = [
        terminal.words(f"  {when(unix(one['at']))}  {rendering.event_line(one)}", "dim")
        for one in rendering.recent(events, unix(begun) if begun else 0.0)
    ]
    return Group(*parts, terminal.words(f"  weight  {weight} %"), bar, *told)
