"""Where the artifacts of a version are fetched from, and what is sent there."""

from pathlib import Path

import pytest
from registry_servers import Server, folder
from typer.testing import CliRunner

from backstay.adapters.registry.access import RegistryAccess
from backstay.adapters.registry.artifacts import allowed_locations
from backstay.adapters.registry.versions import ModelRegistry, ModelVersionError
from backstay.cli.__main__ import app

OURS = "Bearer ours"


@pytest.mark.parametrize(
    "source",
    [
        "mlflow-artifacts:/1/model",
        "mlflow-artifacts:///1/model/",
        "mlflow-artifacts://{host}/1/model",
        "{url}/api/2.0/mlflow-artifacts/artifacts/1/model",
        "runs:/r1/model",
    ],
)
def test_artifacts_of_the_registry_are_fetched_with_its_credentials(
    mlflow: Server, tmp_path: Path, source: str
) -> None:
    mlflow.source = source.format(url=mlflow.url, host=mlflow.url.removeprefix("http://"))
    access = RegistryAccess(folder(tmp_path / "keys", {"a.url": mlflow.url, "a.token": "ours"}))
    assert ModelRegistry(mlflow.url, access).digest("fraud", "7").startswith("sha256:")
    assert mlflow.authorizations == {OURS}
    assert mlflow.requests[-1][0] == "/api/2.0/mlflow-artifacts/artifacts/1/model/MLmodel"


@pytest.mark.parametrize(
    "source",
    [
        "mlflow-artifacts://{evil}/1/model",
        "mlflow-artifacts://{host}@{evil}/1/model",
        "http://{evil}/api/2.0/mlflow-artifacts/artifacts/1/model",
        "http://{host}@{evil}/api/2.0/mlflow-artifacts/artifacts/1/model",
        "http://{evil}/mlflow-artifacts/artifacts/1/model",
        "http://{evil}\\@{host}/api/2.0/mlflow-artifacts/artifacts/1/model",
        "https://{host}/api/2.0/mlflow-artifacts/artifacts/1/model",
        "runs:/r1/model",
        "runs:/r1/../model",
        "runs://{evil}/model",
        "models:/other/1",
        "file:///etc/ssl",
        "/etc/ssl",
        "etc/ssl",
        "s3://models/1",
        "ftp://{evil}/1",
        "dbfs:/1",
        "mlflow-artifacts:/1/../../../2.0/mlflow/model",
        "mlflow-artifacts:/1/%2e%2e/model",
        "s3://allowed/team-a/../team-b",
        "s3://allowed/team-a/%2e%2e/team-b",
        "s3://allowed/team-ab",
        "s3://allowed.evil/team-a",
        "http://allowed:5000@{evil}/api/2.0/mlflow-artifacts/artifacts/1/model",
        "http://{evil}/mlflow-artifacts/artifacts?/api/2.0/mlflow-artifacts/artifacts/1/model",
        "",
    ],
)
def test_artifacts_from_elsewhere_are_not_fetched(mlflow: Server, evil: Server, source: str) -> None:
    hosts = {"evil": evil.url.removeprefix("http://"), "host": mlflow.url.removeprefix("http://")}
    mlflow.source = source.format(**hosts)
    mlflow.run_artifacts = "mlflow-artifacts://{evil}/1".format(**hosts)
    allowed = allowed_locations("s3://allowed/team-a http://allowed:5000")
    with pytest.raises(
        ModelVersionError,
        match=r"^The artifacts of version 7 of fraud are not fetched: they are at '.*', neither at the registry .* nor "
        "where BACKSTAY_ARTIFACT_LOCATIONS allows it; register the version with",
    ):
        ModelRegistry(mlflow.url, RegistryAccess()).digest("fraud", "7", allowed)
    assert evil.requests == []
    assert {path for path, _ in mlflow.requests} <= {
        "/api/2.0/mlflow/model-versions/get-download-uri",
        "/api/2.0/mlflow/runs/get",
        "/api/2.0/mlflow/logged-models/search",
    }


def test_a_model_that_a_run_has_logged_is_where_the_registry_says(mlflow: Server, evil: Server) -> None:
    mlflow.source, mlflow.logged_model = "runs:/r1/logged", "mlflow-artifacts:/1/model"
    registry = ModelRegistry(mlflow.url, RegistryAccess())
    assert registry.digest("fraud", "7").startswith("sha256:")
    mlflow.logged_model = f"mlflow-artifacts://{evil.url.removeprefix('http://')}/1/model"
    with pytest.raises(ModelVersionError, match="nor where BACKSTAY_ARTIFACT_LOCATIONS allows it"):
        registry.digest("fraud", "7")
    assert evil.requests == []


@pytest.mark.parametrize("prefix", ["mlflow-artifacts://{host}", "mlflow-artifacts://{host}/1/"])
def test_another_server_that_is_allowed_gets_its_own_credentials_alone(
    mlflow: Server, evil: Server, tmp_path: Path, prefix: str
) -> None:
    host = evil.url.removeprefix("http://")
    mlflow.source = f"mlflow-artifacts://{host}/1/model"
    access = RegistryAccess(folder(tmp_path / "keys", {"a.url": mlflow.url, "a.token": "ours"}))
    ModelRegistry(mlflow.url, access).digest("fraud", "7", allowed_locations(prefix.format(host=host)))
    assert mlflow.authorizations == {OURS}
    assert evil.authorizations == {""}


def test_a_folder_that_is_allowed_is_read(mlflow: Server, tmp_path: Path) -> None:
    model = tmp_path / "models" / "1"
    model.mkdir(parents=True)
    (model / "MLmodel").write_text("flavors: {}")
    allowed = allowed_locations(f"s3://other, file://{tmp_path}/models/")
    digests = set()
    for mlflow.source in (str(model), f"file://{model}", "mlflow-artifacts:/1/model"):
        digests.add(ModelRegistry(mlflow.url, RegistryAccess()).digest("fraud", "7", allowed))
    assert len(digests) == 1


@pytest.mark.parametrize("text", ["s3:", "s3://", "models", "runs:/r1", "models:/a/1", "file:///", "s3://a/../b"])
def test_what_is_no_prefix_of_locations_is_named(text: str) -> None:
    with pytest.raises(ValueError, match=r"BACKSTAY_ARTIFACT_LOCATIONS has '.*', which is no start of artifacts' URLs"):
        allowed_locations(text)


def test_a_registry_that_is_named_with_its_password_serves_its_artifacts_too(mlflow: Server) -> None:
    host = mlflow.url.removeprefix("http://")
    mlflow.source = f"mlflow-artifacts://{host}/1/model"
    ModelRegistry(f"http://me:pw@{host}", RegistryAccess()).digest("fraud", "7")
    assert mlflow.authorizations == {"Basic bWU6cHc="}


def test_the_command_refuses_what_is_no_prefix_of_locations() -> None:
    arguments = ["bump", "fraud", "--environment", "staging", "--version", "7", "--artifact-locations", "s3:"]
    done = CliRunner().invoke(app, arguments)
    assert done.exit_code == 2
    assert "BACKSTAY_ARTIFACT_LOCATIONS has 's3:'" in done.stderr


def test_an_artifact_that_leaves_the_folder_is_not_written(mlflow: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    listing = b'{"files": [{"path": "../escape", "is_dir": false}]}'
    answer = mlflow.answer
    monkeypatch.setattr(
        mlflow, "answer", lambda path, query: listing if path.endswith("/artifacts") else answer(path, query)
    )
    with pytest.raises(ModelVersionError, match=r"names an artifact '\.\./escape' outside the model's folder"):
        ModelRegistry(mlflow.url, RegistryAccess()).digest("fraud", "7")
