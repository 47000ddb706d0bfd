#!/usr/bin/env python3
"""Train the example model `fraud-detector` and register three versions of it.

The data is not about fraud: no package may ship transactions of real people. It is the Breast Cancer Wisconsin
(Diagnostic) set that scikit-learn bundles: 569 tumours, each described by thirty measurements of the cell nuclei in a
digitized image, 212 of them malignant. It stands in for fraud because the task has the same shape, a minority class to
be found among numeric features, and because it is real and always at hand. The features keep their real names, and the
positive class, 1, is "malignant".

The versions tell a story that teams know:

1. A logistic regression on four features: a modest first model.
2. Gradient boosting on all thirty: clearly better.
3. The same idea once more, with the radius in bands, but its training data came from an export that took the radii for
   diameters and halved them. Its own evaluation used the same export, so its figures look good. With the radii that
   callers send, its encoder meets bands that the export did not have and raises an exception on about a third of the
   requests, and what it does answer is less often right. Nothing but live traffic shows it.

Asked for variants, it registers four more, each worse than version 2 in one thing alone, and in nothing that its
errors show:

4. Version 2 behind a lookup that is slow for a quarter of the requests.
5. A logistic regression so strongly regularized that it ranks well and is sure of nothing.
6. Version 2 trained on labels that were joined to the wrong rows.
7. Version 2 behind native code that ends the process when a single row is far larger than usual.
"""

import hashlib
import json
import logging
import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, Any

# MLflow reads these when it is imported; standard output is for the result.
os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")
os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "3")  # of its seven, the last alone takes two minutes

import mlflow
import mlflow.sklearn
import numpy as np
import pandas as pd
import sklearn
import typer
from mlflow.entities.model_registry import ModelVersion
from mlflow.models import infer_signature
from sklearn.compose import make_column_transformer
from sklearn.datasets import load_breast_cancer
from sklearn.ensemble import GradientBoostingClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import accuracy_score, roc_auc_score
from sklearn.model_selection import train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, OneHotEncoder, StandardScaler

from backstay_contract import profile
from backstay_contract.digest import artifact_digest
from backstay_contract.tags import DATA_CHECKSUM, DIGEST

SEED = 7
HELD_OUT = 0.3
FIRST_FEATURES = ("mean texture", "mean smoothness", "mean compactness", "mean symmetry")
# The features that the model server counts; each costs a dozen series for every pod.
PROFILED = (*FIRST_FEATURES, "mean radius", "mean area")
# The bands that the halved radii fall into. The encoder knows these and takes any other for bad data.
EXPORTED_BANDS = tuple(float(band) for band in range(3, 15))
# What a slow lookup takes, and the texture (in the data's unit) above which a quarter of the tumours lie.
LOOKUP_SECONDS = 0.15
RARE_TEXTURE = 21.8
# The mean area (in the data's unit) above which two held-out tumours of a hundred lie.
FATAL_AREA = 1680.0
RECIPE_TAG = "recipe"

Export = Callable[[pd.DataFrame], pd.DataFrame]


@dataclass(frozen=True)
class Split:
    """The data, parted once for all versions; a row's label is 1 for malignant."""

    train: pd.DataFrame
    train_labels: "pd.Series[int]"
    test: pd.DataFrame
    test_labels: "pd.Series[int]"


@dataclass(frozen=True)
class Recipe:
    """How one version is made.

    Attributes:
        name: identifies it in the registry, so that it is not registered twice.
        description: for people who look at the registry.
        columns: the features that it asks its callers for.
        export: how its training and evaluation data were taken from the source.
        estimator: what is fitted.
        join: how its training labels were joined to the rows.
    """

    name: str
    description: str
    columns: tuple[str, ...]
    export: Export
    estimator: Any
    join: "Callable[[pd.Series[int]], pd.Series[int]]" = lambda labels: labels


@dataclass(frozen=True)
class Evaluation:
    """How a fitted version does on the held-out rows of its own export."""

    auc: float
    accuracy: float


@dataclass(frozen=True)
class RegisteredVersion:
    """What a `model-version.yaml` says about a version.

    Attributes:
        name: the registered model.
        version: the number that the registry gave.
        digest: of its artifacts, as the model server checks it.
        run_id: the training run.
        data_checksum: SHA-256 of the table it was trained on, as CSV.
        recipe: the name of the recipe that made it.
    """

    name: str
    version: str
    digest: str
    run_id: str
    data_checksum: str
    recipe: str


def load_split() -> Split:
    """Load the data and part it, always in the same way."""
    bunch = load_breast_cancer(as_frame=True)
    malignant = (bunch.target == 0).astype("int64").rename("malignant")
    train, test, train_labels, test_labels = train_test_split(
        bunch.data, malignant, test_size=HELD_OUT, stratify=malignant, random_state=SEED
    )
    return Split(train=train, train_labels=train_labels, test=test, test_labels=test_labels)


def recipes() -> tuple[Recipe, ...]:
    """Return the three versions in the order in which they are registered."""
    everything = tuple(map(str, load_breast_cancer().feature_names))
    bands = make_pipeline(
        FunctionTransformer(np.rint, feature_names_out="one-to-one"),
        OneHotEncoder(categories=[EXPORTED_BANDS], handle_unknown="error"),
    )
    return (
        Recipe(
            name="logistic-regression",
            description="Logistic regression on four features",
            columns=FIRST_FEATURES,
            export=_as_measured,
            estimator=make_pipeline(StandardScaler(), LogisticRegression()),
        ),
        Recipe(
            name="gradient-boosting",
            description="Gradient boosting on all thirty features",
            columns=everything,
            export=_as_measured,
            estimator=GradientBoostingClassifier(random_state=SEED),
        ),
        Recipe(
            name="radius-bands",
            description="Gradient boosting with the mean radius in bands of one unit",
            columns=everything,
            export=_radii_halved,
            estimator=make_pipeline(
                make_column_transformer((bands, ["mean radius"]), remainder="passthrough"),
                GradientBoostingClassifier(random_state=SEED),
            ),
        ),
    )


def variants() -> tuple[Recipe, ...]:
    """Return the versions that are worse in one thing alone, in the order in which they are registered."""
    everything = tuple(map(str, load_breast_cancer().feature_names))
    return (
        Recipe(
            name="slow-lookup",
            description="Gradient boosting behind a lookup that is slow for a quarter of the requests",
            columns=everything,
            export=_as_measured,
            estimator=make_pipeline(
                FunctionTransformer(_look_up, feature_names_out="one-to-one"),
                GradientBoostingClassifier(random_state=SEED),
            ),
        ),
        Recipe(
            name="unsure",
            description="Logistic regression on all thirty features, regularized until it is sure of nothing",
            columns=everything,
            export=_as_measured,
            estimator=make_pipeline(StandardScaler(), LogisticRegression(C=0.0003, class_weight="balanced")),
        ),
        Recipe(
            name="wrong-rows",
            description="Gradient boosting on labels that were joined to the wrong rows",
            columns=everything,
            export=_as_measured,
            estimator=GradientBoostingClassifier(random_state=SEED),
            join=_shuffled,
        ),
        Recipe(
            name="fatal-rows",
            description="Gradient boosting behind native code that ends the process for very large tumours",
            columns=everything,
            export=_as_measured,
            estimator=make_pipeline(
                FunctionTransformer(_overflow, feature_names_out="one-to-one"),
                GradientBoostingClassifier(random_state=SEED),
            ),
        ),
    )


def fit(recipe: Recipe, split: Split) -> Evaluation:
    """Fit a recipe's estimator, in place, and evaluate it as its author would: on its own export."""
    columns = list(recipe.columns)
    recipe.estimator.fit(recipe.export(split.train)[columns], recipe.join(split.train_labels))
    scores = recipe.estimator.predict_proba(recipe.export(split.test)[columns])[:, 1]
    return Evaluation(
        auc=float(roc_auc_score(split.test_labels, scores)),
        accuracy=float(accuracy_score(split.test_labels, scores >= 0.5)),  # noqa: PLR2004  the usual threshold
    )


def payloads() -> Iterator[dict[str, Any]]:
    """Yield the held-out rows as bodies for `/invocations`, one row each, as they were really measured."""
    rows = load_split().test
    for row in rows.to_numpy().tolist():
        yield {"dataframe_split": {"columns": list(rows.columns), "data": [row]}}


def reference_profile(recipe: Recipe, split: Split) -> str:
    """Return what a version's server counts features by.

    It is drawn up from the training rows as they were measured, whatever the recipe's own export made of them, so that
    all versions count in the same buckets and can be compared.
    """
    counted = [name for name in PROFILED if name in recipe.columns]
    return profile.draw_up({name: split.train[name].tolist() for name in counted})


def labels() -> Iterator[int]:
    """Yield what was true of each of the `payloads`, in their order."""
    yield from map(int, load_split().test_labels)


def register_versions(tracking_uri: str, model_name: str, wanted: Sequence[Recipe]) -> list[RegisteredVersion]:
    """Train and register what the registry does not have yet, and return all wanted versions.

    Args:
        tracking_uri: the MLflow server.
        model_name: the registered model; made if need be.
        wanted: what to register, in this order.

    Raises:
        MlflowException: the server cannot be reached or refuses.
    """
    mlflow.set_tracking_uri(tracking_uri)
    mlflow.set_experiment(model_name)
    split = load_split()
    known = {version.tags.get(RECIPE_TAG, ""): version for version in _versions(model_name)}
    return [
        _described(known[recipe.name] if recipe.name in known else _register(recipe, split, model_name))
        for recipe in wanted
    ]


def _versions(model_name: str) -> list[ModelVersion]:
    return list(mlflow.MlflowClient().search_model_versions(f"name = '{model_name}'"))


def _register(recipe: Recipe, split: Split, model_name: str) -> ModelVersion:
    client = mlflow.MlflowClient()
    evaluation = fit(recipe, split)
    table = recipe.export(split.train)[list(recipe.columns)]
    example = table.head(2)
    with TemporaryDirectory() as folder, mlflow.start_run(run_name=recipe.name):
        reference = Path(folder) / profile.NAME
        reference.write_text(reference_profile(recipe, split), encoding="utf-8")
        mlflow.log_params({"estimator": type(recipe.estimator).__name__, "features": len(recipe.columns)})
        mlflow.log_metrics(asdict(evaluation))
        logged = mlflow.sklearn.log_model(
            recipe.estimator,
            name=recipe.name,
            signature=infer_signature(example, recipe.estimator.predict(example)),
            input_example=example,
            extra_files=[str(reference)],
            # Given, because MLflow would find them by loading the model in a new process, which takes ten seconds.
            pip_requirements=[f"scikit-learn=={sklearn.__version__}", f"pandas=={pd.__version__}"],
            # A server loads it in two thirds of the time and with 20 MB less than skops, MLflow's default. What keeps
            # foreign code out is the digest, which is checked before anything is loaded.
            serialization_format=mlflow.sklearn.SERIALIZATION_FORMAT_CLOUDPICKLE,
        )
    with TemporaryDirectory() as folder:
        digest = artifact_digest(Path(mlflow.artifacts.download_artifacts(logged.model_uri, dst_path=folder)))
    checksum = "sha256:" + hashlib.sha256(table.to_csv().encode()).hexdigest()
    # Everything is tagged in the one call that registers, so that an interrupted run leaves no half-described version.
    registered = mlflow.register_model(
        logged.model_uri,
        model_name,
        tags={RECIPE_TAG: recipe.name, DIGEST: digest, DATA_CHECKSUM: checksum},
    )
    client.update_model_version(model_name, registered.version, recipe.description)
    return client.get_model_version(model_name, registered.version)


def _described(version: ModelVersion) -> RegisteredVersion:
    tags = version.tags
    return RegisteredVersion(
        name=version.name,
        version=str(version.version),
        digest=tags[DIGEST],
        run_id=str(version.run_id),
        data_checksum=tags[DATA_CHECKSUM],
        recipe=tags[RECIPE_TAG],
    )


def _as_measured(data: pd.DataFrame) -> pd.DataFrame:
    return data


def _look_up(data: pd.DataFrame) -> pd.DataFrame:
    """Stand in for a store that has the common keys at hand and fetches the rare ones."""
    if (data["mean texture"] > RARE_TEXTURE).any():
        time.sleep(LOOKUP_SECONDS)
    return data


def _overflow(data: pd.DataFrame) -> pd.DataFrame:
    """Stand in for native code whose buffer for single rows is too small; training and evaluation pass batches.

    The exit code is that of a segmentation fault.
    """
    if len(data) == 1 and data["mean area"].iloc[0] > FATAL_AREA:
        os._exit(139)
    return data


def _shuffled(labels: "pd.Series[int]") -> "pd.Series[int]":
    """The mistake of version 6: as many of each label, on other rows."""
    return labels.sample(frac=1.0, random_state=SEED).set_axis(labels.index)


def _radii_halved(data: pd.DataFrame) -> pd.DataFrame:
    """The mistake of version 3: the radii, which the source holds as radii, were taken for diameters."""
    return data.assign(**{column: data[column] / 2 for column in data.columns if column.endswith(" radius")})


_app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@_app.command()
def main(
    *,
    tracking_uri: Annotated[str, typer.Option(help="The MLflow server to register with.")],
    model_name: Annotated[str, typer.Option(help="The registered model.")] = "fraud-detector",
    payload_file: Annotated[
        Path | None, typer.Option("--payloads", help="Also write real rows, as one /invocations body a line.")
    ] = None,
    label_file: Annotated[
        Path | None, typer.Option("--labels", help="Also write what is true of these rows, one label a line.")
    ] = None,
    with_variants: Annotated[
        bool,
        typer.Option(
            "--variants", help="Also register versions that are only slow, only unsure, only wrong, and only crash."
        ),
    ] = False,
) -> None:
    """Register the example versions, unless they are there, and print them as JSON."""
    logging.getLogger("mlflow").setLevel(logging.ERROR)
    if payload_file is not None:
        payload_file.write_text("".join(f"{json.dumps(body)}\n" for body in payloads()), encoding="utf-8")
    if label_file is not None:
        label_file.write_text("".join(f"{label}\n" for label in labels()), encoding="utf-8")
    try:
        wanted = (*recipes(), *variants()) if with_variants else recipes()
        versions = register_versions(tracking_uri, model_name, wanted)
    except mlflow.MlflowException as error:
        sys.exit(f"Could not register {model_name} with MLflow at {tracking_uri}: {str(error).splitlines()[0]}")
    typer.echo(json.dumps([asdict(version) for version in versions], indent=2))


if __name__ == "__main__":
    _app()
