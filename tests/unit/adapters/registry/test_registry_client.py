"""MLflow's client: what is set before it is imported."""

import os

import pytest

from backstay.adapters.registry.access import RegistryAccess


def test_mlflow_does_not_tell_its_makers_of_its_use_unless_somebody_wants_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MLFLOW_DISABLE_TELEMETRY", raising=False)
    RegistryAccess().connect("http://127.0.0.1:1")
    assert os.environ["MLFLOW_DISABLE_TELEMETRY"] == "true"
    monkeypatch.setenv("MLFLOW_DISABLE_TELEMETRY", "false")
    RegistryAccess().connect("http://127.0.0.1:1")
    assert os.environ["MLFLOW_DISABLE_TELEMETRY"] == "false"
