"""``backstay init`` and ``backstay add``: a GitOps repository for models, and one model more in it."""

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

import typer

from backstay.adapters.shipped import shipped_files
from backstay.cli.start.scaffold import CONFIG, Defaults, Model, ScaffoldError, model_files, repository_files
from backstay.cli.start.workflows import workflow_files
from backstay.cli.terminal import say
from backstay.cli.trouble import refuse

# What a repository gets besides its own files: folders of this checkout, or of the installed package.
_SHIPPED = ("monitoring", "policies/promotion")
_README = "README.md"


def init(  # noqa: PLR0913 - one parameter an option
    folder: Annotated[Path, typer.Argument(help="The folder to make the repository in; it may hold a fresh clone.")],
    *,
    repository: Annotated[str, typer.Option(help="The URL by which Argo CD reads the repository.")],
    registry: Annotated[str, typer.Option(help="MLflow, as seen from the cluster: http://mlflow.mlops:5000")],
    gateway: Annotated[str, typer.Option(help="The Gateway that requests come through: namespace/name")],
    domain: Annotated[str, typer.Option(help="The domain below which models get their hostnames.")],
    model: Annotated[str, typer.Option(help="The first model; add others with backstay add.")],
    registered: Annotated[str, typer.Option(help="Its name in the registry, where that is another one.")] = "",
    version: Annotated[str, typer.Option(help="The version that every environment starts with.")] = "1",
    branch: Annotated[str, typer.Option(help="The branch that Argo CD follows.")] = "main",
    image: Annotated[str, typer.Option(help="The model server.")] = "backstay/serving:0.1.0",
    namespace: Annotated[str, typer.Option(help="The pattern of namespaces.")] = "{model}-{environment}",
    environment: Annotated[
        list[str] | None, typer.Option(help="In the order that versions pass them; the last one is the careful one.")
    ] = None,
    forge: Annotated[str, typer.Option(help="Whose checks of pull requests to add: github, gitlab or gitea.")] = "",
    install_from: Annotated[
        str,
        typer.Option(
            help="What these checks install Backstay from: git+https://HOST/PATH@COMMIT, or the URL of a wheel with "
            "#sha256=DIGEST. Required with --forge."
        ),
    ] = "",
) -> None:
    """Make a GitOps repository for models, ready to be pushed.

    ```
    git clone https://git.example.com/models/gitops.git && cd gitops
    backstay init . --repository https://git.example.com/models/gitops.git
        --registry http://mlflow.mlops:5000 --gateway gateways/models --domain example.com
        --model fraud-detector --forge gitea
        --install-from git+https://git.example.com/platform/backstay@COMMIT
    backstay verify --offline
    git add --all && git commit --message 'Deliver fraud-detector' && git push
    kubectl apply -f applications/argocd/models.yaml
    ```

    Nothing that is there already is overwritten. A README.md is left as it is; if another file is in the way, nothing
    is written at all.
    """
    try:
        checks = workflow_files(forge, install_from)
        defaults = Defaults(
            repository=repository,
            registry=registry,
            gateway=gateway,
            domain=domain,
            branch=branch,
            image=image,
            namespace=namespace,
            environments=tuple(environment or ("staging", "production")),
        )
        first = Model(model, registered or model, version)
        written = {**repository_files(defaults), **model_files(defaults, first), **checks}
    except ScaffoldError as problem:
        refuse(str(problem))
    for place in _SHIPPED:
        written |= shipped_files(place)
    if (folder / _README).exists():
        del written[_README]
    _write(folder, written)
    say(f"Next: backstay verify, commit and push, then kubectl apply -f {folder}/applications/argocd/models.yaml")


def add(
    name: Annotated[str, typer.Argument(help="The model's name: a-z, 0-9 and -, at most 40 characters.")],
    *,
    folder: Annotated[Path, typer.Option("--repository", help="A checkout of the GitOps repository.")] = Path(),
    registered: Annotated[str, typer.Option(help="Its name in the registry, where that is another one.")] = "",
    version: Annotated[str, typer.Option(help="The version that every environment starts with.")] = "1",
) -> None:
    """Add a model to a repository that `backstay init` made, with what its backstay.yaml says.

    ```
    backstay add credit-score --version 3
    git add --all && git commit --message 'Deliver credit-score' && git push
    ```

    When that is merged, Argo CD delivers the model. Nothing that is there already is overwritten.
    """
    config = folder / CONFIG
    try:
        defaults = Defaults.parse(config.read_text(encoding="utf-8"))
        written = model_files(defaults, Model(name, registered or name, version))
    except FileNotFoundError:
        refuse(f"{config} does not exist: run this in a repository that backstay init made, or name it by --repository")
    except (OSError, UnicodeDecodeError) as problem:
        refuse(f"{config} cannot be read ({problem}): mend it, or write it anew with backstay init")
    except ScaffoldError as problem:
        refuse(str(problem))
    _write(folder, written)


def _write(folder: Path, written: Mapping[str, str]) -> None:
    """Write all files or none: whatever is there already is somebody's."""
    there = [path for path in written if (folder / path).exists() or (folder / path).is_symlink()]
    if there:
        refuse(
            f"{folder / there[0]} exists already, so nothing was written: remove it, or choose another folder or name"
        )
    try:
        folder.mkdir(parents=True, exist_ok=True)
        # Beside the target, so that moving is renaming.
        with tempfile.TemporaryDirectory(prefix=".backstay-", dir=folder) as place:
            for path, text in written.items():
                file = Path(place) / path
                file.parent.mkdir(parents=True, exist_ok=True)
                file.write_text(text, encoding="utf-8")
            for path in written:
                (folder / path).parent.mkdir(parents=True, exist_ok=True)
                (Path(place) / path).rename(folder / path)
                say(f"wrote {folder / path}")
    except OSError as problem:
        refuse(f"{folder} cannot be written to ({problem.strerror}): make it writable, or choose another one")
