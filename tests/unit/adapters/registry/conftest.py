"""A registry, another host, and an environment full of credentials."""

from collections.abc import Iterator

import pytest
from registry_servers import Server, running


@pytest.fixture
def mlflow() -> Iterator[Server]:
    with running() as server:
        yield server


@pytest.fixture
def evil() -> Iterator[Server]:
    with running("127.0.0.2") as server:
        yield server


@pytest.fixture(autouse=True)
def ambient(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> None:
    """Fill the environment with credentials, each of which MLflow's client sends to any server."""
    home = tmp_path_factory.mktemp("home")
    (home / ".mlflow").mkdir()
    (home / ".mlflow" / "credentials").write_text(
        "[mlflow]\nmlflow_tracking_username = file\nmlflow_tracking_password = leak\n"
    )
    (home / ".netrc").write_text("default login netrc password leak\n")
    (home / ".netrc").chmod(0o600)
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("NETRC", str(home / ".netrc"))
    monkeypatch.setenv("MLFLOW_TRACKING_TOKEN", "ambient")
    for name in ("MLFLOW_TRACKING_URI", "BACKSTAY_REGISTRY", "BACKSTAY_REGISTRY_CREDENTIALS"):
        monkeypatch.delenv(name, raising=False)
