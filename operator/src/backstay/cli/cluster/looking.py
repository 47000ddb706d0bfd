"""Arguments, options and answers that the commands for a cluster have in common."""

import io
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr
from datetime import UTC, datetime
from typing import Annotated

import typer

from backstay.cli.cluster.client import ClusterError, Models, Place
from backstay.cli.screen import Form, View
from backstay.cli.trouble import ANSWER_IS_NO, end

_COMPLETION_SECONDS = 3.0


def _names(context: typer.Context, incomplete: str) -> list[str]:
    """Complete the names of ModelDeployments; where the cluster is not reached, with nothing and silently."""
    given = {name: str(value) for name, value in context.params.items() if value}
    namespace, separator, _ = incomplete.rpartition("/")
    where = place(namespace or given.get("namespace", ""), given.get("context", ""), given.get("kubeconfig", ""))
    try:
        with redirect_stderr(io.StringIO()):
            models = Models(where, timeout=_COMPLETION_SECONDS)
            found = models.every(models.namespace)
    except ClusterError:
        return []
    return [
        name for body in found if (name := f"{namespace}{separator}{body['metadata']['name']}").startswith(incomplete)
    ]


Name = Annotated[
    str,
    typer.Argument(
        metavar="NAME",
        help="The ModelDeployment: its name, or namespace/name.",
        autocompletion=_names,
        show_default=False,
    ),
]
NameOrAll = Annotated[
    str,
    typer.Argument(
        metavar="NAME",
        help="One ModelDeployment, its name or namespace/name; all of the namespace if not given.",
        autocompletion=_names,
        show_default=False,
    ),
]
Namespace = Annotated[
    str, typer.Option("--namespace", "-n", help="The namespace; the context's if not given.", show_default=False)
]
Context = Annotated[
    str, typer.Option("--context", help="The kubeconfig's context; its current one if not given.", show_default=False)
]
Kubeconfig = Annotated[
    str,
    typer.Option(
        "--kubeconfig", help="The kubeconfig; KUBECONFIG, or ~/.kube/config if not given.", show_default=False
    ),
]
ViewOption = Annotated[View, typer.Option("-o", "--output", help="text, wide, json, yaml or name.")]
FormOption = Annotated[Form, typer.Option("-o", "--output", help="text, json or yaml.")]


def place(namespace: str, context: str, kubeconfig: str) -> Place:
    """Say which cluster and namespace are meant."""
    return Place(kubeconfig=kubeconfig, context=context, namespace=namespace)


@contextmanager
def answered() -> Iterator[None]:
    """End with a sentence, and the code that goes with it, where the cluster does not do what is asked."""
    try:
        yield
    except ClusterError as problem:
        end(str(problem), problem.code)
    except ValueError as problem:
        end(
            f"the ModelDeployment's status is not understood ({problem}): use the command of the controller's version",
            ANSWER_IS_NO,
        )


def now() -> float:
    """Return the Unix time."""
    return datetime.now(UTC).timestamp()
