"""``backstay status`` and ``backstay history``: how ModelDeployments stand, and how they got there."""

from typing import Annotated, Any, assert_never

import typer

from backstay.cli import screen, terminal
from backstay.cli.cluster import looking, rendering
from backstay.cli.cluster.client import Models, Object
from backstay.cli.screen import Form, View


def status(  # noqa: PLR0913 - each is an option of the command
    name: looking.NameOrAll = "",
    *,
    namespace: looking.Namespace = "",
    everywhere: Annotated[bool, typer.Option("--all-namespaces", "-A", help="All namespaces.")] = False,
    context: looking.Context = "",
    kubeconfig: looking.Kubeconfig = "",
    output: looking.ViewOption = View.TEXT,
) -> None:
    """Show how models stand: all of them as a table, or one in depth.

    ```
    backstay status                        # the current namespace
    backstay status -A -o wide             # all, with whole messages
    backstay status fraud/fraud-detector   # one in depth
    backstay status fraud-detector -o json
    ```

    The exit code is 0 whatever the state is; `backstay watch` tells states apart.
    """
    with looking.answered():
        models = Models(looking.place(namespace, context, kubeconfig))
        if name:
            _show_one(models.get(*models.place(name)), output)
        else:
            _show_all(models.every(None if everywhere else models.namespace), output, everywhere=everywhere)


def history(
    name: looking.Name,
    *,
    namespace: looking.Namespace = "",
    context: looking.Context = "",
    kubeconfig: looking.Kubeconfig = "",
    output: looking.FormOption = Form.TEXT,
) -> None:
    """Show a model's last five rollouts, newest first, and what was rejected.

    ```
    backstay history fraud-detector --namespace fraud-production
    ```
    """
    with looking.answered():
        models = Models(looking.place(namespace, context, kubeconfig))
        body = models.get(*models.place(name))
        if output is Form.TEXT:
            terminal.say("\n".join(rendering.history(body)))
            return
        found = body.get("status") or {}
        screen.dump({"history": found.get("history", []), "rejected": found.get("rejected", [])}, output)


def _show_one(body: Object, output: View) -> None:
    match output:
        case View.JSON | View.YAML:
            screen.dump(_plain(body), output)
        case View.NAME:
            terminal.say(_name(body))
        case View.TEXT | View.WIDE:
            lines = rendering.detail(body, looking.now())
            console = terminal.console()
            console.print(terminal.words(_name(body), "bold"))
            console.print(screen.labelled(lines))
        case _:
            assert_never(output)


def _show_all(bodies: list[Object], output: View, *, everywhere: bool) -> None:
    match output:
        case View.JSON | View.YAML:
            screen.dump({"apiVersion": "v1", "kind": "List", "items": [_plain(body) for body in bodies]}, output)
        case View.NAME:
            for body in bodies:
                terminal.say(_name(body))
        case View.TEXT | View.WIDE:
            if not bodies:
                where = "in the cluster" if everywhere else "in this namespace: --all-namespaces looks everywhere"
                terminal.warn(f"There are no ModelDeployments {where}")
                return
            wide = output is View.WIDE
            rows = [rendering.row(body, looking.now()) for body in bodies]
            columns = rendering.columns(wide=wide, everywhere=everywhere)
            terminal.console().print(screen.table(rows, columns, whole=wide))
        case _:
            assert_never(output)


def _name(body: Object) -> str:
    return f"{body['metadata']['namespace']}/{body['metadata']['name']}"


def _plain(body: Object) -> dict[str, Any]:
    """Leave out who wrote which field, as kubectl does."""
    metadata = {key: value for key, value in body["metadata"].items() if key != "managedFields"}
    return {**body, "metadata": metadata}
