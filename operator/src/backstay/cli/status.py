"""``backstay status`` and ``backstay history``: how ModelDeployments stand, and how they got there."""

import json
from collections.abc import Iterator, Mapping
from enum import StrEnum
from typing import Annotated, Any

import typer
import yaml
from rich.console import Console

from backstay.cli import looking
from backstay.cli.cluster import ClusterError, Models
from backstay.cli.gathered import span
from backstay.cli.trouble import end
from backstay.domain.status import RollbackState, Status

_COLUMNS = ("NAME", "VERSION", "STABLE", "PHASE", "STEP", "WEIGHT", "VERDICT", "AGE")


class View(StrEnum):
    """How an answer is printed."""

    TEXT = "text"
    WIDE = "wide"
    JSON = "json"
    YAML = "yaml"
    NAME = "name"


Output = Annotated[View, typer.Option("-o", "--output", help="text, wide, json, yaml or name.")]


def status(  # noqa: PLR0913 - each is an option of the command
    name: Annotated[
        str, typer.Argument(help="One ModelDeployment, name or namespace/name; all of them if not given.")
    ] = "",
    *,
    namespace: looking.Namespace = "",
    everywhere: Annotated[bool, typer.Option("--all-namespaces", "-A", help="All namespaces.")] = False,
    context: looking.Context = "",
    kubeconfig: looking.Kubeconfig = "",
    output: Output = View.TEXT,
) -> None:
    """Show how models stand: all as a table, or one in depth.

    ```
    backstay status --all-namespaces
    backstay status fraud-detector --namespace fraud-production
    ```
    """
    try:
        models = Models(looking.place(namespace, context, kubeconfig))
        if name:
            body = models.get(*models.place(name))
            _show([body], output, detailed=True)
        else:
            _show(models.every(None if everywhere else models.namespace), output, everywhere=everywhere)
    except ClusterError as problem:
        end(str(problem), problem.code)


def history(
    name: looking.Name,
    *,
    namespace: looking.Namespace = "",
    context: looking.Context = "",
    kubeconfig: looking.Kubeconfig = "",
    output: Output = View.TEXT,
) -> None:
    """Show a model's last rollouts, and what was rejected."""
    try:
        models = Models(looking.place(namespace, context, kubeconfig))
        body = models.get(*models.place(name))
    except ClusterError as problem:
        end(str(problem), problem.code)
    found = body.get("status") or {}
    if output in (View.JSON, View.YAML):
        _dump({"history": found.get("history", []), "rejected": found.get("rejected", [])}, output)
        return
    for line in history_lines(Status.of(found)):
        looking.out().print(line, markup=False)


def history_lines(status: Status) -> Iterator[str]:
    """Word the last rollouts, newest first, and the rejections."""
    if not status.history:
        yield "no rollout has ended here yet"
    for ended in reversed(status.history):
        took = span(ended.ended_at - ended.started_at)
        reason = f": {ended.reason}" if ended.reason else ""
        yield f"{looking.when(ended.ended_at)}  version {ended.version}  {ended.outcome} after {took}{reason}"
    for entry in status.rejected:
        what = f"version {entry.version}" if entry.version else f"revision {entry.revision}"
        yield f"rejected: {what}{f', by rollback {entry.rollback_id}' if entry.rollback_id else ''}"


def detail_lines(body: Mapping[str, Any], now: float) -> Iterator[str]:
    """Describe one ModelDeployment."""
    status, metadata = Status.of(body.get("status") or {}), body["metadata"]
    model = body["spec"]["model"]
    yield f"{metadata['namespace']}/{metadata['name']}"
    yield f"  declared   version {model['version']} of {model['name']}"
    if status.stable is not None:
        since = f", for {span(now - status.stable.since)}" if status.stable.since else ""
        yield f"  stable     version {status.stable.version}{since}"
    yield f"  phase      {status.phase}{f' ({status.stalled})' if status.stalled else ''}"
    if status.rollout is not None:
        started = span(now - status.rollout.started_at)
        yield f"  rollout    {status.rollout.id}, step {status.step}, {status.weight} % of the traffic, for {started}"
    if status.verdict is not None:
        yield f"  verdict    {status.verdict}"
    yield f"  message    {status.message}"
    yield from _rollback_lines(status)
    if status.previous is not None and status.previous.until > now:
        left = span(status.previous.until - now)
        yield f"  warm       version {status.previous.version}, to go back to at once, for {left} more"


def _rollback_lines(status: Status) -> Iterator[str]:
    record = status.rollback
    if record is None:
        return
    versions = f"version {record.from_version} to {record.to_version}"
    yield f"  rollback   {record.id or '(no ID yet)'}: {versions}, {record.state}"
    yield f"             {record.reason}"
    if record.pull_request:
        yield f"             {record.pull_request}"
    if record.commit:
        synced = "synced" if record.state is RollbackState.DONE else "not synced yet"
        yield f"             commit {record.commit[:12]}, {synced}"


def _show(bodies: list[dict[str, Any]], output: View, *, detailed: bool = False, everywhere: bool = False) -> None:
    match output:
        case View.JSON | View.YAML:
            plain = [{key: body.get(key) for key in ("metadata", "spec", "status")} for body in bodies]
            _dump(plain[0] if detailed else plain, output)
        case View.NAME:
            for body in bodies:
                typer.echo(f"{body['metadata']['namespace']}/{body['metadata']['name']}")
        case View.TEXT | View.WIDE if detailed:
            for line in detail_lines(bodies[0], looking.now()):
                looking.out().print(line, markup=False)
        case _:
            _table(bodies, wide=output is View.WIDE, everywhere=everywhere)


def _table(bodies: list[dict[str, Any]], *, wide: bool, everywhere: bool) -> None:
    if not bodies:
        Console(stderr=True).print("There are no ModelDeployments here; --all-namespaces looks everywhere.")
        return
    columns = (*(("NAMESPACE",) if everywhere else ()), *_COLUMNS, *(("MESSAGE",) if wide else ()))
    rows = [looking.row(body, looking.now()) for body in bodies]
    looking.out().print(looking.table(rows, columns))


def _dump(document: Any, output: View) -> None:
    if output is View.JSON:
        typer.echo(json.dumps(document, indent=2, ensure_ascii=False))
    else:
        typer.echo(yaml.safe_dump(document, sort_keys=False, allow_unicode=True).rstrip("\n"))
