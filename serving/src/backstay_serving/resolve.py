"""`python -m backstay_serving.resolve URI`: print the location that a `runs:/…` or `models:/…` URI stands for.

It runs in a process of its own, as everything does that imports MLflow's client: see `registry`.
"""

import sys


def resolve(uri: str) -> str:
    """Ask the tracking server of MLFLOW_TRACKING_URI, and fetch nothing."""
    from mlflow.store.artifact.models_artifact_repo import ModelsArtifactRepository  # noqa: PLC0415  slow to import
    from mlflow.store.artifact.runs_artifact_repo import RunsArtifactRepository  # noqa: PLC0415  as above

    if uri.startswith("runs:"):
        return _logged_model(*RunsArtifactRepository.parse_runs_uri(uri)) or RunsArtifactRepository.get_underlying_uri(
            uri
        )
    root, path = ModelsArtifactRepository.split_models_uri(uri)
    return _joined(ModelsArtifactRepository.get_underlying_uri(root), path)


def _logged_model(run_id: str, path: str | None) -> str:
    """Return the location in the model that the run has logged under the path's first part; empty without one."""
    from mlflow import MlflowClient  # noqa: PLC0415  as above
    from mlflow.exceptions import MlflowException  # noqa: PLC0415  as above

    name, _, rest = (path or "").partition("/")
    if not name or "'" in name:
        return ""
    client, token = MlflowClient(), None
    experiment = client.get_run(run_id).info.experiment_id
    while True:
        try:
            page = client.search_logged_models([experiment], filter_string=f"name = '{name}'", page_token=token)
        except MlflowException as problem:
            if problem.error_code == "ENDPOINT_NOT_FOUND":  # a server of MLflow 2, where models are the run's artifacts
                return ""
            raise
        for model in page:
            if model.source_run_id == run_id:
                return _joined(model.artifact_location, rest)
        token = page.token
        if not token:
            return ""


def _joined(root: str, path: str) -> str:
    return f"{root.rstrip('/')}/{path}".rstrip("/")


if __name__ == "__main__":
    sys.stdout.write(f"{resolve(sys.argv[1])}\n")
