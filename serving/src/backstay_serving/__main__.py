"""`python -m backstay_serving`: serve one version of an MLflow model, score a file with it, compare two versions."""

import json
import os
import tempfile
from pathlib import Path
from typing import Annotated

import typer

from backstay_contract import environment
from backstay_serving.feedback import FeedbackSettings
from backstay_serving.log import configure_log
from backstay_serving.predictionlog import LogSettings, NoLog
from backstay_serving.server import Refused, Stopped, open_workspace, serve
from backstay_serving.settings import (
    BatchSettings,
    ModelSettings,
    Registered,
    ServerSettings,
    StartError,
    identify,
    parse_artifact_locations,
    parse_buckets,
    parse_digest,
    parse_source,
    parse_threshold,
)

_app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
_TEMPORARY = Path(tempfile.gettempdir())
_CHANGED, _WRONG_SETTINGS, _MODEL_REFUSED, _NOT_SCORED, _NOT_COMPARED = 1, 2, 3, 4, 5  # exit codes


def _option(variable: str, text: str) -> typer.models.OptionInfo:
    option: typer.models.OptionInfo = typer.Option(
        f"--{variable.lower().replace('_', '-')}", envvar=variable, help=text
    )
    return option


_ModelUri = Annotated[
    str,
    _option(
        environment.MODEL_URI, "models:/<name>/<version>, a folder with an MLmodel file, or any URI that MLflow reads."
    ),
]
_ModelName = Annotated[
    str, _option(environment.MODEL_NAME, "The registered model; part of MODEL_URI where that is given.")
]
_ModelVersion = Annotated[str, _option(environment.MODEL_VERSION, "Its version.")]
_ModelDigest = Annotated[
    str, _option(environment.MODEL_DIGEST, "sha256:…; artifacts with any other digest are not loaded.")
]
_TrackingUri = Annotated[str, _option(environment.TRACKING_URI, "The MLflow server.")]
_ArtifactLocations = Annotated[
    str,
    _option(
        "MODEL_ARTIFACT_LOCATIONS",
        "Where a version's artifacts may be beside the MLflow server: URL prefixes, such as s3://models/.",
    ),
]
_Threshold = Annotated[
    str,
    _option("SERVING_THRESHOLD", "The score, 0 to 1, from which a binary classifier answers its positive class."),
]
_CacheDir = Annotated[Path, _option("MODEL_CACHE_DIR", "Where the artifacts are downloaded to.")]


@_app.callback(invoke_without_command=True)
def _serve(  # noqa: PLR0913  the parameters of a command are its options
    context: typer.Context,
    *,
    model_uri: _ModelUri = "",
    model_name: _ModelName = "",
    model_version: _ModelVersion = "",
    model_revision: Annotated[str, _option(environment.MODEL_REVISION, "The revision to name in answers.")] = "",
    model_digest: _ModelDigest = "",
    mlflow_tracking_uri: _TrackingUri = "",
    model_artifact_locations: _ArtifactLocations = "",
    serving_threshold: _Threshold = "",
    prediction_buckets: Annotated[
        str, _option("PREDICTION_BUCKETS", "Edges of the prediction histogram, in place of those beside the model.")
    ] = "",
    model_cache_dir: _CacheDir = _TEMPORARY,
    pod_ip: Annotated[str, _option(environment.POD_IP, "The address to listen on.")] = "0.0.0.0",
    port: Annotated[int, typer.Option(envvar=environment.PORT, min=0, max=65535, help="The port to listen on.")] = 8080,
    drain_seconds: Annotated[
        float, typer.Option(envvar="DRAIN_SECONDS", min=0, help="How long to go on answering after SIGTERM.")
    ] = 5.0,
    max_body_bytes: Annotated[
        int, typer.Option(envvar="MAX_BODY_BYTES", min=1, help="The largest request body; more is answered 413.")
    ] = 10 * 1024 * 1024,
    max_waiting: Annotated[
        int, typer.Option(envvar="MAX_WAITING", min=1, help="Predictions that may wait; more are answered 503.")
    ] = 256,
    batch_max_requests: Annotated[
        int, typer.Option(envvar="BATCH_MAX_REQUESTS", min=1, help="Waiting requests that one call of the model takes.")
    ] = 1,
    batch_max_wait_seconds: Annotated[
        float, typer.Option(envvar="BATCH_MAX_WAIT_SECONDS", min=0, help="How long a request waits for others to join.")
    ] = 0.0,
    prediction_log: Annotated[
        str, _option("PREDICTION_LOG", "A file to write each prediction to as a line of JSON; none where empty.")
    ] = "",
    prediction_log_sample: Annotated[
        float, typer.Option(envvar="PREDICTION_LOG_SAMPLE", min=0, max=1, help="The share of requests to log.")
    ] = 1.0,
    prediction_log_max_bytes: Annotated[
        int, typer.Option(envvar="PREDICTION_LOG_MAX_BYTES", min=1, help="The size at which a new file is begun.")
    ] = 100 * 1024 * 1024,
    prediction_log_files: Annotated[
        int, typer.Option(envvar="PREDICTION_LOG_FILES", min=1, help="How many full files are kept.")
    ] = 4,
    prediction_log_redact: Annotated[
        str, _option("PREDICTION_LOG_REDACT", "Features whose values are not logged, parted by commas.")
    ] = "",
    feedback_window_seconds: Annotated[
        float,
        typer.Option(envvar="FEEDBACK_WINDOW_SECONDS", min=0, help="How long a label may take; 0 takes no labels."),
    ] = 3600.0,
    feedback_max_predictions: Annotated[
        int,
        typer.Option(envvar="FEEDBACK_MAX_PREDICTIONS", min=1, help="Predicted rows that may wait for their labels."),
    ] = 20_000,
) -> None:
    """Serve one version of an MLflow model on /invocations, with /healthz, /readyz, /version and /metrics."""
    if context.invoked_subcommand is not None:
        return
    configure_log()
    _limit_threads()
    try:
        source = parse_source(model_uri or _registered_uri(model_name, model_version))
        model = ModelSettings(
            source=source,
            identity=identify(source, name=model_name, version=model_version, revision=model_revision),
            digest=parse_digest(model_digest),
            decision=parse_threshold(serving_threshold),
            tracking_uri=mlflow_tracking_uri,
            download_folder=model_cache_dir,
            artifact_locations=parse_artifact_locations(model_artifact_locations),
        )
        limits = ServerSettings(
            host=pod_ip,
            port=port,
            drain_seconds=drain_seconds,
            max_body_bytes=max_body_bytes,
            max_waiting=max_waiting,
            batch=BatchSettings(batch_max_requests, batch_max_wait_seconds, max_bytes=max_body_bytes),
        )
        log = (
            LogSettings(
                path=Path(prediction_log),
                max_bytes=prediction_log_max_bytes,
                files=prediction_log_files,
                sample=prediction_log_sample,
                redact=frozenset(filter(None, map(str.strip, prediction_log_redact.split(",")))),
            )
            if prediction_log
            else NoLog()
        )
        feedback = FeedbackSettings(window_seconds=feedback_window_seconds, max_predictions=feedback_max_predictions)
        ended = serve(model, limits, score_edges=parse_buckets(prediction_buckets), log=log, feedback=feedback)
    except StartError as error:
        typer.echo(f"backstay-serving: {error}", err=True)
        raise typer.Exit(_WRONG_SETTINGS) from error
    match ended:
        case Stopped():
            pass
        case Refused(reason):
            typer.echo(f"backstay-serving: {reason}", err=True)
            raise typer.Exit(_MODEL_REFUSED)


@_app.command("score")
def _score(  # noqa: PLR0913  as above
    source: Annotated[Path, typer.Argument(help="The rows: .csv, .jsonl or .parquet.")],
    target: Annotated[Path, typer.Argument(help="The file to write; its ending says how.")],
    *,
    model_uri: _ModelUri = "",
    model_name: _ModelName = "",
    model_version: _ModelVersion = "",
    model_digest: _ModelDigest = "",
    mlflow_tracking_uri: _TrackingUri = "",
    model_artifact_locations: _ArtifactLocations = "",
    serving_threshold: _Threshold = "",
    model_cache_dir: _CacheDir = _TEMPORARY,
) -> None:
    """Predict for the rows of a file, with the same code as for requests."""
    configure_log()
    _limit_threads()
    try:
        found = parse_source(model_uri or _registered_uri(model_name, model_version))
        named = isinstance(found, Registered)
        model = ModelSettings(
            source=found,
            # A file says nothing of the version, so a model in a folder needs no name to be scored with.
            identity=identify(
                found,
                name=model_name or ("" if named else "model"),
                version=model_version or ("" if named else "0"),
                revision="",
            ),
            digest=parse_digest(model_digest),
            decision=parse_threshold(serving_threshold),
            tracking_uri=mlflow_tracking_uri,
            download_folder=model_cache_dir,
            artifact_locations=parse_artifact_locations(model_artifact_locations),
        )
    except StartError as error:
        typer.echo(f"backstay-serving: {error}", err=True)
        raise typer.Exit(_WRONG_SETTINGS) from error
    from backstay_serving.endpoint import open_endpoint  # noqa: PLC0415  imports pandas and scikit-learn
    from backstay_serving.score import ScoreError, score  # noqa: PLC0415  as above

    try:
        with open_workspace(model.download_folder) as workspace:
            rows = score(open_endpoint(model, Path(workspace), lambda _: None), source, target)
    except (StartError, ScoreError) as error:
        typer.echo(f"backstay-serving: {error}", err=True)
        raise typer.Exit(_MODEL_REFUSED if isinstance(error, StartError) else _NOT_SCORED) from error
    typer.echo(f"{rows} rows scored into {target}")


@_app.command("compare")
def _compare(
    first: Annotated[Path, typer.Argument(help="A prediction log of one version, or a folder of its logs.")],
    second: Annotated[Path, typer.Argument(help="Those of the other.")],
    *,
    most_changed: Annotated[
        float, typer.Option(min=0, max=1, help="End with code 1 if a larger share of answers has changed.")
    ] = 1.0,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Compare two versions on the requests that both have answered, as they do while one is in the shadow."""
    from backstay_serving.compare import CompareError, compare  # noqa: PLC0415  only this command needs it

    try:
        found = compare(first, second)
    except CompareError as error:
        typer.echo(f"backstay-serving: {error}", err=True)
        raise typer.Exit(_NOT_COMPARED) from error
    typer.echo(json.dumps(found.to_dict()) if as_json else "\n".join(found.lines()))
    if found.share > most_changed:
        raise typer.Exit(_CHANGED)


def _registered_uri(name: str, version: str) -> str:
    if not name or not version:
        raise StartError("Set MODEL_URI, or MODEL_NAME and MODEL_VERSION, to say which model to serve")
    return f"models:/{name}/{version}"


def _limit_threads() -> None:
    """Keep every prediction on one thread, unless the environment says otherwise.

    One prediction runs at a time; pools of BLAS and OpenMP threads would only take processor time from the other
    servers of the node. The libraries read these variables when NumPy is imported, which the loading of the model does.
    """
    for library in ("OMP", "OPENBLAS", "MKL"):
        os.environ.setdefault(f"{library}_NUM_THREADS", "1")


def main() -> None:
    """Run the command."""
    # Where MLflow has to be imported, it tells its makers of its use unless it is told not to.
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    _app(prog_name="backstay-serving")


if __name__ == "__main__":
    main()
