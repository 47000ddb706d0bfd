"""Which cluster a command works on: the playground's, unless a person names another one and says yes."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import typer

from backstay_playground.errors import PlaygroundError
from backstay_playground.kubectl import Kubectl

CONTEXT_VARIABLE = "BACKSTAY_CONTEXT"


def choose_cluster(playground: Callable[[], Kubectl], *, yes: bool) -> Kubectl:
    """Return kubectl for the playground's cluster, or for the context in $BACKSTAY_CONTEXT once that is confirmed.

    $KUBECONFIG is read only for a context named this way: it often points at production. `playground` is called only
    when its cluster is meant.

    Raises:
        PlaygroundError: there is no kubectl, or the person says no.
    """
    context = os.environ.get(CONTEXT_VARIABLE, "")
    if not context:
        return playground()
    binary = shutil.which("kubectl")
    if binary is None:
        raise PlaygroundError(f"{CONTEXT_VARIABLE} names the context {context!r}, which needs kubectl on the PATH.")
    kubectl = Kubectl(Path(binary), Path(os.environ.get("KUBECONFIG", "") or Path.home() / ".kube" / "config"), context)
    template = "jsonpath={.clusters[0].cluster.server}"
    server = kubectl("config", "view", "--minify", f"--output={template}")
    typer.echo(f"This works on an outside cluster: context {context}, {server}")
    if not yes and not typer.confirm("Go on?"):
        raise PlaygroundError(f"Nothing was changed. Unset {CONTEXT_VARIABLE} to work on the playground.")
    return kubectl
